import pytest

from attunet.errors import EngineError
from attunet.training.callbacks import loggers
from attunet.training.callbacks.loggers import make_loggers
from attunet.training.paths import FoldPaths


def test_nothing_is_logged_elsewhere_unless_asked(tiny_config, tmp_path):
    assert make_loggers(tiny_config(), FoldPaths(tmp_path), "blobs") == []


def test_tensorboard_finds_the_curves(train, tmp_path):
    train(loggers=("tensorboard",), epochs=1)
    (events,) = (tmp_path / "run" / "fold_0" / "tensorboard").glob("events*")
    assert b"loss" in events.read_bytes()


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_logger_logs_into_the_folds_folder(kind, train, tmp_path):
    pytest.importorskip(kind, reason=f"{kind} is not installed")
    train(loggers=(kind,), epochs=1)
    found = {"mlflow": "mlflow.db", "wandb": "wandb"}[kind]
    assert (tmp_path / "run" / "fold_0" / found).exists()


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_says_how_to_get_it(kind, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda _name: None)
    with pytest.raises(EngineError, match=f"the logger {kind} is not installed") as caught:
        make_loggers(tiny_config(loggers=(kind,)), FoldPaths(tmp_path), "blobs")
    assert f"pip install {kind}" in caught.value.hint
