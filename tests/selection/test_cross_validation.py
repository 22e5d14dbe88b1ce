import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from attunet.bundle import fold_folder, load_bundle, save_manifest, save_plan
from attunet.config import ComponentRules, Evidence
from attunet.data.folds import Split
from attunet.data.formats import read_label
from attunet.evaluation.paired import PairedGain
from attunet.evaluation.summary import Summary
from attunet.export.formats import export_openvino
from attunet.inference.segmenter import Segmenter
from attunet.nn import save_weights
from attunet.selection import cross_validation
from attunet.selection.cross_validation import cross_validate
from attunet.selection.operating_point import OperatingPoint
from attunet.selection.postprocessing import decide_rules

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folded(make_folded, tmp_path_factory):
    return make_folded(tmp_path_factory.mktemp("folded"))


@pytest.fixture(scope="module")
def found(folded):
    steps = []
    result = cross_validate(folded, device="cpu", progress=lambda done, every: steps.append((done, every)))
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)
    return result


def test_every_case_is_scored_once_and_all_files_are_written(found, folded):
    assert [case.case for case in found.summary.cases] == [f"case{index}" for index in (0, 2, 4, 1, 3, 5)]
    assert found.folder == folded / "cross_validation"
    assert Summary.read(found.folder / "summary.json").labels == {"blob": 1}
    assert len(Summary.read(found.folder / "summary_postprocessed.json").cases) == 6
    assert found.report.read_text(encoding="utf-8").count("data:image/png") >= 5
    assert len(list((found.folder / "masks").iterdir())) == 6
    assert not list(folded.rglob(".attunet-*"))


def test_the_model_applies_the_result(found, folded):
    assert load_bundle(folded).postprocessing == found.postprocessing
    decided = {
        "mirroring",
        "operating point",
        "postprocessing blob",
        "temperature",
        "quality",
        "folds averaged",
        "Dice interval",
        "volume interval blob",
    }
    assert set(found.postprocessing.reasons) == decided
    assert Segmenter.load(folded, device="cpu").members[0].temperature == found.postprocessing.temperature


def test_six_cases_are_too_few_for_intervals(found):
    assert (found.postprocessing.volume_intervals, found.postprocessing.dice_interval) == ({}, None)
    assert "at least 20 are needed" in found.postprocessing.reasons["volume interval blob"]


def test_twenty_cases_give_intervals_of_the_post_processed_volumes(make_folded, tmp_path):
    run = make_folded(tmp_path, cases=20)
    found = cross_validate(run, device="cpu")
    interval = found.postprocessing.volume_intervals["blob"]
    predicted = [case.scores["blob"].counts.n_pred for case in found.postprocessed.cases]
    assert interval.cases + interval.not_predicted == 20
    assert interval.not_predicted == predicted.count(0)
    assert load_bundle(run).postprocessing.volume_intervals == {"blob": interval}


def test_cases_and_folds_that_decided_are_recorded(found):
    assert found.postprocessing.evidence == Evidence(cases=6, folds=(0, 1))
    assert found.postprocessing.evidence.text == "6 held-out cases of 2 folds"
    one, every = found.postprocessing.prediction.measured
    assert (one.folds, one.copies, one.cases, one.used) == (1, 1, 6, False)
    assert (every.folds, every.dice, every.cases, every.used) == (2, None, 0, True)


def test_a_single_fold_keeps_its_caution(make_folded, tmp_path, monkeypatch):
    """Its few cases decide together with the reference masks of all its cases, as they do after its training."""
    run = make_folded(tmp_path)
    shutil.rmtree(fold_folder(run, 1))
    save_manifest(run)
    asked = []

    def decide(components, labels, references):
        asked.append(references.altered("blob", ComponentRules()))
        return decide_rules(components, labels, references)

    monkeypatch.setattr(cross_validation, "decide_rules", decide)
    found = cross_validate(run, device="cpu")
    assert found.postprocessing.evidence == Evidence(cases=3, folds=(0,))
    assert asked == [(0, 6)]
    assert "fewer than" not in found.postprocessing.reasons["postprocessing blob"]


def test_mirroring_is_measured_and_every_result_follows_the_decision(make_folded, tmp_path):
    """Networks with random weights: whatever is decided, scores and masks are those of that way to predict."""
    run = make_folded(tmp_path)
    save_plan(load_bundle(run).plan.model_copy(update={"mirror_axes": (0, 1)}), run)
    save_manifest(run)
    found = cross_validate(run, device="cpu")
    chosen = found.postprocessing.prediction
    plain, mirrored, every = chosen.measured
    assert [(row.copies, row.folds) for row in (plain, mirrored)] == [(1, 1), (4, 1)]
    assert plain.seconds > 0
    assert mirrored.seconds > 0
    assert chosen.mirror is not None
    assert (every.folds, every.copies) == (2, 4 if chosen.mirror else 1)
    row = mirrored if chosen.mirror else plain
    assert row.dice == pytest.approx(found.summary.foreground_mean(), abs=1e-5)
    case, mask = found.summary.cases[0], Path(found.summary.cases[0].prediction_file)
    assert mask.is_relative_to(run / "cross_validation" / "without_mirroring") is not chosen.mirror
    image = load_bundle(run).root.parent / "blobs" / "images" / f"{case.case}.nii"
    fold = Segmenter.load(run, folds=[0], device="cpu", raw=True)
    own = fold.predict(image, mirror=chosen.mirror).segmentation
    assert np.array_equal(read_label(mask).array, own.array)
    text = found.report.read_text(encoding="utf-8")
    assert "Dice against seconds" in text
    assert "decided on 6 held-out cases of 2 folds" in text


BIAS = {"blob": -100.0}
"""At which every mask is empty."""


@dataclass(frozen=True, kw_only=True)
class Promising(OperatingPoint):
    """An operating point whose estimate is good; the gain of whole masks is replaced by another one."""

    found: float

    def measured(self, before, after):
        assert after == [0.0] * 6, "masks at the operating point"
        assert len(before) == 6
        return replace(self, gain=PairedGain(self.found, self.found, self.found, 6))


@pytest.mark.parametrize(("found", "bias"), [(0.1, BIAS), (-0.1, {})])
def test_settings_and_scores_follow_the_gain_of_whole_masks(found, bias, make_folded, tmp_path, monkeypatch):
    estimated = PairedGain(0.1, 0.1, 0.1, 6)
    point = Promising(found=found, fitted=BIAS, by_fold={0: BIAS, 1: BIAS}, gain=estimated)
    monkeypatch.setattr(cross_validation, "choose_operating_point", lambda *_: point)
    run = make_folded(tmp_path)
    done = cross_validate(run, device="cpu")
    assert load_bundle(run).postprocessing.logit_bias == bias
    predicted = [case.scores["blob"].counts.n_pred for case in done.postprocessed.cases]
    assert any(predicted) is not bool(bias)
    assert any(case.scores["blob"].counts.n_pred for case in done.summary.cases)
    facts = done.report.read_text(encoding="utf-8")
    assert ("Operating point" in facts) is bool(bias)


def test_the_second_time_gives_the_same(found, folded):
    before = json.loads((folded / "postprocessing.json").read_text())
    again = cross_validate(folded, device="cpu")
    assert json.loads((folded / "postprocessing.json").read_text()) == before
    assert again.dice == found.dice


def test_accepted_rules_never_lower_the_mean_dice(found):
    if found.postprocessing.components or found.postprocessing.logit_bias:
        assert found.postprocessed.foreground_mean() > found.summary.foreground_mean()
    else:
        assert found.postprocessed is found.summary


def test_regions_and_partly_labelled_cases_are_scored(make_folded, make_network, tmp_path):
    """Two nested regions; in one case only the outer one is annotated."""
    run = make_folded(tmp_path)
    plan = load_bundle(run).plan
    network = plan.network.model_copy(update={"out_channels": 2})
    labels, regions = {"background": 0, "whole": 1, "core": 2}, {"whole": (1, 2), "core": (2,)}
    plan = plan.model_copy(update={"labels": labels, "regions": regions, "network": network})
    save_plan(plan, run)
    for fold in (0, 1):
        model = make_network(plan, seed=fold)
        save_weights(model, fold_folder(run, fold) / "weights.safetensors")
        export_openvino(model, plan, fold_folder(run, fold) / "graph.xml")
    save_manifest(run)
    annotated = {1: "whole=1;core=2", 3: "whole=1"}
    table = ["image,label,labels", *(f"images/case{i}.nii,labels/case{i}.nii,{annotated.get(i, '')}" for i in range(6))]
    dataset = tmp_path / "blobs" / "cases.csv"
    dataset.write_text("\n".join(table) + "\n")
    for fold in (0, 1):
        folder = fold_folder(run, fold)
        replace(Split.read(folder), dataset=dataset).write(folder)
    found = cross_validate(run, device="cpu")
    scored = {case.case: list(case.scores) for case in found.summary.cases}
    assert scored.pop("case3") == ["whole"]
    assert set(map(tuple, scored.values())) == {("whole", "core")}


def test_the_worst_come_first(found):
    worst = [found.dice[case].measured for case in found.worst(3)]
    assert worst == sorted(pair.measured for pair in found.dice.values())[:3]
