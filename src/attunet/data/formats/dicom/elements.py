"""Values of the elements of a DICOM data set: as text, numbers or vectors, read quickly, as headers have thousands."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "KnownElement",
    "Vector",
    "first_item",
    "known_element",
    "number_of",
    "text_of",
    "texts_of",
    "values_of",
    "vector_of",
    "whole_of",
]

Vector = tuple[float, ...]
TEXTS = frozenset({"CS", "DS", "IS", "UI", "TM", "AS", "AE"})
"""Value representations in plain characters, whatever the character set of the file."""
NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
"""Value representations of numbers in binary, and their codes."""


def values_of(dataset: Dataset, name: str) -> tuple[Any, ...]:
    """The values of an element; none when it is missing or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)


def first_item(dataset: Dataset, name: str) -> Dataset | None:
    """The first item of a sequence; None when it is missing or empty."""
    return next(iter(values_of(dataset, name)), None)


def texts_of(dataset: Dataset, name: str | int) -> tuple[str, ...]:
    """The values of an element as text; none when it is missing or empty.

    Values that pydicom has not converted yet are read from their bytes, which is several times as fast: headers of a
    series have tens of thousands of them.
    """
    known = known_element(name)
    element = dataset.get_item(known.tag)
    if element is None:
        return ()
    representation = getattr(element, "VR", None) or known.representation
    if getattr(element, "is_raw", False) and isinstance(held := element.value, bytes):
        if representation in TEXTS:
            return tuple(part.strip(" \0") for part in held.decode("latin-1").split("\\")) if held.strip(b" \0") else ()
        if representation in NUMBERS:
            order = "<" if getattr(element, "is_little_endian", True) else ">"
            kind = f"{order}{NUMBERS[representation]}"
            return tuple(str(value) for (value,) in struct.iter_unpack(kind, held))
    value = dataset[known.tag].value
    if value is None or value == "":
        return ()
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    return tuple(map(str, value)) if several else (str(value),)


class KnownElement(NamedTuple):
    """The tag of an element and its value representation in the dictionary."""

    tag: Any
    representation: str


@lru_cache(maxsize=1024)
def known_element(name: str | int) -> KnownElement:
    """What the dictionary of DICOM knows of an element, by its keyword or tag."""
    import pydicom

    tag = pydicom.tag.Tag(name)
    try:
        return KnownElement(tag, pydicom.datadict.dictionary_VR(tag))
    except KeyError:  # private
        return KnownElement(tag, "UN")


def text_of(dataset: Dataset, name: str) -> str:
    """The first value of an element as text; empty when there is none."""
    return next(iter(texts_of(dataset, name)), "").strip("\0 ")


def number_of(dataset: Dataset, name: str) -> float | None:
    """The first value of an element as a number; None when there is none."""
    texts = texts_of(dataset, name)
    return float(texts[0]) if texts and texts[0] else None


def whole_of(dataset: Dataset, name: str) -> int | None:
    """The first value of an element as an integer; None when there is none."""
    number = number_of(dataset, name)
    return None if number is None else int(number)


def vector_of(dataset: Dataset, name: str, length: int) -> Vector | None:
    """The values of an element as numbers.

    Args:
        dataset: the data set.
        name: keyword of the element.
        length: how many values it should have.
    Returns: the values; None unless there are so many.
    """
    values = tuple(float(text) for text in texts_of(dataset, name) if text)
    return values if len(values) == length else None
