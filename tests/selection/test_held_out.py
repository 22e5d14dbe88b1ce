"""Results of held-out cases: as predictor and scorer give them, and never computed twice for the same inputs."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from math import isnan

import nibabel
import numpy as np
import pytest

from attunet.bundle import fold_folder, held_out_cases, save_manifest, save_postprocessing
from attunet.bundle.execution import Int8, write_int8
from attunet.config import ComponentRules, Postprocessing
from attunet.data.cases import read_case
from attunet.evaluation.scores import score_case
from attunet.inference.engines import precision
from attunet.inference.segmenter import Segmenter
from attunet.selection.held_out import evaluate_held_out
from attunet.selection.held_out_cache import HeldOutCache, biased_cache
from attunet.selection.samples import Sample


@pytest.fixture
def predictions(monkeypatch):
    """Counts them."""
    counted = []
    predict = Segmenter.predict
    monkeypatch.setattr(Segmenter, "predict", lambda *args, **more: counted.append(1) or predict(*args, **more))
    return counted


@pytest.fixture
def evaluate(folded, tmp_path):
    """Results of cases, of all held-out ones by default."""

    def run(cases=None, *, device="cpu", outputs=False):
        cache = HeldOutCache(records=tmp_path / "records", outputs=tmp_path / "outputs" if outputs else None)
        return [*evaluate_held_out(folded, cases or held_out_cases(folded)[0], cache, device=device)]

    return run


def test_the_scores_are_those_of_the_plain_fold(folded, evaluate):
    save_postprocessing(Postprocessing(components={"blob": ComponentRules(minimum_ml=1000)}), folded)
    case = held_out_cases(folded)[0][-1]
    (result,) = evaluate([case])
    image, label = read_case(case.case)
    mask = Segmenter.load(folded, folds=[case.fold], device="cpu", raw=True).predict(image).segmentation
    assert result.scores.scores == score_case(label.array[0], mask.array[0], {"blob": 1}, image.spacing)
    assert result.scores.case == case.case.id
    assert result.seconds > 0
    assert result.engine.startswith("openvino cpu")
    assert result.mask is result.sample is None


def test_a_result_is_read_and_not_predicted_again(evaluate, predictions):
    first, second = evaluate(), evaluate()
    assert len(predictions) == len(first) == 6
    assert second == first


def test_a_result_without_a_new_metric_is_computed_again(evaluate, predictions, tmp_path):
    case = evaluate()[0].case
    path = tmp_path / "records" / f"{case.case.id}.json"
    content = json.loads(path.read_text())
    for metrics in content["scores"]["metrics"].values():
        del metrics["HD95"]
    path.write_text(json.dumps(content))
    evaluate([case])
    assert len(predictions) == 7


@pytest.mark.parametrize("change", ["weights", "label", "in place", "annotated", "device", "file"])
def test_changed_inputs_are_predicted_again(change, folded, evaluate, predictions, tmp_path):
    case = held_out_cases(folded)[0][0]
    evaluate([case])
    device = "cpu"
    if change == "weights":
        (folded / "fold_0" / "weights.safetensors").write_bytes(b"other")
        save_manifest(folded)
    elif change == "label":
        os.utime(case.case.label, ns=(1, 1))
    elif change == "in place":
        times = case.case.label.stat().st_atime_ns, case.case.label.stat().st_mtime_ns
        content = bytearray(case.case.label.read_bytes())
        content[8] ^= 1  # of the header of gzip
        case.case.label.write_bytes(content)
        os.utime(case.case.label, ns=times)
    elif change == "annotated":
        case = replace(case, case=replace(case.case, annotated=()))
    elif change == "device":
        device = "auto"
    else:
        (tmp_path / "records" / f"{case.case.id}.json").write_text("{")
    evaluate([case], device=device)
    assert len(predictions) == 2


def test_a_result_in_another_precision_is_not_reused(folded, evaluate, predictions, monkeypatch):
    case = held_out_cases(folded)[0][0]
    fold = fold_folder(folded, case.fold)
    plain = evaluate([case])
    for end in ("xml", "bin"):
        shutil.copyfile(fold / f"graph.{end}", fold / f"int8.{end}")
    write_int8(Int8(kept=True, reason="kept", speedup=1.6, compared_with="openvino cpu bf16"), fold)
    save_manifest(folded)
    monkeypatch.setattr(precision, "cpu_int8", lambda: None)
    assert evaluate([case]) == plain
    assert len(predictions) == 1, "a CPU that cannot compute the graph does not need it"
    monkeypatch.setattr(precision, "cpu_int8", lambda: "avx512_vnni")
    evaluate([case])
    assert len(predictions) == 2


def test_each_saved_mask_is_what_its_own_fold_predicts(folded, evaluate):
    for result in evaluate(outputs=True)[::2]:
        own = Segmenter.load(folded, folds=[result.case.fold], device="cpu", raw=True).predict(result.case.case)
        assert np.array_equal(np.asarray(nibabel.load(result.mask).dataobj), own.segmentation.array[0])
        sample = Sample.load(result.sample)
        assert np.allclose(sample.expected_at(1.0), own.expected_dice["blob"], atol=1e-4)
        assert result.scores.prediction_file == str(result.mask)


def test_saved_outputs_are_made_again_only_after_more_training(folded, evaluate):
    first, *others = evaluate(outputs=True)
    times = {result.scores.case: result.sample.stat().st_mtime_ns for result in others}
    first.mask.unlink()
    evaluate(outputs=True, device="auto")
    assert first.mask.exists()
    assert {result.scores.case: result.sample.stat().st_mtime_ns for result in others} == times
    for name in ("weights.safetensors", "graph.xml", "graph.bin"):
        shutil.copy(fold_folder(folded, 0) / name, fold_folder(folded, 1) / name)
    save_manifest(folded)
    evaluate(outputs=True)
    again = {result.scores.case for result in others if result.sample.stat().st_mtime_ns != times[result.scores.case]}
    assert again == {"case1", "case3", "case5"}


def test_a_changed_mask_is_made_again_and_a_touched_case_is_not(evaluate):
    first, second, *_ = evaluate(outputs=True)
    second.case.case.label.chmod(0o600)
    before = first.mask.read_bytes()
    first.mask.write_bytes(second.mask.read_bytes())
    times = second.sample.stat().st_mtime_ns
    evaluate(outputs=True)
    assert first.mask.read_bytes() == before
    assert second.sample.stat().st_mtime_ns == times


def test_a_broken_sample_is_made_again(evaluate):
    first = evaluate(outputs=True)[0]
    first.sample.write_bytes(b"half")
    evaluate(outputs=True)
    assert Sample.load(first.sample) is not None


def test_outputs_of_earlier_versions_are_used_while_they_are_newer_than_the_case(evaluate, tmp_path):
    first, second, *_ = evaluate(outputs=True)
    shutil.rmtree(tmp_path / "records")
    times = [result.sample.stat().st_mtime_ns for result in (first, second)]
    os.utime(second.case.case.label, ns=(2 * times[1], 2 * times[1]))
    again = evaluate(outputs=True)
    assert [result.sample.stat().st_mtime_ns == time for result, time in zip(again, times, strict=False)] == [
        True,
        False,
    ]
    assert again[0].scores == first.scores
    assert isnan(again[0].seconds)
    assert json.loads((tmp_path / "records" / "case0.json").read_text())["seconds"] is None
    assert evaluate(outputs=True)[0].scores == first.scores


def test_each_fold_predicts_at_its_own_operating_point(folded, tmp_path):
    cases = held_out_cases(folded)[0]
    chosen = cases[0].fold
    folder = tmp_path / "cross_validation"
    empty = biased_cache(folder, mirror=True, biases={chosen: {"blob": -100.0}})
    masks = {}
    for result in evaluate_held_out(folded, cases, empty, device="cpu"):
        masks[result.case.case.id] = np.asarray(nibabel.load(result.mask).dataobj)
    plain = Segmenter.load(folded, folds=[cases[-1].fold], device="cpu", raw=True)
    assert not any(masks[entry.case.id].any() for entry in cases if entry.fold == chosen)
    expected = plain.predict(cases[-1].case).segmentation.array[0]
    assert cases[-1].fold != chosen
    np.testing.assert_array_equal(masks[cases[-1].case.id], expected)

    full = biased_cache(folder, mirror=True, biases={chosen: {"blob": 100.0}})
    (again,) = evaluate_held_out(folded, cases[:1], full, device="cpu")
    assert np.asarray(nibabel.load(again.mask).dataobj).all(), "a result at another bias is not reused"

    for record in empty.records.iterdir():
        record.unlink()  # as after an interruption between a mask and its record
    (again,) = evaluate_held_out(folded, cases[:1], empty, device="cpu")
    assert not np.asarray(nibabel.load(again.mask).dataobj).any(), "nor a mask whose bias was not recorded"


def test_predictions_use_the_operating_point_of_the_model(folded):
    case = held_out_cases(folded)[0][0].case
    save_postprocessing(Postprocessing(logit_bias={"blob": -100.0}), folded)
    assert not Segmenter.load(folded, device="cpu").predict(case).segmentation.array.any()
    assert Segmenter.load(folded, device="cpu").members[0].bias == (0.0, -100.0)
