"""Pairs of reference and prediction: found in files, folders and data sets, and read on one grid.

Masks in DICOM objects (SEG, RTSTRUCT) have names instead of values, and may overlap: each combination of labels then
has a value of its own, see `attunet.data.label_files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attunet.data import formats
from attunet.data.alignment import check_same_grid, common_grid, same_grid
from attunet.data.dataset import LabelFiles, LabelPart
from attunet.data.formats.dicom import DICOM_SUFFIXES, LabelObject, objects_of, read_label_object
from attunet.data.label_files import read_label_files
from attunet.data.layouts import read_dataset
from attunet.data.layouts.composed import numbered
from attunet.data.layouts.image_files import by_stem, image_files
from attunet.data.layouts.tokens import fold
from attunet.data.volume import Volume
from attunet.errors import AttunetError, DatasetError, LabelError
from attunet.names import listed, safe_name

__all__ = ["LabelSource", "Pair", "match", "named_pairs", "read_on_one_grid"]

GRID_HINT = "resample the prediction onto the grid of the reference, or repair the header that is wrong"

ENDINGS = ("_seg", "_labelmap", "_rtstruct")
"""What `attunet predict` adds to the names of objects, the most exact one first."""

LabelSource = Path | LabelFiles
"""A label file, or the masks that make up a label."""


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction.

    Args:
        case: name of the case.
        reference: its label.
        prediction: its predicted mask; None when there is none.
        annotated: the labels that were annotated in this case; None: all.
    """

    case: str
    reference: LabelSource
    prediction: LabelSource | None
    annotated: tuple[str, ...] | None = None


def match(reference: Path, prediction: Path) -> tuple[list[Pair], list[str]]:
    """Pair two files, or the files of two folders by their name without suffix.

    Objects of DICOM may be called CASE_seg, CASE_labelmap or CASE_rtstruct. Where no names are the same, the references
    are the labels of a data set of any layout, by the ids of its cases.

    Returns: one pair per reference, in order of name, and the names of predictions without a reference.
    Raises: DatasetError when a path is missing, the two are not of one kind, no reference is found, no
        prediction belongs to any reference, or two files of a folder are the same case.
    """
    for path in (reference, prediction):
        if not path.exists():
            raise DatasetError(f"{path} does not exist", hint="check the path")
    if reference.is_dir() != prediction.is_dir():
        raise DatasetError(
            f"got a file and a folder ({reference}, {prediction}), expected two files or two folders",
            hint="pass the reference file and the prediction file, or the two folders that contain them",
        )
    if reference.is_file():
        return [Pair(formats.stem_of(reference), reference, prediction)], []
    labels, masks = by_stem(image_files(reference)), by_stem(image_files(prediction))
    labels = labels if labels.keys() & masks.keys() else _by_case(labels)
    predictions = {**_by_case(masks), **{name: masks[name] for name in masks.keys() & labels.keys()}}
    references = {name: Pair(name, path, None) for name, path in labels.items()}
    if not references.keys() & predictions.keys():
        references = _of_cases(reference) or references
    if not references:
        raise DatasetError(
            f"no label file was found in {reference}", hint="pass the folder that contains the label files"
        )
    if not references.keys() & predictions.keys():
        first = next(iter(references.values()))
        name = first.reference.name if isinstance(first.reference, Path) else first.case
        raise DatasetError(
            f"none of the {len(predictions)} files in {prediction} is named like one of the "
            f"{len(references)} in {reference}",
            hint=f"name each prediction like its reference, such as {name}",
        )
    pairs = [replace(pair, prediction=predictions.get(case)) for case, pair in references.items()]
    return pairs, [case for case in predictions if case not in references]


def _by_case(files: Mapping[str, Path]) -> dict[str, Path]:
    """The masks among files by case: objects of DICOM lose their ending, and those of other kinds are no masks."""
    objects = {stem: path for stem, path in files.items() if path.name.lower().endswith(DICOM_SUFFIXES)}
    masks = {stem: path for stem, path in objects.items() if not objects_of([path]).left_out}
    ended = [(stem.removesuffix(end), path) for end in ENDINGS for stem, path in masks.items() if stem.endswith(end)]
    unknown = objects.keys() - masks.keys() | {stem for stem in masks if stem.endswith(ENDINGS)}
    plain = {stem: path for stem, path in files.items() if stem not in unknown}
    return dict(sorted({**dict(reversed(ended)), **plain}.items()))


def named_pairs(pairs: Sequence[Pair], declared: Mapping[str, int]) -> tuple[list[Pair], dict[str, int]]:
    """The pairs with the masks of DICOM objects by name, and the value of each label.

    Args:
        pairs: as `match` found them.
        declared: name to value of the labels; empty when nothing declares them. They choose masks by name.
    Returns: the pairs; and name to value, the declared ones where there are any, else those of the labels of a data
        set, else the masks of objects in the order of their names; empty where masks have values only.
    Raises: LabelError when objects are compared with files whose values nothing names.
    """
    objects = _objects(pairs)
    values = dict(declared) or {
        part.name: part.value
        for pair in pairs
        if isinstance(pair.reference, LabelFiles)
        for part in pair.reference.parts
    }
    if objects and not values:
        names = [safe_name(name) for held in objects.values() for name in held.names]
        found = {fold(name): name for name in reversed(names)}  # as it is written first
        values = {name: value for name, value in numbered(found).items() if value}
        others = [path for pair in pairs for path in _files(pair) if path not in objects]
        if others and len(values) > 1:
            raise LabelError(
                f"the masks {listed(list(values))} have names, those of {others[0].name} have values",
                hint=f'say which belong together with --labels "{next(iter(values))}=1,..."',
            )
    named = [
        replace(
            pair,
            reference=_masks(pair.reference, objects, values),
            prediction=None if pair.prediction is None else _masks(pair.prediction, objects, values),
        )
        for pair in pairs
    ]
    return named, values


def read_on_one_grid(pair: Pair, key: str | None = None) -> tuple[Volume, Volume | None]:
    """Read a reference and its prediction on one grid.

    Args:
        pair: the pair.
        key: the array to read of label files that hold several; None for their only one.
    Returns: the reference, and the prediction; None when there is none.
    Raises: GeometryError when they are on different grids, otherwise as `read_label` and `read_label_files`.
    """
    if pair.prediction is None:
        return _read(pair.reference, key), None
    sources = [pair.reference, pair.prediction]
    sources.sort(key=_needs_grid)
    first = _read(sources[0], key)
    second = _read(sources[1], key, first)
    if _needs_grid(sources[0]) and not same_grid(first, second) and (grid := common_grid(first, second)) is not None:
        first, second = _read(sources[0], key, grid), _read(sources[1], key, grid)
    reference, prediction = (first, second) if sources[0] is pair.reference else (second, first)
    check_same_grid(reference, prediction, f"reference and prediction of case {pair.case}", hint=GRID_HINT)
    return reference, prediction


def _read(source: LabelSource, key: str | None, grid: Volume | None = None) -> Volume:
    if isinstance(source, LabelFiles):
        return read_label_files(source, key=key, grid=grid)
    if key is None and formats.holds_named_masks(source):
        names = listed(read_label_object(source).names)
        what = f"{source} holds the masks {names}, none of which is called like a label"
        raise LabelError(what, hint="choose one with --label-key, or call labels like them in --labels")
    return formats.read_label(source, key=key, grid=grid)


def _needs_grid(source: LabelSource) -> int:
    """0 for a file with a grid of its own, 1 for segments, whose grid is as large as they need, 2 for contours."""
    paths = [source] if isinstance(source, Path) else [part.path for part in source.parts]
    objects = [read_label_object(path) for path in paths if formats.holds_named_masks(path)]
    return 2 if any(held.contours for held in objects) else int(bool(objects))


def _of_cases(folder: Path) -> dict[str, Pair]:
    """The labels of the cases of a data set, by id; empty where the folder is none."""
    try:
        dataset = read_dataset(folder)
    except DatasetError:
        return {}
    return {case.id: Pair(case.id, case.label, None, case.annotated) for case in dataset.labelled if case.label}


def _objects(pairs: Sequence[Pair]) -> dict[Path, LabelObject]:
    """What the DICOM objects among the files of pairs hold; reading reports those that cannot be read."""
    objects = {}
    for path in dict.fromkeys(path for pair in pairs for path in _files(pair)):
        try:
            if formats.holds_named_masks(path):
                objects[path] = read_label_object(path)
        except AttunetError:
            continue
    return objects


def _files(pair: Pair) -> list[Path]:
    return [source for source in (pair.reference, pair.prediction) if isinstance(source, Path)]


def _masks(source: LabelSource, objects: Mapping[Path, LabelObject], values: Mapping[str, int]) -> LabelSource:
    """The masks of an object that are labels; any other label as it is, with overlapping masks as combinations."""
    if isinstance(source, LabelFiles):
        return replace(source, overlap="regions") if source.kind == "label" else source
    if source not in objects:
        return source
    known = {fold(safe_name(name)): (name, value) for name, value in values.items()}
    names = [name for name in objects[source].names if fold(safe_name(name)) in known]
    parts = tuple(LabelPart(*known[fold(safe_name(name))], source, name) for name in names)
    return LabelFiles("label", parts, tuple(values.values()), overlap="regions", merge=True) if parts else source
