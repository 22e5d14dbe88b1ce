"""Cases are measured by their headers, and the memory of the others follows from the largest."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image

from attunet.cluster.case_sizes import case_memory, case_sizes
from attunet.data.cases import Case
from attunet.inference.estimate import estimate_cases
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter


def case_of(path):
    return Case(path.name, (path,), None)


def test_headers_tell_the_voxels(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7, 2), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    Image.new("L", (20, 30)).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", np.zeros(1000, np.int16))
    (tmp_path / "d.nii.gz").write_bytes(b"no image")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "slice.dcm").write_bytes(bytes(400))
    sizes = case_sizes([case_of(tmp_path / name) for name in ("a.nii.gz", "b.png", "c.npy", "d.nii.gz", "e", "f.png")])
    assert (sizes["a.nii.gz"], sizes["b.png"], sizes["e"]) == (210, 600, 200)
    assert 1000 <= sizes["c.npy"] <= 1100
    assert (sizes["d.nii.gz"], sizes["f.png"]) == (1, 1)


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


def make_cases(folder, edges):
    for edge in edges:
        image = nibabel.Nifti1Image(np.random.default_rng(edge).normal(size=(edge,) * 3).astype(np.float32), np.eye(4))
        nibabel.save(image, folder / f"{edge}.nii")
    return [case_of(folder / f"{edge}.nii") for edge in edges]


def test_memory_grows_with_the_case_and_covers_the_estimate(segmenter, tmp_path):
    cases = make_cases(tmp_path, (16, 24, 96))
    memory = case_memory(segmenter, cases, case_sizes(cases), PredictOptions())
    assert memory["16.nii"] <= memory["24.nii"] < memory["96.nii"]
    assert memory["96.nii"] >= next(estimate_cases(segmenter, cases[2:])).peak_bytes


def test_the_memory_limit_of_a_prediction_is_that_of_a_worker(segmenter, tmp_path):
    cases = make_cases(tmp_path, (16,))
    limit = 2**34
    assert case_memory(segmenter, cases, {"16.nii": 2**40}, PredictOptions(max_memory=limit)) == {"16.nii": 0}
    assert max(case_memory(segmenter, cases, case_sizes(cases), PredictOptions(max_memory=limit)).values()) < limit


def test_what_is_larger_than_the_memory_here_is_calculated_and_not_read(segmenter, tmp_path):
    cases = make_cases(tmp_path, (48,))
    bomb = Case("bomb", (tmp_path / "missing.nii",), None)
    memory = case_memory(segmenter, [*cases, bomb], {**case_sizes(cases), "bomb": 2**40}, PredictOptions())
    assert memory["bomb"] > 100 * memory["48.nii"]


def test_of_unreadable_cases_nothing_is_known(segmenter, tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    cases = [case_of(tmp_path / "a.nii.gz")]
    assert case_memory(segmenter, cases, case_sizes(cases), PredictOptions()) == {"a.nii.gz": 0}
