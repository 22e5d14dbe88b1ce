"""A folder of images beside a folder of labels, matched by file name."""

from __future__ import annotations

from pathlib import Path

from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.formats import stem_of
from attunet.data.formats.dicom import CONVERT, series_in
from attunet.data.layouts.description import DESCRIPTION, load_description, with_description
from attunet.data.layouts.image_files import by_channel, by_stem, channel_of, image_files, in_order, orphan_labels
from attunet.errors import DatasetError

__all__ = ["is_paired", "read_paired"]

IMAGES = ("images", "image", "imagestr", "imgs", "img")
LABELS = ("labels", "label", "labelstr", "masks", "mask", "segmentations")
ENDINGS = ("_mask", "_label", "_seg", "_segmentation", "_gt")


def is_paired(root: Path) -> bool:
    """Whether a folder holds a folder of images and a folder of labels."""
    return root.is_dir() and _find_pair(root) is not None


def read_paired(root: Path) -> Dataset:
    """Read images and labels that are matched by file name; a label may end in _mask, _label, _seg or _gt.

    Images named CASE_0000, CASE_0001 are the channels of one case when the labels are named CASE. A dataset.json
    may declare labels.
    Raises: DatasetError when no image is found, two files are the same case, or the description cannot be used.
    """
    pair = _find_pair(root)
    if pair is None:
        raise DatasetError(f"{root} has no images/ next to labels/", hint="create these two folders")
    images, masks = image_files(pair[0]), by_stem(image_files(pair[1]))
    if not images:
        raise _no_images(pair[0])
    cases, series = _cases(images, masks), _series(pair[0], masks)
    used = {case.label for case in cases}
    matched = {stem for stem, mask in masks.items() if mask in used}
    problems = (*series.values(), *orphan_labels(masks, matched | set(series)), *_folders(pair, set(series)))
    dataset = Dataset(root=root, layout="plain", cases=tuple(cases), problems=problems)
    description = root / DESCRIPTION
    return with_description(dataset, load_description(description)) if description.is_file() else dataset


def _find_pair(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and of labels, in upper or lower case; None when one is missing."""
    folders = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    images = next((folders[name] for name in IMAGES if name in folders), None)
    labels = next((folders[name] for name in LABELS if name in folders), None)
    return (images, labels) if images and labels else None


def _cases(images: list[Path], masks: dict[str, Path]) -> list[Case]:
    stems = {stem_of(image) for image in images}
    numbered = all(channel_of(image) is not None for image in images)
    if numbered and not stems & masks.keys():
        files = {case: in_order(channels) for case, channels in by_channel(images).items()}
    else:
        files = {stem: (image,) for stem, image in by_stem(images).items()}
    return [Case(id, files[id], _mask_of(id, masks)) for id in sorted(files)]


def _mask_of(case: str, masks: dict[str, Path]) -> Path | None:
    return next((masks[name] for name in (case, *(case + end for end in ENDINGS)) if name in masks), None)


def _series(folder: Path, masks: dict[str, Path]) -> dict[str, Problem]:
    """DICOM series that lie among the images, by the name of their folder."""
    counts = {entry.name: series_in(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return {
        name: Problem(
            name,
            "DICOM series",
            f"the image is a DICOM series ({count} files), which is not read yet; "
            f"{'its label is left out too' if name in masks else 'it has no label'}",
            CONVERT,
        )
        for name, count in counts.items()
        if count
    }


def _folders(pair: tuple[Path, Path], known: set[str]) -> list[Problem]:
    entries = [entry for folder in pair for entry in sorted(folder.iterdir()) if entry.is_dir()]
    return [
        Problem(
            entry.name,
            "folder ignored",
            f"the folder {entry.parent.name}/{entry.name} is not searched",
            f"put one file per case directly into {entry.parent.name}/",
        )
        for entry in entries
        if not (entry.parent == pair[0] and entry.name in known) and not entry.name.startswith(".")
    ]


def _no_images(folder: Path) -> DatasetError:
    nested = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())]
    series = [entry for entry in nested if series_in(entry)]
    if series:
        counts = ", ".join(f"{entry.name}: {series_in(entry)} files" for entry in series[:5])
        return DatasetError(f"{folder} contains only DICOM series ({counts}), which are not read yet", hint=CONVERT)
    return DatasetError(
        f"{folder} contains no image of a known format",
        hint="put one image per case into it, such as CASE.nii.gz",
    )
