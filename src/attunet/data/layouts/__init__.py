"""Recognising how a data set is laid out, by looking at it: one module per layout."""

from __future__ import annotations

from pathlib import Path

from attunet.data.dataset import Dataset
from attunet.data.formats.dicom import CONVERT, series_in
from attunet.data.layouts.dataset_json import read_described_dataset
from attunet.data.layouts.paired import find_pair, read_paired
from attunet.data.layouts.table import read_table
from attunet.errors import DatasetError

__all__ = ["read_dataset"]

EXPECTED = (
    "expected dataset.json with its files (MSD, nnU-Net), images/ beside labels/ or masks/, imagesTr/ beside "
    "labelsTr/, or a CSV file with the columns image and label"
)


def read_dataset(path: Path) -> Dataset:
    """The cases of a data set folder or CSV file, its layout recognised by looking.

    Only names and descriptions are read. Oddities (labels without an image, DICOM series) are in the result.
    Raises: DatasetError when there is nothing there, no layout fits or a description contradicts itself.
    """
    if not path.exists():
        raise DatasetError(f"there is no file or folder {path}", hint="check the path")
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise DatasetError(f"{path} is a single file, not a data set", hint=EXPECTED)
        return read_table(path)
    if (path / "dataset.json").is_file():
        return read_described_dataset(path)
    if find_pair(path) is not None:
        return read_paired(path)
    tables = sorted(path.glob("*.csv"))
    if len(tables) == 1:
        return read_table(tables[0])
    raise _unrecognised(path, len(tables))


def _unrecognised(path: Path, tables: int) -> DatasetError:
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if not names:
        return DatasetError(f"the folder {path} is empty", hint=EXPECTED)
    folders = [path, *(entry for entry in path.rglob("*") if entry.is_dir())]
    if any(series_in(folder) for folder in folders[:20]):
        return DatasetError(f"{path} holds DICOM series, which are not read yet", hint=CONVERT)
    if tables:
        return DatasetError(f"{path} holds {tables} CSV files, expected one", hint="name the CSV file itself")
    found = ", ".join(names[:6]) + (" and more" if len(names) > 6 else "")
    return DatasetError(f"no data set recognised in {path} (found {found})", hint=EXPECTED)
