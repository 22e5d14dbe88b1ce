"""File names: which files of a folder are images, and which of them are channels of one case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from attunet.data.formats import stem_of, suffix_of
from attunet.errors import DatasetError

__all__ = ["by_channel", "by_stem", "channel_of", "image_files"]

CHANNEL = re.compile(r"(.+)_(\d{4})$")


def image_files(folder: Path) -> list[Path]:
    """Files of a known format, sorted; hidden ones (such as the ._ companions of a Mac) are left out."""
    return sorted(
        file
        for file in folder.iterdir()
        if suffix_of(file) is not None and not file.name.startswith(".") and file.is_file()
    )


def channel_of(file: Path) -> tuple[str, int] | None:
    """Case and channel number of a name such as CASE_0000.nii.gz; None when it is not of that form."""
    match = CHANNEL.match(stem_of(file))
    return (match[1], int(match[2])) if match else None


def by_channel(files: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Files named CASE_0000 gathered per case, by channel number; other names are left out.

    Raises: DatasetError when two files claim one channel of one case.
    """
    cases: dict[str, dict[int, Path]] = {}
    for file in files:
        if (named := channel_of(file)) is not None:
            channels = cases.setdefault(named[0], {})
            _check_single(channels.get(named[1]), file, named[0])
            channels[named[1]] = file
    return cases


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Files by their name without suffix.

    Raises: DatasetError when two files share it.
    """
    stems: dict[str, Path] = {}
    for file in files:
        _check_single(stems.get(stem_of(file)), file, stem_of(file))
        stems[stem_of(file)] = file
    return stems


def _check_single(other: Path | None, file: Path, case: str) -> None:
    if other is not None:
        raise DatasetError(f"{other} and {file} are both case {case}", hint="keep one, or rename one of them")
