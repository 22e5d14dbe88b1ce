"""A run of two folds of random weights, with the cases that each of them has not seen."""

import shutil

import pytest

from attunet.bundle import fold_folder
from attunet.data.folds import Split


@pytest.fixture(scope="session")
def untouched_run(make_model):
    return make_model(3, folds=2, labels={"background": 0, "blob": 1})


@pytest.fixture(scope="session")
def make_folded(untouched_run, write_blobs):
    """Write a run into a folder, whose two folds validated on three cases each."""

    def make(folder):
        dataset = write_blobs(folder / "blobs", cases=6)
        run = shutil.copytree(untouched_run, folder / "run")
        parts = [tuple(f"case{index}" for index in part) for part in ((0, 2, 4), (1, 3, 5))]
        for fold, part in enumerate(parts):
            Split(dataset, "fail", parts[1 - fold], part).write(fold_folder(run, fold))
        return run

    return make


@pytest.fixture
def folded(make_folded, tmp_path):
    """Such a run, to be changed at will."""
    return make_folded(tmp_path)
