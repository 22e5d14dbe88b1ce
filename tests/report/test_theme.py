from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from attunet.report.theme import (
    PALETTE,
    PanelGrid,
    chart,
    color_of,
    is_dark,
    legend_below,
    legend_columns,
    png,
    save_figure,
    svg,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_saving_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    save_figure(chart(1.0, 1.0), path, dpi=30)
    assert path.read_bytes().startswith(SIGNATURE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]


def test_resolution_is_as_requested() -> None:
    content = png(chart(2.0, 1.0), dpi=50)
    assert int.from_bytes(content[16:20], "big") == 100


def test_panels_have_their_size_and_do_not_meet() -> None:
    grid = PanelGrid([2.0, 1.0], [1.5, 1.0], top=0.4, right=0.5, bottom=0.3)
    size = grid.figure.get_size_inches()
    boxes = [grid.panel(row, column).get_position() for row in range(2) for column in range(2)]
    assert boxes[0].width * size[0] == pytest.approx(2.0)
    assert boxes[2].height * size[1] == pytest.approx(1.0)
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[2].y1 < boxes[0].y0
    assert all(box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1 for box in boxes)


def test_panel_grids_are_dark_and_charts_are_not() -> None:
    assert is_dark(PanelGrid([1.0], [1.0], top=0.0, right=0.0, bottom=0.0).figure)
    assert not is_dark(chart(1.0, 1.0))


def test_colours_repeat_only_after_24() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == 24
    assert color_of(len(PALETTE) + 1) == PALETTE[1]


def labelled(noise: bool = False) -> Figure:
    figure = chart(2.0, 2.0)
    axes = figure.subplots()
    axes.set_title("Dice of the liver")
    if noise:
        axes.imshow(np.random.default_rng(0).random((1500, 1500)))
    return figure


def test_an_svg_keeps_its_text_and_is_always_the_same() -> None:
    content = svg(labelled())
    assert b">Dice of the liver</text>" in content
    assert content == svg(labelled())


def test_images_inside_an_svg_have_the_resolution_of_a_screen() -> None:
    assert len(svg(labelled(noise=True), dpi=50)) < 60_000


def test_the_suffix_decides_on_svg(tmp_path: Path) -> None:
    save_figure(labelled(), tmp_path / "figure.svg")
    assert b"<svg" in (tmp_path / "figure.svg").read_bytes()


def test_a_legend_has_as_many_columns_as_fit() -> None:
    assert legend_columns([], 6.0) == 1
    assert legend_columns(["liver"] * 4, 6.0) == 4
    assert legend_columns(["liver"] * 6, 6.0) == 3, "two rows of three, not of five and one"
    assert legend_columns(["a very long name of a very small muscle of the back"] * 3, 3.0) == 1


def test_a_legend_lies_below_and_names_what_there_is() -> None:
    figure = chart(4.0, 3.0)
    (line,) = figure.subplots().plot([0, 1], label="liver")
    legend_below(figure, [])
    assert not figure.legends
    legend_below(figure, [line])
    figure.canvas.draw()
    assert figure.legends[0].get_window_extent().y1 < figure.axes[0].get_window_extent().y0


@pytest.mark.parametrize("name", ["_hidden", "$a_1$", "_$", "=1+1"])
def test_names_appear_in_legends_and_on_axes_as_they_are(name):
    figure = chart(3.0, 3.0)
    axes = figure.subplots()
    axes.plot([0, 1], label=name)
    axes.set_yticks([0, 1], ["other", name])
    legend_below(figure, axes.lines)
    assert svg(figure).decode().count(f">{name}</text>") == 2


@pytest.mark.parametrize("title", ["case $1_2$ and $", r"\frac{", "a\x1b[31m", "50% <b>_x"])
def test_names_are_drawn_as_they_are(title):
    figure = Figure()
    figure.add_subplot().set_title(title)
    assert png(figure)
    assert title.replace("\x1b", r"\x1b").replace("<", "&lt;").replace(">", "&gt;") in svg(figure).decode()
