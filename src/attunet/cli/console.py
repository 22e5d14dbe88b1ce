"""Console output of the commands: results on stdout, everything else on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

__all__ = ["fail", "notes", "progress_bar", "results", "show"]


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
