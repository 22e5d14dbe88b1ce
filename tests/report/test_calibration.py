from types import SimpleNamespace

import pytest

from attunet.config import QualityCalibration
from attunet.report.calibration import DicePair, dice_scatter, reliability_diagram

NAN = float("nan")
BINS = SimpleNamespace(confidence=(NAN, 0.4, 0.9), accuracy=(NAN, 0.3, 0.95), share=(0.0, 0.2, 0.8), ece=0.06)


def texts(figure):
    return [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]


def test_a_line_for_each_name_without_the_empty_bins():
    figure = reliability_diagram({"before": BINS, "after": BINS})
    assert texts(figure) == ["before: ECE 0.0600", "after: ECE 0.0600"]
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 2, 2]
    assert len(figure.axes[1].patches) == 6


def test_cases_without_a_dice_are_not_drawn():
    quality = QualityCalibration(cases=2, spearman=1.0, low=0.5, high=1.0, slope=1.0, intercept=-0.1, error=0.0)
    dice = {"a": DicePair(0.9, 0.8), "b": DicePair(0.8, 0.7), "c": DicePair(NAN, 0.0)}
    axes = dice_scatter(dice, quality).axes[0]
    assert len(axes.collections[0].get_offsets()) == 2
    assert axes.lines[1].get_ydata() == pytest.approx([0.7, 0.8])


def test_nothing_to_draw_is_no_error():
    assert dice_scatter({}, None).axes[0].collections[0].get_offsets().size == 0
