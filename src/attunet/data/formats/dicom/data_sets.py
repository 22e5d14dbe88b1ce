"""Reading the data set of a DICOM file, as far as it is needed.

Only the elements that a caller names are kept, so that nothing of a patient is. Whatever pydicom raises or warns about
a damaged file may repeat its values: it is never passed on.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from attunet.data.formats.dicom.elements import known_element, text_of, values_of
from attunet.data.formats.limits import AGAIN
from attunet.documents import open_regular
from attunet.errors import AttunetError, ConfigError, EngineError, FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "DEFLATED",
    "Elements",
    "open_data_set",
    "parsing",
    "pydicom_for",
    "read_elements",
    "read_tags",
    "read_whole",
]

DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax in which everything behind the file's own header is compressed."""
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
META, PREFIX = 132, b"DICM"
"""Byte at which the header of a file begins, and what is before it."""
BEHIND_META, FIRST_PIXELS = 0x00030000, 0x7FE00008
"""The first tags that are no longer of the file's own header, and of pixels."""
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
    # Values that break the rules of DICOM are quoted not only in warnings, but in its log, which goes to the terminal.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.ERROR)
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
    tags = [known_element(name).tag for name in names]
    end = min(FIRST_PIXELS, (last or FIRST_PIXELS) + (last is not None))

    def parsed(stream: BinaryIO, syntax: str) -> Elements:
        dataset = pydicom.filereader.read_dataset(
            stream,
            syntax == IMPLICIT,
            syntax != BIG_ENDIAN,
            stop_when=lambda tag, _vr, _length: tag >= end,
            specific_tags=tags,
        )
        return Elements(dataset, stream.tell(), syntax)

    with open_regular(path) as stream, parsing(path):
        syntax = _syntax_of(stream, path)
        if syntax == DEFLATED:
            return parsed(inflate(stream, path), syntax)
        if syntax:
            return parsed(stream, syntax)
        stream.seek(0)
        dataset = pydicom.filereader.read_partial(
            stream, lambda tag, _vr, _length: tag >= end, force=True, specific_tags=tags
        )
        return Elements(dataset, stream.tell(), _guessed_syntax(dataset))


def read_whole(path: Path) -> Dataset:
    """Read all elements of a file, pixels too; their values are parsed when they are asked for, in `parsing`.

    Raises: FormatError when it cannot be read as DICOM, EngineError when pydicom is not installed.
    """
    pydicom = pydicom_for(path)
    with open_regular(path) as stream, parsing(path):
        if _syntax_of(stream, path) == DEFLATED:
            inflate(stream, path)  # within its limit
        stream.seek(0)
        dataset: Dataset = pydicom.dcmread(stream, force=True)
        return dataset


class _Silence:
    """Blocks, in any number of threads, within which pydicom neither warns nor logs."""

    def __init__(self) -> None:
        self._lock, self._blocks, self._logger = Lock(), 0, logging.getLogger("pydicom")

    def __enter__(self) -> None:
        with self._lock:
            if self._blocks == 0:
                self._caught, self._level = warnings.catch_warnings(), self._logger.level
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"pydicom\b")
                warnings.filterwarnings("ignore", message=r"\s*The DICOM readers are highly experimental")  # nibabel's
                self._logger.setLevel(logging.CRITICAL)
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                self._caught.__exit__(None, None, None)
                self._logger.setLevel(self._level)


_SILENCE = _Silence()


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Where values of a file are parsed: what damaged bytes raise is a FormatError; what pydicom says is not shown."""
    with _SILENCE:
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
    with parsing(path):
        return tuple("_".join(str(value).strip() for value in values_of(dataset, name)) for name in names)


def inflate(stream: BinaryIO, path: Path) -> io.BytesIO:
    """The data set of a deflated file, inflated.

    Args:
        stream: the file, behind its own header.
        path: its path, for the message.
    Returns: the data set.
    Raises: FormatError when it would become implausibly large.
    """
    packed = stream.read()
    limit = max(LEAST_LIMIT, RATIO * len(packed))
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = decompressor.decompress(packed, limit)
    if decompressor.unconsumed_tail:
        raise FormatError(f"{path} has more than {limit} bytes when it is inflated, from {len(packed)}", hint=AGAIN)
    return io.BytesIO(inflated)


def open_data_set(stream: BinaryIO, path: Path, syntax: str) -> BinaryIO:
    """The data set of a file that is opened, inflated if it is deflated.

    Args:
        stream: the file.
        path: its path, for messages.
        syntax: its transfer syntax.
    Returns: a stream in which `Elements.start` is a place.
    Raises: FormatError as `inflate`.
    """
    if syntax != DEFLATED:
        return stream
    _syntax_of(stream, path)
    return cast(BinaryIO, inflate(stream, path))


def _syntax_of(stream: BinaryIO, path: Path) -> str:
    """The transfer syntax in the header of a file, behind which the stream then is; empty when it gives none."""
    stream.seek(META if stream.read(META)[-len(PREFIX) :] == PREFIX else 0)
    about_file = pydicom_for(path).filereader.read_dataset(
        stream,
        False,
        True,
        stop_when=lambda tag, _vr, _length: tag >= BEHIND_META,
        specific_tags=[known_element("TransferSyntaxUID").tag],
    )
    return text_of(about_file, "TransferSyntaxUID")


def _guessed_syntax(dataset: Any) -> str:
    """The transfer syntax of a file that does not give it, by what its data set turned out to be."""
    implicit, little = dataset.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
