"""Data sets in a table, CSV or Parquet: a row for each case, columns for its files, patient and split; written as CSV.

Columns are image, or image_NAME for each channel; label, or label_NAME for each label, or rater_NAME for each rater;
and optionally id, group, split, labels. A cell of label may hold several files, one for each object, after each a `|`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from attunet.data.dataset import Case, Dataset, DatasetOptions, LabelFiles, LabelPart, Problem
from attunet.data.formats import holds_named_masks, is_picture, stem_of, suffix_of
from attunet.data.label_slices import slice_pictures
from attunet.data.labels import BACKGROUND
from attunet.data.layouts.annotated import read_annotated
from attunet.data.layouts.composed import OBJECT, raters_problem
from attunet.data.layouts.description import DESCRIPTION
from attunet.data.layouts.image_files import image_files, present_file
from attunet.data.layouts.pairing import repeats
from attunet.data.layouts.table_rows import (
    IMAGE,
    LABEL,
    RATER,
    TABLES,
    Row,
    image_columns,
    label_columns,
    read_rows,
    row_ids,
)
from attunet.data.layouts.tokens import fold
from attunet.errors import DatasetError
from attunet.files import write_text
from attunet.names import cell_of

__all__ = ["is_table", "read_table", "write_table"]

SPLITS = ("train", "val", "test")
SEVERAL, MASK = "|", "#"


def is_table(path: Path) -> bool:
    """Whether a path is a table, or a folder with exactly one CSV file that lists images and labels."""
    return _table_of(path) is not None


def read_table(path: Path, options: DatasetOptions) -> Dataset:
    """Read the cases of a table, or of the only CSV file in a folder: one per row.

    Paths are relative to the file; comma, semicolon or tab separate the columns. Without a column id, a case is
    named after its first image, and after its folders too where those names repeat.

    Args:
        path: the file or folder.
        options: the rater.
    Returns: the data set.
    Raises: DatasetError naming the column or line that cannot be used.
    """
    path = _table_of(path) or path
    columns, rows = read_rows(path)
    channels = image_columns(columns, path)
    images = [tuple(present_file(path.parent / row[name]) for name in channels if row[name]) for row in rows]
    ids = row_ids(rows, images, path)
    named, annotated = read_annotated([row.get("labels", "") for row in rows], path)
    whole = "label" in columns
    values = {} if whole else label_columns(columns, path)
    raters = [] if whole else [name for name in columns if name.startswith(RATER)]
    rater = _rater(raters, options, path)
    cases = [
        Case(
            ids[index],
            images[index],
            _label(row, values, rater, path),
            row.get("group") or row.get("patient") or None,
            _split(row, index, path),
            annotated[index],
            key=row.get("key") or None,
            label_key=row.get("label_key") or None,
            raters=tuple(
                (name.removeprefix(RATER), present_file(path.parent / row[name])) for name in raters if row[name]
            ),
        )
        for index, row in enumerate(rows)
    ]
    if values:
        named = {BACKGROUND: 0, **{column.removeprefix(LABEL).partition("=")[0]: values[column] for column in values}}
    elif any(isinstance(case.label, LabelFiles) and _is_of_objects(case) for case in cases):
        named = {BACKGROUND: 0, OBJECT: 1}
    names = tuple(name.removeprefix(IMAGE) for name in channels)
    drawn_by = [name.removeprefix(RATER) for name in raters]
    return Dataset(
        root=path,
        layout="csv",
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        label_names=named,
        channel_names=names if names != ("image",) and not names[0].isdigit() else (),
        problems=(*_gaps(cases, channels), *raters_problem(drawn_by, rater.removeprefix(RATER))),
    )


def write_table(dataset: Dataset, path: Path) -> None:
    """Write the cases of a data set as a CSV file that `read_table` reads: paths are relative, cells as `cell_of`.

    Raises: DatasetError for regions and an ignore label, which only a dataset.json declares, and for a file with other
        contents, which may have been edited; FormatError when the file cannot be written.
    """
    if dataset.ignore_label is not None or (dataset.regions and not any(_parts(case) for case in dataset.cases)):
        what = f"a CSV file cannot hold the regions or the ignore label of {dataset.root}"
        raise DatasetError(what, hint="keep its dataset.json")
    rows = [_written(case, dataset, path.parent, first=index == 0) for index, case in enumerate(dataset.cases)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    used = [name for name in columns if name in ("id", "image") or any(row.get(name) for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([{column: cell_of(cell) for column, cell in row.items()} for row in rows])
    if path.is_file() and path.stat().st_size and path.read_bytes() != text.getvalue().encode():
        raise DatasetError(f"{path} exists already, with other contents", hint="delete it, or choose another file")
    write_text(path, text.getvalue())


def _channels_of(case: Case, names: Sequence[str]) -> Sequence[str]:
    """The channel of each image of a case, by what files are called where some are missing; empty without names."""
    stems = [fold(stem_of(path)) for path in case.images]
    found = [max((name for name in names if repeats(fold(name), stem)), key=len, default="") for stem in stems]
    return names if len(names) == len(stems) else found if all(found) and len({*found}) == len(found) else ()


def _written(case: Case, dataset: Dataset, folder: Path, *, first: bool) -> Row:
    """The cells of a case; the first row also declares the values of labels, where a file per label does not."""
    names = _channels_of(case, dataset.channel_names)
    numbers = names or tuple(map(str, range(len(case.images))))
    single = len(case.images) == 1 and not names
    images = dict(zip(["image"] if single else [f"{IMAGE}{name}" for name in numbers], case.images, strict=True))
    row = {"id": case.id, **{name: _relative(image, folder) for name, image in images.items()}}
    values = {name: value for name, value in (dataset.label_names or {}).items() if value != 0}
    numbered = list(values.values()) == list(range(1, len(values) + 1))
    parts = _parts(case)
    if isinstance(case.label, LabelFiles) and case.label.kind == "slice":
        row["label"] = _relative(_folder_of(case.label), folder)
    elif isinstance(case.label, LabelFiles) and case.label.kind == "object":
        row["label"] = SEVERAL.join(_relative(part.path, folder) for part in parts) + SEVERAL * (len(parts) == 1)
    elif parts:
        known = {part.name: part for part in parts}
        if len(known) < len(parts):
            what = f"a CSV file cannot hold the {len(parts)} masks of {len(known)} labels of case {case.id}"
            raise DatasetError(what, hint="keep one mask of each label")
        for name, value in values.items():
            column = f"{LABEL}{name}" if numbered else f"{LABEL}{name}={value}"
            row[column] = _cell(known[name], folder) if name in known else ""
    elif case.raters:
        row |= {f"{RATER}{name or 'unnamed'}": _relative(mask, folder) for name, mask in case.raters}
    elif isinstance(case.label, Path):
        row["label"] = _relative(case.label, folder)
    row |= {"key": case.key or "", "label_key": case.label_key or ""}
    row |= {"group": case.group or "", "split": case.split or "", "labels": ""}
    if not parts and dataset.label_names and (first or case.annotated):
        listed = dataset.label_names if first and case.annotated is None else case.annotated or ()
        row["labels"] = ";".join(f"{name}={dataset.label_names[name]}" for name in listed)
    return row


def _is_of_objects(case: Case) -> bool:
    """Whether the masks of a case's label are of objects, without names in their files."""
    pictures = isinstance(case.label, LabelFiles) and case.label.kind == "slice"
    return not pictures and not all(map(holds_named_masks, case.label_paths))


def _folder_of(label: LabelFiles) -> Path:
    """The folder that stands for pictures of slices. Raises: DatasetError when it holds others, too."""
    folders = {part.path.parent for part in label.parts}
    if len(folders) == 1 and set(image_files(folder := folders.pop())) == {part.path for part in label.parts}:
        return folder
    raise DatasetError(
        f"a CSV file cannot hold {len(label.parts)} pictures of slices among others", hint="give them a folder"
    )


def _cell(part: LabelPart, folder: Path) -> str:
    return _relative(part.path, folder) + (f"{MASK}{part.key}" if part.key is not None else "")


def _parts(case: Case) -> tuple[LabelPart, ...]:
    return case.label.parts if isinstance(case.label, LabelFiles) else ()


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _label(row: Row, values: Mapping[str, int], rater: str, path: Path) -> Path | LabelFiles | None:
    """The label of a row: a file, a file for each label, or several files of objects in one cell."""
    parts = [
        LabelPart(column.removeprefix(LABEL).partition("=")[0], value, *_file_and_key(row[column], path))
        for column, value in values.items()
        if row[column]
    ]
    if parts:
        return LabelFiles("label", tuple(parts), tuple(values.values()))
    cell = row.get(rater or "label", "")
    if cell and (folder := present_file(path.parent / cell)).is_dir() and (pictures := _pictures_in(folder)):
        return slice_pictures(pictures)
    if SEVERAL in cell:
        files = [present_file(path.parent / name.strip()) for name in cell.split(SEVERAL) if name.strip()]
        return LabelFiles("object", tuple(LabelPart(OBJECT, 1, file) for file in files), (1,))
    return present_file(path.parent / cell) if cell else None


def _file_and_key(cell: str, path: Path) -> tuple[Path, str | None]:
    """The file that a cell names, and the mask in it after a #, such as a segment; None without one."""
    file = present_file(path.parent / cell)
    name, mark, key = cell.partition(MASK)
    return (present_file(path.parent / name), key) if mark and key and not file.exists() else (file, None)


def _pictures_in(folder: Path) -> list[Path]:
    """The files of a folder of pictures, one for each slice of a series; none for a folder of other files."""
    files = image_files(folder)
    return files if all(map(is_picture, files)) else []


def _rater(raters: Sequence[str], options: DatasetOptions, path: Path) -> str:
    """The column of the chosen rater, or of the first; empty without raters."""
    if options.rater is None or not raters:
        return raters[0] if raters else ""
    found = [name for name in raters if fold(name.removeprefix(RATER)) == fold(options.rater)]
    if not found:
        known = ", ".join(name.removeprefix(RATER) for name in raters)
        raise DatasetError(f"{path} has no column of rater {options.rater}, only of {known}", hint="choose one of them")
    return found[0]


def _gaps(cases: Sequence[Case], channels: Sequence[str]) -> list[Problem]:
    remedy = "fill in the path, or leave the case out"
    return [
        Problem(case.id, "channel missing", f"has {len(case.images)} of {len(channels)} images in its row", remedy)
        for case in cases
        if len(case.images) != len(channels)
    ]


def _table_of(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in TABLES else None
    tables = list(path.glob("*.csv"))
    described = (path / DESCRIPTION).is_file()  # do not ignore a description that fits no layout
    return tables[0] if len(tables) == 1 and not described and _lists_files(tables[0]) else None


def _lists_files(table: Path) -> bool:
    """Whether a CSV file in a folder lists images and labels, rather than facts about patients."""
    try:
        columns, rows = read_rows(table)
    except DatasetError:
        return False
    images = [name for name in columns if name == "image" or name.startswith(IMAGE)]
    labels = [name for name in columns if name == "label" or name.startswith((LABEL, RATER))]
    return bool(images and labels) and any(suffix_of(Path(row[name])) for row in rows for name in labels)


def _split(row: Row, index: int, path: Path) -> str | None:
    split = row.get("split", "").lower()
    if split and split not in SPLITS:
        raise DatasetError(f"line {index + 2} of {path} has split {split}", hint=f"use {', '.join(SPLITS)}, or nothing")
    return split or None
