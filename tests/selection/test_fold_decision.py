"""Decisions on the validation cases of a single fold: hand-made masks stand in for a network's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from attunet.config import ComponentRules, Evidence
from attunet.data.cases import read_case, read_dataset
from attunet.inference.evaluation import EvaluatedCase, LoadedCase
from attunet.selection import fold_decision
from attunet.selection.fold_decision import FoldDecision, ReferenceMasks


@pytest.fixture(scope="module")
def cases(write_blobs, tmp_path_factory):
    """Six labelled volumes with one ball each."""
    return read_dataset(write_blobs(tmp_path_factory.mktemp("data") / "blobs", cases=6)).labelled


def predicted(case, plan, *, alarm=True, seconds=8.0):
    """The reference as a prediction, with a far false positive of a few voxels."""
    image, reference = read_case(case)
    mask = reference.array.copy()
    if alarm:
        corner = mask[0, :3, :3, :3]
        corner[corner == 0] = 1
    prediction = SimpleNamespace(segmentation=reference.with_array(mask))
    return EvaluatedCase(LoadedCase(case, image, reference), prediction, seconds, plan)


@pytest.fixture
def decide(tiny_plan, cases, monkeypatch):
    """Decide on cases that are evaluated with a false alarm and, without mirroring, with or without one."""

    def run(count=4, *, references=cases, plain_alarm=True, mirror_axes=(0, 1)):
        plan = tiny_plan(mirror_axes=mirror_axes)

        def without_mirroring(segmenter, loaded, options):
            assert options.prediction.mirror is False
            return predicted(loaded.case, plan, alarm=plain_alarm, seconds=1.0)

        monkeypatch.setattr(fold_decision, "evaluate_case", without_mirroring)
        decision = FoldDecision(SimpleNamespace(plan=plan), ReferenceMasks(references, plan))
        for case in cases[:count]:
            assert decision.observe(predicted(case, plan)).case == case.id
        return decision.decide(3)

    return run


def test_a_far_false_positive_is_removed_after_one_fold(decide):
    decided = decide()
    assert decided.components.keys() == {"blob"}
    assert "over 4 cases" in decided.reasons["postprocessing blob"]
    assert "alter 0 of 6 reference masks" in decided.reasons["postprocessing blob"]
    assert decided.evidence == Evidence(cases=4, folds=(3,))
    assert decided.evidence.text == "4 validation cases of fold 3"
    assert decided.temperature == 1


def test_four_cases_do_not_decide_about_mirroring(decide):
    choice = decide(plain_alarm=False).prediction
    assert choice.mirror is None
    plain, mirrored = choice.measured
    assert (plain.seconds, mirrored.seconds) == (1.0, 8.0)
    assert (plain.dice, plain.copies, mirrored.copies) == (1.0, 1, 4)
    assert mirrored.used


def test_six_cases_do_and_the_rules_are_those_of_the_chosen_way(decide):
    decided = decide(6, plain_alarm=False)
    assert decided.prediction.mirror is False
    assert decided.components == {}  # the masks without mirrored copies are right


def test_too_few_references_decide_nothing(decide, cases):
    assert decide(references=cases[:4]).components == {}


def test_a_plan_without_mirroring_is_not_predicted_again(decide):
    decided = decide(mirror_axes=())
    assert [row.copies for row in decided.prediction.measured] == [1]
    assert decided.components != {}


def test_rules_that_change_reference_masks_are_counted(tiny_plan, write_blobs, tmp_path):
    from nibabel import Nifti1Image, save

    folder = write_blobs(tmp_path / "blobs", cases=6)
    mask = np.zeros((24, 24, 16), np.uint8)
    mask[2:8, 2:8, 2:8] = mask[12:18, 12:18, 2:8] = 1  # a patient with two lesions
    save(Nifti1Image(mask, np.eye(4)), folder / "labels" / "case2.nii")
    (folder / "labels" / "case4.nii").write_bytes(b"lost")
    references = ReferenceMasks(read_dataset(folder).labelled, tiny_plan())
    assert references.altered("blob", ComponentRules(largest_component=True)) == (1, 5)
    assert references.altered("blob", ComponentRules(minimum_ml=0.001)) == (0, 5)
    assert references.altered("blob", ComponentRules(minimum_ml=1.0)) == (5, 5)
