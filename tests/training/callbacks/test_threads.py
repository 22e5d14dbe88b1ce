"""The number of threads of a training follows the load of the machine, with made-up measurements."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import torch

from attunet.config import TrainingConfig
from attunet.training.callbacks import threads
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.callbacks.threads import CoreLoad, ThreadCount, ThreadsByLoad, adapts_threads


class Machine:
    """Cores whose use by others, and time, are set by the test; the training itself uses the rest."""

    def __init__(self, cores=2):
        self.cores, self.others, self.now, self.busy, self.own = cores, 0.0, 100.0, 5000.0, 30.0

    def load(self):
        return CoreLoad(clock=lambda: self.now, busy=lambda: self.busy, own=lambda: self.own)

    def run(self, seconds, others=None, idle=0.0):
        self.others = self.others if others is None else others
        self.now += seconds
        self.busy += (self.cores - idle) * seconds
        self.own += (self.cores - idle - self.others) * seconds


class Threads:
    """Torch's number of threads, as the training sees and sets it; real ones would wait for each other here."""

    def __init__(self):
        self.count = 2

    def read(self):
        return self.count

    def set(self, count):
        self.count = count


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Torch has two threads, as on two cores."""
    held = Threads()
    monkeypatch.setattr(torch, "get_num_threads", held.read)
    monkeypatch.setattr(torch, "set_num_threads", held.set)


def follow(callback, machine, *others, seconds=2.5):
    """The number of threads after a step of that length under each load."""
    counts = []
    for load in others:
        machine.run(seconds, load)
        callback.on_train_batch_end(None, None, None, None, 0)
        counts.append(torch.get_num_threads())
    return counts


def started(machine, warnings=None):
    callback = ThreadsByLoad([].append if warnings is None else warnings.append, machine.load(), machine.cores)
    callback.on_train_start(None, None)
    return callback


def test_a_busy_core_takes_a_thread_at_once():
    machine = Machine()
    assert follow(started(machine), machine, 0.1, 0.2, 0.8, 1.0) == [2, 2, 1, 1]


def test_it_comes_back_after_three_calm_measurements():
    machine = Machine()
    assert follow(started(machine), machine, 1.0, 0.0, 0.1, 0.0, 0.0) == [1, 1, 1, 2, 2]


def test_a_short_pause_of_the_other_program_changes_nothing():
    machine = Machine()
    assert follow(started(machine), machine, 1.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0) == [1, 1, 1, 1, 1, 1, 2]


def test_what_is_between_both_bounds_changes_nothing():
    machine = Machine()
    callback = started(machine)
    assert follow(callback, machine, *[0.45] * 6) == [2] * 6
    follow(callback, machine, 1.0)
    assert follow(callback, machine, *[0.45] * 6) == [1] * 6


def test_steps_are_put_together_to_a_measurement_of_seconds():
    machine = Machine()
    assert follow(started(machine), machine, *[1.0] * 6, seconds=0.4) == [2, 2, 2, 2, 1, 1]


def test_one_warning_says_why_the_training_is_slower():
    machine, warnings = Machine(), []
    follow(started(machine, warnings), machine, 1.0, *[0.0] * 4, 1.0)
    assert warnings == [
        "other programs use 1.0 of 2 cores: the training is slower, and uses 1 of 2 threads until they end"
    ]


def test_the_number_is_restored_at_the_end_and_after_an_error():
    machine = Machine()
    callback = started(machine)
    follow(callback, machine, 1.0)
    callback.teardown(None, None, "fit")
    assert torch.get_num_threads() == 2
    callback = started(machine)
    follow(callback, machine, 1.0)
    callback.on_exception(None, None, ValueError())
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("most", "cores", "others", "left"),
    [(16, 16, 8.0, 8), (16, 16, 15.9, 1), (2, 16, 8.0, 2), (4, 4, 1.4, 3), (4, 4, 1.6, 2), (2, 2, 9.0, 1)],
)
def test_as_many_threads_as_cores_are_left(most, cores, others, left):
    assert ThreadCount(most, cores).update(others) == left


def test_some_threads_come_back_when_some_programs_end():
    count = ThreadCount(4, 4)
    assert [count.update(others) for others in (3.0, 1.1, 1.1, 1.1, 1.1)] == [1, 1, 1, 3, 3]


def test_only_trainings_of_a_time_on_the_cpu_in_one_process_change_their_threads():
    timed = TrainingConfig(max_time=60)
    assert adapts_threads(timed, "cpu")
    assert not adapts_threads(TrainingConfig(epochs=2), "cpu")
    assert not adapts_threads(timed, "cuda")
    assert not adapts_threads(TrainingConfig(max_time=60, devices=2), "cpu")


class Crowd(CoreLoad):
    """A machine that others use always, measured after every step."""

    def seconds(self):
        return 10.0

    def measure(self):
        return 1e6


class Recorded(TrainingCallbacks):
    """The number of threads after every step, and the warnings."""

    def __init__(self):
        self.threads, self.warnings = [], []

    def on_step(self, state):
        self.threads.append(torch.get_num_threads())

    def on_warning(self, text):
        self.warnings.append(text)


def test_a_training_of_a_time_follows_the_load(train, monkeypatch):
    monkeypatch.setattr(threads, "CoreLoad", Crowd)
    seen = Recorded()
    train(max_time=0.5, callbacks=seen)
    assert set(seen.threads) == {1}
    assert any("1 of 2 threads until they end" in text for text in seen.warnings)
    assert torch.get_num_threads() == 2


def test_a_training_of_steps_never_changes_its_threads(train, monkeypatch):
    monkeypatch.setattr(threads, "CoreLoad", Crowd)
    seen = Recorded()
    train(epochs=2, callbacks=seen)
    assert seen.threads == [2] * 6


def test_load_is_what_the_training_and_its_workers_do_not_use():
    machine = Machine()
    load = machine.load()
    machine.run(2.0, others=0.0)
    assert load.measure() == pytest.approx(0.0)
    machine.run(2.0, others=0.75, idle=0.25)
    assert load.seconds() == pytest.approx(2.0)
    assert load.measure() == pytest.approx(0.75)
    assert load.measure() == 0.0  # no time has passed


def test_programs_of_this_process_are_not_others():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            used, started = psutil.Process(child.pid), time.monotonic()
            everything, others = CoreLoad(own=lambda: 0.0), CoreLoad()
            before = sum(used.cpu_times()[:2])
            while sum(used.cpu_times()[:2]) < before + 0.3:
                time.sleep(0.05)
            spent = (everything.measure() - others.measure()) * (time.monotonic() - started)
        finally:
            child.kill()
    assert spent > 0.2


def test_threads_that_wait_soon_sleep_unless_the_user_chose_otherwise():
    code = "import os, attunet.training; print(os.environ.get('GOMP_SPINCOUNT'))"
    for given, spins in (({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")):
        kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == spins


def test_the_command_says_so_before_torch_is_loaded(blobs, tmp_path):
    code = (
        "import os, sys\n"
        "def watch(event, arguments):\n"
        "    if event == 'import' and arguments[0] == 'torch':\n"
        "        print(os.environ.get('GOMP_SPINCOUNT'), flush=True)\n"
        "        os._exit(0)\n"
        "sys.addaudithook(watch)\n"
        "from attunet.cli import main\n"
        "sys.argv = ['attunet', 'train', *sys.argv[1:]]\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, str(blobs.root), "-o", str(tmp_path / "run"), "--max-time", "1s"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3000", done.stderr
