"""`attunet select`: a table, a sentence, and a model that `predict` takes."""

from __future__ import annotations

import json
import shutil

import pytest

from attunet.bundle import fold_folder, load_model
from attunet.cli.info import info
from attunet.cli.predict import predict
from attunet.cli.select import select
from attunet.data.folds import Split
from attunet.errors import BundleError, ConfigError

LABELS = {"background": 0, "blob": 1}


@pytest.fixture(scope="module")
def untouched(make_model, write_blobs, tmp_path_factory):
    """Two runs, 3-D and 2-D, whose only fold validated on five cases."""
    root = tmp_path_factory.mktemp("runs")
    dataset = write_blobs(root / "blobs", cases=6)
    names = tuple(f"case{index}" for index in range(6))
    for name, dims in (("deep", 3), ("flat", 2)):
        run = shutil.copytree(make_model(dims, labels=LABELS), root / name)
        Split(dataset, "fail", names[:1], names[1:]).write(fold_folder(run, 0))
    return root


def test_what_is_selected_is_a_model(untouched, tmp_path, invoke):
    model = tmp_path / "best"
    done = invoke(select, untouched / "deep", untouched / "flat", "-o", model, "--device", "cpu")
    assert done.exit_code == 0, done.exception
    for text in ("5 held-out cases of fold 0", "deep + flat", "95% CI", "s per case", "has a cross-validated Dice of"):
        assert text in done.stdout
    chosen = json.loads((model / "selection.json").read_text())["chosen"]
    assert len(load_model(model).members) == len(chosen)
    segmented = invoke(predict, "-m", model, "-i", untouched / "blobs" / "images", "-o", tmp_path / "masks")
    assert segmented.exit_code == 0
    assert len(list((tmp_path / "masks").glob("*.nii"))) == 6
    assert invoke(info, model).exit_code == 0


def test_an_output_that_is_there_is_refused_before_the_work(untouched, tmp_path, invoke):
    done = invoke(select, untouched / "deep", untouched / "flat", "-o", tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert "exists already" in str(done.exception)


def test_one_run_is_nothing_to_choose_from(untouched, tmp_path, invoke):
    done = invoke(select, untouched / "deep", "-o", tmp_path / "best")
    assert isinstance(done.exception, ConfigError)


def test_what_is_no_run_is_refused(untouched, tmp_path, invoke):
    done = invoke(select, untouched / "deep", untouched / "blobs", "-o", tmp_path / "best")
    assert isinstance(done.exception, BundleError)
    assert not (tmp_path / "best").exists()
