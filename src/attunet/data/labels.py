"""Names and values of the labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from attunet.data.dataset import Case, Dataset
from attunet.errors import LabelError
from attunet.names import listed

__all__ = [
    "BACKGROUND",
    "LABEL_PREFIX",
    "MOST_LABELS",
    "MOST_UNITED",
    "Values",
    "annotated_values",
    "background_value",
    "declared_values",
    "describe_values",
    "name_labels",
    "parse_values",
    "rename_annotated",
    "values_by_label",
    "written_values",
]

Values = int | tuple[int, ...]
"""The value of a label, or the values that a region unites."""

BACKGROUND = "background"
LABEL_PREFIX = "label_"
MOST_UNITED = 2**20
"""The largest number of values that --labels can unite."""
MOST_LABELS = 4096
"""The largest number of labels, and of values of a region in a plan."""
_PART = re.compile(r"(\d+)(?:-(\d+))?")


def background_value(declared: dict[str, int] | None) -> int:
    """The value of the label named background, in upper or lower case; 0 without that name."""
    names = {name.lower(): value for name, value in (declared or {}).items()}
    return names.get(BACKGROUND, 0)


def values_by_label(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Every declared label, the background too, and its values in label files; empty when undeclared.

    A region unites several values; the one that is written into a mask is in `Dataset.label_names`.
    """
    return {name: dataset.regions.get(name, (value,)) for name, value in (dataset.label_names or {}).items()}


def declared_values(dataset: Dataset) -> frozenset[int] | None:
    """The values that label files may hold, background and ignore label too; None when undeclared."""
    if dataset.label_names is None:
        return None
    values = {value for united in values_by_label(dataset).values() for value in united}
    ignored = () if dataset.ignore_label is None else (dataset.ignore_label,)
    return frozenset({*values, background_value(dataset.label_names), *ignored})


def parse_values(text: str) -> Values | None:
    """A value from "5", or the values that a label unites from "1+255" or "128-255"; None for any other text."""
    united: dict[int, None] = {}
    for part in text.split("+"):
        match = _PART.fullmatch(part.strip())
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MOST_UNITED:
            return None
        united |= dict.fromkeys(range(first, last + 1))
    values = tuple(united)
    return None if not values or len(values) > MOST_UNITED else values[0] if len(values) == 1 else values


def written_values(labels: Mapping[str, Values]) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """The value with which each label is written into a mask, and the values that each unites.

    Args:
        labels: name to value, or values, without the background.
    Returns: name to value, and name to values; the second is empty when no label has several. Labels that overlap are
        ordered so that those inside others are written last. A label with several values is written as the highest
        that no smaller label has.
    Raises: LabelError when there is none.
    """
    if all(isinstance(value, int) for value in labels.values()):
        return {name: value for name, value in labels.items() if isinstance(value, int)}, {}
    united = {name: (value,) if isinstance(value, int) else tuple(sorted(value)) for name, value in labels.items()}
    if sum(map(len, united.values())) > len(set().union(*united.values())):
        united = dict(sorted(united.items(), key=lambda item: -len(item[1])))
    taken: dict[int, str] = {}
    for name in sorted(united, key=lambda name: len(united[name])):
        value = next((value for value in reversed(united[name]) if value not in taken), None)
        if value is None:
            raise LabelError(
                f"the label {name} has no value of its own: {describe_values(united[name])} belong to smaller labels",
                hint="unite other values, or leave out one of the labels",
            )
        taken[value] = name
    written = {name: value for value, name in taken.items()}
    return {name: written[name] for name in united}, united


def annotated_values(case: Case, dataset: Dataset) -> frozenset[int] | None:
    """The foreground values that were annotated in a case; None when all were."""
    if case.annotated is None:
        return None
    united = values_by_label(dataset)
    return frozenset(value for name in case.annotated for value in united.get(name, _numbered(name)))


def rename_annotated(dataset: Dataset, labels: Mapping[str, int]) -> Dataset:
    """The data set with `Case.annotated` in the names of `labels` (a plan's), matched by value.

    Labels that are not among them are dropped. A data set with regions is returned unchanged: they keep their names.
    """
    if dataset.regions:
        return dataset
    names = {value: name for name, value in labels.items()}
    cases = tuple(_renamed(case, values_by_label(dataset), names) for case in dataset.cases)
    return replace(dataset, cases=cases)


def _renamed(case: Case, united: Mapping[str, tuple[int, ...]], names: Mapping[int, str]) -> Case:
    if case.annotated is None:
        return case
    values = [value for name in case.annotated for value in united.get(name, _numbered(name))]
    return replace(case, annotated=tuple(names[value] for value in values if value in names))


def _numbered(name: str) -> tuple[int, ...]:
    """The 5 of label_5, the name of an undeclared value; nothing for other names."""
    number = name.removeprefix(LABEL_PREFIX)
    return (int(number),) if number != name and number.isdecimal() else ()


def name_labels(
    declared: dict[str, int] | None, present: Iterable[int], regions: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, int]:
    """Name every label.

    Args:
        declared: name to value as the data set declares it; None when it declares nothing.
        present: values that occur in the label files, without the ignore label.
        regions: region to the values it unites; None or empty when the data set has none.
    Returns: name to value in masks, background first, then by value, regions in their declared order; undeclared
        values are called label_1, label_255 and so on.
    Raises: LabelError when a value is not declared, or there is no foreground, or too much of it.
    """
    values = sorted(set(present))
    background = background_value(declared)
    if regions:
        return _name_regions(declared or {}, regions, background, values)
    names = {value: name for name, value in (declared or {}).items()}
    unknown = [value for value in values if value not in names and value != background]
    if declared is not None and unknown:
        raise _undeclared(unknown, sorted(names))
    names = {background: BACKGROUND} | {value: f"{LABEL_PREFIX}{value}" for value in unknown} | names
    foreground = sorted(set(names) - {background})
    if len(foreground) > MOST_LABELS:
        raise LabelError(
            f"there are {len(foreground)} labels, at most {MOST_LABELS} can be learnt",
            hint='merge them with --labels "NAME=1-9999", or choose some of them',
        )
    if not foreground:
        raise LabelError(
            f"the label files contain only the background value {background}",
            hint="check that the label files are the masks, and that they were saved with their values",
        )
    return {names[value]: value for value in (background, *foreground)}


def _name_regions(
    declared: Mapping[str, int], regions: Mapping[str, tuple[int, ...]], background: int, present: list[int]
) -> dict[str, int]:
    known = {background, *(value for values in regions.values() for value in values)}
    if unknown := [value for value in present if value not in known]:
        raise _undeclared(unknown, sorted(known))
    name = next((name for name, value in declared.items() if value == background), BACKGROUND)
    return {name: background} | {region: declared[region] for region in regions}


def _undeclared(present: list[int], declared: list[int]) -> LabelError:
    return LabelError(
        f"the label files contain the undeclared values {describe_values(present)}; "
        f"declared are {describe_values(declared)}",
        hint="declare every value under labels in dataset.json or in the CSV file, or correct the label files",
    )


def describe_values(values: Iterable[int]) -> str:
    """The first eight of some values in ascending order, and how many more there are."""
    return listed([str(value) for value in sorted(values)])
