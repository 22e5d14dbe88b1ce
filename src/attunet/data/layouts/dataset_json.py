"""Data sets with a `dataset.json`: Medical Segmentation Decathlon, and nnU-Net raw (versions 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attunet.data.dataset import Case, Dataset, LeftOut, Problem
from attunet.data.formats import SUFFIXES, suffix_of
from attunet.data.layouts.description import DESCRIPTION, load_description, with_description
from attunet.data.layouts.image_files import (
    by_channel,
    by_stem,
    distinct_names,
    image_files,
    in_order,
    orphan_labels,
    present_file,
)
from attunet.data.layouts.tokens import fold, nfc
from attunet.data.layouts.tree import unused_problem, walk
from attunet.errors import DatasetError
from attunet.names import check_name, safe_name

__all__ = ["is_msd", "is_nnunet", "read_msd", "read_nnunet"]

PAIRS = 'write each case as {"image": "imagesTr/CASE.nii.gz", "label": "labelsTr/CASE.nii.gz"}, in pairs'


def is_nnunet(root: Path) -> bool:
    """Whether a folder holds the dataset.json of nnU-Net 2 and its images. Raises: DatasetError if it cannot be read.

    Beside images in other folders, one that names no files only declares labels and channels.
    """
    description = _description(root)
    if (root / "imagesTr").exists() or "dataset" in description:
        return not {"channel_names", "file_ending"}.isdisjoint(description)
    return "file_ending" in description


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
    if isinstance(description.get("dataset"), dict):
        cases = _named_cases(root, description["dataset"])
        return _accounted(replace(dataset, cases=tuple(cases)), description)
    cases, problems, lost = _numbered_cases(root, ending, len(dataset.channel_names))
    return _accounted(replace(dataset, cases=tuple(cases), problems=problems), description, lost)


def read_msd(root: Path) -> Dataset:
    """Read a data set whose dataset.json lists images and labels: MSD, or nnU-Net 1 with one file per channel.

    An image may be a list of files, its channels. Where the list names only CASE_0000 of each case and several
    channels are declared, the others are read, too.
    Raises: DatasetError when the list cannot be used.
    """
    description = load_description(root / DESCRIPTION)
    dataset = with_description(Dataset(root=root, layout="msd", cases=()), description)
    entries = [entry if isinstance(entry, dict) else {"image": entry} for entry in _list(description, "training", root)]
    images = [_images(entry.get("image"), root) for entry in entries]
    firsts = [files[0] for files in images]
    if len({fold(str(file.absolute())) for file in firsts}) != len(firsts):
        raise DatasetError(f"training in {root / DESCRIPTION} lists an image twice", hint="list each image once")
    ids, layout = distinct_names(firsts), dataset.layout
    gathered = _gathered(firsts, len(dataset.channel_names))
    if gathered and all(len(files) == 1 for files in images):
        layout, ids = "nnunet", [safe_name(case) for case, _ in gathered]
        images = [files for _, files in gathered]
    cases = [
        Case(id, files, _path(root, entry.get("label"))) for id, files, entry in zip(ids, images, entries, strict=True)
    ]
    gaps = _gaps({case.id: range(len(case.images)) for case in cases}, len(dataset.channel_names)) if gathered else ()
    return _accounted(replace(dataset, layout=layout, cases=tuple(cases), problems=tuple(gaps)), description)


def _description(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    return load_description(path) if path.is_file() else {}


def _list(description: Mapping[str, Any], key: str, root: Path) -> list[Any]:
    entries = description.get(key) or []
    if not isinstance(entries, list):
        raise DatasetError(f"{key} in {root / DESCRIPTION} is a {type(entries).__name__}, expected a list", hint=PAIRS)
    return entries


def _images(image: object, root: Path) -> tuple[Path, ...]:
    """The files of an image: one, or a list of channels."""
    files = image if isinstance(image, list) else [image]
    names = [file for file in files if isinstance(file, str) and file]
    if not names or len(names) != len(files):
        raise DatasetError(f"{root / DESCRIPTION} has a case without an image", hint=PAIRS)
    return tuple(present_file(root / name) for name in names)


def _path(root: Path, label: object) -> Path | None:
    if label is None or label == "":
        return None
    if not isinstance(label, str):
        raise DatasetError(f"{root / DESCRIPTION} gives the label {label!r}, expected the name of a file", hint=PAIRS)
    return present_file(root / label)


def _gathered(firsts: Sequence[Path], channels: int) -> list[tuple[str, tuple[Path, ...]]]:
    """Case and channels of each listed image, where nnU-Net numbers them; empty where it does not.

    The list names CASE, which is no file, or CASE_0000 of each case while several channels are declared.
    """
    folders = {image.parent for image in firsts if image.parent.is_dir()}
    numbered = {folder: by_channel(image_files(folder)) for folder in folders}
    found = []
    for image in firsts:
        stem = distinct_names([image])[0]
        case = stem if not image.exists() else stem.removesuffix("_0000") if channels > 1 else ""
        files = numbered.get(image.parent, {}).get(case, {})
        if not files or (image.exists() and (case == stem or len(files) == 1)):
            return []
        found.append((case, in_order(files)))
    return found


def _numbered_cases(
    root: Path, ending: str | None, channels: int
) -> tuple[list[Case], tuple[Problem, ...], list[Path]]:
    """The cases of imagesTr and labelsTr, problems, and the labels without an image."""
    folder = root / "imagesTr"
    files, labels = _files(folder, ending), by_stem(_files(root / "labelsTr", ending))
    masks = {fold(stem): label for stem, label in labels.items()}
    images = by_channel(files)
    whole = by_stem(files)
    if channels and not _numbers_agree(images, channels) and all(fold(stem) in masks for stem in whole):
        images = {stem: {0: file} for stem, file in whole.items()}  # numbers of patients, not of channels
    if not images:
        raise DatasetError(
            f"{folder} contains no image named CASE_0000{ending or '.nii.gz'}",
            hint=f"correct file_ending in {DESCRIPTION}, or name images by case and channel number, as nnU-Net does",
        )
    cases = [Case(safe_name(id), in_order(found), masks.get(fold(id))) for id, found in images.items()]
    names = set(map(fold, images))
    known = {stem for stem in labels if fold(stem) in names}
    lost = [label for stem, label in labels.items() if stem not in known]
    return cases, (*orphan_labels(labels, known), *_gaps(images, channels)), lost


def _numbers_agree(images: Mapping[str, Mapping[int, Path]], channels: int) -> bool:
    """Whether the numbers at the end of names are those of the declared channels, in some case at least."""
    return any(set(found) == set(range(channels)) for found in images.values())


def _gaps(images: Mapping[str, Iterable[int]], channels: int) -> Iterator[Problem]:
    for id, found in images.items():
        if channels and sorted(found) != list(range(channels)):
            message = f"has channels {sorted(found)}, expected 0 to {channels - 1}"
            yield Problem(id, "channel missing", message, "add the file, or correct the channels in dataset.json")


def _files(folder: Path, ending: str | None) -> list[Path]:
    files = image_files(folder) if folder.is_dir() else []
    return [file for file in files if ending is None or file.name.lower().endswith(ending.lower())]


def _named_cases(root: Path, entries: dict[str, Any]) -> list[Case]:
    """The cases whose files, anywhere, are named under `dataset`."""
    cases = []
    for id, entry in entries.items():
        check_name(id, f"case in {root / DESCRIPTION}", hint="rename the key under dataset")
        absent = [key for key in ("images", "label") if not isinstance(entry, dict) or key not in entry]
        if absent:
            raise DatasetError(
                f"dataset in {root / DESCRIPTION} has a case {id!r} in which {absent[0]!r} is missing",
                hint='write each case as {"images": ["CHANNEL_0.nii.gz"], "label": "LABEL.nii.gz"}',
            )
        cases.append(Case(nfc(id), _images(entry["images"], root), _path(root, entry["label"])))
    return cases


def _accounted(dataset: Dataset, description: Mapping[str, Any], reported: Sequence[Path] = ()) -> Dataset:
    """The data set, sorted, with what its description does not say: images of no case, broken links, another count."""
    root, cases = dataset.root, tuple(sorted(dataset.cases, key=lambda case: case.id))
    tree = walk(root)
    used = {path.absolute() for path in (*reported, *(path for case in cases for path in case.paths))}
    tests = {present_file(root / name).absolute() for name in description.get("test") or () if isinstance(name, str)}
    others = [image for image in tree.images if image.path.absolute() not in used]
    test = [image.name for image in others if image.path.absolute() in tests or _is_test(image.folders)]
    rest = [image.name for image in others if image.name not in set(test)]
    left_out = [
        LeftOut(reason, tuple(names))
        for reason, names in (("for testing", test), (f"no case of {DESCRIPTION}", rest))
        if names
    ]
    problems = [*dataset.problems, *tree.problems, *_counted(cases, description), *map(unused_problem, left_out)]
    return replace(dataset, cases=cases, problems=tuple(problems))


def _is_test(folders: Sequence[str]) -> bool:
    return bool(folders) and folders[0].lower() in ("imagests", "labelsts")


def _counted(cases: Sequence[Case], description: Mapping[str, Any]) -> Iterator[Problem]:
    declared = description.get("numTraining")
    if declared is not None and declared != len(cases):
        message = f"{DESCRIPTION} says numTraining {declared}, but there are {len(cases)} cases"
        yield Problem("", "number of cases", message, "find the missing files, or correct numTraining")
