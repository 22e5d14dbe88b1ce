import errno
import json
import pickle
import random
import signal
import subprocess
import sys
import time

import lightning.pytorch as pl
import pytest
import torch
import yaml

from attunet.bundle import load_bundle, save_plan
from attunet.errors import BundleError, FormatError, TrainingError
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.run_folder import FoldPaths
from attunet.training.trainer import AtomicCheckpointIO

pytestmark = pytest.mark.integration

WRITTEN_SLOWLY = """
import sys, time
from pathlib import Path
import lightning.pytorch as pl
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import read_dataset
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.fit import fit

class Slow(pl.Callback):
    def on_train_batch_start(self, *_):
        time.sleep(0.1)

folder, data, store = map(Path, sys.argv[1:])
plan, config = load_settings(Plan, folder / "plan.json"), load_settings(TrainingConfig, folder / "recipe.yaml")
class Callbacks(TrainingCallbacks):
    def lightning(self, schedule, history):
        return [Slow()]


fit(read_dataset(data), plan, config, folder / "run", device="cpu", store=store, callbacks=Callbacks())
"""


class With(TrainingCallbacks):
    """A callback of lightning more, and the warnings."""

    def __init__(self, callback, warnings=None):
        self.callback, self.warnings = callback, warnings if warnings is not None else []

    def lightning(self, schedule, history):
        return [self.callback]

    def on_warning(self, text):
        self.warnings.append(text)


def kill_after_first_checkpoint(folder, data, store):
    process = subprocess.Popen([sys.executable, "-c", WRITTEN_SLOWLY, str(folder), str(data), str(store)])
    last = FoldPaths(folder / "run" / "fold_0").last
    deadline = time.monotonic() + 60
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def read_attention_frames(folder):
    """What a film shows, without the clock."""
    index = json.loads((folder / "frames.json").read_text())
    for frame in index["frames"]:
        assert frame.pop("minutes") > 0
    return index, {file.name: file.read_bytes() for file in folder.glob("*.nii.gz")}


def test_a_killed_training_resumes_to_the_very_same_weights(
    train, blobs, store, tiny_plan, tiny_config, tmp_path, last_of, log_of
):
    config = tiny_config(epochs=4, case_images=True)
    network = tiny_plan().network.model_copy(update={"dropout": 0.2})
    plan = tiny_plan(network=network, mirror_axes=(0, 1))
    train("whole", plan=plan, epochs=4, case_images=True)
    save_plan(plan, tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    kill_after_first_checkpoint(tmp_path, blobs.root, store)
    assert 3 <= last_of(tmp_path / "run")["global_step"] < 12
    assert train(plan=plan, resume=True, epochs=4, case_images=True).trained
    whole, resumed = last_of(tmp_path / "whole"), last_of(tmp_path / "run")
    assert whole["global_step"] == resumed["global_step"] == 12
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    for name in ("weights.safetensors", "graph.bin", "metrics.json"):
        assert (tmp_path / "whole/fold_0" / name).read_bytes() == (tmp_path / "run/fold_0" / name).read_bytes()
    frames = [read_attention_frames(tmp_path / name / "fold_0" / "attention_frames") for name in ("whole", "run")]
    assert frames[0] == frames[1]
    for whole_row, resumed_row in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "run"), strict=True):
        assert {**whole_row, "minutes": 0} == {**resumed_row, "minutes": 0}


def test_a_time_budget_may_end_within_an_epoch_and_be_enlarged(train, tmp_path, last_of, log_of):
    train(max_time=0.2, steps_per_epoch=1000)
    first = last_of(tmp_path / "run")["global_step"]
    assert 0 < first < 1000
    elapsed = last_of(tmp_path / "run")["callbacks"]["Schedule"]["elapsed"]
    assert train(max_time=elapsed + 0.2, steps_per_epoch=1000, resume=True).trained
    assert last_of(tmp_path / "run")["global_step"] > first
    assert [row["epoch"] for row in log_of(tmp_path / "run")] == ["0.0", "1.0"]


def test_a_time_that_ends_before_the_first_step_is_one_error(train):
    with pytest.raises(TrainingError, match="ended before its first step") as refused:
        train(max_time=1e-6)
    assert "--max-time" in refused.value.hint


def test_numbers_that_explode_end_the_training_and_leave_no_broken_checkpoint(train, tmp_path, last_of):
    with pytest.raises(TrainingError, match="not a number") as caught:
        train(
            learning_rate=1e3,
            weight_decay=1e3,
            gradient_clip=1e9,
            optimizer="sgd",
            warmup_steps=0,
            steps_per_epoch=1,
            epochs=9,
        )
    assert "learning_rate" in caught.value.hint
    last = FoldPaths(tmp_path / "run" / "fold_0").last
    if last.exists():
        assert all(torch.isfinite(value).all() for value in last_of(tmp_path / "run")["state_dict"].values())
    with pytest.raises(BundleError):
        load_bundle(tmp_path / "run")


def test_an_interrupt_comes_back_as_one_and_the_next_is_heard_too(train, tmp_path, log_of):
    class Interrupt(pl.Callback):
        def on_train_epoch_start(self, trainer, _module):
            if trainer.current_epoch == 1:
                signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(callbacks=With(Interrupt()))
    assert signal.getsignal(signal.SIGINT) is handler
    assert train(resume=True).trained
    assert len(log_of(tmp_path / "run")) == 2


def test_a_terminated_training_resumes_and_other_signals_are_left_alone(train, tmp_path, log_of, monkeypatch):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "training"}.items():
        monkeypatch.setenv(name, value)
    heard = []

    class Terminate(pl.Callback):
        def on_train_epoch_start(self, trainer, _module):
            if trainer.current_epoch == 1:
                signal.raise_signal(signal.SIGUSR1)
                signal.raise_signal(signal.SIGTERM)

    user = signal.signal(signal.SIGUSR1, lambda number, _frame: heard.append(number))
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(callbacks=With(Terminate()))
    finally:
        signal.signal(signal.SIGUSR1, user)
        restored = signal.signal(signal.SIGTERM, terminate)
    assert heard == [signal.SIGUSR1]
    assert restored is signal.SIG_DFL
    assert train(resume=True).trained
    assert len(log_of(tmp_path / "run")) == 2
    assert not list(tmp_path.rglob(".attunet*"))
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_a_full_disk_keeps_the_last_checkpoint_and_says_how_to_continue(train, tmp_path, monkeypatch, last_of):
    save = torch.save

    def full(content, path):
        if content["epoch"] == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FormatError, match="No space left") as error:
        train()
    assert "--resume" in error.value.hint
    assert last_of(tmp_path / "run")["epoch"] == 0
    monkeypatch.undo()
    assert train(resume=True).trained


def test_an_error_in_a_worker_is_not_taken_for_want_of_memory(train):
    class Broken(pl.Callback):
        def on_train_batch_start(self, *_arguments):
            raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")

    with pytest.raises(RuntimeError, match="worker process 0"):
        train(callbacks=With(Broken()))


@pytest.mark.parametrize("words", ["DefaultCPUAllocator: can't allocate memory", "DataLoader worker (pid 7) is killed"])
def test_running_out_of_memory_is_reported_in_one_line(words, train):
    class Full(pl.Callback):
        def on_train_batch_start(self, *_arguments):
            raise RuntimeError(words)

    with pytest.raises(TrainingError, match="out of memory"):
        train(callbacks=With(Full()))


class Poison(pl.Callback):
    """Makes the weights useless at chosen steps, as a rate that is too high does."""

    def __init__(self, steps, rates):
        self.steps, self.rates = steps, rates

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))
        if trainer.global_step in self.steps:
            self.steps.remove(trainer.global_step)
            with torch.no_grad():
                next(pl_module.network.parameters()).fill_(torch.nan)


def poisoned(steps, warnings):
    rates = []
    return rates, With(Poison(steps, rates), warnings)


def test_a_training_that_diverges_resumes_at_a_lower_rate(train, tmp_path, log_of):
    warnings = []
    rates, callbacks = poisoned([4], warnings)
    assert train(epochs=3, callbacks=callbacks).trained
    steps = [step for step, _ in rates]
    assert steps == [0, 1, 2, 3, 4, 3, 4, 5, 6, 7, 8]
    first, again = (rate for step, rate in rates if step == 4)
    assert again == pytest.approx(first / 4)
    assert ["diverged at step 4" in text for text in warnings if "diverged" in text] == [True]
    assert [float(row["step"]) for row in log_of(tmp_path / "run")] == [3, 6, 9]


def test_the_lower_rate_is_used_by_a_resumed_training(train, tmp_path, last_of):
    _, callbacks = poisoned([1], [])
    train(epochs=1, callbacks=callbacks)
    rates, callbacks = poisoned([], [])
    train(epochs=2, resume=True, callbacks=callbacks)
    plain, callbacks = poisoned([], [])
    train("plain", epochs=2, callbacks=callbacks)
    later = dict(rates)[3], dict(plain)[3]
    assert later[0] == pytest.approx(later[1] / 4)


def test_a_training_that_diverges_twice_ends_with_one_error(train, tmp_path):
    warnings = []
    _, callbacks = poisoned([4, 5], warnings)
    with pytest.raises(TrainingError, match=r"diverged at step 5.* also with a quarter of the learning rate") as caught:
        train(epochs=3, callbacks=callbacks)
    assert "learning_rate" in caught.value.hint
    assert len([text for text in warnings if "diverged" in text]) == 1
    assert FoldPaths(tmp_path / "run" / "fold_0").last.exists()


def test_a_batch_in_parts_with_checkpointing_trains_to_the_same_weights(train, tiny_plan, tmp_path, last_of, log_of):
    # Adam would take a full step where a gradient is as small as its rounding, which depends on the CPU.
    each = {"batch_dice": False, "ema_decay": 0.9, "optimizer": "sgd"}
    train("whole", **each)
    train("parts", plan=tiny_plan(accumulation=2, checkpointing=True), **each)
    whole, parts = (last_of(tmp_path / name) for name in ("whole", "parts"))
    assert whole["global_step"] == parts["global_step"] == 6
    for name, weight in whole["state_dict"].items():
        torch.testing.assert_close(parts["state_dict"][name], weight, rtol=1e-3, atol=1e-4)
    assert [row["step"] for row in log_of(tmp_path / "parts")] == [row["step"] for row in log_of(tmp_path / "whole")]


@pytest.mark.slow
def test_a_compiled_training_leaves_a_model_like_any_other(train, trained, tmp_path, last_of):
    train("compiled", compile=True)
    compiled, plain = last_of(tmp_path / "compiled"), last_of(trained)
    assert compiled["state_dict"].keys() == plain["state_dict"].keys()
    for name, weight in plain["state_dict"].items():
        torch.testing.assert_close(compiled["state_dict"][name], weight, rtol=1e-2, atol=1e-3)


def test_what_cannot_be_compiled_is_one_line(train, monkeypatch):
    def fail(*_arguments, **_settings):
        raise torch._dynamo.exc.BackendCompilerFailed(fail, RuntimeError("No C++ compiler"), None)

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_options: setattr(self, "forward", fail))
    with pytest.raises(TrainingError, match=r"torch\.compile failed here") as caught:
        train(compile=True)
    assert "compile: true" in caught.value.hint


def test_what_is_saved_is_loaded(tmp_path):
    content = {"state_dict": {"weight": torch.arange(3.0)}, "callbacks": {"History": {"rows": [{"loss": 0.5}]}}}
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content, path)
    loaded = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(loaded["state_dict"].pop("weight"), content["state_dict"].pop("weight"))
    assert loaded == content
    assert list(path.parent.iterdir()) == [path]


def test_a_save_that_is_cut_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def cut(_content, stage):
        stage.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", pickle.dumps(Trap(), protocol=2)], ids=["empty", "foreign", "code"]
)
def test_a_damaged_or_foreign_file_is_refused_with_a_remedy(content, tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read") as caught:
        AtomicCheckpointIO().load_checkpoint(path)
    assert "without --resume" in caught.value.hint


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(TrainingError, match="cannot be read"):
        AtomicCheckpointIO().load_checkpoint(path)
