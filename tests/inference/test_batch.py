"""Many cases at a time: in order, whatever fails, and never two large ones together."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest

from attunet.data.cases import find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import CancelledError, DataError, FormatError
from attunet.inference.batch import predict_cases
from attunet.inference.destination import Destination
from attunet.inference.estimate import estimate_cases
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


@pytest.fixture
def cases(tmp_path):
    for index in range(8):
        array = np.random.default_rng(index).normal(100, 30, (1, 20 + index, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / f"scan{index}.nii.gz")
    return find_cases([tmp_path / "scans"], 1)


def test_masks_are_those_of_one_prediction_after_another(segmenter, cases, tmp_path):
    results = predict_cases(segmenter, cases, tmp_path / "masks")
    assert [result.case for result in results] == [case.id for case in cases]
    for case in cases:
        mask = read_label(tmp_path / "masks" / f"{case.id}.nii.gz").array
        np.testing.assert_array_equal(mask, segmenter.predict(case).segmentation.array)


def test_failures_keep_their_place(segmenter, cases, tmp_path):
    for index in (0, 3, 7):
        cases[index].images[0].write_bytes(b"no image")
    results = predict_cases(segmenter, cases, tmp_path / "masks")
    assert [bool(result.error) for result in results] == [index in (0, 3, 7) for index in range(8)]
    assert all(result.hint for result in results if result.error)


@pytest.mark.parametrize(("large", "most"), [(0, 1), (2**24, 2)])
def test_large_cases_are_segmented_one_at_a_time(large, most, segmenter, cases, tmp_path):
    busy, peak, lock = 0, [], threading.Lock()
    meet = threading.Barrier(2)

    class Watched:
        plan, read = segmenter.plan, staticmethod(segmenter.read)

        @staticmethod
        def predict(*arguments, **options):
            nonlocal busy
            with lock:
                busy += 1
                peak.append(busy)
            if most == 2 and len(peak) <= 2:
                meet.wait(timeout=20)
            try:
                return segmenter.predict(*arguments, **options)
            finally:
                with lock:
                    busy -= 1

    predict_cases(Watched(), cases, tmp_path / "masks", large=large)
    assert max(peak) == most


def test_an_interrupt_ends_what_is_under_way(segmenter, cases, tmp_path):
    begun = []

    class Endless:
        plan, read = segmenter.plan, staticmethod(segmenter.read)

        @staticmethod
        def predict(*_arguments, name, cancelled, **_options):
            begun.append(name)
            if name == "scan0":
                raise KeyboardInterrupt
            cancelled.wait()
            raise CancelledError("cancelled")

    with pytest.raises(KeyboardInterrupt):
        predict_cases(Endless(), cases, tmp_path / "masks")
    assert len(begun) <= 3
    assert not list((tmp_path / "masks").iterdir())


def test_what_cannot_be_written_is_noted(segmenter, cases, tmp_path, monkeypatch):
    monkeypatch.setattr("attunet.inference.prediction.write_volume", refuse)
    results = predict_cases(segmenter, cases[:2], tmp_path / "masks")
    assert [result.error for result in results] == ["the disk is full"] * 2


def refuse(*_arguments):
    raise DataError("the disk is full")


def test_a_case_that_fits_into_no_memory_is_noted(segmenter, cases, tmp_path):
    class Full:
        plan, read = segmenter.plan, staticmethod(segmenter.read)

        @staticmethod
        def predict(*_arguments, **_options):
            raise MemoryError

    seen = []
    results = predict_cases(Full(), cases[:2], tmp_path / "masks", on_result=seen.append)
    assert seen == results
    assert {result.error for result in results} == {"there is not enough memory for it"}
    assert all("--max-memory" in result.hint for result in results)


def test_a_cancelled_batch_returns_what_was_finished(segmenter, cases, tmp_path):
    cancelled = threading.Event()
    results = predict_cases(
        segmenter, cases, tmp_path / "masks", on_result=lambda _: cancelled.set(), cancelled=cancelled
    )
    assert 1 <= len(results) < len(cases)
    assert all(
        Destination().mask(case, tmp_path / "masks").exists()
        for case in cases
        if case.id in {result.case for result in results}
    )


@pytest.mark.parametrize("ends_with", [CancelledError, KeyboardInterrupt])
def test_a_case_that_was_written_is_reported_although_the_one_before_was_not(ends_with, segmenter, cases, tmp_path):
    seen = []

    class FirstFails:
        plan, read = segmenter.plan, staticmethod(segmenter.read)

        @staticmethod
        def predict(volume, options, *, name, **others):
            if name != "scan0":
                return segmenter.predict(volume, options, name=name, **others)
            while not (tmp_path / "masks" / "scan1.nii.gz").exists():
                time.sleep(0.01)
            raise ends_with("stopped")

    with contextlib.suppress(KeyboardInterrupt):
        predict_cases(FirstFails(), cases[:2], tmp_path / "masks", on_result=seen.append)
    assert [result.case for result in seen] == ["scan1"]


def test_the_event_of_the_caller_is_left_alone(segmenter, cases, tmp_path):
    def refuse(_result):
        raise RuntimeError("no place for results")

    cancelled = threading.Event()
    with pytest.raises(RuntimeError, match="no place"):
        predict_cases(segmenter, cases, tmp_path / "masks", on_result=refuse, cancelled=cancelled)
    assert not cancelled.is_set()
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) < len(cases)


def test_a_prediction_is_cancelled_between_windows(segmenter, cases):
    cancelled, seen = threading.Event(), []

    def progress(done, total):
        seen.append((done, total))
        cancelled.set()

    with pytest.raises(CancelledError):
        segmenter.predict(cases[0], step_size=0.2, progress=progress, cancelled=cancelled)
    assert len(seen) == 1
    assert seen[0][0] < seen[0][1]


def test_existing_masks_are_passed_over(segmenter, cases, tmp_path):
    predict_cases(segmenter, cases[:2], tmp_path / "masks")
    results = predict_cases(segmenter, cases[:4], tmp_path / "masks", skip_existing=True)
    assert [result.case for result in results] == ["scan2", "scan3"]


def test_a_hook_sees_each_prediction_before_it_is_written(segmenter, cases, tmp_path):
    def hook(prediction):
        assert not (tmp_path / "masks" / f"{prediction.case}.nii.gz").exists()
        return {"gates": sorted(prediction.attention)}

    options = PredictOptions(attention=True)
    results = predict_cases(segmenter, cases[:2], tmp_path / "masks", options, on_prediction=hook, save_attention=False)
    assert [result.extra for result in results] == [{"gates": ["level2"]}] * 2
    assert not (tmp_path / "masks" / "attention").exists()


def test_an_estimate_reads_every_case_and_writes_nothing(segmenter, cases, tmp_path):
    cases[1].images[0].write_bytes(b"no image")
    before = set(tmp_path.rglob("*"))
    estimates = list(estimate_cases(segmenter, cases[:3]))
    assert [bool(estimate.error) for estimate in estimates] == [False, True, False]
    assert [estimate.case for estimate in estimates] == ["scan0", "scan1", "scan2"]
    assert estimates[0].shape == (20, 16, 10)
    assert estimates[0].windows > 0
    assert estimates[0].peak_bytes > 0
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_vanishes_ends_the_batch_and_is_not_made_anew(segmenter, cases, tmp_path):
    output = tmp_path / "masks"

    def unmount(result):
        if output.exists():
            output.rename(tmp_path / "elsewhere")

    with pytest.raises(FormatError, match="has vanished"):
        predict_cases(segmenter, cases, output, on_result=unmount)
    assert not output.exists()
    assert (tmp_path / "elsewhere" / "scan0.nii.gz").exists()


@pytest.mark.parametrize("inside", ["", "sub"])
def test_a_folder_that_cannot_be_written_to_is_one_error(inside, segmenter, cases, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match=r"cannot write into .*file"):
        predict_cases(segmenter, cases, tmp_path / "file" / inside)
