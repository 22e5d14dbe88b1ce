"""Forms as they stream in: files go to the disk piece by piece, and everything is counted before it is kept.

The boundary is that of the body's first line, not of the header: a client of MONAI Label that logged in sends the
content headers of an earlier request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from attunet.errors import AttunetError, DataError
from attunet.serve.store import Upload

__all__ = ["LESS", "Form", "TooLargeError", "read_form"]

MOST_FILES = 20_000
LARGEST_FIELD = 2**20
LARGEST_FIELDS = 2**22
LONGEST_HEADER = 2**13
LONGEST_BOUNDARY = 200
LESS = "send less; whoever runs the server can raise --max-upload"


class TooLargeError(AttunetError):
    """A request that is larger than the server takes."""


@dataclass
class Form:
    """What a request holds.

    Args:
        fields: texts by their names.
        files: files by the names of their fields, in the order of arrival.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, Upload]] = field(default_factory=list)

    def named(self, name: str) -> list[Upload]:
        """The files of one field."""
        return [upload for key, upload in self.files if key == name]


async def read_form(stream: AsyncIterator[bytes], folder: Path, most: int) -> Form:
    """Read a multipart form.

    Args:
        stream: the body of a request.
        folder: an empty folder for the files, which get numbers as names.
        most: bytes that the whole body may have.
    Returns: the form.
    Raises: DataError when the body is no multipart form, TooLargeError when it is too large.
    """
    import python_multipart.exceptions
    from python_multipart.multipart import MultipartParser

    reader: _Reader | None = None
    parser: Any = None
    start, total = b"", 0
    try:
        async for chunk in stream:
            total += len(chunk)
            if total > most:
                raise TooLargeError(f"the request has more than {most} bytes", hint=LESS)
            if parser is None:
                start += chunk
                if (boundary := _boundary(start)) is None:
                    continue
                reader = _Reader(folder)
                parser, chunk = MultipartParser(boundary, reader.callbacks()), start
            parser.write(chunk)
        if parser is None or reader is None:
            raise DataError("the request holds no form", hint="send multipart/form-data, as curl -F does")
        if not reader.ended:
            raise DataError("the form broke off", hint="send it again")
    except python_multipart.exceptions.FormParserError as error:
        raise DataError("the request is no multipart form", hint="send it as curl -F does") from error
    finally:
        if reader is not None:
            reader.close()
    return reader.form


def _boundary(start: bytes) -> bytes | None:
    """The boundary in the first line of a body; None while the line is incomplete. Raises: DataError."""
    line, end, _ = start.lstrip(b"\r\n").partition(b"\r\n")
    if (not end and len(start) > LONGEST_BOUNDARY + 4) or (end and not line.startswith(b"--")):
        raise DataError("the request is no multipart form", hint="send it as curl -F does")
    return line[2:] if end else None


class _Reader:
    """Takes the parts of a form from the parser.

    Attributes: form, what was read; ended, whether the form is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.form, self.ended = Form(), False
        self._folder, self._field_bytes = folder, 0
        self._headers: dict[str, str] = {}
        self._key, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._file: BinaryIO | None = None
        self._upload: tuple[str, str, Path] | None = None

    def callbacks(self) -> Any:
        """The functions that the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(self._key, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        """Close the file of a part that broke off."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._headers, self._content = {}, bytearray()

    def _grow(self, text: bytearray, piece: bytes) -> None:
        text += piece
        if len(text) > LONGEST_HEADER:
            raise TooLargeError("a header of the form is too long", hint="send shorter names")

    def _header(self) -> None:
        self._headers[self._key.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._key, self._value = bytearray(), bytearray()

    def _open(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get("content-disposition", "").encode("utf-8"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        if filename is None:
            return
        if len(self.form.files) >= MOST_FILES:
            raise TooLargeError(f"the form has more than {MOST_FILES} files", hint="send them as one .zip")
        path = self._folder / str(len(self.form.files))
        self._upload = self._name, filename.decode("utf-8", "replace"), path
        self._file = path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._content += data[start:end]
        self._field_bytes += end - start
        if len(self._content) > LARGEST_FIELD or self._field_bytes > LARGEST_FIELDS:
            raise TooLargeError("a field of the form is too long", hint="send it as a file")

    def _end(self) -> None:
        if self._file is None or self._upload is None:
            self.form.fields[self._name] = self._content.decode("utf-8", "replace")
            return
        size = self._file.tell()
        self._file.close()
        name, filename, path = self._upload
        self.form.files.append((name, Upload(path, filename, size)))
        self._file = self._upload = None

    def _finish(self) -> None:
        self.ended = True
