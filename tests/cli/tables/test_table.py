"""The table that all commands print: nothing that belongs together is broken, at any width."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from attunet.cli.tables.datasets import inspection_tables
from attunet.cli.tables.scores import score_table
from attunet.cli.tables.table import Column, FittedTable, sizes, spacing
from attunet.data.checks import Inspection
from attunet.data.dataset import Dataset, Problem
from attunet.data.facts import CaseFacts, Intensity
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import summarize

NAME = "21_training_scan_of_the_upper_abdomen_contrast"


def printed(table, width):
    console = Console(width=width)
    with console.capture() as shown:
        console.print(table, crop=False, highlight=False)
    return shown.get()


@pytest.fixture
def table():
    made = FittedTable(
        Column(heading="Case"),
        Column(heading="Shape"),
        Column(heading="Orientation", rank=2),
        Column(heading="Volume error ml", kind="number", rank=1),
        Column(heading="Labels", kind="list"),
        title="[cases]",
        elsewhere="--json",
    )
    made.add(NAME, "216x256x10", "RAS", "0.123456", ", ".join(f"{value}: {value * 1000}" for value in range(12)))
    made.add("b", "64x64x1", "LPS", "7.5", Text("0: 0", "red"))
    return made


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_names_numbers_and_entries_of_a_list_are_never_broken(table, width):
    text = printed(table, width)
    for whole in ("[cases]", NAME, "216x256x10", "0: 0", "11: 11000"):
        assert whole in text, whole
    assert "0.123456" in text or width in (60, 80)


@pytest.mark.parametrize(("width", "hidden"), [(60, None), (80, "Orientation, Volume error ml"), (90, "Orientation")])
def test_columns_are_left_out_by_rank_and_named(table, width, hidden):
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= max(width, len("Labels: ") + 125)
    if hidden:
        message = f"columns hidden because the terminal is too narrow: {hidden} (widen the terminal or see --json)"
        assert message in " ".join(text.split())
    assert ("Orientation: RAS" in text) is (hidden is None)


def test_all_columns_are_shown_where_there_is_room(table):
    text = printed(table, 200)
    assert "RAS" in text
    assert "columns hidden" not in text
    assert len([line for line in text.splitlines() if "1000" in line]) == 1


def test_a_table_without_rows_and_one_without_headings(table):
    assert "Case" in printed(FittedTable(Column(heading="Case"), Column(heading="Note", kind="text")), 40)
    facts = FittedTable(Column(heading=""), Column(heading="", kind="text"))
    facts.add("labels", "liver\nspleen")
    facts.end_section()
    assert printed(facts, 40).split() == ["labels", "liver", "spleen"]


def test_numbers_as_people_write_them():
    assert sizes((64, 48, 1)) == "64x48x1"
    assert spacing((0.8, 0.8, 3.0)) == "0.8x0.8x3"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_an_inspection_breaks_no_case_name_and_no_shape(width, tmp_path):
    facts = CaseFacts(
        NAME, (216, 256, 1043), (0.78125, 0.78125, 2.5), "RAS", 1, "float32",
        Intensity(-1024.0, 3071.0, (0.0, 40.0, 90.0)), 0, "", {value: value * 13302 for value in range(1, 13)},
    )  # fmt: skip
    problem = Problem(NAME, "label missing", f"there is no mask of {NAME}", "add its mask")
    dataset = Dataset(root=tmp_path, layout="plain", cases=(), label_names=None, channel_names=(), ignore_label=None)
    text = printed(inspection_tables(Inspection(dataset, (facts,), (problem,)), every_case=True), width)
    assert text.count(NAME) >= 2
    assert "216x256x1043" in text
    assert "12: 159624" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_scores_break_no_label_and_no_number(width):
    cases = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        arrays = [random.integers(0, 2, (6, 6, 6)) for _ in range(2)]
        cases.append(CaseScores(f"case{seed}", score_case(*arrays, {NAME: 1}, (1.0, 1.0, 1.0))))
    summary = summarize(cases, {NAME: 1})
    text = printed(score_table(summary), width)
    assert NAME in text
    low, high = summary.interval(NAME)
    assert f"{low:.3f}–{high:.3f}" in text
    assert ("columns hidden" in text or "HD95 mm: " in text) is (width < 200)
