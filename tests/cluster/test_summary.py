"""The page about a run: counts, reasons, nodes and volumes from its ledgers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from attunet.cluster.ledger import LEDGER, Ledger, LedgerRow
from attunet.cluster.summary import write_run_summary
from attunet.cluster.summary_figures import dice_histogram, rate_chart, volume_boxes
from attunet.errors import FormatError

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def row(number, **values):
    time = (START + timedelta(seconds=20 * number)).isoformat()
    known = {"state": "done", "seconds": 5.0 + number % 7, "node": f"node{number % 3}", "tries": 1, "windows": 8}
    known |= {"volumes_ml": {"liver": 1000.0 + number, "lesion": float(number % 2)}, "peak_bytes": 2**30}
    return LedgerRow(case=f"c{number:03}", time=time, **{**known, **values})


@pytest.fixture
def folder(tmp_path):
    rows = [row(number, predicted_dice=0.5 + number / 300) for number in range(120)]
    rows[7] = row(7, state="failed", error="c007 is no scan <b>", hint="copy it again", tries=3)
    rows[8] = row(8, state="queued")
    rows[9] = row(9, warnings=("c009 is a series in time",), seconds=99.0)
    for number in range(20, 23):
        rows[number] = row(number, warnings=(f"this scan's spacing is {number / 4} mm, usually 0.9 mm",))
    with Ledger(tmp_path / LEDGER) as ledger:
        ledger.add(*rows[:60])
    with Ledger(tmp_path / "ledger-1-of-2.jsonl") as ledger:
        ledger.add(*rows[60:])
    return tmp_path


def test_the_page_tells_what_failed_what_was_slow_and_what_stands_out(folder, tmp_path):
    write_run_summary(tmp_path / "run.html", folder, "s3://bucket/masks")
    page = (tmp_path / "run.html").read_text()
    assert "Prediction into s3://bucket/masks" in page
    assert "118 of 120 cases are done, 1 failed, 1 not ended" in page
    assert "c007 is no scan &lt;b&gt;" in page
    assert "copy it again" in page
    for text in ("The 15 slowest cases", "99.0", "node2", "1119.00 (c119)", "c009 is a series in time"):
        assert text in page
    assert page.count("spacing is") == 1
    assert re.search(r"spacing is 5.0 mm, usually 0.9 mm</td>\s*<td>3</td>", page)
    assert page.count("<img") == 3
    assert all(f'alt="{text}' in page for text in ("Cases that ended", "Volumes of each label", "Predicted Dice"))
    names = {file.stem for file in (tmp_path / "run_figures").iterdir()}
    assert {"rate", "volumes", "predicted_dice"} <= names


def test_a_run_that_has_not_begun_has_a_page(tmp_path):
    write_run_summary(tmp_path / "run.html", tmp_path, "masks")
    assert "0 of 0 cases are done" in (tmp_path / "run.html").read_text()


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / LEDGER).write_text("no ledger\n")
    with pytest.raises(FormatError, match="no ledger"):
        write_run_summary(tmp_path / "run.html", tmp_path, "masks")


def test_rates_are_a_minute_and_divided_by_node():
    rows = [row(number) for number in range(300)]
    (axes,) = rate_chart(rows).axes
    total = sum(patch.get_height() * patch.get_width() * 1440 for patch in axes.patches)
    assert total == pytest.approx(300)
    assert len(rate_chart(rows).legends[0].get_texts()) == 3
    many = rate_chart([row(number, node=f"n{number}") for number in range(20)])
    assert many.legends[0].get_texts()[-1].get_text() == "other nodes"
    assert len(rate_chart([row(0)]).axes[0].patches) == 1


def test_many_volumes_are_thinned_with_their_extremes():
    (axes,) = volume_boxes({"liver": [float(value) for value in range(1, 10_001)], "lesion": [3.0]}).axes
    points = axes.collections[0].get_offsets()
    assert len(points) == 200
    assert (points[:, 0].min(), points[:, 0].max()) == (1.0, 10_000.0)
    assert axes.xaxis.get_major_formatter()(1000.0, 0) == "1000"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["liver  (n=10000)", "lesion  (n=1)"]


def test_scores_are_counted():
    (axes,) = dice_histogram([0.1, 0.9, 0.91]).axes
    assert sum(patch.get_height() for patch in axes.patches) == 3
