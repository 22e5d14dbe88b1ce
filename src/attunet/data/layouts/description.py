"""The declarations of a `dataset.json`: channel names, labels or regions, and the ignore label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attunet.config import SegmentCode, load_settings
from attunet.data.dataset import Dataset
from attunet.data.labels import BACKGROUND, background_value
from attunet.documents import read_document, reading
from attunet.errors import ConfigError, DatasetError

__all__ = [
    "DESCRIPTION",
    "DeclaredLabels",
    "channel_names",
    "label_codes",
    "load_description",
    "mask_values",
    "read_declared_labels",
    "with_description",
]

DESCRIPTION = "dataset.json"
IGNORE = "ignore"


@dataclass(frozen=True)
class DeclaredLabels:
    """The labels that a data set declares.

    Args:
        names: label to value in the files, without the ignore label; where there are regions, only the background;
            empty without a declaration.
        regions: region to the values that it unites, in the order of the file; empty without regions.
        ignore: value of voxels that do not count; None when none is declared.
    """

    names: dict[str, int]
    regions: dict[str, tuple[int, ...]]
    ignore: int | None


def load_description(path: Path) -> dict[str, Any]:
    """Read the keys and values of a dataset.json. Raises: DatasetError when it is not JSON, or no object."""
    with reading(path, DatasetError, "correct the file"):
        description = read_document(path)
    if not isinstance(description, dict):
        raise DatasetError(
            f"{path} contains a {type(description).__name__}, expected keys and values",
            hint='write it as {"labels": {...}}',
        )
    return description


def with_description(dataset: Dataset, description: dict[str, Any]) -> Dataset:
    """The data set with the channels and labels that its dataset.json declares.

    Raises: DatasetError when the declared labels cannot be used.
    """
    path = dataset.root / DESCRIPTION
    declared = read_declared_labels(description, path)
    return replace(
        dataset,
        label_names=mask_values(declared, description, path) or None,
        channel_names=channel_names(description),
        ignore_label=declared.ignore,
        regions=declared.regions,
        codes=label_codes(description, declared, path),
    )


def label_codes(description: dict[str, Any], declared: DeclaredLabels, path: Path) -> dict[str, SegmentCode]:
    """The codes that a dataset.json states beside its labels, for formats that name labels by codes.

    Args:
        description: content of the dataset.json.
        declared: its labels.
        path: the file, for messages.
    Returns: label to codes; empty where none are stated.
    Raises: DatasetError for codes that cannot be used, or of a label that is not declared.
    """
    stated = description.get("codes") or {}
    if not isinstance(stated, dict):
        raise DatasetError(f"codes in {path} is a {type(stated).__name__}, expected labels with codes", hint=_CODES)
    known = declared.names | declared.regions
    found = {}
    for label, code in stated.items():
        if label not in known:
            raise DatasetError(f"codes in {path} names {label}, which is none of {', '.join(known)}", hint=_CODES)
        try:
            found[label] = load_settings(SegmentCode, code if isinstance(code, dict) else {"type": code})
        except ConfigError as error:
            raise DatasetError(f"codes of {label} in {path}: {error.message}", hint=_CODES) from error
    return found


_CODES = 'write them as {"liver": {"type": ["10200004", "SCT", "Liver"]}}, with value, scheme and meaning of each code'


def channel_names(description: dict[str, Any]) -> tuple[str, ...]:
    """The channels as nnU-Net 2 (channel_names) or MSD (modality) declares them; empty when undeclared."""
    channels = description.get("channel_names") or description.get("modality") or {}
    if not isinstance(channels, dict):
        return (str(channels),)
    return tuple(str(channels[key]) for key in sorted(channels, key=lambda key: (len(str(key)), str(key))))


def read_declared_labels(description: dict[str, Any], path: Path) -> DeclaredLabels:
    """Read the labels of a dataset.json, written {"liver": 1} (nnU-Net 2) or {"1": "liver"} (MSD, nnU-Net 1).

    With a label of several values, such as {"whole": [1, 2], "core": 2}, every label is a region, as in nnU-Net.
    `path` is the file, for messages.
    Raises: DatasetError when names or values cannot be used or are used twice.
    """
    declared = description.get("labels") or {}
    if not isinstance(declared, dict):
        raise DatasetError(
            f"labels in {path} is a {type(declared).__name__}, expected names and values",
            hint='write them as {"background": 0, "liver": 1}',
        )
    named = _by_name(declared, path)
    ignored = named.pop(IGNORE, None)
    if len(set(named.values())) != len(declared) - (ignored is not None):
        raise DatasetError(f"labels in {path} use a name or a value twice: {declared}", hint="give each its own")
    ignore = None if ignored is None else _single(IGNORE, ignored, path)
    if all(len(values) == 1 for values in named.values()):
        return DeclaredLabels({name: values[0] for name, values in named.items()}, {}, ignore)
    return _with_regions(named, ignore, path)


def mask_values(declared: DeclaredLabels, description: dict[str, Any], path: Path) -> dict[str, int]:
    """The value of every label in a mask; of regions, as `regions_class_order` declares it.

    Args:
        declared: the labels of the description.
        description: content of the dataset.json.
        path: the file, for messages.
    Returns: label to value, background first where there are regions.
    Raises: DatasetError when the order does not give each region its own value, one of those that it unites.
    """
    if not declared.regions:
        return declared.names
    order = description.get("regions_class_order")
    regions = list(declared.regions)
    hint = "give each region, in the order of labels, the value it is written with; later ones cover earlier ones"
    if not isinstance(order, list) or len(order) != len(regions) or not all(_whole(value) for value in order):
        raise DatasetError(
            f"regions_class_order in {path} is {order}, expected {len(regions)} values, for {', '.join(regions)}",
            hint=hint,
        )
    values = dict(zip(regions, map(int, order), strict=True))
    if len(set(order)) != len(order):
        raise DatasetError(f"regions_class_order in {path} uses a value twice: {order}", hint=hint)
    for name, value in values.items():
        if value not in declared.regions[name]:
            raise DatasetError(
                f"regions_class_order in {path} writes {name} as {value}, which is not one of its values "
                f"{list(declared.regions[name])}",
                hint=hint,
            )
    return declared.names | values


def _with_regions(named: dict[str, tuple[int, ...]], ignore: int | None, path: Path) -> DeclaredLabels:
    background = background_value({name: values[0] for name, values in named.items() if len(values) == 1})
    regions = {name: values for name, values in named.items() if values != (background,)}
    for name, values in regions.items():
        if not values or {background, ignore} & set(values):
            raise DatasetError(
                f"the region {name} in {path} unites {list(values)}, expected values of the foreground",
                hint="leave out the value of the background and that of the ignore label",
            )
    names = {name: background for name in named if name not in regions}
    return DeclaredLabels(names or {BACKGROUND: background}, regions, ignore)


def _by_name(declared: dict[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    """Label to its values, from either direction of writing it."""
    valued = all(isinstance(value, list) or _whole(value) for value in declared.values())
    pairs = declared.items() if valued else ((name, value) for value, name in declared.items())
    try:
        return {
            str(name): tuple(int(entry) for entry in value) if isinstance(value, list) else (int(value),)
            for name, value in pairs
        }
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"labels in {path} are {declared}, expected names with whole numbers",
            hint='write them as {"background": 0, "liver": 1}',
        ) from error


def _whole(value: object) -> bool:
    return not isinstance(value, bool) and str(value).lstrip("-").isdigit()


def _single(name: str, values: tuple[int, ...], path: Path) -> int:
    if len(values) != 1:
        raise DatasetError(
            f"{name} in {path} has the values {list(values)}, expected one value", hint="leave one of them"
        )
    return values[0]
