"""`attunet demo`: the life cycle of a model, from synthetic data to a report."""

from __future__ import annotations

import json

import pytest

from attunet.bundle import load_bundle
from attunet.cli.demo import demo
from attunet.errors import ConfigError


@pytest.mark.integration
def test_it_ends_with_scores_and_a_report_and_can_be_run_again(invoke, tmp_path):
    arguments = ("-o", tmp_path / "demo", "--max-time", "3s", "--cases", "4", "--test-cases", "1")
    done = invoke(demo, *arguments)
    assert done.exception is None
    for shown in ("pancreas", f"report: {tmp_path / 'demo' / 'report.html'}"):
        assert shown in done.stdout
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert set(summary["labels"]) == {"liver", "spleen", "kidneys", "pancreas"}
    assert len(summary["metric_per_case"]) == 1
    report = (tmp_path / "demo" / "report.html").read_text()
    assert report.count("<img") >= 2
    assert "http://" not in report
    load_bundle(tmp_path / "demo" / "model")


@pytest.mark.parametrize("name", ["data", "model", "masks"])
def test_folders_that_it_did_not_make_are_left_alone(name, invoke, tmp_path):
    precious = tmp_path / name / "scan.nii.gz"
    precious.parent.mkdir()
    precious.write_bytes(b"years of work")
    done = invoke(demo, "-o", tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert "not made by the demo" in done.exception.message
    assert precious.read_bytes() == b"years of work"
    assert [path.name for path in tmp_path.iterdir()] == [name]
