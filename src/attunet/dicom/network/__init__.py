"""DICOM peers: C-STORE and DICOMweb, as a client. Everything that is asked of or sent to a PACS passes here."""

from attunet.dicom.network.addresses import (
    FolderAddress,
    PeerAddress,
    WebAddress,
    WebSource,
    is_web_source,
    parse_address,
    parse_web_source,
)
from attunet.dicom.network.identity import Identity, check_uid, is_uid, read_identity
from attunet.dicom.network.send import send_files
from attunet.dicom.network.web import WebAccess, WebClient, fetch_source

__all__ = [
    "FolderAddress",
    "Identity",
    "PeerAddress",
    "WebAccess",
    "WebAddress",
    "WebClient",
    "WebSource",
    "check_uid",
    "fetch_source",
    "is_uid",
    "is_web_source",
    "parse_address",
    "parse_web_source",
    "read_identity",
    "send_files",
]
