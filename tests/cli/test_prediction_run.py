"""Many cases at a time: in order, whatever fails, and never two large ones together."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from attunet.cli import prediction_run
from attunet.cli.prediction_run import Wanted, predict_cases
from attunet.data.cases import find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import DataError
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
    outcomes = predict_cases(segmenter, cases, tmp_path / "masks", Wanted())
    assert [outcome.case for outcome in outcomes] == [case.id for case in cases]
    for case in cases:
        mask = read_label(tmp_path / "masks" / f"{case.id}.nii.gz").array
        np.testing.assert_array_equal(mask, segmenter.predict(case).segmentation.array)


def test_failures_keep_their_place(segmenter, cases, tmp_path):
    for index in (0, 3, 7):
        cases[index].images[0].write_bytes(b"no image")
    outcomes = predict_cases(segmenter, cases, tmp_path / "masks", Wanted())
    assert [bool(outcome.error) for outcome in outcomes] == [index in (0, 3, 7) for index in range(8)]
    assert all(outcome.hint for outcome in outcomes if outcome.error)


@pytest.mark.parametrize(("large", "most"), [(0, 1), (2**24, 2)])
def test_large_cases_are_segmented_one_at_a_time(large, most, segmenter, cases, tmp_path, monkeypatch):
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

    monkeypatch.setattr(prediction_run, "_LARGE", large)
    predict_cases(Watched(), cases, tmp_path / "masks", Wanted())
    assert max(peak) == most


def test_an_interrupt_ends_what_is_under_way(segmenter, cases, tmp_path, monkeypatch):
    begun = []

    class Endless:
        plan, read = segmenter.plan, staticmethod(segmenter.read)

        @staticmethod
        def predict(*_arguments, name, advance, **_options):
            begun.append(name)
            if name == "scan0":
                raise KeyboardInterrupt
            while True:
                advance(1, 2)

    with pytest.raises(KeyboardInterrupt):
        predict_cases(Endless(), cases, tmp_path / "masks", Wanted())
    assert len(begun) <= 3
    assert not list((tmp_path / "masks").iterdir())


def test_what_cannot_be_written_is_noted(segmenter, cases, tmp_path, monkeypatch):
    monkeypatch.setattr("attunet.inference.prediction.write_volume", refuse)
    outcomes = predict_cases(segmenter, cases[:2], tmp_path / "masks", Wanted())
    assert [outcome.error for outcome in outcomes] == ["the disk is full"] * 2


def refuse(*_arguments):
    raise DataError("the disk is full")


def test_a_case_that_fits_into_no_memory_is_noted(segmenter, cases, tmp_path):
    class Full:
        plan, read = segmenter.plan, staticmethod(segmenter.read)

        @staticmethod
        def predict(*_arguments, **_options):
            raise MemoryError

    seen = []
    outcomes = predict_cases(Full(), cases[:2], tmp_path / "masks", Wanted(), each=seen.append)
    assert seen == outcomes
    assert {outcome.error for outcome in outcomes} == {"there is not enough memory for it"}
    assert all("--max-memory" in outcome.hint for outcome in outcomes)
