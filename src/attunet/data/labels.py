"""Names and values of the classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from attunet.data.dataset import Case, Dataset
from attunet.errors import LabelError

__all__ = [
    "BACKGROUND",
    "NUMBERED",
    "annotated_values",
    "background_value",
    "declared_values",
    "label_values",
    "name_labels",
    "rename_annotated",
]

BACKGROUND = "background"
NUMBERED = "label_"


def background_value(declared: dict[str, int] | None) -> int:
    """The value of the class named background; without that name, 0."""
    names = {name.lower(): value for name, value in (declared or {}).items()}
    return names.get(BACKGROUND, 0)


def label_values(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Every declared label, the background too, and the values it unites in label files; empty when undeclared.

    A region unites several values; the value that a mask is painted with is in `Dataset.label_names`.
    """
    return {name: dataset.regions.get(name, (value,)) for name, value in (dataset.label_names or {}).items()}


def declared_values(dataset: Dataset) -> frozenset[int] | None:
    """The values that label files may hold, background and ignore label included; None when undeclared."""
    if dataset.label_names is None:
        return None
    values = {value for united in label_values(dataset).values() for value in united}
    ignored = () if dataset.ignore_label is None else (dataset.ignore_label,)
    return frozenset({*values, background_value(dataset.label_names), *ignored})


def annotated_values(case: Case, dataset: Dataset) -> frozenset[int] | None:
    """The foreground values that were annotated in a case; None when every label was."""
    if case.annotated is None:
        return None
    united = label_values(dataset)
    return frozenset(value for name in case.annotated for value in united.get(name, _numbered(name)))


def rename_annotated(dataset: Dataset, labels: Mapping[str, int]) -> Dataset:
    """The data set with `Case.annotated` in the names of `labels` (a plan's), matched by value.

    A label that is not among them is dropped. Regions have one name everywhere: nothing is done.
    """
    if dataset.regions:
        return dataset
    names = {value: name for name, value in labels.items()}
    cases = tuple(_renamed(case, label_values(dataset), names) for case in dataset.cases)
    return replace(dataset, cases=cases)


def _renamed(case: Case, united: Mapping[str, tuple[int, ...]], names: Mapping[int, str]) -> Case:
    if case.annotated is None:
        return case
    values = [value for name in case.annotated for value in united.get(name, _numbered(name))]
    return replace(case, annotated=tuple(names[value] for value in values if value in names))


def _numbered(name: str) -> tuple[int, ...]:
    """The 5 of label_5, as an undeclared value is called; nothing for other names."""
    number = name.removeprefix(NUMBERED)
    return (int(number),) if number != name and number.isdecimal() else ()


def name_labels(
    declared: dict[str, int] | None, found: Iterable[int], regions: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, int]:
    """Every class and its value in masks, background first, then by value; regions stay in painting order.

    Args: the names a data set declares, if it does; the values found in its files (without the ignore label);
        its regions, if it has any.
    Returns: the declared names, or background, label_1, label_255 and so on.
    Raises: LabelError when a value is found that is not declared, or no foreground is found or declared.
    """
    values = sorted(set(found))
    background = background_value(declared)
    if regions:
        return _name_regions(declared or {}, regions, background, values)
    names = {value: name for name, value in (declared or {}).items()}
    unknown = [value for value in values if value not in names and value != background]
    if declared is not None and unknown:
        raise _undeclared(unknown, sorted(names))
    names = {background: BACKGROUND} | {value: f"{NUMBERED}{value}" for value in unknown} | names
    foreground = sorted(set(names) - {background})
    if not foreground:
        raise LabelError(
            f"the label files hold nothing but the background value {background}",
            hint="check that the labels are the masks, and that they were saved with their values",
        )
    return {names[value]: value for value in (background, *foreground)}


def _name_regions(
    painted: Mapping[str, int], regions: Mapping[str, tuple[int, ...]], background: int, found: list[int]
) -> dict[str, int]:
    known = {background, *(value for values in regions.values() for value in values)}
    if unknown := [value for value in found if value not in known]:
        raise _undeclared(unknown, sorted(known))
    name = next((name for name, value in painted.items() if value == background), BACKGROUND)
    return {name: background} | {region: painted[region] for region in regions}


def _undeclared(found: list[int], declared: list[int]) -> LabelError:
    return LabelError(
        f"the label files hold {_listed(found)}, declared are {_listed(declared)}",
        hint="declare every value under labels in dataset.json or in the CSV file, or correct the label files",
    )


def _listed(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown} and {len(values) - 8} more" if len(values) > 8 else shown
