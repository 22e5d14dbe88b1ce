"""The table that every command prints: names and numbers are never broken, and it always fits the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "FittedTable", "sizes", "spacing"]

Kind = Literal["name", "number", "list", "text"]
Cell = str | Text

_GAP = 2
_NARROWEST_TEXT = 16


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: names and numbers stay on one line, a list wraps after its commas, text between words.

    Columns of `rank` 0 are always shown; of the others, the highest rank is hidden first when the terminal is too
    narrow.
    """

    heading: str
    kind: Kind = "name"
    rank: int = 0


class FittedTable:
    """A table that fits itself to the width of the terminal.

    If it is too wide, columns are hidden by rank, and a line below says which ones and how to see them; if it still
    does not fit, it is shown row by row, with one `heading: value` per line.
    """

    def __init__(self, *columns: Column, title: str = "", elsewhere: str = "") -> None:
        """`elsewhere` names a place with all columns, such as `--json`."""
        self.title = title
        self._columns = columns
        self._elsewhere = elsewhere
        self._rows: list[tuple[Text, ...]] = []
        self._sections: set[int] = set()

    def add(self, *cells: Cell, style: str = "") -> None:
        """Add a row; strings are shown as they are, without markup."""
        assert len(cells) == len(self._columns)
        self._rows.append(tuple(_text(cell, style) for cell in cells))

    def end_section(self) -> None:
        """Draw a line below the last row."""
        self._sections.add(len(self._rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See `rich.console.ConsoleRenderable`."""
        if self.title:
            yield Text(self.title, style="bold")
        shown = self._fitting(options.max_width)
        if shown is None:
            yield from self._records()
            return
        yield self._table(shown, options.max_width)
        hidden = [column.heading for index, column in enumerate(self._columns) if index not in shown]
        if hidden:
            more = f"widen the terminal{f' or see {self._elsewhere}' if self._elsewhere else ''}"
            yield Text(f"columns hidden because the terminal is too narrow: {', '.join(hidden)} ({more})", style="dim")
        yield Text("")

    def _fitting(self, width: int) -> list[int] | None:
        """Indices of the columns to show; None when not even those of rank 0 fit."""
        shown = list(range(len(self._columns)))
        while _total([self._minimum_width(index) for index in shown]) > width:
            index = max(shown, key=lambda index: (self._columns[index].rank, index))
            if self._columns[index].rank == 0:
                return None
            shown.remove(index)
        return shown

    def _cells(self, index: int) -> Iterator[str]:
        return (row[index].plain for row in self._rows)

    def _minimum_width(self, index: int) -> int:
        """The width that a column needs so that nothing in it is broken."""
        column = self._columns[index]
        unbroken = max((_widest(_UNBROKEN[column.kind](cell)) for cell in self._cells(index)), default=0)
        needed = min(_NARROWEST_TEXT, self._natural_width(index)) if column.kind in ("list", "text") else 1
        return max(_widest(column.heading.split()), unbroken, needed)

    def _natural_width(self, index: int) -> int:
        """The width at which nothing in a column wraps."""
        lines = (_widest(cell.splitlines()) for cell in self._cells(index))
        return max(cell_len(self._columns[index].heading), *lines, 1)

    def _widths(self, shown: Sequence[int], width: int) -> list[int]:
        """The minimum width of each column, plus a share of the remaining width in proportion to its demand."""
        widths = [self._minimum_width(index) for index in shown]
        demands = [self._natural_width(index) - minimum for index, minimum in zip(shown, widths, strict=True)]
        left = min(width - _total(widths), sum(demands))
        if left > 0:
            shares = [demand * left // sum(demands) for demand in demands]
            widths = [minimum + share for minimum, share in zip(widths, shares, strict=True)]
        return widths

    def _table(self, shown: Sequence[int], width: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        table.show_header = any(column.heading for column in self._columns)
        widths = dict(zip(shown, self._widths(shown, width), strict=True))
        for index, characters in widths.items():
            column = self._columns[index]
            justify: Literal["left", "right"] = "right" if column.kind == "number" else "left"
            table.add_column(Text(column.heading), justify=justify, width=characters, overflow="fold")
        for place, row in enumerate(self._rows):
            cells = [_wrapped(row[index], widths[index], self._columns[index].kind) for index in shown]
            table.add_row(*cells, end_section=place in self._sections)
        return table

    def _records(self) -> Iterator[Text]:
        """Row by row; the terminal wraps lines that are too long, so that they can be copied whole."""
        for row in self._rows:
            for column, cell in zip(self._columns, row, strict=True):
                value = Text(" ").join(cell.split("\n"))
                heading = (f"{column.heading}: ", "bold") if column.heading else ""
                yield Text.assemble(heading, value, no_wrap=True, overflow="ignore")
            yield Text("")


def sizes(values: Sequence[int]) -> str:
    """Whole numbers as 64x64x32."""
    return "x".join(map(str, values))


def spacing(values: Sequence[float]) -> str:
    """Voxel sizes as 0.8x0.8x3."""
    return "x".join(f"{value:.3g}" for value in values)


def _text(cell: Cell, style: str) -> Text:
    text = Text(cell) if isinstance(cell, str) else cell.copy()
    if style:
        text.stylize(style)
    return text


def _entries(cell: str) -> list[str]:
    """The entries of a list, each with the comma behind it."""
    first, *others = cell.replace("\n", " ").split(", ")[::-1]
    return [f"{entry}," for entry in reversed(others)] + [first]


def _wrapped(cell: Text, width: int, kind: Kind) -> Text:
    """A list with line breaks between its entries; other cells as they are."""
    if kind != "list":
        return cell
    lines = [""]
    for entry in _entries(cell.plain):
        longer = f"{lines[-1]} {entry}".lstrip()
        lines[-1:] = [longer] if cell_len(longer) <= width else [lines[-1], entry]
    return Text("\n".join(line for line in lines if line), style=cell.style)


_UNBROKEN: dict[Kind, Callable[[str], list[str]]] = {
    "name": str.splitlines,
    "number": str.splitlines,
    "list": _entries,
    "text": str.split,
}
"""The parts of a cell that stay on one line."""


def _widest(parts: Sequence[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
