"""A folder of images beside a folder of labels, matched by file name."""

from __future__ import annotations

from pathlib import Path

from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.formats import stem_of
from attunet.data.formats.dicom import CONVERT, series_in
from attunet.data.layouts.image_files import by_channel, by_stem, channel_of, image_files
from attunet.errors import DatasetError

__all__ = ["find_pair", "read_paired"]

IMAGES = ("images", "image", "imagestr", "imgs", "img")
LABELS = ("labels", "label", "labelstr", "masks", "mask", "segmentations")
ENDINGS = ("_mask", "_label", "_seg", "_segmentation", "_gt")


def find_pair(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and of labels in a data set, in any case of letters; None when one is missing."""
    folders = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    images = next((folders[name] for name in IMAGES if name in folders), None)
    labels = next((folders[name] for name in LABELS if name in folders), None)
    return (images, labels) if images and labels else None


def read_paired(root: Path) -> Dataset:
    """Images matched to labels by file name; a label may end in _mask, _label, _seg or _gt.

    Images named CASE_0000, CASE_0001 are the channels of one case when the labels are named CASE.
    Raises: DatasetError when no image is found or two files claim one case.
    """
    pair = find_pair(root)
    if pair is None:
        raise DatasetError(f"{root} has no images/ beside labels/", hint="make these two folders")
    images, labels = image_files(pair[0]), image_files(pair[1])
    if not images:
        raise _no_images(pair[0])
    masks = by_stem(labels)
    cases = _cases(images, masks)
    used = {case.label for case in cases}
    series = _series(pair[0], masks)
    orphans = [stem for stem, mask in masks.items() if mask not in used and stem not in series]
    problems = (*series.values(), *map(_orphan, orphans), *_folders(pair, set(series)))
    return Dataset(root, "plain", tuple(cases), None, (), None, problems)


def _cases(images: list[Path], masks: dict[str, Path]) -> list[Case]:
    stems = {stem_of(image) for image in images}
    numbered = all(channel_of(image) is not None for image in images)
    if numbered and not stems & masks.keys():
        gathered = by_channel(images)
        files = {case: tuple(channels[number] for number in sorted(channels)) for case, channels in gathered.items()}
    else:
        files = {stem: (image,) for stem, image in by_stem(images).items()}
    return [Case(id, files[id], _mask_of(id, masks)) for id in sorted(files)]


def _mask_of(case: str, masks: dict[str, Path]) -> Path | None:
    return next((masks[name] for name in (case, *(case + end for end in ENDINGS)) if name in masks), None)


def _series(folder: Path, masks: dict[str, Path]) -> dict[str, Problem]:
    """DICOM series that lie among the images, by the name of their folder."""
    found = {entry.name: series_in(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return {
        name: Problem(
            name,
            "DICOM series",
            f"the image is a DICOM series ({count} files), which is not read yet; "
            f"{'its label is left out too' if name in masks else 'it has no label'}",
            CONVERT,
        )
        for name, count in found.items()
        if count
    }


def _orphan(stem: str) -> Problem:
    return Problem(
        stem, "label without image", "a label of this name has no image", "add the image or remove the label"
    )


def _folders(pair: tuple[Path, Path], known: set[str]) -> list[Problem]:
    entries = [entry for folder in pair for entry in sorted(folder.iterdir()) if entry.is_dir()]
    return [
        Problem(
            entry.name,
            "folder ignored",
            f"the folder {entry.parent.name}/{entry.name} is not looked into",
            f"put one file per case straight into {entry.parent.name}/",
        )
        for entry in entries
        if not (entry.parent == pair[0] and entry.name in known) and not entry.name.startswith(".")
    ]


def _no_images(folder: Path) -> DatasetError:
    nested = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())]
    series = [entry for entry in nested if series_in(entry)]
    if series:
        counts = ", ".join(f"{entry.name}: {series_in(entry)} files" for entry in series[:5])
        return DatasetError(f"{folder} holds only DICOM series ({counts}), which are not read yet", hint=CONVERT)
    return DatasetError(
        f"{folder} holds no image of a known format",
        hint="put one image per case into it, such as CASE.nii.gz",
    )
