import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from attunet.report.images import FigureFolder
from attunet.report.theme import PanelGrid, chart


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_figure_is_saved_twice_and_returned_as_png(tmp_path: Path) -> None:
    image = FigureFolder(tmp_path / "figures").add("chart", chart(2.0, 1.0), "what it shows")
    assert (image.label, image.inches, image.dark) == ("what it shows", 2.0, False)
    kind, _, data = image.source.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "figures" / "chart.png").read_bytes()
    assert (tmp_path / "figures" / "chart.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("lift of level3", "lift_of_level3"), ("a/b", "a_b"), ("../x", "x"), ("Leber grün", "Leber_grün"), ("", "figure")],
)
def test_any_name_becomes_a_file_of_the_folder(name: str, stem: str, tmp_path: Path) -> None:
    FigureFolder(tmp_path).add(name, chart(1.0, 1.0), "")
    assert names(tmp_path) == {f"{stem}.png", f"{stem}.svg"}


def test_a_name_given_twice_gets_a_number(tmp_path: Path) -> None:
    folder = FigureFolder(tmp_path)
    for _ in range(2):
        folder.add("chart", chart(1.0, 1.0), "")
    assert names(tmp_path) == {"chart.png", "chart.svg", "chart_2.png", "chart_2.svg"}


def test_frames_are_numbered_webp_of_their_size(tmp_path: Path) -> None:
    grid = PanelGrid([1.0], [1.0], top=0.0, right=0.0, bottom=0.0)
    first, _ = FigureFolder(tmp_path).add_frames("frames", [("one", grid.figure), ("two", grid.figure)])
    assert first.dark
    assert names(tmp_path) == {f"frames_00{number}.{kind}" for number in (0, 1) for kind in ("png", "svg")}
    kind, _, data = first.source.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as webp, Image.open(tmp_path / "frames_000.png") as png:
        assert webp.format == "WEBP"
        assert webp.size == png.size


def test_a_shorter_animation_replaces_a_longer_one(tmp_path: Path) -> None:
    frames = [(str(number), chart(1.0, 1.0)) for number in range(3)]
    FigureFolder(tmp_path).add_frames("frames", frames)
    (tmp_path / "frames_notes.txt").write_text("mine")
    FigureFolder(tmp_path).add_frames("frames", frames[:1])
    assert names(tmp_path) == {"frames_000.png", "frames_000.svg", "frames_notes.txt"}
