"""Notebook views: values that a notebook shows, and the hook to the package that draws them.

`Volume`, `Prediction`, `Plan` and `Summary` live in packages below `report`, which draws, so they cannot import it.
They inherit `NotebookView`, and the package `attunet` names the module that renders them. That module, and matplotlib
with it, is imported when a value is first shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["NotebookView", "Renderer", "decimals", "set_renderer"]


class Renderer(Protocol):
    """The interface that draws values: the module `attunet.report.notebook`."""

    def draw(self, value: object) -> Figure:
        """A figure of the value."""
        ...

    def to_html(self, value: object) -> str:
        """A small table and picture of the value, as an HTML fragment."""
        ...


_renderer: list[Callable[[], Renderer]] = []


def set_renderer(load: Callable[[], Renderer]) -> None:
    """Name the renderer of all values; `load` is called when a value is first shown."""
    _renderer[:] = [load]


class NotebookView:
    """A value that a notebook shows: as a table and picture by itself, as a figure by `show`."""

    __slots__ = ()

    def show(self) -> Figure:
        """Draw the value: the three planes of an image with its mask and attention, one plane of a 2-D image.

        Returns: a matplotlib figure, which a notebook shows when it is the last value of a cell.
        """
        return _renderer[0]().draw(self)

    def _repr_html_(self) -> str:
        """A small table and picture, which a notebook shows in place of the value's text."""
        return _renderer[0]().to_html(self)


def decimals(value: float, digits: int) -> str:
    """A number with this many decimals, or two significant digits where a value above 0 would read 0.00."""
    text = f"{value:.{digits}f}"
    return f"{value:.2g}" if value and float(text) == 0 else text
