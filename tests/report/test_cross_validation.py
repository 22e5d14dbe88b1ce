import numpy as np
import pytest

from attunet.config import ComponentRules, Postprocessing, QualityCalibration
from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import summarize
from attunet.report.calibration import DicePair
from attunet.report.cases import CaseView
from attunet.report.cross_validation import write_cross_validation_report

LABELS = {"background": 0, "body": 1, "lesion": 7}


def masks(shift):
    reference, predicted = np.zeros((2, 12, 12, 6), np.uint8)
    for mask, start in ((reference, 2), (predicted, 2 + shift)):
        mask[start : start + 5, 2:8, 1:5] = 1
        mask[9, 2:8, 1:5] = 7
    return reference, predicted


def summary_of(shifts):
    cases = [CaseScores(f"<case{shift}>", score_case(*masks(shift), LABELS, (1.0, 1.0, 1.0))) for shift in shifts]
    return summarize(cases, LABELS)


@pytest.fixture
def write(tmp_path, make_plan_of):
    def run(postprocessing, reliability):
        path = tmp_path / "report.html"
        reference, predicted = masks(2)
        light = Volume(np.random.default_rng(0).random((1, 12, 12, 6)), np.eye(4))
        view = CaseView("<case2>", light, light.with_array(predicted[None]), light.with_array(reference[None]))
        write_cross_validation_report(
            path,
            plan=make_plan_of(),
            subtitle="two cases",
            summary=summary_of((1, 2)),
            postprocessed=summary_of((0, 1)),
            postprocessing=postprocessing,
            reliability=reliability,
            dice={"<case1>": DicePair(0.8, 0.9), "<case2>": DicePair(float("nan"), 0.7)},
            worst=["<case2>", "<case1>"],
            views=[view],
        )
        return path.read_text(encoding="utf-8")

    return run


def test_scores_reasons_and_worst_cases_are_shown(write):
    quality = QualityCalibration(cases=9, spearman=0.71, low=0.55, high=0.82, error=0.03)
    reasons = {"temperature": "because", "postprocessing body": "keep the largest: helps"}
    how = {"body": ComponentRules(largest_component=True)}
    page = write(Postprocessing(components=how, temperature=1.3, quality=quality, reasons=reasons), {})
    for text in ("rank correlation 0.71 (0.55 to 0.82)", "after post-processing", "keep the largest: helps", "lesion"):
        assert text in page
    assert "&lt;case2&gt;" in page
    assert "<case2>" not in page
    assert page.count("data:image/png") == 3


def test_intervals_are_shown_with_their_coverage(write, make_interval):
    page = write(Postprocessing(volume_intervals={"body": make_interval(folds=0.87)}), {})
    for text in ("body, ml", "1.800 to 2.200", "90%, 85%, 95%", "87%", "Volumes of the held-out cases"):
        assert text in page


def test_what_was_not_measured_is_left_out(write):
    page = write(Postprocessing(), {})
    assert "held-out cases inside them" not in page
    assert "Calibration error" not in page
    assert "Scores after" not in page
    assert "scores after" not in page
