"""One case from its file to its mask, for a batch and for a worker of a cluster."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from attunet.data.cases import find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import CancelledError, FormatError
from attunet.inference.case_worker import CaseWorker
from attunet.inference.destination import Destination
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import exclusive


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


@pytest.fixture
def case(tmp_path):
    array = np.random.default_rng(0).normal(100, 30, (1, 20, 16, 10)).astype(np.int16)
    write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / "scan.nii.gz")
    return find_cases([tmp_path / "scans"], 1)[0]


@pytest.fixture
def output(tmp_path):
    with exclusive(tmp_path / "masks"):
        yield tmp_path / "masks"


def make(segmenter, output, **how):
    return CaseWorker(segmenter, output, PredictOptions(scratch=output), destination=Destination(), **how)


@pytest.mark.parametrize("shared", [False, True])
def test_a_case_is_predicted_and_written(shared, segmenter, case, output):
    result = make(segmenter, output)(case, shared=shared)
    assert (result.case, result.error, result.mask) == ("scan", None, str(output / "scan.nii.gz"))
    expected = segmenter.predict(case)
    np.testing.assert_array_equal(read_label(output / "scan.nii.gz").array, expected.segmentation.array)
    assert result.volumes_ml == {name: round(volume, 3) for name, volume in expected.volumes_ml.items()}


def test_of_two_workers_the_first_wins_and_both_answer(segmenter, case, output):
    first = make(segmenter, output)(case, shared=True)
    before = (output / "scan.nii.gz").stat().st_mtime_ns
    second = make(segmenter, output)(case, shared=True)
    assert (output / "scan.nii.gz").stat().st_mtime_ns == before
    assert (second.mask, second.volumes_ml) == (first.mask, first.volumes_ml)
    make(segmenter, output)(case)
    assert (output / "scan.nii.gz").stat().st_mtime_ns != before


def test_a_damaged_image_is_an_answer(segmenter, case, output):
    case.images[0].write_bytes(b"no image")
    result = make(segmenter, output)(case, shared=True)
    assert result.error
    assert result.hint
    assert not list(output.glob("*.nii.gz"))


def test_a_folder_that_has_vanished_is_none(segmenter, case, output):
    output.rename(output.with_name("elsewhere"))
    with pytest.raises(FormatError, match="has vanished"):
        make(segmenter, output)(case)
    output.with_name("elsewhere").rename(output)


def test_a_cancelled_worker_begins_nothing(segmenter, case, output):
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        make(segmenter, output, cancelled=cancelled)(case)
