"""Data sets with a `dataset.json`: Medical Segmentation Decathlon, and nnU-Net raw (versions 1 and 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.formats import SUFFIXES, stem_of, suffix_of
from attunet.data.layouts.declared_labels import load_description, mask_values, read_declared_labels
from attunet.data.layouts.image_files import by_channel, by_stem, image_files
from attunet.data.layouts.paired import read_paired
from attunet.errors import DatasetError

__all__ = ["read_described_dataset"]


def read_described_dataset(root: Path) -> Dataset:
    """The cases that dataset.json lists (MSD, nnU-Net 1) or whose files it describes (nnU-Net 2).

    Raises: DatasetError when it is not valid, contradicts itself or lists nothing.
    """
    path = root / "dataset.json"
    description = load_description(path)
    declared = read_declared_labels(description, path)
    names = mask_values(declared, description, path) or None
    channels = _channel_names(description)
    problems: tuple[Problem, ...] = ()
    if "file_ending" in description or "channel_names" in description:
        layout = "nnunet"
        cases, problems = _nnunet(root, description, len(channels))
    elif description.get("training"):
        layout, cases = _listed(root, description["training"])
    else:
        paired = read_paired(root)
        layout, cases, problems = paired.layout, list(paired.cases), paired.problems
    cases.sort(key=lambda case: case.id)
    return Dataset(root, layout, tuple(cases), names, channels, declared.ignore, problems, declared.regions)


def _channel_names(description: dict[str, Any]) -> tuple[str, ...]:
    channels = description.get("channel_names") or description.get("modality") or {}
    if not isinstance(channels, dict):
        return (str(channels),)
    return tuple(str(channels[key]) for key in sorted(channels, key=lambda key: (len(str(key)), str(key))))


def _listed(root: Path, training: Any) -> tuple[str, list[Case]]:
    """MSD lists its images by name; nnU-Net 1 writes the same list while the files carry a channel number."""
    entries = [entry if isinstance(entry, dict) else {"image": entry} for entry in training]
    if not all(isinstance(entry.get("image"), str) for entry in entries):
        raise DatasetError(f"training in {root / 'dataset.json'} needs pairs of image and label")
    images = {stem_of(root / entry["image"]): root / entry["image"] for entry in entries}
    labels = {stem_of(root / entry["image"]): entry.get("label") for entry in entries}
    if len(images) != len(entries):
        raise DatasetError(f"training in {root / 'dataset.json'} lists an image twice", hint="list each once")
    folders = {image.parent for image in images.values() if image.parent.is_dir()}
    numbered = by_channel(file for folder in folders for file in image_files(folder))
    cases, layout = [], "msd"
    for id, image in images.items():
        files: tuple[Path, ...] = (image,)
        if not image.exists() and id in numbered:
            layout, files = "nnunet", tuple(numbered[id][number] for number in sorted(numbered[id]))
        cases.append(Case(id, files, root / label if (label := labels[id]) else None))
    return layout, cases


def _nnunet(root: Path, description: dict[str, Any], channels: int) -> tuple[list[Case], tuple[Problem, ...]]:
    ending = description.get("file_ending")
    if ending is not None and suffix_of(Path(f"x{ending}")) is None:
        raise DatasetError(f"{root} has files of type {ending}", hint=f"expected one of {', '.join(SUFFIXES)}")
    if isinstance(description.get("dataset"), dict):
        return _spelled_out(root, description["dataset"]), ()
    folder = root / "imagesTr"
    images = by_channel(_of_type(folder, ending))
    if not images:
        raise DatasetError(
            f"{folder} holds no image named CASE_0000{ending or '.nii.gz'}",
            hint="name each image by case and channel number, as nnU-Net does",
        )
    labels = by_stem(_of_type(root / "labelsTr", ending))
    cases = [Case(id, tuple(files[n] for n in sorted(files)), labels.get(id)) for id, files in images.items()]
    orphans = [
        Problem(id, "label without image", f"{label.name} has no image", "add the image or remove the label")
        for id, label in labels.items()
        if id not in images
    ]
    gaps = [
        Problem(
            id,
            "channel missing",
            f"has channels {sorted(files)}, expected 0 to {channels - 1}",
            "add the file",
        )
        for id, files in images.items()
        if channels and sorted(files) != list(range(channels))
    ]
    return cases, (*orphans, *gaps)


def _of_type(folder: Path, ending: str | None) -> list[Path]:
    files = image_files(folder) if folder.is_dir() else []
    return [file for file in files if ending is None or file.name.endswith(ending)]


def _spelled_out(root: Path, entries: dict[str, Any]) -> list[Case]:
    """nnU-Net 2 lets a `dataset` key name the files of each case, anywhere."""
    try:
        return [
            Case(id, tuple(root / image for image in entry["images"]), root / entry["label"])
            for id, entry in entries.items()
        ]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"dataset in {root / 'dataset.json'} needs images and label for each case, {error} is missing"
        ) from error
