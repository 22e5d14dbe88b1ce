"""Intervals in a report: widths and coverage as a table, held-out volumes inside and outside the band."""

import numpy as np

from attunet.config import Postprocessing
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import summarize
from attunet.evaluation.volumes import VolumePair
from attunet.report.html import Picture, Table
from attunet.report.intervals import interval_sections, volume_scatter


def summary_of(labels):
    reference, prediction = np.zeros((2, 6, 6, 6), np.uint8)
    for value in labels.values():
        reference[value % 6, :3], prediction[value % 6, :4] = value, value
    return summarize([CaseScores("case", score_case(reference, prediction, labels, (10.0, 10.0, 10.0)))], labels)


def test_a_row_for_each_volume_and_the_dice(make_interval):
    learnt = {"volume_intervals": {"organ": make_interval()}, "dice_interval": make_interval(typical=0.8, limit=1.0)}
    table, picture = interval_sections(Postprocessing(**learnt), summary_of({"organ": 1}))
    assert isinstance(table, Table)
    assert isinstance(picture, Picture)
    assert [row[0] for row in table.rows] == ["organ, ml", "predicted Dice"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][-1] == "–"  # a single fold


def test_without_intervals_nothing_is_shown(make_interval):
    assert interval_sections(Postprocessing(), summary_of({"organ": 1})) == []
    only = interval_sections(Postprocessing(dice_interval=make_interval(limit=1.0)), summary_of({"organ": 1}))
    assert [section.kind for section in only] == ["table"]


def test_cases_outside_the_band_have_another_colour(make_interval):
    pairs = [VolumePair(0, 10.0, 10.5), VolumePair(1, 10.0, 12.0), VolumePair(2, 0.0, 3.0)]
    (axes,) = volume_scatter({"organ": make_interval()}, {"organ": pairs}).axes
    points = axes.collections[-1]
    assert len(points.get_offsets()) == 2  # nothing was predicted in the third
    first, second = points.get_facecolors()
    assert not np.array_equal(first, second)


def test_six_of_many_labels_are_drawn_and_the_caption_says_so(make_interval):
    labels = {f"label{value}": value for value in range(1, 9)}
    many = Postprocessing(volume_intervals={label: make_interval() for label in labels})
    table, picture = interval_sections(many, summary_of(labels))
    assert len(table.rows) == 8
    assert picture.caption.endswith("the first 6 of 8 labels")
    assert len(picture.figure.axes) == 6
