"""The report of a trained model."""

from __future__ import annotations

import json
import re

import nibabel
import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import summarize
from attunet.report.cases import CaseView
from attunet.report.training import read_history, write_training_report

LABELS = {"background": 0, "body": 1, "lesion": 7}


def case_of(name, shift, *, lesion=True):
    """A case whose masks lie `shift` voxels apart."""
    truth, guess = np.zeros((12, 8, 8), np.uint8), np.zeros((12, 8, 8), np.uint8)
    truth[2:8], guess[2 + shift : 8 + shift] = 1, 1
    if lesion:
        truth[0, :4], guess[0, :4] = 7, 7
    return CaseScores(name, score_case(truth, guess, LABELS, (1.0, 1.0, 1.0)))


def summary_of(**shifts):
    return summarize([case_of(name, shift) for name, shift in shifts.items()], LABELS)


def test_the_history_is_read_without_its_gaps(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss,dice\n0,1.5,\n1,1.25,0.5\n")
    assert read_history(tmp_path / "log.csv") == [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": 1.25, "dice": 0.5}]


@pytest.fixture
def view():
    image = Volume(np.random.default_rng(0).normal(size=(1, 12, 8, 8)), np.eye(4))
    mask = image.with_array((image.array > 1).astype(np.uint8))
    alpha = image.with_array(np.full(image.array.shape, 0.5, np.float32))
    return CaseView("case <1>", image, mask, reference=mask, attention={"level2": alpha})


def report(tmp_path, plan, summary, history=(), views=(), attention_frames=None):
    path = tmp_path / "report.html"
    write_training_report(
        path,
        title="Title",
        subtitle="Subtitle",
        plan=plan,
        history=history,
        summary=summary,
        views=views,
        attention_frames=attention_frames,
    )
    return path.read_text(encoding="utf-8")


def test_scores_curves_cases_and_reasons_are_all_there(make_plan_of, view, tmp_path):
    history = [
        {"epoch": 1, "step": 50, "minutes": 0.5, "loss": 1.5},
        {"epoch": 2, "step": 100, "minutes": 1.0, "loss": 1.0, "dice": 0.8, "dice_body": 0.7, "dice_lesion": 0.9},
    ]
    page = report(tmp_path, make_plan_of(), summary_of(a=0, b=2), history, [view])
    for text in (
        "1.0 min, 100 steps",
        "body",
        "lesion",
        "mean",
        "small enough for a test",
        "case &lt;1&gt;",
        "gate: grid",
    ):
        assert text in page
    assert len(re.findall(r"<img ", page)) == 3


def test_the_epoch_animation_is_shown_where_there_is_one(make_plan_of, tmp_path):
    folder = tmp_path / "attention"
    assert "<script>" not in report(tmp_path, make_plan_of(), summary_of(a=0), attention_frames=folder)
    folder.mkdir()
    for name, shape in (("image", (8, 6, 4)), ("label", (8, 6, 4)), ("level2", (4, 3, 2, 2))):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), folder / f"a_{name}.nii.gz")
    probe = {"case": "a", "gates": ["level2"], "image": "a_image.nii.gz", "label": "a_label.nii.gz"}
    (folder / "frames.json").write_text(json.dumps({"frames": [{"epoch": 1}, {"epoch": 2}], "probes": [probe]}))
    page = report(tmp_path, make_plan_of(), summary_of(a=0), attention_frames=folder)
    assert "<output>epoch 2</output>" in page
    assert (tmp_path / "report_figures" / "attention_frames_1_001.svg").exists()


def test_a_model_can_be_reported_before_it_learnt_anything(make_plan_of, tmp_path):
    page = report(tmp_path, make_plan_of(gate=None), summarize([case_of("a", 1, lesion=False)], LABELS))
    assert "gate: none" in page
    assert "–" in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_a_model_without_a_single_score_is_no_error(make_plan_of, tmp_path):
    page = report(tmp_path, make_plan_of(), summarize([], LABELS))
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)
