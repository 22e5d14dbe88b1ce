"""`attunet plan`: the training plan and its reasons."""

from __future__ import annotations

import importlib.util
import json

import pytest

from attunet.cli.plan import plan
from attunet.config import Plan, load_settings
from attunet.errors import ConfigError, DatasetError, LabelError
from attunet.planning import memory
from attunet.planning.memory import MemoryUse


@pytest.fixture(scope="module")
def dataset(write_blobs, tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data"), cases=2, second=4)


def test_every_decision_is_shown_with_its_reason(dataset, invoke):
    shown = invoke(plan, dataset, "--size", "small")
    assert shown.exit_code == 0
    for text in ("label_4 = 4", "3-D", "1x1x1 mm", "chosen with --size", "gate: grid", "found in 2 cases"):
        assert text in shown.stdout
    assert shown.stderr == ""


def test_the_memory_is_measured_and_other_options_shown(dataset, invoke):
    shown = " ".join(invoke(plan, dataset, "--size", "small", "--memory", "8GB").stdout.split())
    assert "a dry step took 0.5 GB of the 8.0 GB allowed (--memory)" in shown
    assert "Effect of other options" in shown
    assert "--spatial-dims 2" in shown


def test_without_torch_the_memory_is_estimated(dataset, invoke, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    shown = " ".join(invoke(plan, dataset, "--size", "small").stdout.split())
    assert "no dry step was possible, because it needs torch" in shown


def test_a_plan_that_does_not_fit_is_made_smaller(dataset, invoke, monkeypatch):
    def scale(tried, _device, precision):
        return MemoryUse(0.5 + tried.batch_size, 1.0)

    monkeypatch.setattr(memory, "measure_step", scale)
    usual = json.loads(invoke(plan, dataset, "--size", "small", "--json").stdout)["batch_size"]
    fitted = json.loads(invoke(plan, dataset, "--size", "small", "--memory", f"{usual}GB", "--json").stdout)
    assert fitted["batch_size"] < usual


def test_json_is_a_plan_to_train_with(dataset, tmp_path, invoke):
    shown = invoke(plan, dataset, "--json", "-o", tmp_path / "new" / "plan.json")
    assert Plan.model_validate_json(shown.stdout) == load_settings(Plan, tmp_path / "new" / "plan.json")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (("--gate", "none"), {"gate": None}),
        (("--gate", "multi"), {"gate": "multi"}),
        (("--network", "paper"), {"gate_projection": True}),
        (("--network", "listing"), {"gate": "additive", "spatial_dims": 2}),
        (("--spatial-dims", "2"), {"spatial_dims": 2}),
        (("--labels", "dark=4"), {"out_channels": 2}),
        (("--labels", "dark=4", "--resolution", "full"), {"out_channels": 2}),
    ],
)
def test_what_is_typed_is_planned(typed, found, dataset, invoke):
    network = json.loads(invoke(plan, dataset, "--size", "small", "--json", *typed).stdout)["network"]
    assert network | found == network


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        (("--network", "listing", "--spatial-dims", "3"), ConfigError),
        (("--network", "paper", "--gate", "additive"), ConfigError),
        (("--labels", "dark=5"), LabelError),
        (("--labels", "dark"), ConfigError),
        (("--memory", "much"), ConfigError),
        (("--memory", "1MB"), ConfigError),
    ],
)
def test_contradictions_are_refused(typed, kind, dataset, tmp_path, invoke):
    shown = invoke(plan, dataset, *typed, "-o", tmp_path / "plan.json")
    assert isinstance(shown.exception, kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "typed", [("--size", "huge"), ("--gate", "round"), ("--spatial-dims", "4"), ("--resolution", "high")]
)
def test_unknown_values_are_usage_errors(typed, dataset, invoke):
    assert invoke(plan, dataset, *typed).exit_code == 2


def test_no_data_set(tmp_path, invoke):
    assert isinstance(invoke(plan, tmp_path / "none").exception, DatasetError)
