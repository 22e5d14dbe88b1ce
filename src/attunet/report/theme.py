"""The style of all figures, and how they are saved: figure objects only, no pyplot and no global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Literal

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from attunet.files import staged
from attunet.names import printable

__all__ = [
    "CHART_WIDTH",
    "DPI",
    "INK",
    "PALE",
    "PALETTE",
    "RULE",
    "PanelGrid",
    "ReportFigure",
    "chart",
    "color_of",
    "is_dark",
    "legend_below",
    "legend_columns",
    "png",
    "save_figure",
    "svg",
    "tidy",
]

DPI = 150
"""Resolution in dots per inch of every figure, and of the images inside an SVG."""

CHART_WIDTH = 6.0
"""Width in inches of a chart that is still readable on a phone."""

PALETTE = (
    *("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442", "#999999"),
    *("#9669F0", "#F02D5A", "#69690F", "#69F078", "#FFD296", "#C30F96", "#964B3C", "#5AF0F0"),
    *("#1E8700", "#B4E196", "#F0D2FF", "#0F6969", "#FF96FF", "#694B96", "#0087FF", "#FF9687"),
)
"""Okabe and Ito's colours, which colour-blind readers can distinguish (Color Universal Design, 2008); from the ninth
on, each is as far as possible in CIELAB from all previous ones, among colours of medium lightness."""

DARK, INK, PALE, RULE = "#0f1317", "#1f2a35", "#e7ebef", "#d9dfe5"


def color_of(position: int) -> str:
    """The colour of the label at this position; 0 is the first after the background."""
    return PALETTE[position % len(PALETTE)]


class ReportFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


class PanelGrid:
    """A dark figure whose panels have exact sizes in inches, so that images keep one scale.

    Every row has space for a line of text above its panels.

    Args:
        widths: widths of the columns in inches.
        heights: heights of the rows in inches.
        top: free space for a title in inches.
        right: free space for a colour bar in inches.
        bottom: free space for a legend in inches.
    """

    MARGIN, GAP, CAPTION = 0.18, 0.12, 0.32

    def __init__(
        self, widths: Sequence[float], heights: Sequence[float], *, top: float, right: float, bottom: float
    ) -> None:
        self.width = sum(widths) + self.GAP * (len(widths) - 1) + right + 2 * self.MARGIN
        self.height = sum(heights) + self.CAPTION * len(heights) + top + bottom + 2 * self.MARGIN
        self.figure = ReportFigure(figsize=(self.width, self.height), facecolor=DARK)
        FigureCanvasAgg(self.figure)
        self._widths, self._heights, self._top = widths, heights, top

    def panel(self, row: int, column: int) -> Axes:
        """The axes of a panel; an image smaller than its cell is centred at the upper edge."""
        left = self.MARGIN + sum(self._widths[:column]) + self.GAP * column
        below = self.MARGIN + self._top + sum(self._heights[: row + 1]) + self.CAPTION * (row + 1)
        axes = self.place(left, below, self._widths[column], self._heights[row])
        axes.set_anchor("N")
        return axes

    def place(self, left: float, below: float, width: float, height: float) -> Axes:
        """Add axes of a given size, in inches.

        Args:
            left: distance of the lower left corner from the left side.
            below: distance of the lower left corner from the top.
            width: width of the axes.
            height: height of the axes.
        Returns: the axes.
        """
        bounds = (
            left / self.width,
            1 - below / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(bounds)


def chart(width: float, height: float) -> Figure:
    """A white figure for curves and scores, in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)
    figure = ReportFigure(figsize=(width, height), facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def legend_columns(names: Sequence[str], width: float) -> int:
    """The number of legend columns that fit into a width in inches, with rows filled evenly."""
    if not names:
        return 1
    fitting = max(1, int(width / (0.65 + 0.08 * max(map(len, names)))))
    return ceil(len(names) / ceil(len(names) / fitting))


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A chart's legend, below all its axes; none if there is nothing to label."""
    if handles:
        columns = legend_columns([str(handle.get_label()) for handle in handles], float(figure.get_figwidth()))
        where = {"loc": "outside lower center", "ncols": columns}
        figure.legend(handles=handles, frameon=False, fontsize=9, labelcolor=INK, **where)


def tidy(axes: Axes, *, xlabel: str = "", title: str = "", grid: Literal["x", "y"] = "y") -> None:
    """Give a chart its title, label and light grid, and remove the box around it.

    Args:
        axes: axes of the chart.
        xlabel: label of the horizontal axis.
        title: above the chart.
        grid: axis of the values; the grid lines are perpendicular to it.
    """
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(xlabel, color=INK)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis=grid, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)


def is_dark(figure: Figure) -> bool:
    """Whether a figure has a dark background."""
    return sum(to_rgb(figure.get_facecolor())) < 1.5


def _with_plain_text(figure: Figure) -> Figure:
    """The figure, whose texts are drawn as they are: names of cases and labels are no formulas, whatever they hold."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        if (shown := printable(text.get_text())) != text.get_text():
            text.set_text(shown)
    return figure


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The content of a figure's PNG file."""
    stream = io.BytesIO()
    _with_plain_text(figure).savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def svg(figure: Figure, dpi: int = DPI) -> bytes:
    """The content of a figure's SVG file: lines and text stay vectors, images get this resolution.

    The same figure gives the same bytes.
    """
    stream = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "attunet"}):
        _with_plain_text(figure).savefig(stream, format="svg", dpi=dpi, metadata={"Date": None})
    return stream.getvalue()


def save_figure(figure: Figure, path: Path, *, dpi: int = DPI) -> None:
    """Write a figure atomically.

    Args:
        figure: the figure.
        path: its file, .png or .svg.
        dpi: dots per inch, also of the images inside an SVG.
    """
    content = svg(figure, dpi) if path.suffix == ".svg" else png(figure, dpi)
    with staged(path) as temporary:
        temporary.write_bytes(content)
