"""`attunet export`: folders that predict, and what cannot be exported."""

from __future__ import annotations

import json

import numpy as np
import pytest

from attunet.bundle import Quantization
from attunet.cli.export import export
from attunet.cli.predict import predict
from attunet.data.formats import read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import BundleError, ConfigError, EngineError
from attunet.export import package


def test_an_exported_folder_predicts_the_same(tiny_run, tmp_path, invoke):
    done = invoke(export, "-m", tiny_run, "-o", tmp_path / "small", "--fold", "1")
    assert done.exit_code == 0
    assert "fold_1: differs from torch in fp32 by" in done.stderr
    assert not (tmp_path / "small" / "fold_1" / "weights.safetensors").exists()
    scan = tmp_path / "scan.nii.gz"
    write_volume(Volume.from_array(np.random.default_rng(0).normal(size=(24, 20, 12))), scan)
    masks = []
    for model, fold in ((tiny_run, "1"), (tmp_path / "small", "all")):
        out = tmp_path / f"masks{len(masks)}"
        assert invoke(predict, "-m", model, "-i", scan, "-o", out, "--fold", fold).exit_code == 0
        masks.append(read_volume(out / "scan.nii.gz").array)
    np.testing.assert_array_equal(*masks)


def test_a_monai_bundle_says_where_it_differs(tiny_run, tmp_path, invoke):
    done = invoke(export, "-m", tiny_run, "-o", tmp_path / "bundle", "--format", "monai", "--fold", "0")
    assert done.exit_code == 0
    assert "differs from attunet predict" in done.stderr
    assert json.loads((tmp_path / "bundle" / "configs" / "inference.json").read_text())["run"]


@pytest.mark.parametrize(("kept", "code"), [(True, 0), (False, 1)])
def test_refused_integers_are_a_problem(kept, code, tiny_run, tmp_path, invoke, monkeypatch):
    tried = Quantization(kept=kept, dice_before=0.9, dice_after=0.85, cases=4, patches=8)
    monkeypatch.setattr(package, "quantize", lambda *_, **__: tried)
    done = invoke(export, "-m", tiny_run, "-o", tmp_path / "out", "--int8", "--fold", "0")
    assert done.exit_code == code
    assert "0.9000 before, 0.8500 after" in done.stderr
    assert ("8-bit integers rejected" in done.stderr) != kept
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        (("--format", "monai", "--int8"), ConfigError),
        (("--format", "torch", "--int8"), ConfigError),
        (("--fold", "7"), BundleError),
        (("--fold", "first"), ConfigError),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(typed, kind, tiny_run, tmp_path, invoke):
    done = invoke(export, "-m", tiny_run, "-o", tmp_path / "out", *typed)
    assert isinstance(done.exception, kind)
    assert not list(tmp_path.iterdir())


def test_torch_is_required(tiny_run, tmp_path, invoke, monkeypatch):
    monkeypatch.setattr("attunet.cli.options.find_spec", lambda _name: None)
    done = invoke(export, "-m", tiny_run, "-o", tmp_path / "out")
    assert isinstance(done.exception, EngineError)
    assert "attunet[train]" in done.exception.hint
