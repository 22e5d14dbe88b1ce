"""Image files by their names: which files of a folder are images, and which cases they make up."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from attunet.data.composition import choose_parts
from attunet.data.dataset import Case, DatasetOptions, Problem
from attunet.data.formats import is_image, stem_of
from attunet.data.formats.dicom import CONVERT, series_in
from attunet.errors import DatasetError

__all__ = ["by_channel", "by_stem", "channel_of", "find_cases", "image_files", "in_order", "orphan_labels"]

CHANNEL = re.compile(r"(.+)_(\d{4})$")


def image_files(folder: Path) -> list[Path]:
    """The files of a known format in a folder, sorted, without hidden ones (such as the ._ files of a Mac)."""
    return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and is_image(file))


def channel_of(file: Path) -> tuple[str, int] | None:
    """Case and channel number of a file name such as CASE_0000.nii.gz; None for names of another form."""
    match = CHANNEL.match(stem_of(file))
    return (match[1], int(match[2])) if match else None


def by_channel(files: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Group files named CASE_0000 by case and channel number; other files are left out.

    Raises: DatasetError when two files are the same channel of a case.
    """
    cases: dict[str, dict[int, Path]] = {}
    for file in files:
        if (named := channel_of(file)) is not None:
            channels = cases.setdefault(named[0], {})
            _check_single(channels.get(named[1]), file, named[0])
            channels[named[1]] = file
    return cases


def in_order(channels: Mapping[int, Path]) -> tuple[Path, ...]:
    """The files of one case in the order of their channel numbers."""
    return tuple(channels[number] for number in sorted(channels))


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Files by their name without suffix.

    Raises: DatasetError when two files share a name.
    """
    stems: dict[str, Path] = {}
    for file in files:
        _check_single(stems.get(stem_of(file)), file, stem_of(file))
        stems[stem_of(file)] = file
    return stems


def orphan_labels(labels: Mapping[str, Path], cases: Collection[str]) -> list[Problem]:
    """A problem for each label, by name without suffix, that belongs to no case."""
    return [
        Problem(id, "label without image", f"{label.name} has no image", "add the image or remove the label")
        for id, label in labels.items()
        if id not in cases
    ]


def find_cases(paths: Sequence[Path], channels: int, options: DatasetOptions | None = None) -> tuple[Case, ...]:
    """Find the cases to predict in files and folders, in the order given; the files of a folder sorted by name.

    Files named CASE_0000, CASE_0001 are the channels of one case if the model expects several and all files are
    named so; for a model of one channel, _0000 is dropped from the id when all files end in it. A file that is
    given itself is a case whatever its suffix, so that reading it reports what is wrong with it.

    Args:
        paths: files and folders.
        channels: the number of channels that the model expects.
        options: the frame and the array to read; None: the only ones.
    Returns: the cases.
    Raises: DatasetError when a path is missing, a folder holds no image, two files would share an id or no file may
        hold several arrays.
    """
    return choose_parts(_cases_in(paths, channels), options or DatasetOptions())


def _cases_in(paths: Sequence[Path], channels: int) -> tuple[Case, ...]:
    files = list(dict.fromkeys(file for path in paths for file in _image_files(path)))
    named = [channel_of(file) for file in files]
    if files and all(name is not None and name[1] < channels for name in named):
        numbered = by_channel(files)
        return tuple(Case(id, in_order(numbered[id]), None) for id in numbered)
    cases: dict[str, Case] = {}
    for file in files:
        id = stem_of(file)
        if id in cases:
            raise DatasetError(
                f"{cases[id].images[0]} and {file} would both be written as {id}",
                hint="predict them into two folders, or rename one",
            )
        cases[id] = Case(id, (file,), None)
    return tuple(cases.values())


def _image_files(path: Path) -> list[Path]:
    if path.is_file() or is_image(path):
        return [path]
    if not path.is_dir():
        raise DatasetError(f"there is no file or folder {path}", hint="check the path")
    if files := image_files(path):
        return files
    if series_in(path) or any(series_in(entry) for entry in path.iterdir() if entry.is_dir()):
        raise DatasetError(f"{path} contains DICOM files, which are not read yet", hint=CONVERT)
    raise DatasetError(f"the folder {path} contains no image of a known format", hint="give a folder with image files")


def _check_single(other: Path | None, file: Path, case: str) -> None:
    if other is not None:
        raise DatasetError(f"{other} and {file} are both case {case}", hint="keep one, or rename one of them")
