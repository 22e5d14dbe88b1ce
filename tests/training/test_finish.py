import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.config import Evidence, Postprocessing
from attunet.errors import AttunetError, BundleError
from attunet.evaluation.summary import Summary
from attunet.inference.segmenter import Segmenter
from attunet.training.callbacks.history import History
from attunet.training.callbacks.schedule import Schedule
from attunet.training.finish import finish_fold, finished_fold
from attunet.training.run_folder import FoldPaths


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def paths_of(run):
    return FoldPaths(run / "fold_0")


def test_metrics_are_those_of_the_predictor_that_users_run(run, blobs):
    summary = Summary.read(paths_of(run).metrics)
    assert len(summary.cases) == 2
    segmenter = Segmenter.load(run, device="cpu")
    for scores in summary.cases:
        case = next(case for case in blobs.cases if case.id == scores.case)
        assert scores.reference_file == str(case.label)
        predicted = segmenter.predict(case).segmentation.array
        assert scores.scores["blob"].counts.n_pred == np.count_nonzero(predicted)


def test_a_finished_fold_is_known_by_its_result(run):
    result = finished_fold(run, 0, paths_of(run))
    assert result.trained is False
    assert result.summary.to_json() == paths_of(run).metrics.read_text()


def test_a_fold_is_not_finished_while_anything_is_missing_or_older_than_the_best_weights(run):
    paths = paths_of(run)
    assert finished_fold(run, 1, FoldPaths(run / "fold_1")) is None
    weights = paths.best.read_bytes()
    paths.best.write_bytes(weights[:-4] + bytes(4))
    assert finished_fold(run, 0, paths) is None
    paths.best.write_bytes(weights)
    assert finished_fold(run, 0, paths) is not None
    paths.metrics.unlink()
    assert finished_fold(run, 0, paths) is None


def test_finishing_again_replaces_what_was_there(train, blobs, tiny_plan, tiny_config, tmp_path):
    run = tmp_path / "run"
    train(case_images=True)
    paths = paths_of(run)
    sums = json.loads((run / "manifest.json").read_text())["sha256"]
    paths.curves.unlink()
    paths.weights.write_bytes(b"changed")
    with pytest.raises(BundleError):
        load_bundle(run)
    history = History(Schedule(tiny_config()), paths)
    history.rows = [{"epoch": 0.0, "step": 3.0, "minutes": 0.1, "learning_rate": 0.1, "loss": 1.0}]
    calls = []
    result = finish_fold(tiny_plan(), run, 0, history, blobs.cases[:1], advance=lambda: calls.append(1))
    assert load_bundle(run).folds[0].weights == paths.weights
    assert paths.curves.read_bytes().startswith(b"\x89PNG")
    assert "case0: best case" in paths.report.read_text()
    assert "case1: attention of every gate during training" in paths.report.read_text()
    assert [scores.case for scores in result.summary.cases] == ["case0"]
    assert (calls, result.trained) == ([1], True)
    again = json.loads((run / "manifest.json").read_text())["sha256"]
    changed = {name for name in sums if sums[name] != again.get(name)}
    replaced = {f"fold_0/{name}" for name in ("metrics.json", "graph.xml", "air.json", "int8.json")}
    assert changed <= {*replaced, "postprocessing.json"}
    assert "fold_0/int8.json" not in again  # it told of the weights that were replaced


def test_the_only_fold_decides_on_its_validation_cases(run, blobs, tiny_plan, tiny_config):
    """Two cases decide nothing; that they were too few is said in folder, result and report."""
    found = load_bundle(run).postprocessing
    assert found.evidence == Evidence(cases=2, folds=(0,))
    assert found.prediction.measured[0].cases == 2
    assert (found.prediction.mirror, found.temperature) == (None, 1.0)
    assert finished_fold(run, 0, paths_of(run)).decided == found
    assert "decided on 2 validation cases of fold 0" in paths_of(run).report.read_text()


def test_a_second_fold_takes_the_decision_back_and_makes_none(run, blobs, tiny_plan, tiny_config):
    shutil.copytree(run / "fold_0", run / "fold_1")
    history = History(Schedule(tiny_config()), FoldPaths(run / "fold_1"))
    history.rows = [{"epoch": 0.0, "step": 3.0, "minutes": 0.1, "learning_rate": 0.1, "loss": 1.0}]
    result = finish_fold(tiny_plan(), run, 1, history, blobs.cases[:1], case_images=False)
    assert result.decided is None
    assert load_bundle(run).postprocessing == Postprocessing()
    assert not (run / "postprocessing.json").exists()
    assert finished_fold(run, 0, paths_of(run)).decided is None


def test_a_report_without_pictures_of_cases(run, blobs, tiny_plan, tiny_config):
    paths = paths_of(run)
    history = History(Schedule(tiny_config()), paths)
    history.rows = [{"epoch": 0.0, "step": 3.0, "minutes": 0.1, "learning_rate": 0.1, "loss": 1.0}]
    finish_fold(tiny_plan(), run, 0, history, blobs.cases[:1], case_images=False)
    report = paths.report.read_text()
    assert "Scores over 1 cases" in report
    assert not [text for text in ("best case", "attention of every gate during training") if text in report]


def test_a_validation_case_that_was_lost_is_named_and_in_no_score(run, blobs, tiny_plan, tiny_config):
    paths = paths_of(run)
    history = History(Schedule(tiny_config()), paths)
    history.rows = [{"epoch": 0.0, "step": 3.0, "minutes": 0.1, "learning_rate": 0.1, "loss": 1.0}]
    lost = replace(blobs.cases[1], images=(run / "gone.nii",))
    result = finish_fold(tiny_plan(), run, 0, history, [lost, blobs.cases[0]], case_images=False)
    assert [scores.case for scores in result.summary.cases] == ["case0"]
    assert Summary.read(paths.metrics).failed.keys() == {"case1"}
    with pytest.raises(AttunetError, match="gone"):
        finish_fold(tiny_plan(), run, 0, history, [lost], case_images=False)
