"""The cases to predict in DICOM: one for each series, with a name that tells nothing of the patient."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from attunet.data.formats.dicom import SeriesListing, find_series
from attunet.data.layouts.tree import ImageFile
from attunet.errors import DatasetError

__all__ = ["SeriesChoice", "series_images"]

NAME_BYTES = 8
_OF_THIS_PROCESS = secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True)
class SeriesChoice:
    """Which series of DICOM become cases, and how they are named.

    Args:
        series: numbers or UIDs of the series to take; empty for all.
        salt: secret text that is hashed with the UID of a series into the name of its case, so that nobody who knows
            UIDs recognises it; the same text gives the same names.
        on_listing: called with what was found in a path, before the cases are made.
    """

    series: tuple[str, ...] = ()
    salt: str = _OF_THIS_PROCESS
    on_listing: Callable[[SeriesListing], None] = lambda _listing: None


def series_images(path: Path, choice: SeriesChoice) -> Iterator[ImageFile]:
    """The series of a file, a folder or an archive as images, each with the key that reads it.

    Args:
        path: the file, folder or archive.
        choice: which of them, and their names.
    Yields: the images.
    Raises: FormatError when nothing can be read, DatasetError when no series is left.
    """
    listing = find_series(path)
    choice.on_listing(listing)
    taken = [
        one for one in listing.series if not choice.series or {one.key, one.uid, str(one.number)} & {*choice.series}
    ]
    if not taken:
        reasons: Sequence[object] = (*listing.refused, *listing.left_out)
        why = f": {reasons[0]}" if reasons else ""
        raise DatasetError(f"no series of {path} can be segmented{why}", hint="check the path, or choose with --series")
    for one in taken:
        name = blake2b(one.key.encode(), key=choice.salt.encode()[:64], digest_size=NAME_BYTES).hexdigest()
        yield ImageFile(path, (), f"series_{name}", "", len(one.slices), key=one.key)
