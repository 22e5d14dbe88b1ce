import pickle
from threading import Event

import pytest

from attunet.errors import CancelledError
from attunet.training.callbacks.progress import SILENT
from attunet.training.fold_jobs import FoldJob, train_in_turn


@pytest.fixture
def jobs(blobs, tiny_plan, tiny_config, store, tmp_path):
    return [
        FoldJob(
            dataset=blobs,
            plan=tiny_plan(),
            config=tiny_config(epochs=1),
            run=tmp_path / "run",
            fold=fold,
            device="cpu",
            store=store,
        )
        for fold in (1, 0)
    ]


@pytest.mark.integration
def test_folds_are_trained_in_the_given_order(jobs):
    events = []
    results = train_in_turn(
        jobs,
        callbacks=SILENT,
        cancelled=None,
        on_start=lambda job: events.append(("start", job.name)),
        on_end=lambda job, result: events.append(("end", job.name, result.trained)),
    )
    assert [result.fold for result in results] == [1, 0]
    assert events == [
        ("start", "run/fold_1"),
        ("end", "run/fold_1", True),
        ("start", "run/fold_0"),
        ("end", "run/fold_0", True),
    ]
    assert results[0].folder == jobs[0].paths.folder


def test_a_cancelled_training_starts_no_fold(jobs):
    cancelled, started = Event(), []
    cancelled.set()
    with pytest.raises(CancelledError):
        train_in_turn(jobs, callbacks=SILENT, cancelled=cancelled, on_start=started.append, on_end=lambda *_: None)
    assert started == []


def test_a_job_can_be_sent(jobs):
    assert pickle.loads(pickle.dumps(jobs[0])) == jobs[0]
