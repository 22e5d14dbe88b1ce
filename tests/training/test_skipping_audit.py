"""Skipping is allowed only where no held-out case loses a labelled voxel, and says what that is worth."""

import numpy as np
import pytest

from attunet.data.preprocess import IGNORED
from attunet.training import skipping_audit
from attunet.training.skipping_audit import MARGINS, audit_skipping

SHAPE, COARSE = (64, 32, 16), (32, 16, 8)


class Case:
    """A stored case: its coarse image is the probability that the localizers will answer with."""

    def __init__(self, label, probability=None, annotated=None):
        self._label, self._probability, self.annotated = label, probability, annotated

    def label(self):
        return self._label

    def image(self):
        return self._probability[None]


def a_case(organ=(slice(8, 12),) * 3, found=(slice(4, 6),) * 3, *, value=1, certain=0.9, annotated=None):
    """A cube of a label, and where the localizer finds it, with what certainty."""
    label = np.zeros(SHAPE, np.uint8)
    label[organ] = value
    probability = np.zeros(COARSE, np.float32)
    probability[found] = certain
    return Case(label, annotated=annotated), Case(None, probability)


@pytest.fixture
def audit(tiny_plan, make_cascade, monkeypatch):
    def answer(_engines, plan, image):
        return np.concatenate([1 - image, *[image / len(plan.foreground)] * len(plan.foreground)])

    monkeypatch.setattr(skipping_audit, "locate", answer)
    labels = {"background": 0, "blob": 1, "other": 2}

    def run(*cases, **options):
        return audit_skipping((), make_cascade(tiny_plan(labels=labels)), cases, **options)

    return run


def test_what_is_found_is_enough_and_the_rest_is_skipped(audit):
    skipping = audit(*[a_case()] * 3)
    assert (skipping.used, skipping.cases, skipping.lost) == (True, 3, 0)
    assert skipping.skipped > 0.5
    assert skipping.margin == 2.0  # nothing is missing, and one voxel of the coarse grid more
    assert skipping.bound == pytest.approx(1 - 0.05 ** (1 / 3))


def test_the_margin_reaches_every_labelled_voxel(audit):
    missed = a_case(found=(slice(4, 6), slice(4, 6), slice(2, 4)))
    skipping = audit(a_case(), missed)
    assert skipping.used
    assert skipping.margin >= 2.0 * (2 + 1)  # two coarse voxels short, and one more


def test_the_threshold_reaches_what_was_hardly_found(audit):
    skipping = audit(a_case(), a_case(certain=0.04))
    assert skipping.used
    assert skipping.threshold <= 0.04


def test_skipping_is_off_when_a_case_is_lost_at_every_margin(audit):
    far = a_case(organ=(slice(60, 64), slice(0, 4), slice(0, 4)), found=(slice(0, 1),) * 3)
    skipping = audit(a_case(), far)
    assert (skipping.used, skipping.cases, skipping.lost) == (False, 2, 64)
    assert f"1 of 2 held-out cases have labelled voxels farther than {2 * MARGINS[-1]} mm" in skipping.reason
    assert skipping.bound == pytest.approx(0.9747, abs=1e-3)  # Clopper-Pearson, 1 of 2


def test_skipping_is_off_when_nothing_is_skipped(audit):
    skipping = audit(a_case(found=(slice(None),) * 3))
    assert not skipping.used
    assert skipping.reason == "only 0% of the windows could be skipped"


def test_a_case_in_which_nothing_is_found_loses_nothing_because_all_windows_are_run(audit):
    skipping = audit(*[a_case()] * 9, a_case(certain=0.0))
    assert skipping.used
    assert skipping.skipped < audit(*[a_case()] * 10).skipped


def test_ignored_voxels_and_labels_that_were_not_annotated_cannot_be_lost(audit):
    far = (slice(60, 64), slice(0, 4), slice(0, 4))
    fine, coarse = a_case()
    fine.label()[far] = IGNORED
    other, found = a_case(annotated=("blob",))
    other.label()[far] = 2
    assert audit((fine, coarse), (other, found)).used
    other.annotated = None
    assert not audit((fine, coarse), (other, found)).used


def test_cases_without_a_label_prove_nothing(audit):
    assert audit(a_case(), a_case(value=0)).cases == 1
    skipping = audit(a_case(value=0))
    assert (skipping.used, skipping.cases, skipping.bound) == (False, 0, 1.0)
    assert skipping.reason == "no held-out case has a label"


def test_training_cases_prove_nothing(audit):
    skipping = audit(a_case(), held_out=False)
    assert not skipping.used
    assert "no case was held out" in skipping.reason
