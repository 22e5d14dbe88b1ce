"""The air audit: skipping is allowed if nothing is lost, otherwise refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from attunet.config import Normalization, Preprocessing
from attunet.data.cases import read_dataset
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter
from attunet.training.air_audit import audit_air, with_air


class Threshold:
    """Finds what is bright."""

    name, batch = "threshold", 2

    def __call__(self, patches):
        logits = np.where(patches > 50, 5.0, -5.0).astype(np.float32)
        return EngineOutput(np.concatenate([-logits, logits], axis=1), {})


@pytest.fixture
def cases(tmp_path):
    """A long box with an organ in one half and air in the other, which may hold a label, too."""

    def write(in_air=False):
        for index in range(2):
            random = np.random.default_rng(index)
            image, label = random.uniform(0, 1, (64, 16, 8)).astype(np.float32), np.zeros((64, 16, 8), np.uint8)
            image[20:28, 4:12], label[20:28, 4:12] = 100, 1
            if in_air:
                label[50:54, 4:12] = 1
            for kind, array in (("images", image), ("labels", label)):
                (tmp_path / kind).mkdir(exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / kind / f"case{index}.nii")
        return read_dataset(tmp_path).cases

    return write


@pytest.fixture
def segmenter(tiny_plan):
    none = Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(Normalization(kind="none"),), crop_to_content=False)
    return Segmenter((Member("one", tiny_plan(preprocessing=none), (Threshold(),)),))


def test_air_is_left_out_where_nothing_is_lost(segmenter, cases):
    air = audit_air(segmenter, cases())
    assert air.used
    assert air.lost == 0
    assert air.level == pytest.approx(50, abs=1)  # half of what the organ's windows reach
    assert (air.cases, air.windows) == (2, 2 * 7 * 1)
    assert air.skipped == 2 * 4
    assert with_air(segmenter, air).members[0].air == air.level


def test_a_label_that_fewer_windows_lose_turns_it_off(segmenter, cases):
    air = audit_air(segmenter, cases(), safety=1.01)  # a threshold that even organs stay below
    assert air.skipped
    assert air.lost
    assert not air.used
    assert with_air(segmenter, air).members[0].air is None


def test_labels_in_air_leave_nothing_out(segmenter, cases):
    air = audit_air(segmenter, cases(in_air=True))
    assert air.level == pytest.approx(0.5, abs=0.1)
    assert (air.skipped, air.used) == (0, False)


def test_no_labels_or_cases_teach_nothing(segmenter):
    air = audit_air(segmenter, [])
    assert (air.used, air.cases, air.level) == (False, 0, 0.0)
