import pickle

import pytest
import torch

from attunet.errors import TrainingError
from attunet.training import checkpoint
from attunet.training.checkpoint import WholeCheckpoints


def test_what_is_saved_is_loaded(tmp_path):
    content = {"state_dict": {"weight": torch.arange(3.0)}, "callbacks": {"History": {"rows": [{"loss": 0.5}]}}}
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(content, path)
    loaded = WholeCheckpoints().load_checkpoint(path)
    assert torch.equal(loaded["state_dict"].pop("weight"), content["state_dict"].pop("weight"))
    assert loaded == content
    assert list(path.parent.iterdir()) == [path]


def test_a_save_that_is_cut_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)

    def cut(_content, stage):
        stage.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert WholeCheckpoints().load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", pickle.dumps(Trap(), protocol=2)], ids=["empty", "foreign", "code"]
)
def test_a_damaged_or_foreign_file_is_refused_with_a_remedy(content, tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read") as caught:
        WholeCheckpoints().load_checkpoint(path)
    assert "without --resume" in caught.value.hint


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"weight": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(TrainingError, match="cannot be read"):
        WholeCheckpoints().load_checkpoint(path)
