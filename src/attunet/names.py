"""Names that become paths: ids of cases and names of labels, checked once, where they enter the program.

And names that are shown, in a terminal or in a cell of a spreadsheet, where they must not act.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

from attunet.errors import DatasetError

__all__ = ["cell_of", "check_name", "listed", "name_fault", "name_in", "printable", "safe_name"]

LONGEST_NAME = 200
"""Bytes of a name in UTF-8: file systems allow 255, of which endings such as _probabilities.nii.gz take some."""

UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, undecodable bytes, and separators of lines and paragraphs."""

REORDERING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Unicode's controls of the direction of text, which can make a name look like another."""

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet would run, with the quotes that `cell_of` may have written before."""

SEPARATORS = "/\\"
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names of devices on Windows, with any suffix."""


def name_fault(name: str) -> str | None:
    """Why a name must not become part of a path; None when it can, on every system."""
    if not name.strip():
        return "is empty"
    if _unprintable(name):
        return "contains a control character"
    if found := [character for character in name if character in SEPARATORS]:
        return f"contains {found[0]}, which separates folders"
    if set(name) <= {"."}:
        return "stands for a folder"
    if RESERVED.fullmatch(name):
        return "is the name of a device on Windows"
    if (size := len(name.encode())) > LONGEST_NAME:
        return f"has {size} bytes, more than {LONGEST_NAME}"
    return None


def check_name(name: str, what: str, *, hint: str = "rename it") -> str:
    """The name that a file declares, if it can become part of a path.

    Args:
        name: an id or another name, of a file that a stranger may have written.
        what: what it names and where it was found, such as "case in /data/dataset.json".
        hint: what to do about a name that is refused.
    Returns: the same name.
    Raises: DatasetError for a name that could lead outside its folder, or that a system refuses.
    """
    if (fault := name_fault(name)) is not None:
        shown = ascii(name if len(name) <= 60 else f"{name[:57]}...") if _unprintable(name) else repr(name[:60])
        raise DatasetError(f"the {what} is named {shown}, which {fault}", hint=hint)
    return name


def safe_name(name: str) -> str:
    """The nearest name that `check_name` accepts: of a label such as prostate/uterus, or from an existing path.

    Control characters and separators become underscores, and a name that is too long ends in a hash of the rest.
    """
    safe = "".join("_" if character in SEPARATORS or _unprintable(character) else character for character in name)
    if not safe.strip() or set(safe) <= {"."} or RESERVED.fullmatch(safe):
        safe = f"_{safe}"
    encoded = safe.encode()
    if len(encoded) <= LONGEST_NAME:
        return safe
    digest = blake2b(encoded, digest_size=4).hexdigest()
    return f"{encoded[: LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}_{digest}"


def printable(text: str) -> str:
    """Text as it may be shown: what would steer a terminal or reorder a line is spelled out, such as \\x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(character) if _steers(character) else character for character in text)


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are, as words of a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def cell_of(text: str) -> str:
    """Text as the cell of a CSV or TSV file: a spreadsheet shows one that begins with ' and does not run it."""
    return f"'{text}" if _FORMULA.match(text) else text


def name_in(cell: str) -> str:
    """The text of a cell that `cell_of` made, or that people wrote themselves."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _steers(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in UNPRINTABLE or unicodedata.bidirectional(character) in REORDERING


def _spelled(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode() if not character.isascii() else repr(character)[1:-1]


def _unprintable(text: str) -> bool:
    return any(unicodedata.category(character) in UNPRINTABLE for character in text)
