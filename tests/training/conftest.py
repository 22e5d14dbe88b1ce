"""Preprocessed cases to train on, made once for all training tests."""

import csv

import pytest
import torch

from attunet.config import Plan
from attunet.data.cases import read_dataset
from attunet.training.callbacks.progress import SILENT
from attunet.training.fit import fit
from attunet.training.run_folder import FoldPaths
from attunet.training.store import store_cases


@pytest.fixture(scope="session")
def blobs(tmp_path_factory, write_blobs):
    """A data set of four labelled volumes with one bright ball each."""
    return read_dataset(write_blobs(tmp_path_factory.mktemp("blobs")))


@pytest.fixture(scope="session")
def stored(blobs, tiny_plan, tmp_path_factory):
    """Those volumes, preprocessed, in the order of their names."""
    cases = store_cases(blobs.cases, tiny_plan(), tmp_path_factory.mktemp("store"), workers=0)
    return [cases[case.id] for case in blobs.cases]


@pytest.fixture(scope="session")
def store(tmp_path_factory, blobs, tiny_plan):
    """Where those volumes lie preprocessed, for `fit` to find."""
    folder = tmp_path_factory.mktemp("kept")
    store_cases(blobs.cases, tiny_plan(), folder, workers=0)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, blobs, tiny_plan, tiny_config, store):
    """A model folder with fold 0 trained for two epochs; copy it before changing anything."""
    run = tmp_path_factory.mktemp("trained") / "run"
    fit(blobs, tiny_plan(), tiny_config(), run, device="cpu", store=store)
    return run


@pytest.fixture
def train(blobs, tiny_plan, tiny_config, store, tmp_path):
    """Trains fold 0 of the blobs in `tmp_path / name`; keyword arguments beside `fit`'s own change the settings."""

    def run(name="run", *, dataset=blobs, plan=None, fold=0, resume=False, callbacks=SILENT, cancelled=None, **changes):
        return fit(
            dataset, plan or tiny_plan(), tiny_config(**changes), tmp_path / name,
            fold=fold, device="cpu", resume=resume, store=store, callbacks=callbacks, cancelled=cancelled,
        )  # fmt: skip

    return run


@pytest.fixture
def last_of():
    """Reads the last checkpoint of fold 0 of a model folder."""
    return lambda run: torch.load(FoldPaths(run / "fold_0").last, weights_only=True)


@pytest.fixture
def log_of():
    """Reads the log of fold 0 of a model folder: one dictionary per epoch."""

    def read(run):
        with FoldPaths(run / "fold_0").log.open() as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(scope="session")
def regions_plan(make_regions_plan):
    """A plan in three dimensions of a tumour, its core and the enhancing part of that."""
    return make_regions_plan()


@pytest.fixture(scope="session")
def make_regions_plan(tiny_plan):
    """Makes such plans; keyword arguments replace fields."""

    def make(dims=3, **changes):
        regions = {"tumour": (1, 2, 4), "core": (2, 4), "enhancing": (4,)}
        network = tiny_plan(dims=dims, labels={"background": 0, "a": 1, "b": 2}).network
        fields = {
            **tiny_plan(dims=dims).model_dump(),
            "labels": {"background": 0, "tumour": 1, "core": 2, "enhancing": 4},
            "regions": regions,
            "network": network,
        }
        return Plan(**{**fields, **changes})

    return make
