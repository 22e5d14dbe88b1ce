"""Data sets in a CSV file: columns image (or image_0, image_1, ...), label, and optionally id, group, split, labels."""

from __future__ import annotations

import csv
import os
from collections import Counter
from itertools import zip_longest
from pathlib import Path

from attunet.data.dataset import Case, Dataset
from attunet.data.formats import stem_of, suffix_of
from attunet.data.layouts.annotated import read_annotated
from attunet.data.layouts.description import DESCRIPTION
from attunet.errors import DatasetError

__all__ = ["is_table", "read_table"]

SPLITS = ("train", "val", "test")
Row = dict[str, str]


def is_table(path: Path) -> bool:
    """Whether a path is a CSV file, or a folder with exactly one."""
    return _table_of(path) is not None


def read_table(path: Path) -> Dataset:
    """Read the cases of a CSV file, or of the only one in a folder: one per row.

    Paths are relative to the file; comma, semicolon or tab separate the columns. Without a column id, a case is
    named after its first image, and after its folders too where those names repeat.
    Raises: DatasetError naming the column or line that cannot be used.
    """
    path = _table_of(path) or path
    columns, rows = _rows(path)
    channels = _image_columns(columns, path)
    images = [tuple(path.parent / row[name] for name in channels if row[name]) for row in rows]
    ids = _ids(rows, images, path)
    label_names, annotated = read_annotated([row.get("labels", "") for row in rows], path)
    cases = [
        Case(
            ids[index],
            images[index],
            path.parent / row["label"] if row.get("label") else None,
            row.get("group") or row.get("patient") or None,
            _split(row, index, path),
            annotated[index],
        )
        for index, row in enumerate(rows)
    ]
    names = tuple(name.removeprefix("image_") for name in channels)
    return Dataset(
        root=path,
        layout="csv",
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        label_names=label_names,
        channel_names=names if len(names) > 1 and not names[0].isdigit() else (),
    )


def _table_of(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == ".csv" else None
    tables = list(path.glob("*.csv"))
    described = (path / DESCRIPTION).is_file()  # do not ignore a description that fits no layout
    return tables[0] if len(tables) == 1 and not described and _lists_files(tables[0]) else None


def _lists_files(table: Path) -> bool:
    """Whether a CSV file in a folder lists images and labels, rather than facts about patients."""
    try:
        columns, rows = _rows(table)
    except DatasetError:
        return False
    images = [name for name in columns if name == "image" or name.startswith("image_")]
    labels = [name for name in columns if name == "label" or name.startswith(("label_", "rater_"))]
    return bool(images and labels) and any(suffix_of(Path(row[name])) for row in rows for name in labels)


def _rows(path: Path) -> tuple[list[str], list[Row]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"cannot read {path} as text: {error}", hint="save it as CSV in UTF-8") from error
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(lines, delimiter=delimiter)
    columns = [name.strip().lower() for name in next(reader, [])]
    rows = [_row(columns, list(map(str.strip, cells)), line, path) for line, cells in enumerate(reader, start=2)]
    rows = [row for row in rows if any(row.values())]
    if not rows:
        raise DatasetError(f"{path} has no rows", hint="write one row per case below the column names")
    return columns, rows


def _row(columns: list[str], cells: list[str], line: int, path: Path) -> Row:
    if any(cells[len(columns) :]):
        raise DatasetError(
            f"line {line} of {path} has {len(cells)} cells, expected {len(columns)}",
            hint='put quotes around a cell that contains the separator, such as "liver,spleen"',
        )
    return dict(zip_longest(columns, cells[: len(columns)], fillvalue=""))


def _image_columns(columns: list[str], path: Path) -> list[str]:
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


def _ids(rows: list[Row], images: list[tuple[Path, ...]], path: Path) -> list[str]:
    for line, files in enumerate(images, start=2):
        if not files:
            raise DatasetError(f"line {line} of {path} names no image", hint="fill in the path or remove the line")
    stems = [stem_of(files[0]) for files in images]
    if len(set(stems)) != len(stems):
        stems = _with_folders([files[0] for files in images])
    ids = [row.get("id") or stem for row, stem in zip(rows, stems, strict=True)]
    repeated = [id for id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DatasetError(f"{path} has more than one case {repeated[0]}", hint="give each row its own id")
    return [id.replace("/", "_").replace(os.sep, "_") for id in ids]


def _with_folders(files: list[Path]) -> list[str]:
    """Names from the part of the paths in which they differ, such as p01_ct and p02_ct."""
    common = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return ["_".join((*file.absolute().parent.relative_to(common).parts, stem_of(file))) for file in files]


def _split(row: Row, index: int, path: Path) -> str | None:
    split = row.get("split", "").lower()
    if split and split not in SPLITS:
        raise DatasetError(f"line {index + 2} of {path} has split {split}", hint=f"use {', '.join(SPLITS)}, or nothing")
    return split or None
