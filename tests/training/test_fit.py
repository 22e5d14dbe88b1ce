import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
import yaml

from attunet.bundle import load_bundle
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import read_dataset
from attunet.errors import BundleError, CancelledError, ConfigError, EngineError
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.segmenter import Segmenter
from attunet.training import fit as fit_module
from attunet.training import start
from attunet.training.callbacks import validation
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.fit import training_device
from attunet.training.patches import dataset as patches
from attunet.training.run_folder import FoldPaths

pytestmark = pytest.mark.integration


def states(run):
    files = [file for file in run.rglob("*") if file.is_file() and file.suffix != ".yaml"]
    return {file: file.stat().st_mtime_ns for file in files}


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


def test_each_epoch_has_its_row(trained, log_of):
    rows = log_of(trained)
    assert [(row["epoch"], row["step"]) for row in rows] == [("0.0", "3.0"), ("1.0", "6.0")]
    for row in rows:
        assert 0 < float(row["loss"]) < 10
        assert 0 <= float(row["dice_blob"]) <= 1


def test_it_learns(train, blobs, tmp_path, log_of):
    result = train(epochs=8, steps_per_epoch=10, validation_fraction=0.1, learning_rate=1e-2, ema_decay=0.9)
    assert result.summary.mean("blob") > 0.8
    predicted = Segmenter.load(tmp_path / "run", device="cpu").predict(blobs.cases[0], attention=True)
    assert list(predicted.attention) == ["level2"]
    rows = log_of(tmp_path / "run")
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


def test_it_does_not_start_over_what_was_begun(trained, train, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    before = states(tmp_path / "run")
    with pytest.raises(ConfigError, match="already contains a training run") as caught:
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


def test_a_finished_training_without_its_checkpoints_is_left_alone(trained, train, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "fold_0" / "checkpoints")
    before = states(run)
    with pytest.raises(ConfigError, match="already contains a training run"):
        train()
    assert train(resume=True, epochs=9).trained is False
    assert states(run) == before


def test_a_larger_budget_continues(trained, train, tmp_path, last_of, log_of):
    shutil.copytree(trained, tmp_path / "run")
    assert train(resume=True, epochs=3).trained
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == ["0.0", "1.0", "2.0"]
    assert last_of(tmp_path / "run")["global_step"] == 9
    load_bundle(tmp_path / "run")


def test_what_was_stopped_before_it_was_sealed_is_only_sealed(train, tmp_path, monkeypatch, last_of, log_of):
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


def test_two_cases_suffice_and_progress_is_reported(write_blobs, train, tmp_path):
    two = read_dataset(write_blobs(tmp_path / "data", cases=2))
    counts = Counter()

    class Counting(TrainingCallbacks):
        def on_case_stored(self):
            counts["stored"] += 1

        def on_step(self, state):
            counts["steps"] += 1

        def on_epoch_end(self, state):
            assert state.progress == 1

        def on_case_evaluated(self):
            counts["evaluated"] += 1

    assert len(train(dataset=two, epochs=1, callbacks=Counting()).summary.cases) == 1
    assert counts == {"stored": 2, "steps": 3, "evaluated": 1}


def test_a_training_is_cancelled_from_another_thread_and_resumed(train, tmp_path, log_of):
    cancelled = Event()

    class CancelInTheSecondEpoch(TrainingCallbacks):
        def on_step(self, state):
            if state.epoch == 1:
                cancelled.set()

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(train, epochs=3, callbacks=CancelInTheSecondEpoch(), cancelled=cancelled)
        with pytest.raises(CancelledError):
            job.result()
    assert len(log_of(tmp_path / "run")) == 1
    with pytest.raises(CancelledError):
        train("other", cancelled=cancelled)
    assert train(epochs=2, resume=True).trained
    assert len(log_of(tmp_path / "run")) == 2


def test_validation_cases_without_any_label_still_give_a_model(write_blobs, train, tmp_path):
    empty = read_dataset(write_blobs(tmp_path / "data", cases=2, value=0))
    train(dataset=empty, epochs=1, learning_rate=1e-9)
    load_bundle(tmp_path / "run")


def test_devices():
    assert training_device("cpu") == "cpu"
    assert training_device("auto") in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="'tpu' is unknown"):
        training_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there():
    with pytest.raises(EngineError, match="no CUDA device"):
        training_device("cuda")


@pytest.mark.parametrize("native", ["bf16", "fp32"])
def test_the_precision_is_recorded_as_it_was(native, train, tmp_path, monkeypatch):
    engines = []

    class Engine(TorchEngine):
        def __init__(self, *positional, low_precision, **named):
            engines.append(low_precision)
            super().__init__(*positional, low_precision=low_precision, **named)

    monkeypatch.setattr(start, "cpu_precision", lambda: native)
    monkeypatch.setattr(validation, "TorchEngine", Engine)
    train(precision="auto", epochs=1, steps_per_epoch=1)
    assert yaml.safe_load((tmp_path / "run" / "training.yaml").read_text())["precision"] == native
    assert f"1 steps, {native}" in (tmp_path / "run" / "fold_0" / "report.html").read_text()
    assert engines == [native == "bf16"]


def test_a_daemonic_process_prepares_patches_by_itself(train, tmp_path, monkeypatch):
    monkeypatch.setattr(patches, "can_start_processes", lambda: False)
    monkeypatch.setattr(torch.utils.data.dataloader, "_MultiProcessingDataLoaderIter", None)
    assert train(workers=2, epochs=1, steps_per_epoch=1).trained
