"""`attunet train`: from any folder of labelled scans to a model that predicts, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from attunet.bundle import load_bundle, save_plan
from attunet.cli.predict import predict
from attunet.cli.train import train
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import AttunetError, ConfigError, DatasetError
from attunet.inference.segmenter import Segmenter
from attunet.planning import planner
from attunet.planning.options import Budget
from attunet.training.run_folder import FoldPaths

ATTUNET = [sys.executable, "-c", "import sys; from attunet.cli import main; sys.argv[0] = 'attunet'; main()"]


@pytest.fixture
def recipe(tiny_config, tmp_path):
    """Settings for a training of a second."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_config(epochs=1).model_dump(mode="json")))
    return path


@pytest.fixture
def go(invoke, recipe, tmp_path):
    """Trains a data set into tmp_path/run with that recipe."""

    def run(dataset, *arguments):
        usual = ("-o", tmp_path / "run", "--recipe", recipe, "--store", tmp_path / "store", "--device", "cpu")
        done = invoke(train, dataset, *usual, *arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


@pytest.fixture
def smallest(monkeypatch):
    """A size that trains in seconds, for plans made by the planner."""
    tiny = Budget(voxels={2: 16 * 16, 3: 16**3}, batch={2: 2, 3: 1}, volume_voxels=2_500_000, channels=(4, 8, 16))
    monkeypatch.setitem(planner.BUDGETS, "small", tiny)
    return ("--size", "small")


@pytest.fixture
def planned(tiny_plan, tmp_path):
    save_plan(tiny_plan(), tmp_path / "plans")
    return ("--plan", tmp_path / "plans" / "plan.json")


def plan_in(tmp_path):
    return load_settings(Plan, tmp_path / "run" / "plan.json")


def test_one_command_leaves_a_model_that_another_one_uses(go, invoke, write_blobs, smallest, tmp_path):
    data = write_blobs(tmp_path / "data", value=255)
    done = go(data, *smallest)
    assert done.exit_code == 0
    command = f"attunet predict -m {tmp_path / 'run'}"
    for shown in ("Plan for data", "fold 0: whole validation cases", "label_255", command):
        assert shown in done.output
    assert plan_in(tmp_path).labels == {"background": 0, "label_255": 255}
    scan = data / "images" / "case0.nii"
    assert invoke(predict, "-m", tmp_path / "run", "-i", scan, "-o", tmp_path / "masks").exit_code == 0
    mask = read_label(tmp_path / "masks" / "case0.nii")
    assert mask.spatial_shape == (24, 24, 16)
    assert set(np.unique(mask.array)) <= {0, 255}


@pytest.mark.integration
def test_it_is_not_started_twice_but_resumed_with_the_settings_it_was_started_with(
    go, invoke, write_blobs, planned, tmp_path
):
    data = write_blobs(tmp_path / "data")
    go(data, *planned, "--seed", "5")
    with pytest.raises(ConfigError, match="already contains a training run of this fold"):
        go(data, *planned, "--seed", "5")
    with pytest.raises(ConfigError, match="another seed"):
        go(data, *planned)
    done = invoke(train, data, "-o", tmp_path / "run", "--resume", "--store", tmp_path / "store", "--device", "cpu")
    assert "using the plan in" in done.stderr
    assert "fold 0 is already finished" in done.stderr
    assert "fold 0: whole validation cases" in done.stdout
    assert load_settings(TrainingConfig, tmp_path / "run" / "training.yaml").seed == 5
    done = go(data, "--resume", "--seed", "5", "--epochs", "2")
    assert "already finished" not in done.stderr
    assert load_settings(TrainingConfig, tmp_path / "run" / "training.yaml").epochs == 2


def test_another_plan_does_not_get_into_a_run_that_has_begun(go, write_blobs, planned, tiny_plan, tmp_path):
    last = FoldPaths(tmp_path / "run" / "fold_0").last
    last.parent.mkdir(parents=True)
    last.touch()
    save_plan(tiny_plan(batch_size=3), tmp_path / "run")
    for arguments in (["--resume"], ["--fold", "1"]):
        with pytest.raises(ConfigError, match="another plan"):
            go(write_blobs(tmp_path / "data"), *planned, *arguments)
    assert plan_in(tmp_path) == tiny_plan(batch_size=3)


def test_a_plan_that_was_never_trained_is_made_anew(go, write_blobs, smallest, tiny_plan, tmp_path):
    save_plan(tiny_plan(), tmp_path / "run")
    go(write_blobs(tmp_path / "data"), *smallest, "--gate", "none")
    assert plan_in(tmp_path).network.gate is None


@pytest.mark.integration
def test_all_folds_are_trained_one_after_another(go, write_blobs, planned, tmp_path):
    done = go(write_blobs(tmp_path / "data"), *planned, "--fold", "all")
    assert "fold 0: whole validation" in done.stdout
    assert "fold 1: whole validation" in done.stdout
    assert len(load_bundle(tmp_path / "run").folds) == 2
    assert "held-out cases, each segmented by the fold that held it out" in done.stdout
    assert load_bundle(tmp_path / "run").postprocessing.reasons
    assert (tmp_path / "run" / "cross_validation" / "report.html").exists()


@pytest.mark.integration
def test_finished_folds_are_shown_even_if_the_cross_validation_fails(
    invoke, recipe, write_blobs, planned, tmp_path, monkeypatch
):
    def refuse(*_arguments, **_options):
        raise DatasetError("the data set has moved")

    monkeypatch.setattr("attunet.training.train.cross_validate", refuse)
    usual = ("-o", tmp_path / "run", "--recipe", recipe, "--store", tmp_path / "store", "--device", "cpu")
    done = invoke(train, write_blobs(tmp_path / "data"), *usual, *planned, "--fold", "all")
    assert isinstance(done.exception, DatasetError)
    assert "fold 0: whole validation" in done.stdout
    assert "fold 1: whole validation" in done.stdout


@pytest.mark.integration
def test_a_model_is_the_start_of_another(go, write_blobs, planned, tmp_path):
    data = write_blobs(tmp_path / "data")
    go(data, *planned)
    (tmp_path / "run").rename(tmp_path / "first")
    done = go(data, *planned, "--init-weights", tmp_path / "first", "--freeze-encoder", "1", "--patience", "9")
    assert "Starting from" in done.stderr
    config = load_settings(TrainingConfig, tmp_path / "run" / "training.yaml")
    assert (config.freeze_encoder, config.patience) == (1, 9)


@pytest.mark.integration
def test_a_patient_stays_on_one_side(go, write_blobs, planned, tmp_path):
    data = write_blobs(tmp_path / "data")
    go(data, *planned, "--group-by", "^case[01]?")
    folds = yaml.safe_load((tmp_path / "run" / "folds.yaml").read_text())
    sides = [set(fold["validation"]) for fold in folds.values()]
    assert {"case2", "case3"} in sides


def test_the_same_image_on_both_sides_is_refused(go, write_blobs, planned, tmp_path):
    data = write_blobs(tmp_path / "data")
    for kind in ("images", "labels"):
        for copy in (1, 2, 3):
            (data / kind / f"case{copy}.nii").write_bytes((data / kind / "case0.nii").read_bytes())
    with pytest.raises(DatasetError, match="the same image"):
        go(data, *planned)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.integration
@pytest.mark.parametrize(("network", "dims"), [("listing", 2), ("paper", 3)])
def test_the_published_networks_train_on_volumes(network, dims, go, write_blobs, smallest, tmp_path):
    data = write_blobs(tmp_path / "data", cases=2)
    go(data, *smallest, "--network", network)
    plan = plan_in(tmp_path)
    assert (plan.preset, plan.network.spatial_dims) == (network, dims)
    predicted = Segmenter.load(tmp_path / "run", device="cpu").predict(data / "images" / "case0.nii", attention=True)
    assert predicted.segmentation.spatial_shape == (24, 24, 16)
    assert set(predicted.attention) == {f"level{level}" for level in plan.network.gate_widths}
    assert all(0 <= alpha.array.min() <= alpha.array.max() <= 1 for alpha in predicted.attention.values())


def test_pictures_train_and_predict(go, smallest, tmp_path):
    random = np.random.default_rng(0)
    for index in range(4):
        label = np.zeros((40, 36), np.uint8)
        label[8 + index : 20, 10:25] = 255
        colours = (label[None] // 2 + random.integers(0, 90, (3, 40, 36))).astype(np.uint8)
        for kind, array in (("images", colours), ("labels", label[None])):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            write_volume(Volume(array[..., None], np.eye(4)), tmp_path / "data" / kind / f"p{index}.png")
    go(tmp_path / "data", *smallest)
    plan = plan_in(tmp_path)
    assert (plan.network.spatial_dims, len(plan.channel_names)) == (2, 3)
    mask = Segmenter.load(tmp_path / "run").predict(tmp_path / "data" / "images" / "p1.png").segmentation
    assert mask.spatial_shape[2] == 1
    assert set(np.unique(mask.array)) <= {0, 255}


def test_labels_are_chosen_and_ignored_voxels_are_left_out(go, write_blobs, smallest, tmp_path):
    data = write_blobs(tmp_path / "data", cases=2, value=3, second=5, ignored=9)
    (data / "images").rename(data / "imagesTr")
    (data / "labels").rename(data / "labelsTr")
    for image in (data / "imagesTr").iterdir():
        image.rename(image.with_name(f"{image.stem}_0000.nii"))
    names = {"background": 0, "bright": 3, "dark": 5, "ignore": 9}
    description = {"channel_names": {"0": "MR"}, "labels": names, "numTraining": 2, "file_ending": ".nii"}
    (data / "dataset.json").write_text(json.dumps(description))
    go(data, *smallest, "--labels", "dark=5")
    plan = plan_in(tmp_path)
    assert (plan.labels, plan.ignore_label) == ({"background": 0, "dark": 5}, 9)
    metrics = json.loads((tmp_path / "run" / "fold_0" / "metrics.json").read_text())
    counts = metrics["metric_per_case"][0]["metrics"]["5"]
    assert sum(counts[name] for name in ("TP", "FP", "FN", "TN")) == 20 * 24 * 16


def test_a_table_decides_which_cases_train(go, write_blobs, planned, tmp_path):
    data = write_blobs(tmp_path / "data", cases=3)
    rows = [f"data/images/case{index}.nii,data/labels/case{index}.nii,train" for index in range(3)]
    (tmp_path / "set.csv").write_text("\n".join(["image,label,split", *rows]))
    go(tmp_path / "set.csv", *planned)
    split = yaml.safe_load((tmp_path / "run" / "fold_0" / "split.yaml").read_text())
    assert split["train"] == split["validation"]
    assert len(split["train"]) == 3
    assert data.exists()


def test_an_unusable_case_is_named_and_nothing_is_trained(go, write_blobs, planned, tmp_path):
    data = write_blobs(tmp_path / "data", cases=5)
    (data / "images" / "case3.nii").write_bytes(b"no scan")
    with pytest.raises(Exception, match="case3") as caught:
        go(data, *planned)
    assert type(caught.value).__name__ == "FormatError"
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fold", "7"], "this data set gives 2"),
        (["--fold", "first"], "numbers or all"),
        (["--epochs", "3", "--max-time", "1m"], "both --epochs and --max-time"),
        (["--max-time", "soon"], "--max-time got 'soon'"),
        (["--plan", "nowhere.json"], "nowhere.json"),
        (["--labels", "blob"], "NAME=VALUE"),
        (["--group-by", "("], "not a regular expression"),
        (["--group-by", "patient"], "does not match case0"),
        (["--group-by", "^case"], "into one group, 'case'"),
        (["--logger", "paper"], "loggers"),
        (["--memory", "much"], "--memory got 'much'"),
    ],
)
def test_flags_that_cannot_be_used(arguments, words, go, write_blobs, tmp_path):
    with pytest.raises(AttunetError, match=words):
        go(write_blobs(tmp_path / "data"), *arguments)
    assert not (tmp_path / "run").exists()


def test_a_path_that_is_no_data_set(go, tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        go(tmp_path / "nowhere")


def test_an_unknown_recipe_key_is_one_line_with_exit_code_2(write_blobs, tmp_path):
    (tmp_path / "recipe.yaml").write_text("learning_rte: 0.1\n")
    arguments = [write_blobs(tmp_path / "data"), "-o", tmp_path / "run", "--recipe", tmp_path / "recipe.yaml"]
    done = subprocess.run([*ATTUNET, "train", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "learning_rte" in line
    assert "known keys: epochs" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.integration
def test_ctrl_c_ends_it_in_order_and_it_can_be_resumed(go, write_blobs, planned, recipe, tmp_path):
    data, run = write_blobs(tmp_path / "data", cases=2), tmp_path / "run"
    usual = [data, "-o", run, *planned, "--recipe", recipe, "--store", tmp_path / "store", "--max-time", "5m"]
    process = subprocess.Popen(
        [*ATTUNET, "train", *map(str, usual)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    last, deadline = run / "fold_0" / "checkpoints" / "last.ckpt", time.monotonic() + 60
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the command
    _, notes = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "resume with the same command and --resume" in notes
    assert "Traceback" not in notes
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    done = go(data, "--resume", "--max-time", "1s")
    assert done.exit_code == 0
    load_bundle(run)
