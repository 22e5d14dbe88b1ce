"""A report as one HTML file with inline images, which needs no network, and its figures as files next to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from attunet.files import write_text
from attunet.names import printable
from attunet.report.images import FigureFolder, Image

__all__ = ["Animation", "Picture", "Section", "Table", "write_report"]

PROSE = 28
"""Length from which a cell is treated as a sentence."""


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Args:
        caption: caption above the table.
        columns: headings.
        rows: rows with one cell per column; the first cell names the row.
    """

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def is_prose(self, column: int) -> bool:
        """Whether a column holds text that must wrap, rather than names or numbers."""
        return column > 0 and any(len(str(row[column])) > PROSE for row in self.rows)


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Args:
        caption: caption below the figure.
        figure: the figure.
        name: name of its files next to the report.
    """

    kind: ClassVar = "picture"
    caption: str
    figure: Figure
    name: str


@dataclass(frozen=True)
class Animation:
    """Figures of the same size, shown one at a time with a slider; the last is shown first.

    Args:
        caption: caption below the figure.
        name: name of its files, NAME_000 and so on.
        frames: label and figure of each frame.
    """

    kind: ClassVar = "animation"
    caption: str
    name: str
    frames: Sequence[tuple[str, Figure]]


Section = Table | Picture | Animation


@dataclass(frozen=True)
class _Shown:
    """A picture or animation whose figures have been drawn."""

    kind: str
    caption: str
    images: Sequence[Image]


def write_report(
    path: Path,
    *,
    title: str,
    subtitle: str = "",
    facts: Mapping[str, object] | None = None,
    sections: Sequence[Section] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write a report, and all its figures as PNG and SVG into the folder REPORT_figures next to it.

    The report is written last and atomically. It needs no network, and only one script, for the sliders of animations:
    without scripts, an animation shows its last frame.
    Args:
        path: the HTML file.
        title, subtitle: one line each.
        facts: short names and values, shown as cards at the top.
        sections: tables, pictures and animations in order; animations without a frame are left out.
        notes: sentences at the end.
    Raises: FormatError when the folder cannot be written to.
    """
    folder = FigureFolder(path.with_name(f"{path.stem}_figures"))
    shown = [_draw(section, folder) for section in sections if not isinstance(section, Animation) or section.frames]
    page = _template().render(
        title=title,
        subtitle=subtitle,
        facts=dict(facts or {}),
        sections=shown,
        has_animations=any(section.kind == Animation.kind for section in shown),
        notes=notes,
    )
    write_text(path, page)


def _draw(section: Section, folder: FigureFolder) -> Table | _Shown:
    if isinstance(section, Table):
        return section
    if isinstance(section, Animation):
        return _Shown(section.kind, section.caption, folder.add_frames(section.name, section.frames))
    return _Shown(section.kind, section.caption, [folder.add(section.name, section.figure, section.caption)])


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("attunet.report"),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
