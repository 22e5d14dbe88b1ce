"""Names and values of the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from attunet.data.dataset import Case, Dataset
from attunet.errors import LabelError

__all__ = [
    "BACKGROUND",
    "LABEL_PREFIX",
    "annotated_values",
    "background_value",
    "declared_values",
    "name_labels",
    "rename_annotated",
    "values_by_label",
]

BACKGROUND = "background"
LABEL_PREFIX = "label_"


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
    Raises: LabelError when a value is not declared, or there is no foreground.
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
        f"the label files contain the undeclared values {_listed(present)}; declared are {_listed(declared)}",
        hint="declare every value under labels in dataset.json or in the CSV file, or correct the label files",
    )


def _listed(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown} and {len(values) - 8} more" if len(values) > 8 else shown
