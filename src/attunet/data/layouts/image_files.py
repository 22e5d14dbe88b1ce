"""Image files by their names: which files of a folder are images, their numbers of channels, and names for cases."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from attunet.data.dataset import Problem
from attunet.data.formats import is_companion, is_image, stem_of
from attunet.data.layouts.tokens import fold, nfc
from attunet.errors import DatasetError
from attunet.names import safe_name

__all__ = [
    "by_channel",
    "by_stem",
    "channel_of",
    "distinct_names",
    "image_files",
    "in_order",
    "orphan_labels",
    "present_file",
]

CHANNEL = re.compile(r"(.+)_(\d{4})$")


def image_files(folder: Path) -> list[Path]:
    """The files of a known format in a folder, sorted, without hidden ones (such as the ._ files of a Mac)."""
    found = (file for file in folder.iterdir() if not file.name.startswith(".") and is_image(file))
    return sorted(file for file in found if not is_companion(file))


def channel_of(file: Path) -> tuple[str, int] | None:
    """Case and channel number of a file name such as CASE_0000.nii.gz; None for names of another form."""
    match = CHANNEL.match(nfc(stem_of(file)))
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
        stem = nfc(stem_of(file))
        _check_single(stems.get(stem), file, stem)
        stems[stem] = file
    return stems


def orphan_labels(labels: Mapping[str, Path], cases: Collection[str]) -> list[Problem]:
    """A problem for each label, by name without suffix, that belongs to no case."""
    return [
        Problem(id, "label without image", f"{label.name} has no image", "add the image or remove the label")
        for id, label in labels.items()
        if id not in cases
    ]


def distinct_names(files: Sequence[Path]) -> list[str]:
    """A name for each file: without suffix, and with the folders in which they differ where names repeat (p01_ct)."""
    stems = [nfc(stem_of(file)) for file in files]
    if len({fold(stem) for stem in stems}) == len(stems):
        return [safe_name(stem) for stem in stems]
    common = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return [
        safe_name("_".join((*map(nfc, file.absolute().parent.relative_to(common).parts), stem)))
        for file, stem in zip(files, stems, strict=True)
    ]


def present_file(path: Path) -> Path:
    """The file that a path names, also with the separators of Windows, or the only one that differs in letter case or
    Unicode form.
    """
    if "\\" in str(path) and not path.exists():
        path = Path(str(path).replace("\\", "/"))
    if path.exists() or path.is_symlink() or not path.parent.is_dir():
        return path
    found = [entry for entry in path.parent.iterdir() if fold(entry.name) == fold(path.name)]
    return found[0] if len(found) == 1 else path


def _check_single(other: Path | None, file: Path, case: str) -> None:
    if other is not None:
        raise DatasetError(f"{other} and {file} are both case {case}", hint="keep one, or rename one of them")
