"""One HTML file that holds a whole report: no network, no scripts, images inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from attunet.files import write_text
from attunet.report.theme import is_dark, png

__all__ = ["Table", "write_report"]

PROSE = 28
"""Characters beyond which a cell is a sentence."""


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Args: a caption above it, the column headings, and rows of as many cells, the first naming the row.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def is_prose(self, column: int) -> bool:
        """Whether a column holds text that must wrap, rather than names or numbers to be read downwards."""
        return column > 0 and any(len(str(row[column])) > PROSE for row in self.rows)


@dataclass(frozen=True)
class _Picture:
    caption: str
    data: str
    dark: bool


def write_report(
    path: Path,
    *,
    title: str,
    subtitle: str = "",
    facts: Mapping[str, object] | None = None,
    tables: Sequence[Table] = (),
    figures: Sequence[tuple[str, Figure]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write a report; the file appears whole or not at all.

    Args:
        path: the HTML file.
        title, subtitle: what it is about, one line each.
        facts: short names and values, shown as cards at the top.
        tables: shown after the facts.
        figures: caption and figure, in order; saved inside the file as PNG.
        notes: sentences at the end.
    """
    page = _template().render(
        title=title,
        subtitle=subtitle,
        facts=dict(facts or {}),
        tables=tables,
        pictures=[_picture(caption, figure) for caption, figure in figures],
        notes=notes,
    )
    write_text(path, page)


def _picture(caption: str, figure: Figure) -> _Picture:
    return _Picture(caption, base64.b64encode(png(figure)).decode("ascii"), is_dark(figure))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("attunet.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
