"""Preprocessed cases to train on, made once for all tests of the room."""

import pytest

from attunet.data.cases import read_dataset
from attunet.training.fit import fit
from attunet.training.store import store_cases


@pytest.fixture(scope="session")
def blobs(tmp_path_factory, write_blobs):
    """A data set of four labelled volumes with one bright ball each."""
    return read_dataset(write_blobs(tmp_path_factory.mktemp("blobs")))


@pytest.fixture(scope="session")
def stored(blobs, tiny_plan, tmp_path_factory):
    """Those volumes, preprocessed, in the order of their names."""
    found = store_cases(blobs.cases, tiny_plan(), tmp_path_factory.mktemp("store"), workers=0)
    return [found[case.id] for case in blobs.cases]


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
