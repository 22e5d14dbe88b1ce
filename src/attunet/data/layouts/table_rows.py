"""The columns and rows of a table of cases, CSV or Parquet: their text, which columns name images, and which labels."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

from attunet.data.layouts.image_files import distinct_names
from attunet.data.layouts.tokens import fold
from attunet.errors import DatasetError, EngineError, first_line
from attunet.names import check_name, name_in

__all__ = [
    "IMAGE",
    "LABEL",
    "RATER",
    "TABLES",
    "Row",
    "channel_columns",
    "image_columns",
    "label_columns",
    "read_rows",
    "row_ids",
]

PARQUET = ".parquet"
TABLES = (".csv", PARQUET)
"""Suffixes of tables."""

IMAGE, LABEL, RATER = "image_", "label_", "rater_"
"""How the columns of a channel, of a label and of a rater begin."""

Row = dict[str, str]
"""Column to cell."""


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """The columns of a file and its rows that are not empty; comma, semicolon or tab separate the columns of text.

    Raises: DatasetError when it is no text and no Parquet file, or has no rows; EngineError without pyarrow.
    """
    columns, rows = _parquet_rows(path) if path.suffix.lower() == PARQUET else _text_rows(path)
    rows = [row for row in rows if any(row.values())]
    if not rows:
        raise DatasetError(f"{path} has no rows", hint="write one row per case below the column names")
    return columns, rows


def _text_rows(path: Path) -> tuple[list[str], list[Row]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"cannot read {path} as text: {error}", hint="save it as CSV in UTF-8") from error
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(lines, delimiter=delimiter)
    columns = [_column(name.strip()) for name in next(reader, [])]
    return columns, [
        _row(columns, list(map(str.strip, cells)), line, path) for line, cells in enumerate(reader, start=2)
    ]


def _parquet_rows(path: Path) -> tuple[list[str], list[Row]]:
    if find_spec("pyarrow") is None:
        raise EngineError(f"{path.name} needs the package pyarrow", hint='pip install "attunet[cluster]"')
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, use_threads=False)
    except Exception as error:  # pyarrow has many errors for damaged files
        raise DatasetError(f"cannot read {path} as Parquet: {first_line(error)}", hint="write it again") from error
    columns = [_column(name.strip()) for name in table.column_names]
    cells = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return columns, [_row(columns, list(map(_text, values)), line, path) for line, values in enumerate(cells, start=2)]


def _text(value: Any) -> str:
    """The text of a value: empty for a missing one; whole numbers without the .0 that gaps in a column give them."""
    if value is None or value != value:
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


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


def channel_columns(columns: list[str], names: Sequence[str], path: Path) -> list[str]:
    """The columns of images in the order of a model's channels, by their names or numbers.

    Args:
        columns: of the table.
        names: the model's channels.
        path: the table, for the message.
    Returns: the columns.
    Raises: DatasetError as `image_columns`, and for columns of other channels than the model's.
    """
    found = image_columns(columns, path)
    told = {fold(name.removeprefix(IMAGE)): name for name in found}
    if len(found) == 1 or (all(map(str.isdigit, told)) and len(found) == len(names)):
        return found
    if told.keys() == set(map(fold, names)):
        return [told[fold(name)] for name in names]
    raise DatasetError(
        f"{path} has images of {', '.join(told)}, but the channels of the model are {', '.join(names)}",
        hint="name the columns after them, image_NAME, or image_0, image_1 and so on in their order",
    )


def row_ids(rows: Sequence[Row], images: Sequence[tuple[Path, ...]], path: Path) -> list[str]:
    """The case of each row: its id, or the name of its first image, with the folders that tell it from others.

    Args:
        rows: the rows.
        images: of each row.
        path: the table, for messages.
    Returns: unique names.
    Raises: DatasetError for a row without an image, an id that can be no file name, and one that repeats.
    """
    for line, files in enumerate(images, start=2):
        if not files:
            raise DatasetError(f"line {line} of {path} names no image", hint="fill in the path or remove the line")
    stems = distinct_names([files[0] for files in images])
    given = [row.get("id", "").replace("/", "_").replace(os.sep, "_") for row in rows]
    for id in filter(None, given):
        check_name(id, f"case in {path}", hint="correct the column id")
    ids = [id or stem for id, stem in zip(given, stems, strict=True)]
    repeated = [id for id, count in Counter(map(fold, ids)).items() if count > 1]
    if repeated:
        raise DatasetError(f"{path} has more than one case {repeated[0]}", hint="give each row its own id")
    return ids


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
