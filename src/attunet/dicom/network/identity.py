"""Who an instance is: its UIDs, checked before any of them becomes part of a path, and nothing else of its content."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from attunet.errors import FormatError

__all__ = ["Identity", "check_uid", "is_uid", "read_identity"]

LONGEST_UID = 64
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_TAGS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True)
class Identity:
    """The UIDs of one instance, each checked.

    Args:
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        uid: SOPInstanceUID.
        sop_class: SOPClassUID.
        transfer_syntax: TransferSyntaxUID of its file.
    """

    study: str
    series: str
    uid: str
    sop_class: str
    transfer_syntax: str


def is_uid(text: str) -> bool:
    """Whether a text is digits and dots as a UID is, at most 64; leading zeros, which devices write, are accepted.

    Source: PS3.5, section 9.1.
    """
    return len(text) <= LONGEST_UID and _UID.fullmatch(text) is not None


def check_uid(text: str, what: str) -> str:
    """The same text if it is a UID, which may then become part of a path. Raises: FormatError naming `what`."""
    if not is_uid(text):
        raise FormatError(
            f"the {what} is {text[:80]!a}, which is no UID",
            hint="a UID is digits and dots, at most 64 characters; correct the object where it was made",
        )
    return text


def read_identity(content: Path | bytes) -> Identity:
    """The identity of a file or of its content, without reading pixels.

    Raises: FormatError for what is not DICOM, or lacks one of the UIDs, or holds one that is none.
    """
    if isinstance(content, bytes):
        return _read(BytesIO(content), "the object")
    try:
        with content.open("rb") as stream:
            return _read(stream, content.name)
    except OSError as error:
        raise FormatError(f"cannot read {content}: {error.strerror or error}", hint="check its permissions") from error


def _read(stream: BinaryIO, name: str) -> Identity:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(_TAGS))
            values = [str(dataset.get(tag, "") or "") for tag in _TAGS]
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
    except Exception as error:  # the content may be anything, and pydicom raises anything for it
        reason = (
            "it has no DICOM header" if isinstance(error, pydicom.errors.InvalidDicomError) else type(error).__name__
        )
        raise FormatError(f"{name} cannot be read as DICOM: {reason}", hint="send it again") from error
    checked = [check_uid(value, tag) for value, tag in zip(values, _TAGS, strict=True)]
    return Identity(checked[0], checked[1], checked[2], checked[3], check_uid(syntax, "TransferSyntaxUID"))
