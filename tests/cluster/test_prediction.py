"""Cases on an engine, here one that works at once: results, the ledger and what is missing."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest

from attunet.cluster.ledger import LEDGER, Ledger, LedgerRow, read_ledger
from attunet.cluster.prediction import PredictionWork, predict_on_engine
from attunet.cluster.scheduler import SchedulerPolicy
from attunet.cluster.tasks import Attempt, Ticket
from attunet.data.cases import find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import AttunetError, BundleError, BusyError, ConfigError, EngineError, FormatError
from attunet.inference.batch import predict_cases
from attunet.inference.case_worker import CaseResult
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import exclusive


class PromptEngine:
    """Does each task in this thread when it is started; what is in `deaths` loses its worker that many times."""

    def __init__(self, work, job_of, deaths=None):
        self.do, self.job_of = pickle.loads(pickle.dumps(work))(), job_of
        self.deaths, self.started, self.ended, self.closed = dict(deaths or {}), [], [], False

    def start(self, task, avoid):
        if self.ended:
            return None
        self.started.append(task.name)
        number = len(self.started)
        told = {"task": task.name, "ticket": number, "node": "here", "seconds": 0.1}
        if self.deaths.get(task.name, 0) > 0:
            self.deaths[task.name] -= 1
            self.ended.append(Attempt(**told, lost="worker", reason="it was killed"))
        else:
            try:
                self.ended.append(Attempt(**told, value=self.do(pickle.loads(pickle.dumps(self.job_of(task.name))))))
            except AttunetError as error:
                self.ended.append(Attempt(**told, error=error.message, hint=error.hint))
        return Ticket(number, "here")

    def wait(self, timeout):
        ended, self.ended = self.ended, []
        return ended

    def cancel(self, ticket): ...

    def refusal(self, task):
        return ""

    def nodes(self):
        return {"here": 1}

    def time(self):
        return time.monotonic()

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


@pytest.fixture
def cases(tmp_path):
    for index in range(5):
        array = np.random.default_rng(index).normal(100, 30, (1, 20 + index, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / f"scan{index}.nii.gz")
    return find_cases([tmp_path / "scans"], 1)


@pytest.fixture
def run(segmenter, tiny_run, tmp_path):
    """`run(cases, deaths=None, **how)`: results, and the engine."""

    def start(cases, deaths=None, **how):
        fields = {name: how.pop(name) for name in list(how) if name in PredictionWork.__dataclass_fields__}
        usual = {"model": tiny_run, "output": tmp_path / "masks", "folds": [0], "device": "cpu"}
        work = PredictionWork(**{**usual, **fields})
        engines = []

        def make_engine(work, job_of, memory):
            assert memory > 2**20
            engines.append(PromptEngine(work, job_of, deaths))
            return engines[-1]

        results = predict_on_engine(segmenter, work, cases, make_engine, **how)
        return results, engines[0] if engines else None

    return start


def test_results_and_masks_are_those_of_one_machine(segmenter, cases, tmp_path, run):
    cases[2].images[0].write_bytes(b"no image")
    seen = []
    results, engine = run(cases, on_result=seen.append)
    expected = predict_cases(segmenter, cases, tmp_path / "expected")
    for one, other in zip(results, expected, strict=True):
        assert (one.case, one.error, one.hint) == (other.case, other.error, other.hint)
        assert (one.volumes_ml, one.windows, one.warnings) == (other.volumes_ml, other.windows, other.warnings)
        if not other.error:
            masks = [read_label(tmp_path / folder / f"{one.case}.nii.gz").array for folder in ("masks", "expected")]
            np.testing.assert_array_equal(*masks)
    assert {result.case for result in seen} == {case.id for case in cases}
    assert engine.closed
    assert engine.started[0] == "scan4"  # the largest


def test_the_ledger_tells_how_each_case_ended(cases, tmp_path, run):
    cases[2].images[0].write_bytes(b"no image")
    run(cases, deaths={"scan1": 1, "scan3": 9})
    rows = read_ledger(tmp_path / "masks" / LEDGER)
    assert {name: (row.state, row.tries) for name, row in rows.items()} == {
        "scan0": ("done", 1),
        "scan1": ("done", 2),
        "scan2": ("failed", 1),
        "scan3": ("failed", 3),
        "scan4": ("done", 1),
    }
    assert "it was killed" in rows["scan3"].error
    assert rows["scan2"].hint
    assert rows["scan0"].peak_bytes > 2**20
    assert (rows["scan0"].node, rows["scan0"].mask) == ("here", str(tmp_path / "masks" / "scan0.nii.gz"))
    assert rows["scan0"].volumes_ml.keys() == {"body", "lesion"}


def test_a_case_that_kills_its_worker_is_reported_and_the_others_finish(cases, run):
    results, engine = run(cases, deaths={"scan3": 9}, policy=SchedulerPolicy(tries=2))
    assert [bool(result.error) for result in results] == [False, False, False, True, False]
    assert engine.started.count("scan3") == 2


def test_a_run_begins_with_what_is_missing(cases, tmp_path, run):
    run(cases[:2])
    before = (tmp_path / "masks" / "scan0.nii.gz").stat().st_mtime_ns
    results, engine = run(cases, skip_existing=True)
    assert sorted(engine.started) == [result.case for result in results] == ["scan2", "scan3", "scan4"]
    assert (tmp_path / "masks" / "scan0.nii.gz").stat().st_mtime_ns == before
    assert run(cases, skip_existing=True) == ([], None)
    run(cases[:1])
    assert (tmp_path / "masks" / "scan0.nii.gz").stat().st_mtime_ns > before


def test_a_result_whose_driver_was_killed_before_its_row_is_entered_by_the_next(cases, tmp_path, run):
    run(cases[:2])
    with Ledger(tmp_path / "masks" / LEDGER) as ledger:
        ledger.add(LedgerRow(case="scan0", state="running"))
    run(cases[:2], skip_existing=True)
    assert {row.state for row in read_ledger(tmp_path / "masks" / LEDGER).values()} == {"done"}


def test_a_result_that_appeared_during_the_run_is_kept(cases, tmp_path, run):
    mask = tmp_path / "masks" / "scan0.nii.gz"

    def publish(event, _progress):
        if event.task == "scan4" and event.kind == "done":
            mask.write_text("of a try that was taken for lost")

    run(cases, on_event=publish)
    assert mask.read_text() == "of a try that was taken for lost"


def test_progress_counts_cases_by_node(cases, run):
    last = []
    run(cases, deaths={"scan1": 1}, on_event=lambda _event, progress: last.append((progress.done, progress.share)))
    assert last[-1] == (5, pytest.approx(1.0))
    assert [done for done, _ in last] == sorted(done for done, _ in last)


def test_after_a_cancellation_nothing_new_starts(cases, tmp_path, run):
    cancelled = threading.Event()
    results, engine = run(cases, on_result=lambda _: cancelled.set(), cancelled=cancelled)
    assert [result.case for result in results] == engine.started == ["scan4"]
    assert read_ledger(tmp_path / "masks" / LEDGER)["scan0"].state == "queued"


def test_a_folder_that_vanishes_ends_the_run(cases, tmp_path, run):
    def unmount(_result):
        (tmp_path / "masks").rename(tmp_path / "elsewhere")

    with pytest.raises(FormatError, match="has vanished"):
        run(cases, on_result=unmount)


def test_two_runs_do_not_share_a_folder(cases, tmp_path, run):
    ready, done = threading.Event(), threading.Event()

    def hold():
        with exclusive(tmp_path / "masks"):
            ready.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(20)
    try:
        with pytest.raises(BusyError):
            run(cases)
    finally:
        done.set()
        thread.join()


def test_a_mask_never_replaces_its_image(cases, tmp_path, run):
    with pytest.raises(ConfigError, match="overwrite"):
        run(cases, output=tmp_path / "scans")


def test_a_worker_refuses_another_folder_or_another_model(tiny_run, tmp_path):
    work = PredictionWork(model=tiny_run, output=tmp_path / "masks", device="cpu", manifest="0" * 64)
    with pytest.raises(EngineError, match="is another folder here"):
        work()
    with exclusive(tmp_path / "masks"), pytest.raises(BundleError, match="another model"):
        work()


def test_options_reach_the_workers(cases, tmp_path, run):
    options = PredictOptions(probabilities=True, attention=True)
    run(cases[:1], options=options, save_attention=True, on_prediction=_hook)
    names = {str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.nii.gz")}
    assert names == {"scan0.nii.gz", "attention/scan0_level2.nii.gz", "probabilities/scan0.nii.gz"}


def _hook(prediction):
    return {"gates": sorted(prediction.attention)}


def test_a_result_crosses_processes():
    result = CaseResult(case="a", volumes_ml={"liver": 1.0})
    assert pickle.loads(pickle.dumps(result)) == result
