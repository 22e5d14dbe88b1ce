"""The `labels` column of a CSV file: which labels were annotated in each case, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from attunet.data.labels import BACKGROUND, LABEL_PREFIX, background_value
from attunet.errors import DatasetError

__all__ = ["read_annotated"]

FIRST_LINE = 2
AnnotatedRows = tuple[tuple[str, ...] | None, ...]


class _Entry(NamedTuple):
    """One label of one row: its name, its value, or both."""

    name: str | None
    value: int | None


def read_annotated(cells: Sequence[str], path: Path) -> tuple[dict[str, int] | None, AnnotatedRows]:
    """Read the cells of the column, in the order of the rows; `path` is the file, for messages.

    A cell such as "liver=5;spleen=1" gives names and values of labels. "liver" is a name to which another row gives
    a value, "5" a value alone, called label_5 unless another row names it. An empty cell, and one that lists every
    declared label, mean that all labels were annotated. "background=255" declares the value of the background.
    Returns: name to value, background first, or None when no cell gives both; for each row the names of the
        annotated labels, or None for all.
    Raises: DatasetError naming the line of an entry that cannot be used.
    """
    rows = [_entries(cell, line, path) for line, cell in enumerate(cells, FIRST_LINE)]
    named = _named(rows, path)
    names = {value: name for name, value in named.items()}
    annotated = []
    for line, row in enumerate(rows, FIRST_LINE):
        values = [_value(entry, named, line, path) for entry in row]
        annotated.append({names.get(value, f"{LABEL_PREFIX}{value}"): value for value in values})
    if not named:
        return None, tuple(tuple(row) or None for row in annotated)
    background = background_value(named)
    declared = {name: value for row in (named, *annotated) for name, value in row.items() if value != background}
    ordered = sorted(declared.items(), key=lambda item: item[1])
    return {names.get(background, BACKGROUND): background, **dict(ordered)}, tuple(
        _partial(row, declared) for row in annotated
    )


def _entries(cell: str, line: int, path: Path) -> list[_Entry]:
    texts = (text.strip() for text in re.split("[;,|]", cell))
    return [_entry(text, line, path) for text in texts if text]


def _entry(text: str, line: int, path: Path) -> _Entry:
    name, equals, value = (part.strip() for part in text.rpartition("="))
    if equals and not (name and "=" not in name and value.isdecimal()):
        raise _unusable(text, line, path, "a label is a name, a value, or NAME=VALUE")
    if value.isdecimal():
        return _Entry(name or None, int(value))
    return _Entry(value, None)


def _named(rows: Sequence[Sequence[_Entry]], path: Path) -> dict[str, int]:
    """Every name with the value that one or more rows give it."""
    named: dict[str, int] = {}
    for line, row in enumerate(rows, FIRST_LINE):
        for name, value in row:
            if name is None or value is None:
                continue
            others = {other for other, taken in named.items() if taken == value} - {name}
            if named.setdefault(name, value) != value or others:
                given = f"{others.pop()}={value}" if others else f"{name}={named[name]}"
                raise _unusable(f"{name}={value}", line, path, f"an earlier row says {given}")
    return named


def _value(entry: _Entry, named: dict[str, int], line: int, path: Path) -> int:
    if entry.value is not None:
        return entry.value
    assert entry.name is not None
    number = entry.name.removeprefix(LABEL_PREFIX)
    if entry.name in named:
        return named[entry.name]
    if number != entry.name and number.isdecimal():
        return int(number)
    raise _unusable(entry.name, line, path, f'no row gives it a value; write "{entry.name}=5" once, with its value')


def _partial(row: dict[str, int], declared: dict[str, int]) -> tuple[str, ...] | None:
    """The labels of a row, or None when they are all there are or none is named."""
    names = tuple(name for name in row if name in declared)
    return names if names and len(names) < len(declared) else None


def _unusable(text: str, line: int, path: Path, why: str) -> DatasetError:
    return DatasetError(f"line {line} of {path} has the label {text!r}: {why}", hint="correct the column labels")
