"""The cases to predict in DICOM: one for each series, with a name that tells nothing of the patient."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from attunet.data.formats.dicom import SeriesListing, find_series, is_chosen, read_tags
from attunet.data.layouts.tree import ImageFile
from attunet.documents import reading
from attunet.errors import DatasetError, FormatError
from attunet.names import listed, safe_name

__all__ = ["SALT_FILE", "SeriesChoice", "name_salt", "series_images"]

NAME_BYTES = 6
"""Bytes of the hash in a name: of a million series, two get one name with a probability of 0.2%, which is an error."""
SALT_FILE = ".attunet-salt"
SALT_BYTES = 16
TRIES, PAUSE = 20, 0.05
_OF_THIS_PROCESS = secrets.token_hex(SALT_BYTES)


@dataclass(frozen=True, kw_only=True)
class SeriesChoice:
    """Which series of DICOM become cases, and how the cases are named.

    Args:
        series: numbers, UIDs or keys of the series to take; empty for all.
        case_name: keywords of the elements whose values name a case, joined by underscores; empty for a hash.
        salt: called for a secret text that is hashed with the UID of a series into the name of its case, so that nobody
            who knows UIDs recognises it; the same text gives the same names. By default one of this process.
        on_listing: called with what was found in a path, and the name of the case of each key.
    """

    series: tuple[str, ...] = ()
    case_name: tuple[str, ...] = ()
    salt: Callable[[], str] = lambda: _OF_THIS_PROCESS
    on_listing: Callable[[SeriesListing, Mapping[str, str]], None] = lambda _listing, _names: None


def series_images(path: Path, choice: SeriesChoice) -> Iterator[ImageFile]:
    """The series of a file, a folder or an archive as images, each with the key that reads it.

    A series that is refused becomes a case, too: reading it says why.

    Args:
        path: the file, folder or archive.
        choice: which of them, and their names.
    Yields: the images.
    Raises: FormatError when nothing can be read, DatasetError when no series is left, or one that was asked for is not
        there.
    """
    listing = find_series(path)
    found = [_Found(one.key, one.number, one.files) for one in listing.series]
    found += [_Found(one.key, one.number, one.files) for one in listing.refused if one.key]
    chosen = [one for one in found if not choice.series or any(map(one.is_called, choice.series))]
    names = [_name_of(one.key, one.files[0], choice) for one in chosen]
    choice.on_listing(listing, {one.key: name for one, name in zip(chosen, names, strict=True)})
    absent = [wanted for wanted in choice.series if not any(one.is_called(wanted) for one in found)]
    if absent:
        known = listed(list(dict.fromkeys(f"{one.key if one.number is None else one.number}" for one in found)))
        raise DatasetError(f"{path} contains no series {absent[0]}, only {known or 'none'}", hint="correct --series")
    if not found:
        reasons = (*listing.refused, *listing.left_out)
        why = f": {reasons[0]}" if reasons else ""
        raise DatasetError(f"no series of {path} can be segmented{why}", hint="check the path")
    if len(set(names)) < len(names):
        raise DatasetError(
            f"{len(names) - len(set(names))} series of {path} have the {','.join(choice.case_name)} of another",
            hint=f"add an element that tells them apart: --case-name {','.join((*choice.case_name, 'SeriesNumber'))}",
        )
    for name, one in zip(names, chosen, strict=True):
        yield ImageFile(path, (), name, "", len(one.files), key=one.key)


class _Found(NamedTuple):
    """A series that was found, and may be refused."""

    key: str
    number: int | None
    files: tuple[Path, ...]

    def is_called(self, wanted: str) -> bool:
        """Whether it is one that a user names."""
        return is_chosen(self.key, self.number, wanted)


def name_salt(output: Path) -> str:
    """The secret of a folder, hashed into the names of cases of DICOM, so that every prediction names a series alike.

    It is made with the first prediction, in a file that only the user may read. Without that file, which should not be
    handed on with the folder, nobody can find out which series a name stands for.
    Raises: FormatError when the file cannot be written or read.
    """
    path = output / SALT_FILE
    with reading(path, FormatError, "check the permissions of the output folder"):
        output.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(SALT_BYTES))
        for _ in range(TRIES):
            if salt := path.read_text(encoding="ascii").strip():
                return salt
            time.sleep(PAUSE)  # another program has just made it
    raise FormatError(f"{path} is empty", hint="delete it; cases of DICOM then get new names")


def _name_of(key: str, file: Path, choice: SeriesChoice) -> str:
    """The name of the case of a series: the values of elements, or a hash of its key."""
    if not choice.case_name:
        digest = blake2b(key.encode(), key=choice.salt().encode()[:64], digest_size=NAME_BYTES)
        return f"series_{digest.hexdigest()}"
    values = read_tags(file, choice.case_name)
    if not any(values):
        raise DatasetError(
            f"{file.name} has no {' or '.join(choice.case_name)} to name its case by",
            hint="choose another element with --case-name, or leave it out",
        )
    part = key.partition("#")[2]
    return safe_name("_".join(filter(None, (*values, part))))
