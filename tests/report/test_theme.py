from pathlib import Path

import pytest

from attunet.report.theme import PALETTE, Screen, chart, color_of, is_dark, png, save_figure

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_saving_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    save_figure(chart(1.0, 1.0), path, dpi=30)
    assert path.read_bytes().startswith(SIGNATURE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]


def test_resolution_is_that_asked_for() -> None:
    content = png(chart(2.0, 1.0), dpi=50)
    assert int.from_bytes(content[16:20], "big") == 100


def test_panels_have_their_size_and_do_not_meet() -> None:
    screen = Screen([2.0, 1.0], [1.5, 1.0], top=0.4, right=0.5, bottom=0.3)
    size = screen.figure.get_size_inches()
    boxes = [screen.panel(row, column).get_position() for row in range(2) for column in range(2)]
    assert boxes[0].width * size[0] == pytest.approx(2.0)
    assert boxes[2].height * size[1] == pytest.approx(1.0)
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[2].y1 < boxes[0].y0
    assert all(box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1 for box in boxes)


def test_screens_are_dark_and_charts_are_not() -> None:
    assert is_dark(Screen([1.0], [1.0], top=0.0, right=0.0, bottom=0.0).figure)
    assert not is_dark(chart(1.0, 1.0))


def test_colours_repeat_after_the_palette() -> None:
    assert len(set(PALETTE)) == len(PALETTE)
    assert color_of(len(PALETTE) + 1) == PALETTE[1]
