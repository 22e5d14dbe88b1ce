"""An exported torch program as an engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from attunet.errors import BundleError, EngineError
from attunet.inference.engines.program_engine import ProgramEngine


class Halving(nn.Module):
    def forward(self, image):
        return {"logits": image / 2, "level2": image.sigmoid()}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    torch.export.save(torch.export.export(Halving(), (torch.zeros(2, 1, 4, 4),)), path)
    return path


def test_outputs_come_by_name(program):
    engine = ProgramEngine(program, batch=2)
    patches = np.flip(np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4), 2)
    found = engine(patches)
    assert engine.name == "torch program cpu fp32"
    np.testing.assert_array_equal(found.logits, patches / 2)
    assert found.attention.keys() == {"level2"}


def test_what_it_cannot_do_is_reported(program, tmp_path):
    engine = ProgramEngine(program)
    with pytest.raises(EngineError, match="cannot replace its attention"):
        engine(np.zeros((1, 1, 4, 4), np.float32), {"level2": np.zeros((1, 1, 4, 4), np.float32)})
    (tmp_path / "model.pt2").write_bytes(b"no program")
    with pytest.raises(BundleError, match="cannot be read by torch"):
        ProgramEngine(tmp_path / "model.pt2")
