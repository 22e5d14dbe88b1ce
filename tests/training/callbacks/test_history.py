import csv
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from attunet.config import TrainingConfig
from attunet.errors import EngineError
from attunet.report.figures import curves
from attunet.report.training import read_history
from attunet.training.callbacks.history import LOGGERS, History, make_loggers
from attunet.training.run_folder import FoldPaths


@pytest.fixture
def history(tmp_path):
    return History(SimpleNamespace(elapsed=90.0), FoldPaths(tmp_path))


def end_epoch(history, epoch, loss=0.5):
    logged = []
    trainer = SimpleNamespace(
        is_global_zero=True,
        current_epoch=epoch,
        global_step=(epoch + 1) * 3,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.01}])],
        callback_metrics={"loss": torch.tensor(loss)},
        loggers=[SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))],
    )
    history.on_train_epoch_end(trainer, None)
    return logged


def rows_of(tmp_path):
    with FoldPaths(tmp_path).log.open() as file:
        return list(csv.DictReader(file))


def test_one_row_per_epoch_with_dice_where_it_was_validated(history, tmp_path):
    end_epoch(history, 0)
    history.add_validation(0.75, {"liver": 0.5, "spleen": 1.0})
    end_epoch(history, 1, loss=0.25)
    end_epoch(history, 2)
    first, second, third = rows_of(tmp_path)
    assert (first["epoch"], first["step"], first["minutes"], first["learning_rate"]) == ("0.0", "3.0", "1.5", "0.01")
    assert (second["loss"], second["dice"], second["dice_liver"], second["dice_spleen"]) == (
        "0.25",
        "0.75",
        "0.5",
        "1.0",
    )
    assert first["dice"] == third["dice"] == ""


def test_other_loggers_receive_the_same(history):
    history.add_validation(0.75, {})
    ((values, step),) = end_epoch(history, 0)
    assert (values["loss"], values["dice"], step) == (0.5, 0.75, 3)
    assert "epoch" not in values


def test_gates_are_logged_with_the_epoch_they_belong_to(history, tmp_path):
    history.add_gates({"gate_level2_mean": 0.5})
    history.add_gates({"gate_level3.1_open": 0.25})
    ((values, _),) = end_epoch(history, 0)
    assert (values["gate_level2_mean"], values["gate_level3.1_open"]) == (0.5, 0.25)
    end_epoch(history, 1)
    first, second = rows_of(tmp_path)
    assert (first["gate_level2_mean"], first["gate_level3.1_open"]) == ("0.5", "0.25")
    assert second["gate_level2_mean"] == second["gate_level3.1_open"] == ""


def test_the_report_reads_what_was_logged(history, tmp_path):
    history.add_gates({"gate_level2_mean": 0.5})
    history.add_validation(0.75, {"liver": 0.75})
    end_epoch(history, 0)
    end_epoch(history, 1)
    assert read_history(FoldPaths(tmp_path).log) == history.rows
    assert curves(history.rows).axes


def test_a_resumed_training_continues_its_rows(history, tmp_path):
    end_epoch(history, 0)
    assert history.grown
    resumed = History(SimpleNamespace(elapsed=90.0), FoldPaths(tmp_path))
    resumed.load_state_dict(history.state_dict())
    assert not resumed.grown
    end_epoch(resumed, 1)
    assert resumed.grown
    assert [row["epoch"] for row in rows_of(tmp_path)] == ["0.0", "1.0"]


def test_every_logger_of_a_recipe_is_in_the_table():
    assert set(LOGGERS) == set(get_args(get_args(TrainingConfig.model_fields["loggers"].annotation)[0]))


def test_nothing_is_logged_elsewhere_unless_requested(tiny_config, tmp_path):
    assert make_loggers(tiny_config(), FoldPaths(tmp_path), "blobs") == []


def test_tensorboard_finds_the_curves(train, tmp_path):
    train(loggers=("tensorboard",), epochs=1)
    (events,) = (tmp_path / "run" / "fold_0" / "tensorboard").glob("events*")
    assert b"loss" in events.read_bytes()


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_logger_logs_into_the_folds_folder(kind, train, tmp_path):
    pytest.importorskip(kind, reason=f"{kind} is not installed")
    train(loggers=(kind,), epochs=1)
    written = {"mlflow": "mlflow.db", "wandb": "wandb"}[kind]
    assert (tmp_path / "run" / "fold_0" / written).exists()


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_says_how_to_get_it(kind, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("attunet.training.callbacks.history.find_spec", lambda _name: None)
    with pytest.raises(EngineError, match=f"the logger {kind} is not installed") as caught:
        make_loggers(tiny_config(loggers=(kind,)), FoldPaths(tmp_path), "blobs")
    assert f"pip install {kind}" in caught.value.hint
