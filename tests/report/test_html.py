import base64
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from attunet.report import Animation, Picture, Table, write_report
from attunet.report.theme import PanelGrid, chart


class Outline(HTMLParser):
    """The tags and the text of a page; unbalanced tags fail."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "report.html"
    write_report(
        path,
        title="Liver <test>",
        subtitle="of two cases",
        facts={"Mean Dice": "0.9", "Cases": 2},
        sections=[
            Picture("A chart", chart(1.0, 1.0), "chart"),
            Table("Scores", ["Label", "Dice"], [["liver", "0.9"], ["A&B", 0.8]]),
            Picture("An overlay", PanelGrid([1.0], [1.0], top=0.0, right=0.0, bottom=0.0).figure, "overlay"),
        ],
        notes=["Empty masks count."],
    )
    assert {entry.name for entry in tmp_path.iterdir()} == {"report.html", "report_figures"}
    return path.read_text(encoding="utf-8")


def test_everything_given_is_there_and_escaped(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    for text in (
        "Liver <test>",
        "of two cases",
        "Mean Dice",
        "Scores",
        "A&B",
        "0.8",
        "A chart",
        "Empty masks count.",
    ):
        assert text in outline.text
    assert "<test>" not in page


def test_sections_come_in_their_order(page: str) -> None:
    places = [page.index(f">{caption}<") for caption in ("A chart", "Scores", "An overlay", "Notes")]
    assert places == sorted(places)


def test_the_page_needs_neither_network_nor_scripts(page: str) -> None:
    assert "<script" not in page
    assert "http" not in page
    images = [attributes for tag, attributes in (parsed(page)) if tag == "img"]
    assert [image["class"] for image in images] == ["chart", "screen"]
    for image in images:
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
        assert image["alt"]


def test_it_is_made_for_phones_and_for_the_dark(page: str) -> None:
    assert 'name="viewport"' in page
    assert re.search(r"@media \(prefers-color-scheme: dark\)", page)


def test_a_title_alone_is_a_report(tmp_path: Path) -> None:
    write_report(tmp_path / "bare.html", title="Bare")
    outline = parsed((tmp_path / "bare.html").read_text(encoding="utf-8"))
    assert not {"table", "figure", "dl", "section"} & {tag for tag, _ in outline}


def test_sentences_in_a_table_wrap(tmp_path: Path) -> None:
    rows = [["patch", "64", "as large as the memory of the device allows"], ["batch", "2", "fixed"]]
    write_report(tmp_path / "why.html", title="Why", sections=[Table("Plan", ["Name", "Value", "Reason"], rows)])
    seen = parsed((tmp_path / "why.html").read_text(encoding="utf-8"))
    assert [attributes.get("class") for tag, attributes in seen if tag == "td"] == [None, "prose"] * 2


@pytest.fixture
def animation() -> Animation:
    return Animation("It <grows>", "growth", [(f"epoch {number}", chart(1.0, 1.0)) for number in (1, 2, 3)])


def test_an_animation_shows_its_last_frame_until_a_script_moves_it(animation: Animation, tmp_path: Path) -> None:
    write_report(tmp_path / "animation.html", title="Animation", sections=[animation, Animation("Empty", "none", [])])
    page = (tmp_path / "animation.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert "src=http" not in page.replace('"', "")
    assert "<output>epoch 3</output>" in page
    assert "Nothing yet" not in page
    images = [attributes for tag, attributes in parsed(page) if tag == "img"]
    assert [(image["alt"], "hidden" in image) for image in images] == [
        ("epoch 1", True),
        ("epoch 2", True),
        ("epoch 3", False),
    ]
    (slider,) = [attributes for tag, attributes in parsed(page) if tag == "input"]
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "2", "2")
    assert slider["aria-label"] == "It <grows>"


def test_every_figure_is_next_to_the_report(animation: Animation, tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", title="A", sections=[Picture("Chart", chart(1.0, 1.0), "chart"), animation])
    found = {entry.name for entry in (tmp_path / "a_figures").iterdir()}
    assert found == {
        f"{name}.{kind}" for name in ("chart", *(f"growth_00{n}" for n in range(3))) for kind in ("png", "svg")
    }


def test_templates_are_part_of_the_package() -> None:
    names = {entry.name for entry in files("attunet.report").joinpath("templates").iterdir()}
    assert {"animation.js", "report.html.j2", "report.css.j2"} <= names


def parsed(page: str) -> list[tuple[str, dict[str, str | None]]]:
    outline = Outline()
    outline.feed(page)
    return outline.seen


def test_names_are_text_in_every_place(tmp_path: Path) -> None:
    name, shown = "<b>&\"'\u202egpj", "<b>&\"'\\u202egpj"
    figure = chart(1.0, 1.0)
    figure.suptitle(name)
    path = tmp_path / "report.html"
    sections = [Table(name, [name, "Dice"], [[name, 0.5]]), Picture(name, figure, "chart")]
    write_report(path, title=name, subtitle=name, facts={name: name}, sections=sections, notes=[name])
    page, outline = path.read_text(encoding="utf-8"), Outline()
    outline.feed(page)
    assert not outline.open
    assert "b" not in {tag for tag, _ in outline.seen}
    assert outline.text.count(shown) >= 8
    assert "\u202e" not in page
