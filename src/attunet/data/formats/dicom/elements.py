"""Elements of DICOM files: a data set read as far as it is needed, and the values of its elements.

Only the elements that a caller names are kept, so that nothing of a patient is. Whatever pydicom raises or warns about
a damaged file may repeat its values: it is never passed on.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from attunet.data.formats.limits import AGAIN
from attunet.documents import open_regular
from attunet.errors import AttunetError, ConfigError, EngineError, FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "DEFLATED",
    "Elements",
    "Vector",
    "first_item",
    "inflate",
    "number_of",
    "parsing",
    "pydicom_for",
    "read_elements",
    "read_tags",
    "read_whole",
    "text_of",
    "values_of",
    "vector_of",
    "whole_of",
]

Vector = tuple[float, ...]
DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax in which everything behind the file's own header is compressed."""
META = 132
"""Byte at which the header of a file begins."""
HEAD = 2048
LEAST_LIMIT = 2**27
RATIO = 200
"""A deflated file may have this many times its size, or `LEAST_LIMIT` bytes."""


class Elements(NamedTuple):
    """The elements of a file.

    Args:
        dataset: the data set, of the elements that were asked for.
        start: byte at which the element of the pixels begins, in the inflated file if it is deflated.
        syntax: UID of the transfer syntax.
    """

    dataset: Dataset
    start: int
    syntax: str


def pydicom_for(path: Path) -> Any:
    """The package pydicom, which reads the file.

    Raises: EngineError when it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise EngineError(f"{path} is DICOM, which needs pydicom", hint='pip install "attunet[dicom]"') from error
    return pydicom


def read_elements(path: Path, names: Sequence[str | int], *, last: int | None = None) -> Elements:
    """Read elements of a file, those before its pixels.

    Args:
        path: the file.
        names: their keywords or tags; sequences are read whole.
        last: tag behind which nothing is read; None for that of the pixels.
    Returns: the elements that are there.
    Raises: FormatError when it cannot be read as DICOM, EngineError when pydicom is not installed.
    """
    pydicom = pydicom_for(path)
    tags = [pydicom.tag.Tag(name) for name in names]
    end = min(0x7FE00008, (last or 0x7FE00008) + (last is not None))
    with open_regular(path) as stream, parsing(path):
        if DEFLATED.encode() in stream.read(HEAD):
            inflated = inflate(stream, path)
            dataset = pydicom.filereader.read_dataset(
                inflated, False, True, stop_when=lambda tag, _vr, _length: tag >= end, specific_tags=tags
            )
            return Elements(dataset, inflated.tell(), DEFLATED)
        stream.seek(0)
        dataset = pydicom.filereader.read_partial(
            stream, lambda tag, _vr, _length: tag >= end, force=True, specific_tags=tags
        )
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) or _guessed_syntax(dataset)
        return Elements(dataset, stream.tell(), syntax)


def read_whole(path: Path) -> Dataset:
    """Read all elements of a file, pixels too; their values are parsed when they are asked for, in `parsing`.

    Raises: FormatError when it cannot be read as DICOM, EngineError when pydicom is not installed.
    """
    pydicom = pydicom_for(path)
    with open_regular(path) as stream, parsing(path):
        if DEFLATED.encode() in stream.read(HEAD):
            inflate(stream, path)  # within its limit
        stream.seek(0)
        dataset: Dataset = pydicom.dcmread(stream, force=True)
        return dataset


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Where values of a file are parsed: what damaged bytes raise is a FormatError, and warnings are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (AttunetError, MemoryError):
            raise
        except Exception as error:  # damaged bytes raise anything
            raise FormatError(f"cannot read {path} as DICOM ({type(error).__name__})", hint=AGAIN) from None


def read_tags(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Values of elements of a file as text, empty where it has none; several values of one are joined by underscores.

    Raises: ConfigError for a name that is no keyword of DICOM, FormatError as `read_elements`.
    """
    pydicom = pydicom_for(path)
    unknown = [name for name in names if pydicom.datadict.tag_for_keyword(name) is None]
    if unknown:
        raise ConfigError(
            f"{unknown[0][:40]} is no element of DICOM", hint="write its keyword, such as PatientID or AccessionNumber"
        )
    dataset = read_elements(path, names).dataset
    return tuple("_".join(str(value).strip() for value in values_of(dataset, name)) for name in names)


def inflate(stream: BinaryIO, path: Path) -> io.BytesIO:
    """The data set of a deflated file, inflated.

    Raises: FormatError when it would become implausibly large.
    """
    pydicom = pydicom_for(path)
    stream.seek(META)
    pydicom.filereader.read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    packed = stream.read()
    limit = max(LEAST_LIMIT, RATIO * len(packed))
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = decompressor.decompress(packed, limit)
    if decompressor.unconsumed_tail:
        raise FormatError(f"{path} has more than {limit} bytes when it is inflated, from {len(packed)}", hint=AGAIN)
    return io.BytesIO(inflated)


def _guessed_syntax(dataset: Any) -> str:
    """The transfer syntax of a file that does not give it, by what its data set turned out to be."""
    implicit, little = dataset.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def values_of(dataset: Dataset, name: str) -> tuple[Any, ...]:
    """The values of an element; none when it is missing or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)


def first_item(dataset: Dataset, name: str) -> Dataset | None:
    """The first item of a sequence; None when it is missing or empty."""
    return next(iter(values_of(dataset, name)), None)


def text_of(dataset: Dataset, name: str) -> str:
    """The first value of an element as text; empty when there is none."""
    values = values_of(dataset, name)
    return str(values[0]).strip("\0 ") if values else ""


def number_of(dataset: Dataset, name: str) -> float | None:
    """The first value of an element as a number; None when there is none."""
    values = values_of(dataset, name)
    return float(values[0]) if values else None


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
    values = tuple(map(float, values_of(dataset, name)))
    return values if len(values) == length else None
