"""`attunet convert`: another project's weights as a model folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from attunet.cli.convert import convert
from attunet.cli.info import info
from attunet.errors import ConfigError, FormatError
from attunet.inference.segmenter import Segmenter

GOLDEN = Path(__file__).parents[1] / "golden"


def weights_of(name):
    return GOLDEN / name / "weights.safetensors"


def test_the_listing_becomes_a_model_and_its_double_sigmoid_is_warned_of_once(tmp_path, invoke):
    done = invoke(convert, weights_of("blog_transpose"), "-o", tmp_path / "model", "--patch", "32,32")
    assert done.exit_code == 0
    assert done.stderr.count("double sigmoid") == 1
    assert "recognised: listing, 2-D, gate additive" in done.stderr
    assert "assumed, because weights do not contain it: --spacing 1×1×1 mm; --labels class_1;" in done.stderr
    facts = json.loads(invoke(info, tmp_path / "model", "--json").stdout)
    assert facts["labels"] == {"background": 0, "class_1": 1}
    assert facts["patch size"] == [32, 32, 1]
    picture = np.random.default_rng(0).normal(size=(3, 40, 36, 1))
    result = Segmenter.load(tmp_path / "model", device="cpu").predict(picture, attention=True)
    assert all(0.49 < alpha.array.min() <= alpha.array.max() < 0.74 for alpha in result.attention.values())


def test_one_sigmoid_can_be_requested_and_is_silent(tmp_path, invoke):
    done = invoke(
        convert, weights_of("blog_upsample"), "-o", tmp_path / "model", "--patch", "32,32", "--single-sigmoid"
    )
    assert done.exit_code == 0
    assert "double sigmoid" not in done.stderr


def test_the_papers_network_takes_names_and_a_grid(tmp_path, invoke):
    pth = tmp_path / "oktay.pth"
    torch.save(load_file(weights_of("oktay_single")), pth)
    typed = ("--labels", "liver=5,spleen=2,pancreas=9", "--patch", "32,32,16", "--spacing", "2,2,2")
    done = invoke(convert, pth, "-o", tmp_path / "model", *typed)
    assert done.exit_code == 0
    assert "recognised: paper, 3-D, gate grid" in done.stderr
    assert "assumed" not in done.stderr
    facts = json.loads(invoke(info, tmp_path / "model", "--json").stdout)
    assert facts["labels"] == {"background": 0, "liver": 5, "spleen": 2, "pancreas": 9}


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        (("--labels", "liver=1"), ConfigError),
        (("--labels", "liver"), ConfigError),
        (("--patch", "big"), ConfigError),
        (("--spacing", "0,1,1"), ConfigError),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(typed, kind, tmp_path, invoke):
    done = invoke(convert, weights_of("oktay_unet"), "-o", tmp_path / "model", *typed)
    assert isinstance(done.exception, kind)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_touched(tmp_path, invoke):
    (tmp_path / "note.txt").write_text("mine")
    done = invoke(convert, weights_of("oktay_unet"), "-o", tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "weights.h5", "broken.pth", "broken.safetensors"])
def test_files_without_weights_are_refused(name, tmp_path, invoke):
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"no weights")
    done = invoke(convert, tmp_path / name, "-o", tmp_path / "model")
    assert isinstance(done.exception, FormatError)
    assert done.exception.hint
    assert not (tmp_path / "model").exists()
