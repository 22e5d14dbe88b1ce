"""Previews and agreement of the predictions of a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.explanation.agreement import attention_agreement
from attunet.explanation.prediction_hook import PredictionHook
from attunet.inference.prediction import Prediction

GRID = Volume(np.random.default_rng(0).normal(size=(1, 12, 10, 6)).astype(np.float32), np.eye(4))


@pytest.fixture
def prediction():
    mask = np.zeros(GRID.array.shape, np.uint8)
    mask[:, 3:7, 3:7, 2:5] = 3
    alpha = GRID.with_array(np.where(mask, 0.9, 0.1).astype(np.float32))
    return Prediction("a", GRID, GRID.with_array(mask), {"background": 0, "organ": 3}, None, {"level2": alpha}, "test")


def hook(folder, *, agreement=False, attention=False):
    return PredictionHook(folder, agreement=agreement, attention=attention, modality="ct")


def test_the_preview_shows_the_attention_only_when_it_is_requested(prediction, tmp_path):
    for name, attention in (("with", True), ("without", False)):
        assert hook(tmp_path / name, attention=attention)(prediction) == {"attention_agreement": None}
    hook(tmp_path / "none")(replace(prediction, attention={}))
    shown, plain, none = ((tmp_path / name / "a.png").read_bytes() for name in ("with", "without", "none"))
    assert plain == none != shown


def test_the_agreement_is_recorded_without_a_drawing(prediction, tmp_path):
    recorded = hook(None, agreement=True)(prediction)
    assert recorded == {"attention_agreement": attention_agreement(prediction).to_json()}
    assert recorded["attention_agreement"]["score"] == 1
    assert not list(tmp_path.iterdir())
