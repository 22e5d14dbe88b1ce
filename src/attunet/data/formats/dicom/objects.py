"""Reading DICOM objects that are not images, such as segmentations: whole, and without what pydicom warns about.

Its warnings quote values, which may be those of the patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.data.formats.dicom.elements import pydicom_for
from attunet.documents import open_regular
from attunet.errors import AttunetError, FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["dicom_items", "dicom_text", "read_object", "reading_object"]


@contextmanager
def reading_object(path: Path) -> Iterator[None]:
    """What damaged bytes raise in here is a FormatError that names the file, and warnings of pydicom are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (AttunetError, MemoryError):
            raise
        except Exception as error:  # damaged bytes raise anything
            raise FormatError(
                f"cannot read {path} as DICOM: {type(error).__name__}", hint="the file may be damaged: copy it again"
            ) from error


def read_object(path: Path, names: Sequence[str] | None = None) -> Dataset:
    """Read the data set of a file, whose values are parsed when they are asked for, which is to be in `reading_object`.

    Args:
        path: the file.
        names: the elements to read, by keyword, which is quick; None: all, pixels too.
    Returns: the data set.
    Raises: FormatError when the file is no DICOM; EngineError when pydicom is not installed.
    """
    pydicom = pydicom_for(path)
    with open_regular(path) as stream, reading_object(path):
        tags = None if names is None else list(names)
        dataset: Dataset = pydicom.dcmread(stream, force=True, specific_tags=tags, stop_before_pixels=names is not None)
        return dataset


def dicom_items(dataset: Dataset, name: str) -> list[Dataset]:
    """The items of a sequence; none where it is missing. Raises: TypeError when the element is none."""
    return list(dataset.get(name) or ())


def dicom_text(dataset: Dataset, name: str) -> str:
    """An element's text without padding; empty where it is missing."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip("\0 ")
