from math import nan

import pytest

from attunet.report.attention import ablation_bars, agreement_scatter, faithfulness_curves, score_bars
from attunet.report.theme import png

SOURCES = ("trained", "shuffled weights", "other cases")


def legend(figure):
    return [text.get_text() for entry in figure.legends for text in entry.get_texts()]


def names_at_the_left(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_a_bar_for_each_replacement_grouped_by_gate():
    rows = [
        ("level2", "ones", -0.01, -0.02, 0.0),
        ("level2", "zeros", -0.3, -0.4, -0.2),
        ("level3", "ones", 0.0, nan, nan),
        ("level3", "zeros", nan, nan, nan),
    ]
    figure = ablation_bars(rows)
    (axes,) = figure.axes
    assert names_at_the_left(axes) == ["level2", "level3"]
    assert legend(figure) == ["ones", "zeros"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([-0.01, 0.0, -0.3])
    assert axes.patches[0].get_facecolor() == axes.patches[1].get_facecolor() != axes.patches[2].get_facecolor()
    intervals = [sorted(line.get_xdata()) for line in axes.lines[:-1]]
    assert intervals == [[-0.02, 0.0], [-0.4, -0.2]]


def test_the_lift_stands_next_to_its_nulls():
    means = dict(zip(SOURCES, (3.0, 1.0, 1.2), strict=True))
    rows = [("level2", "liver", source, mean, 0.9 * mean, 1.1 * mean) for source, mean in means.items()]
    figure = score_bars([*rows, ("level3", "liver", "trained", nan, nan, nan)])
    (axes,) = figure.axes
    assert names_at_the_left(axes) == ["level2  liver", "level3  liver"]
    assert legend(figure) == list(SOURCES)
    assert axes.get_xscale() == "log"
    assert list(axes.lines[0].get_xdata()) == [1.0, 1.0]
    assert [points.get_offsets()[0][0] for points in axes.collections] == [3.0, 1.0, 1.2]
    low, high = axes.get_xlim()
    assert low < 0.8
    assert high > 3.3


def test_of_many_groups_the_first_are_drawn_and_the_title_says_so():
    rows = [("level2", f"label {number}", "trained", 2.0, 1.0, 3.0) for number in range(61)]
    (axes,) = score_bars(rows).axes
    assert len(names_at_the_left(axes)) == 30
    assert "first 30 of 61" in axes.get_title(loc="left")


def test_curves_of_dice_over_the_share_of_voxels():
    figure = faithfulness_curves({"deletion": [(0.0, 0.9), (0.5, nan), (1.0, 0.0)], "random": [(0.0, 0.9), (1.0, 0.5)]})
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.9, 0.0], [0.9, 0.5]]
    assert legend(figure) == ["deletion", "random"]


def test_cases_by_score_and_dice():
    figure = agreement_scatter({"a": (0.8, 0.9), "b": (0.4, 0.5), "c": (nan, 0.5)}, "Spearman 1.00")
    (axes,) = figure.axes
    assert axes.collections[0].get_offsets().tolist() == [[0.8, 0.9], [0.4, 0.5]]
    assert "Spearman 1.00" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("draw", [ablation_bars, score_bars])
def test_no_rows_can_be_drawn(draw):
    assert png(draw([]), dpi=30)


@pytest.mark.parametrize("draw", [faithfulness_curves, agreement_scatter])
def test_no_cases_can_be_drawn(draw):
    assert png(draw({}), dpi=30)
