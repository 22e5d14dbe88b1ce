"""`attunet compare`: from a data set or from runs to a conclusion, and refused arguments."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from attunet.bundle import fold_folder, load_bundle, save_plan
from attunet.cli.compare import compare
from attunet.cli.predict import predict
from attunet.data.folds import Split
from attunet.errors import ConfigError, DatasetError
from attunet.training import fold_jobs

LABELS = {"background": 0, "blob": 1}


@pytest.fixture
def go(invoke, tiny_config, tiny_plan, tmp_path):
    """Compares variants of a data set in tmp_path/out, with trainings of a second."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_config(epochs=1, steps_per_epoch=2).model_dump(mode="json")))
    save_plan(tiny_plan(), tmp_path / "plans")

    def run(dataset, *arguments, planned=True):
        usual = ["-o", tmp_path / "out", "--recipe", recipe, "--store", tmp_path / "store", "--device", "cpu"]
        usual += ["--plan", tmp_path / "plans" / "plan.json"] * planned
        done = invoke(compare, dataset, *usual, *arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


@pytest.fixture
def pair(make_folded, make_model, tmp_path):
    """A gated and an ungated run of the same folds."""
    gated = make_folded(tmp_path)
    plain = shutil.copytree(make_model(3, folds=2, labels=LABELS, gate=None), tmp_path / "plain")
    for fold in (0, 1):
        Split.read(fold_folder(gated, fold)).write(fold_folder(plain, fold))
    return gated, plain


@pytest.mark.integration
def test_one_command_trains_the_variants_evaluates_them_and_resumes(go, invoke, write_blobs, tmp_path, monkeypatch):
    data, out = write_blobs(tmp_path / "data"), tmp_path / "out"
    done = go(data, "--variants", "gated,ungated", "--fold", "0")
    assert done.exit_code == 0
    for shown in ("2 held-out cases", "gated minus ungated", "Parameters", "the gate", "2 ", "95% interval"):
        assert shown in done.stdout, shown
    assert "Each fold was trained once" in done.stderr
    content = json.loads((out / "summary.json").read_text())
    assert content["conclusion"] in " ".join(done.stdout.split())
    assert [model["steps"] for model in content["models"]] == [{"0": 2}] * 2
    assert (out / "report.html").exists()
    folds = [(out / name / "folds.yaml").read_text() for name in ("gated", "ungated")]
    assert folds[0] == folds[1]
    assert [load_bundle(out / name).plan.network.gate for name in ("gated", "ungated")] == ["grid", None]
    scan = data / "images" / "case0.nii"
    assert invoke(predict, "-m", out / "ungated", "-i", scan, "-o", tmp_path / "masks").exit_code == 0
    monkeypatch.setattr(fold_jobs, "fit", lambda *_, **__: pytest.fail("it was trained already"))
    again = go(data, "--variants", "gated,ungated", "--fold", "0", planned=False)
    assert "using the plan in" in again.stderr
    assert again.stderr.count("finished before") == 2
    assert again.stdout == done.stdout
    switched = invoke(compare, out / "ungated", out / "gated", "-o", tmp_path / "switched", "--fold", "0")
    assert "ungated minus gated" in switched.stdout
    assert json.loads((tmp_path / "switched" / "summary.json").read_text())["folds"] == [0]


def test_runs_that_are_there_are_compared(pair, invoke, tmp_path):
    done = invoke(compare, *pair, "-o", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.exception
    assert "6 held-out cases" in done.stdout
    assert "run minus plain" in done.stdout
    assert (tmp_path / "out" / "report_figures" / "differences.svg").exists()


def test_flags_of_a_training_are_refused_for_runs(pair, invoke, tmp_path):
    done = invoke(compare, *pair, "-o", tmp_path / "out", "--max-time", "5m", "--variants", "gated,wider")
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("--max-time, --variants: these runs are already trained")


def test_what_is_neither_one_data_set_nor_runs_is_refused(pair, go, invoke, write_blobs, tmp_path):
    data = write_blobs(tmp_path / "data")
    for sources, words in (
        ((pair[0], data), "not a model folder"),
        ((data, data), "expected one"),
        (pair[:1], "got 1 run"),
    ):
        done = invoke(compare, *sources, "-o", tmp_path / "out")
        assert isinstance(done.exception, ConfigError)
        assert words in str(done.exception)
    with pytest.raises(ConfigError, match="no variant 'plain'"):
        go(data, "--variants", "gated,plain")
    with pytest.raises(DatasetError, match="too few cases to hold some out"):
        go(write_blobs(tmp_path / "single", cases=1))
    assert not (tmp_path / "out").exists()
