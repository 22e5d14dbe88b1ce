"""Console output of the commands: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

__all__ = ["fail", "notes", "prepare_streams", "progress_bar", "results", "show"]


@cache
def results() -> Console:
    """The console for requested results (stdout)."""
    return _console()


@cache
def notes() -> Console:
    """The console for progress, warnings and errors (stderr)."""
    return _console(stderr=True)


def _console(*, stderr: bool = False) -> Console:
    """A console that spells out control characters of names instead of obeying them."""
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

    from attunet.names import printable

    class PlainConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    return PlainConsole(stderr=stderr)


def show(*parts: RenderableType, stderr: bool = False) -> None:
    """Print tables and texts as they are; a line that cannot be broken may be longer than the terminal."""
    for part in parts:
        (notes() if stderr else results()).print(part, highlight=False, crop=False)


def fail(message: str, hint: str = "") -> None:
    """Print an error as one red line."""
    from rich.text import Text

    text = f"{message}; {hint}" if hint else message
    line = Text.assemble(("error: ", "bold red"), (" ".join(text.splitlines()), "red"))
    notes().print(line, soft_wrap=True)


def prepare_streams() -> None:
    """Let output end nowhere, be closed early (`| head -1`) or have a narrow encoding without disturbing the work.

    What an encoding lacks is spelled out; what nobody reads is dropped, and files are written and exit codes given as
    otherwise.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file opened would get its number, and what libraries print would go into it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or (isinstance(stream, io.TextIOWrapper) and stream.fileno() == number):
            encoding = "utf-8" if stream is None else stream.encoding
            raw = _UnmindfulFile(number, "w", closefd=False)
            text = io.TextIOWrapper(
                io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True
            )
            setattr(sys, name, text)
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the name is right in tables and SVG
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that is read-only only costs it time


class _UnmindfulFile(io.FileIO):
    """A file that does not mind when its reader has gone, and that reports a full disk once."""

    _useless = False

    def write(self, data: Any, /) -> int:
        """See `io.FileIO.write`. Raises: OSError, the first time that something cannot be written to a file."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and not self._useless:
                self._useless = True
                raise
            return memoryview(data).nbytes


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress display with time elapsed and left; silent when stderr is not a terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes(), transient=True, disable=not notes().is_terminal) as progress:
        yield progress
