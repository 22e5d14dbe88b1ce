"""Names and values of the classes."""

from __future__ import annotations

from collections.abc import Iterable

from attunet.errors import LabelError

__all__ = ["background_value", "name_labels"]

BACKGROUND = "background"


def background_value(declared: dict[str, int] | None) -> int:
    """The value of the class named background; without that name, 0."""
    names = {name.lower(): value for name, value in (declared or {}).items()}
    return names.get(BACKGROUND, 0)


def name_labels(declared: dict[str, int] | None, found: Iterable[int]) -> dict[str, int]:
    """Every class and its value in the label files, background first, then by value.

    Args: the names a data set declares, if it does; the values found in its files (without the ignore label).
    Returns: the declared names, or background, label_1, label_255 and so on.
    Raises: LabelError when a value is found that is not declared, or no foreground is found or declared.
    """
    values = sorted(set(found))
    background = background_value(declared)
    names = {value: name for name, value in (declared or {}).items()}
    unknown = [value for value in values if value not in names and value != background]
    if declared is not None and unknown:
        raise LabelError(
            f"the label files hold {_listed(unknown)}, declared are {_listed(sorted(names))}",
            hint="declare every value under labels in dataset.json, or correct the label files",
        )
    names = {background: BACKGROUND} | {value: f"label_{value}" for value in unknown} | names
    foreground = sorted(set(names) - {background})
    if not foreground:
        raise LabelError(
            f"the label files hold nothing but the background value {background}",
            hint="check that the labels are the masks, and that they were saved with their values",
        )
    return {names[value]: value for value in (background, *foreground)}


def _listed(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown} and {len(values) - 8} more" if len(values) > 8 else shown
