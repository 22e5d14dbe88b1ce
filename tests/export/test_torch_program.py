"""The exported program: torch alone loads it, for any batch and size that its strides divide."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from attunet.errors import TrainingError
from attunet.export import outputs
from attunet.export.torch_program import any_size, as_program, export_program

ALONE = """
import sys
import torch
torch.set_num_threads(1)
program = torch.export.load(sys.argv[1]).module()
found = program(torch.load(sys.argv[2]))
torch.save(found, sys.argv[3])
assert not [name for name in sys.modules if name.startswith("attunet")]
"""


def test_torch_alone_runs_it_at_another_batch_and_size(exported, trained_run, tmp_path, tiny_plan):
    from attunet.bundle import load_bundle
    from attunet.export.package import load_network

    image = torch.randn(3, 1, 24, 8, 16)
    torch.save(image, tmp_path / "image.pt")
    files = [exported("torch").folder / "fold_0" / "model.pt2", tmp_path / "image.pt", tmp_path / "found.pt"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    bundle = load_bundle(trained_run)
    with torch.no_grad():
        expected = load_network(bundle.folds[0], bundle.plan)(image, detailed=True)
    torch.testing.assert_close(found["logits"], expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["level2"], expected.attention["level2"], atol=1e-4, rtol=1e-4)


def test_a_patch_that_strides_do_not_divide_keeps_its_size(make_plan_of, make_network):
    plan = make_plan_of(2).model_copy(update={"patch_size": (15, 12, 1)})
    assert not any_size(plan)
    network = make_network(plan)
    image = torch.randn(3, 1, 15, 12)
    with torch.no_grad():
        np.testing.assert_allclose(as_program(network, plan).module()(image)["logits"], network(image), atol=1e-5)


def test_a_program_that_differs_is_not_written(make_plan_of, make_network, tmp_path, monkeypatch):
    plan = make_plan_of(2).model_copy(update={"patch_size": (15, 12, 1)})
    monkeypatch.setattr(outputs, "_TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="differs from the network"):
        export_program(make_network(plan), plan, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())
