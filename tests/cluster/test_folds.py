"""Folds on the workers of an engine: the same models as one after another, whatever dies."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest
import torch

from attunet.bundle import fold_folder, save_plan
from attunet.cluster import folds
from attunet.cluster.folds import ClusterFolds
from attunet.cluster.scheduler import SchedulerPolicy
from attunet.cluster.tasks import Attempt, Ticket
from attunet.data import slabs
from attunet.data.cases import read_dataset
from attunet.errors import AttunetError, CancelledError, ConfigError, TrainingError
from attunet.evaluation.summary import summarize
from attunet.locks import exclusive
from attunet.training import fold_jobs
from attunet.training import train as train_module
from attunet.training.callbacks.fold_progress import FoldProgress
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.finish import FoldResult
from attunet.training.run_folder import FoldPaths
from attunet.training.train import TrainOptions, train
from attunet.training.variants import VariantCallbacks, VariantOptions, train_variants

pytestmark = pytest.mark.integration


class Here:
    """An engine of two workers in this process: a try runs when it is waited for.

    `deaths` names folds whose worker dies, once each, after an epoch or, unless `begins`, at once.
    """

    def __init__(self, make, payload, deaths=(), begins=True):
        self.begins = begins
        self.work, self.payload = pickle.loads(pickle.dumps(make))(), payload
        self.tickets, self.running, self.deaths = count(1), {}, list(deaths)
        self.sent, self.cancelled, self.closed = [], [], False

    def start(self, task, avoid):
        free = {"n0", "n1"} - avoid - {node for _, node, _ in self.running.values()}
        if not free:
            return None
        ticket = Ticket(next(self.tickets), min(free))
        self.running[ticket.number] = (task.name, ticket.node, pickle.dumps(self.payload(task.name)))
        self.sent.append((task.name, ticket.node))
        return ticket

    def wait(self, timeout):
        if not self.running:
            return []
        number = min(self.running)
        name, node, payload = self.running.pop(number)
        known = {"task": name, "ticket": number, "node": node, "seconds": 1.0}
        if name in self.deaths:
            self.deaths.remove(name)
            if self.begins:
                self.begin(pickle.loads(payload))
            return [Attempt(**known, lost="worker", reason="killed by signal 9")]
        try:
            return [Attempt(**known, value=pickle.loads(pickle.dumps(self.work(pickle.loads(payload)))))]
        except AttunetError as error:
            return [Attempt(**known, error=error.message, hint=error.hint)]

    @staticmethod
    def begin(job):
        """Train the first of two epochs, as a worker that is killed then."""
        stop = Event()

        class Stop(TrainingCallbacks):
            def on_epoch_end(self, state):
                stop.set()

        with pytest.raises(CancelledError):
            replace(job, resume=job.paths.started).train(Stop(), stop)

    def cancel(self, ticket):
        if ticket in self.running:
            self.cancelled.append(self.running.pop(ticket)[0])

    def refusal(self, task):
        return ""

    def nodes(self):
        return {"n0": 1, "n1": 1}

    def time(self):
        return 0.0

    def close(self):
        self.closed = True


class Engines:
    """Makes one, and keeps it."""

    def __init__(self, deaths=(), begins=True):
        self.deaths, self.begins = deaths, begins

    def __call__(self, make, payload):
        self.made = Here(make, payload, self.deaths, self.begins)
        return self.made


class Watch:
    def __init__(self):
        self.running, self.lost, self.failed = [], [], []

    def on_fold_running(self, fold, node, progress):
        self.running.append((fold, node, progress))

    def on_fold_lost(self, fold, node, tries, reason):
        self.lost.append((fold, node, tries, reason))

    def on_fold_failed(self, fold, node, reason):
        self.failed.append(fold)


@pytest.fixture(scope="session")
def data(tmp_path_factory, write_blobs):
    return read_dataset(write_blobs(tmp_path_factory.mktemp("blobs")))


@pytest.fixture(scope="session")
def options(tiny_plan, tiny_config, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return TrainOptions(plan=tiny_plan(), config=tiny_config(), folds=None, device="cpu", store=store)


@pytest.fixture(scope="session")
def in_turn(data, options, tmp_path_factory):
    """The run that one machine trains, one fold after another."""
    run = tmp_path_factory.mktemp("in_turn") / "run"
    train(data, run, options)
    return run


def contents(run):
    """What a run predicts with, and what it knows of its folds."""
    names = ["plan.json", "training.yaml", "folds.yaml"]  # postprocessing.json tells seconds, too
    names += [f"fold_{fold}/{name}" for fold in (0, 1) for name in ("weights.safetensors", "metrics.json", "graph.bin")]
    return {name: sha256((run / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture
def untrained(monkeypatch):
    """Folds are not trained, only written down: as (run, fold, resume)."""
    done = []

    def write(_dataset, plan, config, run, *, fold, resume, callbacks, **_options):
        done.append((run.name, fold, resume))
        callbacks.on_warning("other programs use the cores")
        paths = FoldPaths(fold_folder(run, fold))
        paths.last.parent.mkdir(parents=True, exist_ok=True)
        paths.last.touch()
        save_plan(plan, run)
        (run / "training.yaml").write_text(config.model_dump_json())
        return FoldResult(fold=fold, folder=paths.folder, summary=summarize([], {"blob": 1}))

    monkeypatch.setattr(fold_jobs, "fit", write)
    monkeypatch.setattr(train_module, "cross_validate", lambda *_, **__: None)
    return done


def test_the_run_is_that_of_one_machine_though_a_worker_dies(data, options, in_turn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slabs, "_limits", [])
    engines, watch, started, ended = Engines(deaths=["run/fold_1"]), Watch(), [], []

    class Record(TrainingCallbacks):
        def on_fold_start(self, fold, run):
            started.append((fold, run))

        def on_fold_end(self, result):
            ended.append(result.folder)

    runner = ClusterFolds(engines, threads=torch.get_num_threads(), watch=watch)
    result = train(data, Path("run"), options, callbacks=Record(), runner=runner)
    assert engines.made.closed
    assert engines.made.sent == [("run/fold_0", "n0"), ("run/fold_1", "n1"), ("run/fold_1", "n0")]
    assert watch.lost == [("run/fold_1", "n1", 1, "killed by signal 9")]
    assert started == [(0, Path("run")), (1, Path("run"))]
    assert ended == [Path("run/fold_0"), Path("run/fold_1")]
    assert [(each.fold, each.trained) for each in result.folds] == [(0, True), (1, True)]
    assert len(result.cross_validation.summary.cases) == 4
    assert contents(tmp_path / "run") == contents(in_turn)
    log = (tmp_path / "run" / "fold_1" / "log.csv").read_text().splitlines()
    assert len(log) == 1 + options.config.epochs  # the first epoch was not trained again
    assert not list((tmp_path / "run").rglob("progress.json"))


def test_a_fold_that_always_dies_is_reported_and_the_others_are_finished(data, options, untrained, tmp_path):
    engines, watch = Engines(deaths=["run/fold_0"] * 9, begins=False), Watch()
    with pytest.raises(TrainingError, match=r"1 of 2 folds failed, 1 are finished: run/fold_0: lost 3 workers") as told:
        train(data, tmp_path / "run", options, runner=ClusterFolds(engines, watch=watch))
    assert "--resume" in told.value.hint
    assert watch.failed == ["run/fold_0"]
    assert untrained == [("run", 1, False)]
    train(data, tmp_path / "run", replace(options, resume=True), runner=ClusterFolds(Engines()))
    assert untrained[1:] == [("run", 0, True), ("run", 1, True)]


def test_a_fold_that_a_dead_worker_has_begun_is_resumed(data, options, untrained, tmp_path):
    class Begun(Here):
        def start(self, task, avoid):
            last = self.payload(task.name).paths.last
            last.parent.mkdir(parents=True, exist_ok=True)
            last.touch()
            return super().start(task, avoid)

    train(data, tmp_path / "run", options, runner=ClusterFolds(Begun))
    assert untrained == [("run", 0, True), ("run", 1, True)]


def test_cancelled_all_folds_stop(data, options, untrained, tmp_path):
    cancelled = Event()

    class Cancel(TrainingCallbacks):
        def on_fold_end(self, result):
            cancelled.set()

    engines = Engines()
    with pytest.raises(CancelledError, match="cancelled"):
        train(data, tmp_path / "run", options, callbacks=Cancel(), cancelled=cancelled, runner=ClusterFolds(engines))
    assert engines.made.cancelled == ["run/fold_1"]
    assert engines.made.closed


def test_what_workers_say_is_passed_on_once(data, options, untrained, tmp_path):
    class Slow(Here):
        def wait(self, timeout):
            for _, _, payload in self.running.values():
                job = pickle.loads(payload)
                job.paths.progress.parent.mkdir(parents=True, exist_ok=True)
                job.paths.progress.write_text(json.dumps(asdict(FoldProgress(stage="train", epoch=7))))
            return super().wait(timeout)

    warnings, watch = [], Watch()

    class Record(TrainingCallbacks):
        def on_warning(self, text):
            warnings.append(text)

    train(data, tmp_path / "run", options, callbacks=Record(), runner=ClusterFolds(Slow, watch=watch))
    assert warnings == ["run/fold_0: other programs use the cores"]
    assert watch.running[:2] == [("run/fold_0", "n0", None), ("run/fold_1", "n1", None)]
    assert ("run/fold_1", "n1", FoldProgress(stage="train", epoch=7)) in watch.running


def test_a_fold_that_another_program_trains_is_refused(data, options, tmp_path, monkeypatch):
    monkeypatch.setattr(folds, "_PATIENCE", 0.0)
    held, end = Event(), Event()

    def hold():
        with exclusive(tmp_path / "run" / "fold_0", "attunet train"):
            held.set()
            end.wait(60)

    thread = Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        with pytest.raises(TrainingError, match=r"1 of 1 folds failed, 0 are finished: .*is in use by attunet train"):
            train(data, tmp_path / "run", replace(options, folds=(0,)), runner=ClusterFolds(Engines()))
    finally:
        end.set()
        thread.join()


def test_several_devices_a_fold_are_refused(data, options, tiny_config, tmp_path):
    several = replace(options, config=tiny_config(devices=2))
    with pytest.raises(ConfigError, match="several devices a fold"):
        train(data, tmp_path / "run", several, runner=ClusterFolds(Engines()))


def test_variants_are_trained_fold_by_fold(data, tiny_plan, tiny_config, untrained, tmp_path):
    options = VariantOptions(
        plan=tiny_plan(), variants=("gated", "ungated"), config=tiny_config(epochs=1), device="cpu"
    )
    ended = []

    class Record(VariantCallbacks):
        def on_variant_end(self, variant, fold, dice, trained):
            ended.append((variant.name, fold))

    engines = Engines(deaths=["gated/fold_1"], begins=False)
    runner = ClusterFolds(engines, policy=SchedulerPolicy(slow_factor=None, tries=1))
    with pytest.raises(TrainingError, match="1 of 4 folds failed"):
        train_variants(data, tmp_path / "out", options, callbacks=Record(), runner=runner)
    order = [("gated", 0), ("ungated", 0), ("gated", 1), ("ungated", 1)]
    assert [name for name, _ in engines.made.sent] == [f"{variant}/fold_{fold}" for variant, fold in order]
    assert ended == [each for each in order if each != ("gated", 1)]
