"""The columns and rows of a CSV file of cases: their text, which columns name images, and which labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from attunet.errors import DatasetError
from attunet.names import name_in

__all__ = ["IMAGE", "LABEL", "RATER", "Row", "image_columns", "label_columns", "read_rows"]

IMAGE, LABEL, RATER = "image_", "label_", "rater_"
"""How the columns of a channel, of a label and of a rater begin."""

Row = dict[str, str]
"""Column to cell."""


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """The columns of a file and its rows that are not empty; comma, semicolon or tab separate the columns.

    Raises: DatasetError when it is no text, or has no rows.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"cannot read {path} as text: {error}", hint="save it as CSV in UTF-8") from error
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(lines, delimiter=delimiter)
    columns = [_column(name.strip()) for name in next(reader, [])]
    rows = [_row(columns, list(map(str.strip, cells)), line, path) for line, cells in enumerate(reader, start=2)]
    rows = [row for row in rows if any(row.values())]
    if not rows:
        raise DatasetError(f"{path} has no rows", hint="write one row per case below the column names")
    return columns, rows


def image_columns(columns: list[str], path: Path) -> list[str]:
    """The columns of images, in the order of channels. Raises: DatasetError without one; `path` is for its message."""
    if "image" in columns:
        return ["image"]
    channels = [name for name in columns if name.startswith("image_")]
    if not channels:
        raise DatasetError(
            f"{path} has the columns {', '.join(columns)}, expected image (or image_0, image_1, ...), label",
            hint="name the columns in the first line",
        )
    numbered = all(name.removeprefix("image_").isdigit() for name in channels)
    return sorted(channels, key=lambda name: int(name.removeprefix("image_"))) if numbered else channels


def label_columns(columns: Sequence[str], path: Path) -> dict[str, int]:
    """The column of each label with its value: label_liver=5, or numbered in the order of the columns.

    Raises: DatasetError for a column that is neither; `path` is for its message.
    """
    values: dict[str, int] = {}
    for column in columns:
        if column.startswith(LABEL):
            name, equals, value = column.removeprefix(LABEL).partition("=")
            if not name or (equals and not (value.isascii() and value.isdecimal() and int(value) > 0)):
                raise DatasetError(
                    f"{path} has the column {column}, expected label_NAME or label_NAME=VALUE", hint="rename the column"
                )
            values[column] = int(value) if equals else len(values) + 1
    if len(set(values.values())) != len(values):
        raise DatasetError(f"the label columns of {path} use a value twice", hint="write label_NAME=VALUE in each")
    return values


def _column(name: str) -> str:
    """The name of a column in lower case; of image_NAME, label_NAME and rater_NAME only the beginning."""
    prefix = next((prefix for prefix in (IMAGE, LABEL, RATER) if name.lower().startswith(prefix)), "")
    return prefix + name[len(prefix) :] if prefix else name.lower()


def _row(columns: list[str], cells: list[str], line: int, path: Path) -> Row:
    if any(cells[len(columns) :]):
        raise DatasetError(
            f"line {line} of {path} has {len(cells)} cells, expected {len(columns)}",
            hint='put quotes around a cell that contains the separator, such as "liver,spleen"',
        )
    return dict(zip_longest(columns, map(name_in, cells[: len(columns)]), fillvalue=""))
