import csv
from types import SimpleNamespace

import pytest
import torch

from attunet.training.callbacks.gates import GateMonitor, gate_statistics
from attunet.training.callbacks.history import History
from attunet.training.module import TrainingModule
from attunet.training.run_folder import FoldPaths, FoldTraining


@pytest.fixture
def monitor(tmp_path, tiny_plan, tiny_config):
    """A monitor, with the module whose gates it measures, its history and its warnings."""
    schedule, warnings = SimpleNamespace(elapsed=60.0, progress=0.5), []
    history = History(schedule, FoldPaths(tmp_path))
    monitor = GateMonitor(schedule, history, warnings.append)
    monitor.module, monitor.warnings = TrainingModule(tiny_plan(), tiny_config()), warnings
    monitor.schedule, monitor.history = schedule, history
    return monitor


def a_trainer(is_rank_zero=True, step=1000):
    return SimpleNamespace(is_global_zero=is_rank_zero, global_step=step)


def epoch(monitor, *steps, **trainer):
    """An epoch in whose steps the gates had these coefficients; its columns."""
    for index, attention in enumerate(steps):
        monitor.module.attention = attention
        monitor.on_train_batch_end(a_trainer(**trainer), monitor.module, None, None, index)
    monitor.on_train_epoch_end(a_trainer(**trainer), monitor.module)
    columns, monitor.history.gates = monitor.history.gates, {}
    return columns


def gate(value, maps=1, **others):
    alpha = torch.full((2, maps, 8, 8, 4), float(value))
    for position, other in others.items():
        alpha[:, :, int(position[1:])] = other
    return {"level2": alpha}


def test_mean_spread_and_saturation_of_each_map(monitor):
    alpha = torch.rand(2, 2, 8, 8, 4, generator=torch.Generator().manual_seed(0))
    alpha[:, 1] = alpha[:, 1] ** 4
    columns = epoch(monitor, {"level3": alpha, "level2": alpha[:, :1]})
    names = [
        f"gate_{gate}_{what}"
        for gate in ("level3.1", "level3.2", "level2")
        for what in ("mean", "sd", "closed", "open")
    ]
    assert list(columns) == names
    for number, values in enumerate(alpha.unbind(1), start=1):
        measured = {what: columns[f"gate_level3.{number}_{what}"] for what in ("mean", "sd", "closed", "open")}
        assert measured == pytest.approx(
            {
                "mean": float(values.mean()),
                "sd": float(values.std(correction=0)),
                "closed": float((values < 0.05).float().mean()),
                "open": float((values > 0.95).float().mean()),
            },
            abs=1e-5,
        )
    assert columns["gate_level2_mean"] == columns["gate_level3.1_mean"]


def test_every_fifth_step_is_measured_and_all_count_the_same(monitor):
    steps = [gate(value) for value in (0.2, 9, 9, 9, 9, 0.4, 9)]
    columns = epoch(monitor, *steps)
    assert columns["gate_level2_mean"] == pytest.approx(0.3, abs=1e-5)
    assert columns["gate_level2_sd"] == pytest.approx(0.1, abs=1e-5)
    assert epoch(monitor, gate(0.7))["gate_level2_mean"] == pytest.approx(0.7, abs=1e-5)


def test_only_the_first_process_measures(monitor):
    assert epoch(monitor, gate(0.0), is_rank_zero=False) == {}
    assert not monitor.warnings


def test_half_precision_is_measured_in_full(monitor):
    noisy = {"level2": (0.9 + 0.01 * torch.randn(1, 1, 64, 64, 64)).bfloat16()}
    assert epoch(monitor, noisy)["gate_level2_sd"] == pytest.approx(0.01, rel=0.05)


def test_a_network_without_gates_has_no_columns(monitor):
    assert epoch(monitor, {}) == {}
    assert gate_statistics([]) == {}


def test_a_dead_gate_and_one_that_is_always_open_are_reported_once_each(monitor):
    dead_and_open = gate(0.01) | {"level3": torch.full((1, 1, 4, 4, 2), 0.99)}
    for _ in range(3):
        epoch(monitor, dead_and_open)
    dead, opened = monitor.warnings
    assert "level2 is dead: 100.0% of its coefficients are below 0.05" in dead
    assert "no skip connection at that level" in dead
    assert "level3 is always open: its coefficients are 0.99 ± 0.00" in opened
    assert "plain U-Net at that level" in opened


@pytest.mark.parametrize("alpha", [gate(0.5), gate(0.01, i3=0.9), gate(0.99, i3=0.2)])
def test_a_gate_that_selects_gives_no_warning(alpha, monitor):
    epoch(monitor, alpha)
    assert not monitor.warnings


def test_a_gate_that_is_as_flat_as_at_the_start_is_open_too(monitor):
    epoch(monitor, {"level2": 0.943 + 0.007 * torch.randn(1, 1, 16, 16, 16)})
    assert "level2 is always open" in monitor.warnings[0]


def test_a_gate_that_opens_only_on_a_small_organ_is_not_dead(monitor):
    alpha = torch.full((1, 1, 32, 32, 32), 0.001)
    alpha[0, 0, 5:7, 5:7, 5:7] = 0.8
    assert epoch(monitor, {"level2": alpha})["gate_level2_closed"] > 0.999
    assert not monitor.warnings


@pytest.mark.parametrize(("progress", "step"), [(0.39, 1000), (0.9, 199)])
def test_there_are_no_warnings_before_gates_had_time_to_learn(progress, step, monitor):
    monitor.schedule.progress = progress
    epoch(monitor, gate(0.99), step=step)
    assert not monitor.warnings
    monitor.schedule.progress = 0.4
    epoch(monitor, gate(0.99), step=200)
    assert len(monitor.warnings) == 1


def test_a_resumed_training_does_not_repeat_a_warning(monitor):
    epoch(monitor, gate(0.99))
    again = GateMonitor(monitor.schedule, monitor.history, monitor.warnings.append)
    again.module, again.history = monitor.module, monitor.history
    again.load_state_dict(monitor.state_dict())
    epoch(again, gate(0.99))
    assert len(monitor.warnings) == 1


def test_a_checkpoint_of_an_earlier_version_is_restored(monitor):
    monitor.load_state_dict({"told": ["level2"]})
    epoch(monitor, gate(0.99))
    assert not monitor.warnings
    assert monitor.state_key == "GateWatch"


def test_a_training_logs_its_gates_and_warns_of_those_that_do_nothing(
    blobs, stored, tiny_plan, tiny_config, tmp_path, monkeypatch
):
    from attunet.training.callbacks import gates
    from attunet.training.trainer import TrainerOptions, train_network

    monkeypatch.setattr(gates, "STEPS_TO_LEARN", 0)
    network = tiny_plan().network.model_copy(update={"gate": "multi", "gate_bias": 9.0})
    warnings, paths = [], FoldPaths(tmp_path)
    fold = FoldTraining(
        train=stored[:2], validation=stored[2:], plan=tiny_plan(network=network), config=tiny_config(), paths=paths
    )
    train_network(fold, TrainerOptions(warn=warnings.append))
    with paths.log.open() as file:
        rows = list(csv.DictReader(file))
    for name in ("level2.1", "level2.2"):
        assert all(float(row[f"gate_{name}_open"]) == 1.0 for row in rows)
        assert all(0.95 < float(row[f"gate_{name}_mean"]) <= 1 for row in rows)
    assert [words.split(" is")[0] for words in warnings] == ["the gate level2.1", "the gate level2.2"]
