import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import lightning.pytorch as pl
import pytest
import torch
import yaml

from attunet.bundle import load_bundle, save_plan
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import read_dataset
from attunet.errors import BundleError, ConfigError, EngineError, TrainingError
from attunet.inference.segmenter import Segmenter
from attunet.training import fit as fit_module
from attunet.training.fit import FitCallbacks, fit, training_device
from attunet.training.paths import FoldPaths

SILENT = FitCallbacks()
WRITTEN_SLOWLY = """
import sys, time
from pathlib import Path
import lightning.pytorch as pl
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import read_dataset
from attunet.training.fit import FitCallbacks, fit

class Slow(pl.Callback):
    def on_train_batch_start(self, *_):
        time.sleep(0.05)

folder, data, store = map(Path, sys.argv[1:])
plan, config = load_settings(Plan, folder / "plan.json"), load_settings(TrainingConfig, folder / "recipe.yaml")
report = FitCallbacks(training=lambda *_: [Slow()])
fit(read_dataset(data), plan, config, folder / "run", device="cpu", store=store, report=report)
"""


@pytest.fixture
def train(blobs, tiny_plan, tiny_config, store, tmp_path):
    """Trains fold 0 of the blobs in `tmp_path / name`; keyword arguments beside `fit`'s own change the settings."""

    def run(name="run", *, dataset=blobs, plan=None, fold=0, resume=False, report=SILENT, **changes):
        return fit(
            dataset, plan or tiny_plan(), tiny_config(**changes), tmp_path / name,
            fold=fold, device="cpu", resume=resume, store=store, report=report,
        )  # fmt: skip

    return run


def last_of(run):
    return torch.load(FoldPaths(run / "fold_0").last, weights_only=True)


def log_of(run):
    with FoldPaths(run / "fold_0").log.open() as file:
        return list(csv.DictReader(file))


def states(run):
    return {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.suffix not in (".yaml", ".0", ".1")}


def test_a_training_leaves_a_model_that_describes_itself(trained, tiny_plan, tiny_config, blobs):
    fold = trained / "fold_0"
    for name in ("weights.safetensors", "graph.xml", "graph.bin", "metrics.json", "curves.png", "log.csv"):
        assert (fold / name).stat().st_size > 100, name
    assert load_settings(Plan, trained / "plan.json") == tiny_plan()
    assert load_settings(TrainingConfig, trained / "training.yaml") == tiny_config()
    split = yaml.safe_load((fold / "split.yaml").read_text())
    assert sorted(split["train"] + split["validation"]) == [case.id for case in blobs.cases]
    assert FoldPaths(fold).last.exists()
    assert load_bundle(trained, [0]).plan == tiny_plan()
    assert not [file for file in trained.rglob("*") if file.name.startswith(".")]


def test_each_epoch_has_its_row(trained):
    rows = log_of(trained)
    assert [(row["epoch"], row["step"]) for row in rows] == [("0.0", "3.0"), ("1.0", "6.0")]
    for row in rows:
        assert 0 < float(row["loss"]) < 10
        assert 0 <= float(row["dice_blob"]) <= 1


def test_it_learns(train, blobs, tmp_path):
    result = train(epochs=12, steps_per_epoch=10, learning_rate=1e-2, ema_decay=0.9)
    assert result.summary.mean("blob") > 0.8
    predicted = Segmenter.load(tmp_path / "run", device="cpu").predict(blobs.cases[0], attention=True)
    assert list(predicted.attention) == ["level2"]
    rows = log_of(tmp_path / "run")
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


def test_it_does_not_start_over_what_was_begun(trained, train, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    before = states(tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a training already") as caught:
        train()
    assert "--resume" in caught.value.hint
    assert states(tmp_path / "run") == before


def test_a_finished_training_is_not_trained_again(trained, train, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    kept = states(tmp_path / "run")
    started = time.monotonic()
    result = train(resume=True)
    assert time.monotonic() - started < 2
    assert result.trained is False
    assert result.summary.cases
    now = states(tmp_path / "run")
    changed = {file.name for file in kept if file.is_file() and kept[file] != now[file]}
    assert changed <= {"plan.json"}


def test_a_larger_budget_goes_on(trained, train, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    assert train(resume=True, epochs=3).trained
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == ["0.0", "1.0", "2.0"]
    assert last_of(tmp_path / "run")["global_step"] == 9
    load_bundle(tmp_path / "run")


def test_what_was_stopped_before_it_was_sealed_is_only_sealed(train, tmp_path, monkeypatch):
    def stopped(*_arguments, **_named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "finish_fold", stopped)
        with pytest.raises(KeyboardInterrupt):
            train()
    with pytest.raises(BundleError, match="unfinished training"):
        load_bundle(tmp_path / "run")
    before = last_of(tmp_path / "run")
    assert train(resume=True).trained
    assert len(log_of(tmp_path / "run")) == 2
    assert last_of(tmp_path / "run")["global_step"] == before["global_step"]
    load_bundle(tmp_path / "run")


def kill_after_first_checkpoint(folder, data, store):
    process = subprocess.Popen([sys.executable, "-c", WRITTEN_SLOWLY, str(folder), str(data), str(store)])
    last = FoldPaths(folder / "run" / "fold_0").last
    deadline = time.monotonic() + 60
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_training_resumes_to_the_very_same_weights(train, blobs, store, tiny_plan, tiny_config, tmp_path):
    config = tiny_config(epochs=4)
    network = tiny_plan().network.model_copy(update={"dropout": 0.2})
    plan = tiny_plan(network=network, mirror_axes=(0, 1))
    train("whole", plan=plan, epochs=4)
    save_plan(plan, tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    kill_after_first_checkpoint(tmp_path, blobs.root, store)
    assert 3 <= last_of(tmp_path / "run")["global_step"] < 12
    assert train(plan=plan, resume=True, epochs=4).trained
    whole, resumed = last_of(tmp_path / "whole"), last_of(tmp_path / "run")
    assert whole["global_step"] == resumed["global_step"] == 12
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    for name in ("weights.safetensors", "graph.bin", "metrics.json"):
        assert (tmp_path / "whole/fold_0" / name).read_bytes() == (tmp_path / "run/fold_0" / name).read_bytes()
    for one, two in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "run"), strict=True):
        assert {**one, "minutes": 0} == {**two, "minutes": 0}


def test_a_time_budget_may_end_within_an_epoch_and_be_enlarged(train, tmp_path):
    train(max_time=0.5, steps_per_epoch=1000)
    first = last_of(tmp_path / "run")["global_step"]
    assert 0 < first < 1000
    elapsed = last_of(tmp_path / "run")["callbacks"]["Schedule"]["elapsed"]
    assert train(max_time=elapsed + 0.5, steps_per_epoch=1000, resume=True).trained
    assert last_of(tmp_path / "run")["global_step"] > first
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == ["0.0", "1.0"]


def test_another_plan_is_refused_in_a_run_that_has_begun(trained, train, tiny_plan, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for resume, fold in ((True, 0), (False, 1)):
        with pytest.raises(ConfigError, match="another plan"):
            train(plan=tiny_plan(batch_size=3), resume=resume, fold=fold)
    assert load_settings(Plan, tmp_path / "run" / "plan.json") == tiny_plan()


def test_folds_share_a_model_folder(trained, train, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    train(fold=1, epochs=1)
    assert len(load_bundle(tmp_path / "run").folds) == 2
    validated = [yaml.safe_load((tmp_path / f"run/fold_{index}/split.yaml").read_text()) for index in (0, 1)]
    assert validated[0]["validation"] == validated[1]["train"]


def test_a_fold_that_does_not_exist_is_an_error(train):
    with pytest.raises(ConfigError, match="there is no fold 2: this data set gives 2"):
        train(fold=2)


def test_numbers_that_explode_end_the_training_and_leave_no_broken_checkpoint(train, tmp_path):
    with pytest.raises(TrainingError, match="not a number") as caught:
        train(learning_rate=1e30, gradient_clip=1e30, optimizer="sgd", warmup_steps=0, steps_per_epoch=1, epochs=9)
    assert "learning_rate" in caught.value.hint
    last = FoldPaths(tmp_path / "run" / "fold_0").last
    if last.exists():
        assert all(torch.isfinite(value).all() for value in last_of(tmp_path / "run")["state_dict"].values())
    with pytest.raises(BundleError):
        load_bundle(tmp_path / "run")


def test_an_interrupt_comes_back_as_one_and_the_next_is_heard_too(train, tmp_path):
    class Interrupt(pl.Callback):
        def on_train_epoch_start(self, trainer, _module):
            if trainer.current_epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(report=FitCallbacks(training=lambda *_: [Interrupt()]))
    assert signal.getsignal(signal.SIGINT) is handler
    assert train(resume=True).trained
    assert len(log_of(tmp_path / "run")) == 2


@pytest.mark.parametrize("words", ["DefaultCPUAllocator: can't allocate memory", "DataLoader worker (pid 7) is killed"])
def test_running_out_of_memory_is_said_in_one_line(words, train):
    class Full(pl.Callback):
        def on_train_batch_start(self, *_arguments):
            raise RuntimeError(words)

    with pytest.raises(TrainingError, match="out of memory"):
        train(report=FitCallbacks(training=lambda *_: [Full()]))


def test_two_cases_suffice(write_blobs, train, tmp_path):
    two = read_dataset(write_blobs(tmp_path / "data", cases=2))
    assert len(train(dataset=two, epochs=1).summary.cases) == 1


def test_validation_cases_without_any_label_still_give_a_model(write_blobs, train, tmp_path):
    empty = read_dataset(write_blobs(tmp_path / "data", cases=2, value=0))
    train(dataset=empty, epochs=1, learning_rate=1e-9)
    load_bundle(tmp_path / "run")


def test_progress_is_told(train, blobs):
    stored, validated = [], []
    train(epochs=1, report=FitCallbacks(stored=lambda: stored.append(1), validated=lambda: validated.append(1)))
    assert (len(stored), len(validated)) == (4, 2)


def test_devices():
    assert training_device("cpu") == "cpu"
    assert training_device("auto") in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="'tpu' is unknown"):
        training_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there():
    with pytest.raises(EngineError, match="no CUDA device"):
        training_device("cuda")
