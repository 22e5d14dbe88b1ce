"""Addresses of DICOM peers, as they are typed: `dicom://AET@host:port`, `dicomweb://host/path`, or a folder."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from attunet.dicom.network.identity import check_uid
from attunet.errors import ConfigError

__all__ = [
    "FolderAddress",
    "PeerAddress",
    "WebAddress",
    "WebSource",
    "is_loopback",
    "is_web_source",
    "parse_address",
    "parse_web_source",
]

EXAMPLES = "write dicom://AETITLE@host:104, dicomweb://host/dicom-web, https://host/dicom-web, or a folder"
AE_TITLE = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")
"""1 to 16 printable characters without a backslash, not only spaces (PS3.5, value representation AE)."""
DICOM_PORT = 104
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WEB = {"dicomweb": None, "http": "http", "https": "https"}
_PATH = re.compile(r"(?P<base>.*?)/studies/(?P<study>[^/]+)(?:/series/(?P<series>[^/]+))?/?")


@dataclass(frozen=True)
class PeerAddress:
    """A node that accepts C-STORE.

    Args:
        ae_title: the title by which it is called.
        host: its name or address.
        port: its port.
    """

    ae_title: str
    host: str
    port: int = DICOM_PORT

    def __str__(self) -> str:
        return f"dicom://{self.ae_title}@{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class WebAddress:
    """A DICOMweb service. Args: its URL, with http or https, without a slash at the end."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def host(self) -> str:
        """The name or address of its machine."""
        return urlsplit(self.url).hostname or ""

    @property
    def encrypted(self) -> bool:
        """Whether what is sent to it is encrypted."""
        return self.url.startswith("https:")


@dataclass(frozen=True)
class FolderAddress:
    """A folder into which results are written. Args: the folder."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class WebSource:
    """A study or a series of a DICOMweb service.

    Args:
        service: the service.
        study: StudyInstanceUID.
        series: SeriesInstanceUID; None for every series of the study.
    """

    service: WebAddress
    study: str
    series: str | None = None


def is_web_source(text: str) -> bool:
    """Whether an input is the address of a study of DICOMweb and not a path, or the URL of a file."""
    match = _SCHEME.match(text)
    scheme = "" if match is None else match[1].lower()
    return scheme == "dicomweb" or (scheme in _WEB and _PATH.fullmatch(text) is not None)


def parse_address(text: str) -> PeerAddress | WebAddress | FolderAddress:
    """The peer that an address names; a text without a scheme is a folder.

    Raises: ConfigError for any other scheme, a missing part, or a name or password within the address.
    """
    match = _SCHEME.match(text)
    if match is None:
        return FolderAddress(Path(text))
    scheme = match[1].lower()
    if scheme == "dicom":
        return _peer(text)
    if scheme in _WEB:
        return _web(text)
    raise ConfigError(f"the address {text!r} has the unknown scheme {match[1]}", hint=EXAMPLES)


def parse_web_source(text: str) -> WebSource:
    """The study or series that an address such as `dicomweb://host/dicom-web/studies/UID/series/UID` names.

    Raises: ConfigError when it names neither, or holds a name or password; FormatError for what is no UID.
    """
    if not is_web_source(text):
        hint = "write dicomweb://host/PATH/studies/UID"
        raise ConfigError(f"the address {text!r} is not one of DICOMweb, from which studies are fetched", hint=hint)
    address = _web(text)
    match = _PATH.fullmatch(address.url)
    if match is None:
        raise ConfigError(
            f"the address {text!r} names no study", hint="write dicomweb://host/PATH/studies/UID, or …/series/UID"
        )
    series = match["series"]
    study = check_uid(match["study"], "StudyInstanceUID")
    return WebSource(
        WebAddress(match["base"]), study, None if series is None else check_uid(series, "SeriesInstanceUID")
    )


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which nobody else can reach or listen to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _peer(text: str) -> PeerAddress:
    title, at, place = text[len("dicom://") :].rpartition("@")
    if not at or AE_TITLE.fullmatch(title) is None:
        raise ConfigError(
            f"the address {text!r} names no AE title of 1 to 16 characters", hint="write dicom://AETITLE@host:port"
        )
    host, port = _host_and_port(f"//{place}", text)
    return PeerAddress(title.strip(), host, port or DICOM_PORT)


def _web(text: str) -> WebAddress:
    parts = urlsplit(text)
    if "@" in parts.netloc:
        safe = text.replace(f"{parts.netloc.rpartition('@')[0]}@", "…@")
        raise ConfigError(
            f"the address {safe!r} holds a name or password, which every user of this machine could read",
            hint="write them into ~/.netrc, or into a file of that format given as credentials",
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"the address {text!r} has a part after ? or #", hint="write only the path of the service")
    host, port = _host_and_port(text, text)
    scheme = _WEB[parts.scheme.lower()] or ("http" if is_loopback(host) else "https")
    place = _bracketed(host) + (f":{port}" if port else "")
    return WebAddress(f"{scheme}://{place}{parts.path.rstrip('/')}")


def _host_and_port(url: str, text: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or re.search(r"[\s\x00-\x1f]", host):
        raise ConfigError(f"the address {text!r} names no host, or a port that is none", hint=EXAMPLES)
    return host, port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
