"""`attunet plan`: what would be trained, and why."""

from __future__ import annotations

import json

import pytest

from attunet.cli.plan import plan
from attunet.config import Plan, load_settings
from attunet.errors import ConfigError, DatasetError, LabelError


@pytest.fixture(scope="module")
def dataset(write_blobs, tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data"), cases=2, second=4)


def test_every_decision_is_shown_with_its_reason(dataset, invoke):
    shown = invoke(plan, dataset, "--size", "small")
    assert shown.exit_code == 0
    for text in ("label_4 = 4", "3-D", "1.00 x 1.00 x 1.00 mm", "chosen with --size", "gate: grid", "found in 2 cases"):
        assert text in shown.stdout
    assert shown.stderr == ""


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
    ],
)
def test_contradictions_are_refused(typed, kind, dataset, tmp_path, invoke):
    shown = invoke(plan, dataset, *typed, "-o", tmp_path / "plan.json")
    assert isinstance(shown.exception, kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("typed", [("--size", "huge"), ("--gate", "round"), ("--spatial-dims", "4")])
def test_unknown_values_are_usage_errors(typed, dataset, invoke):
    assert invoke(plan, dataset, *typed).exit_code == 2


def test_no_data_set(tmp_path, invoke):
    assert isinstance(invoke(plan, tmp_path / "none").exception, DatasetError)
