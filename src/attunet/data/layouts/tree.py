"""The image files of a folder and of all folders in it, and what else lies there that could be one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attunet.data.dataset import LeftOut, Problem
from attunet.data.formats import SUFFIXES, is_companion, is_image, stem_of, suffix_of
from attunet.data.formats.dicom import DICOM_SUFFIXES, SeriesIdentity, is_dicom, objects_of
from attunet.data.layouts.tokens import nfc
from attunet.names import listed

__all__ = ["ImageFile", "Tree", "unused_problem", "walk"]

FOREIGN = (
    ".mgz .mgh .mnc .gipl .vtk .vti .nii.bz2 .nii.xz .nii.zip .nii.zst .svs .czi .lif .nd2 "
    ".ndpi .heic .pbm .pnm .exr .psd .par .rec .zip .tar .tar.gz .rar .7z .avi .mp4"
)
"""Suffixes of images and archives that no reader opens; the others are in `SUFFIXES`."""

CONVERT = f"convert them to one of {', '.join(SUFFIXES)}, or remove them"
SKIPPED_FOLDERS = ("__MACOSX",)


@dataclass(frozen=True)
class ImageFile:
    """An image file, or a folder with a DICOM series, by its place in the data set.

    Args:
        path: the file.
        folders: the folders below the data set that lead to it.
        stem: its name without suffix.
        suffix: its suffix, as written.
        series: number of files of a DICOM series; 0 for an image file.
        is_label: whether its content says that it is a label: a segmentation or structure set of DICOM.
        key: what chooses it where a path holds several images; None for the only one.
        identities: the series of DICOM that it holds.
    """

    path: Path
    folders: tuple[str, ...]
    stem: str
    suffix: str
    series: int = 0
    is_label: bool = False
    key: str | None = None
    identities: tuple[SeriesIdentity, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders and the name without suffix."""
        return (*self.folders, self.stem)

    @property
    def name(self) -> str:
        """The path below the data set."""
        return "/".join((*self.folders, self.path.name))


@dataclass(frozen=True)
class Tree:
    """What a folder contains.

    Args:
        root: the folder.
        images: image files and DICOM series, sorted by path.
        problems: broken links, and images in formats that are not read.
        described: folders below the root that have a dataset.json of their own.
    """

    root: Path
    images: tuple[ImageFile, ...]
    problems: tuple[Problem, ...]
    described: tuple[str, ...] = ()


def walk(root: Path) -> Tree:
    """Find the images of a folder and all folders in it; links are followed, hidden files and folders are not.

    Files of other kinds, such as text and tables, are no images and are passed over.
    """
    images: list[ImageFile] = []
    broken: list[str] = []
    foreign: list[str] = []
    left_out: list[LeftOut] = []
    described: list[str] = []
    for folder, names in _folders(root):
        folders = tuple(map(nfc, folder.relative_to(root).parts))
        found = [name for name in names if suffix_of(Path(name)) not in (None, *DICOM_SUFFIXES)]
        if folders and "dataset.json" in names:
            described.append("/".join(folders))
        for name in found:
            path = folder / name
            if path.is_symlink() and not path.exists():
                broken.append("/".join((*folders, name)))
            elif is_image(path) and not is_companion(path):
                stem = stem_of(path)
                images.append(ImageFile(path, folders, nfc(stem), name[len(stem) :]))
        known = set(found)
        dicom = [folder / name for name in names if name not in known and is_dicom(folder / name)]
        known |= {path.name for path in dicom}
        foreign += ["/".join((*folders, name)) for name in names if name not in known and _is_foreign(name)]
        if dicom:
            more, others = _dicom_images(root, folder, dicom)
            images += more
            left_out += others
    links = list(_problem_of("broken link", "are links to nothing", "restore the files they point to", broken))
    foreign_problems = _problem_of("unreadable format", "have a format that is not read", CONVERT, foreign)
    problems = (*links, *(replace(problem, severity="warning") for problem in foreign_problems))
    problems += tuple(map(unused_problem, left_out))
    return Tree(root, tuple(sorted(images, key=lambda image: image.name)), problems, tuple(described))


def unused_problem(left: LeftOut) -> Problem:
    """A warning for files that belong to no case."""
    message = f"{len(left.files)} {'file' if len(left.files) == 1 else 'files'} ({left.reason}): {listed(left.files)}"
    remedy = "nothing, if this is right; otherwise state the names with --pattern and --label-pattern"
    return Problem("", "left out", message, remedy, "warning")


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder once, with the sorted names of its files and of the folders that are images themselves."""
    visited: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        images = [name for name in below if is_image(Path(folder, name))]
        again = real in visited
        visited.add(real)
        below[:] = [] if again else sorted(name for name in below if _is_searched(name) and name not in images)
        if not again:
            yield Path(folder), sorted(name for name in (*files, *images) if not name.startswith("."))


def _is_searched(folder: str) -> bool:
    return not folder.startswith(".") and folder not in SKIPPED_FOLDERS


def _is_foreign(name: str) -> bool:
    return name.lower().endswith((*FOREIGN.split(), *DICOM_SUFFIXES))


def _dicom_images(root: Path, folder: Path, files: Sequence[Path]) -> tuple[list[ImageFile], list[LeftOut]]:
    """The images and labels among the DICOM files of a folder, and what is none."""
    held = objects_of(files)
    folders = tuple(map(nfc, folder.relative_to(root).parts))
    images = []
    if held.series:
        name, count = (folders or (nfc(root.name),))[-1], sum(map(len, held.series.values()))
        images.append(ImageFile(folder, folders[:-1], name, "", count, identities=tuple(held.series)))
    for path in (*held.images, *held.labels):
        stem, known = stem_of(path), held.images.get(path)
        image = ImageFile(path, folders, nfc(stem), path.name[len(stem) :], is_label=known is None)
        images.append(image if known is None else replace(image, identities=(known,)))
    left_out = [
        LeftOut(f"DICOM, {what}", tuple("/".join((*folders, path.name)) for path in paths))
        for what, paths in held.left_out.items()
    ]
    return images, left_out


def _problem_of(kind: str, what: str, remedy: str, names: Sequence[str]) -> Iterator[Problem]:
    if names:
        yield Problem("", kind, f"{len(names)} files {what}: {listed(names)}", remedy)
