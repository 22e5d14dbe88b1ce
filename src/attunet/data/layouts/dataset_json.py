"""Data sets with a `dataset.json`: Medical Segmentation Decathlon, and nnU-Net raw (versions 1 and 2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.formats import SUFFIXES, stem_of, suffix_of
from attunet.data.layouts.description import DESCRIPTION, load_description, with_description
from attunet.data.layouts.image_files import by_channel, by_stem, image_files, in_order, orphan_labels
from attunet.errors import DatasetError

__all__ = ["is_msd", "is_nnunet", "read_msd", "read_nnunet"]


def is_nnunet(root: Path) -> bool:
    """Whether a folder holds the dataset.json of nnU-Net 2. Raises: DatasetError when it cannot be read."""
    return not {"channel_names", "file_ending"}.isdisjoint(_description(root))


def is_msd(root: Path) -> bool:
    """Whether a folder holds a dataset.json that lists its training cases. Raises: as `is_nnunet`."""
    return bool(_description(root).get("training"))


def read_nnunet(root: Path) -> Dataset:
    """Read a data set of nnU-Net 2, whose dataset.json describes the files or names those of each case.

    Raises: DatasetError when the description cannot be used or no image fits it.
    """
    description = load_description(root / DESCRIPTION)
    dataset = with_description(Dataset(root=root, layout="nnunet", cases=()), description)
    ending = description.get("file_ending")
    if ending is not None and suffix_of(Path(f"x{ending}")) is None:
        raise DatasetError(
            f"{DESCRIPTION} of {root} declares files of type {ending}", hint=f"expected one of {', '.join(SUFFIXES)}"
        )
    problems: tuple[Problem, ...] = ()
    if isinstance(description.get("dataset"), dict):
        cases = _named_cases(root, description["dataset"])
    else:
        cases, problems = _numbered_cases(root, ending, len(dataset.channel_names))
    return replace(dataset, cases=tuple(sorted(cases, key=lambda case: case.id)), problems=problems)


def read_msd(root: Path) -> Dataset:
    """Read a data set whose dataset.json lists images and labels: MSD, or nnU-Net 1 with one file per channel.

    Raises: DatasetError when the list cannot be used.
    """
    description = load_description(root / DESCRIPTION)
    dataset = with_description(Dataset(root=root, layout="msd", cases=()), description)
    entries = [entry if isinstance(entry, dict) else {"image": entry} for entry in description["training"]]
    if not all(isinstance(entry.get("image"), str) for entry in entries):
        raise DatasetError(
            f"training in {root / DESCRIPTION} has an entry without an image",
            hint='write each case as {"image": "imagesTr/CASE.nii.gz", "label": "labelsTr/CASE.nii.gz"}, in pairs',
        )
    images = {stem_of(root / entry["image"]): root / entry["image"] for entry in entries}
    labels = {stem_of(root / entry["image"]): entry.get("label") for entry in entries}
    if len(images) != len(entries):
        raise DatasetError(f"training in {root / DESCRIPTION} lists an image twice", hint="list each image once")
    folders = {image.parent for image in images.values() if image.parent.is_dir()}
    numbered = by_channel(file for folder in folders for file in image_files(folder))
    cases, layout = [], dataset.layout
    for id, image in images.items():
        files: tuple[Path, ...] = (image,)
        if not image.exists() and id in numbered:
            layout, files = "nnunet", in_order(numbered[id])
        cases.append(Case(id, files, root / label if (label := labels[id]) else None))
    return replace(dataset, layout=layout, cases=tuple(sorted(cases, key=lambda case: case.id)))


def _description(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    return load_description(path) if path.is_file() else {}


def _numbered_cases(root: Path, ending: str | None, channels: int) -> tuple[list[Case], tuple[Problem, ...]]:
    folder = root / "imagesTr"
    images = by_channel(_files(folder, ending))
    if not images:
        raise DatasetError(
            f"{folder} contains no image named CASE_0000{ending or '.nii.gz'}",
            hint="name each image by case and channel number, as nnU-Net does",
        )
    labels = by_stem(_files(root / "labelsTr", ending))
    cases = [Case(id, in_order(files), labels.get(id)) for id, files in images.items()]
    gaps = [
        Problem(id, "channel missing", f"has channels {sorted(files)}, expected 0 to {channels - 1}", "add the file")
        for id, files in images.items()
        if channels and sorted(files) != list(range(channels))
    ]
    return cases, (*orphan_labels(labels, images), *gaps)


def _files(folder: Path, ending: str | None) -> list[Path]:
    files = image_files(folder) if folder.is_dir() else []
    return [file for file in files if ending is None or file.name.endswith(ending)]


def _named_cases(root: Path, entries: dict[str, Any]) -> list[Case]:
    """The cases whose files, anywhere, are named under `dataset`."""
    try:
        return [
            Case(id, tuple(root / image for image in entry["images"]), root / entry["label"])
            for id, entry in entries.items()
        ]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"dataset in {root / DESCRIPTION} has a case in which {error} is missing",
            hint='write each case as {"images": ["CHANNEL_0.nii.gz"], "label": "LABEL.nii.gz"}',
        ) from error
