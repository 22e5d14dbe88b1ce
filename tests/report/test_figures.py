from math import nan

import numpy as np
import pytest

from attunet.evaluation import CaseScores, Summary, score_case, summarize
from attunet.report.figures import curves, gate_curves, score_boxes
from attunet.report.theme import png

LABELS = {"liver": 1, "spleen": 2}


@pytest.fixture
def summary() -> Summary:
    reference = np.zeros((8, 4, 4), dtype=int)
    reference[:4] = 1
    cases = [
        CaseScores(str(shift), score_case(reference, np.roll(reference, shift, 0), LABELS, (1.0, 1.0, 1.0)))
        for shift in range(3)
    ]
    return summarize(cases, LABELS)


def test_curves_show_loss_and_every_label() -> None:
    history = [{"epoch": float(epoch), "minutes": epoch / 2, "loss": 1 / (epoch + 1)} for epoch in range(6)]
    history[2] |= {"dice": 0.4, "dice_liver": 0.5, "dice_spleen": nan}
    history[5] |= {"dice": 0.7, "dice_liver": 0.8, "dice_spleen": 0.6}
    left, right = curves(history).axes
    assert left.lines[0].get_ydata().tolist() == [row["loss"] for row in history]
    drawn = {line.get_label(): line.get_xdata().tolist() for line in right.lines}
    assert drawn == {"liver": [1.0, 2.5], "spleen": [2.5], "mean": [1.0, 2.5]}
    assert right.get_ylim() == (0.0, 1.0)
    assert right.get_xlabel() == "minutes"


def test_one_label_needs_no_mean() -> None:
    _, right = curves([{"epoch": 0.0, "dice": 0.4, "dice_tumour": 0.4}]).axes
    assert [line.get_label() for line in right.lines] == ["tumour"]
    assert right.get_xlabel() == "epoch"


def test_curves_of_nothing_can_be_drawn() -> None:
    assert png(curves([]), dpi=40)


def test_boxes_have_a_point_per_case(summary: Summary) -> None:
    (axes,) = score_boxes(summary).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["liver  (n=3)", "spleen  (n=0)"]
    (points,) = axes.collections
    assert sorted(points.get_offsets()[:, 0]) == pytest.approx([0.5, 0.75, 1.0])


def test_boxes_of_nothing_can_be_drawn() -> None:
    assert png(score_boxes(summarize([], {})), dpi=40)


def test_every_gate_has_a_line_and_a_band():
    rows = [{"epoch": float(index), "gate_level2_mean": 0.9, "gate_level2_sd": 0.1} for index in range(3)]
    rows += [{"epoch": 3.0, "gate_level3.1_mean": 0.5}]
    axes = gate_curves(rows).axes[0]
    assert [line.get_label() for line in axes.lines] == ["level2", "level3.1"]
    assert len(axes.collections) == 1
