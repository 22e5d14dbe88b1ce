"""`attunet predict --dry-run`, and predictions within limits of memory and time."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest

from attunet.bundle import save_manifest
from attunet.bundle.execution import Air, write_air
from attunet.cli.predict import predict
from attunet.cli.prediction_run import show_case, show_summary
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.inference.case_worker import CaseResult


@pytest.fixture
def scan(tmp_path):
    """Half of it air."""
    array = np.random.default_rng(0).normal(100, 30, (1, 40, 24, 20)).clip(1).astype(np.int16)
    array[:, 22:] = 0
    write_volume(Volume(array, np.eye(4)), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def segment(scan, tmp_path, invoke):
    def run(model, *arguments, output="masks"):
        return invoke(predict, "-m", model, "-i", scan, "-o", tmp_path / output, "--fold", "0", *arguments)

    return run


@pytest.fixture
def uncropped(make_model, tmp_path):
    """A model that looks at the air, too, and may leave it out."""
    from attunet.bundle import save_plan
    from attunet.config import Plan, load_settings

    model = shutil.copytree(make_model(3), tmp_path / "model")
    plan = load_settings(Plan, model / "plan.json")
    whole = plan.preprocessing.model_copy(update={"crop_to_content": False})
    save_plan(plan.model_copy(update={"preprocessing": whole}), model)
    air = Air(used=True, level=0.5, cases=3, windows=100, skipped=20, lost=0)
    write_air(air, model / "fold_0")
    save_manifest(model)
    return model


def test_a_dry_run_estimates_windows_and_memory_and_writes_nothing(segment, tiny_run, tmp_path):
    done = segment(tiny_run, "--dry-run")
    assert done.exit_code == 0
    row = next(line.split() for line in done.stdout.splitlines() if "scan" in line)
    assert row[1:6] == ["40", "x", "24", "x", "20"]
    assert row[-1] == "GB"
    assert not (tmp_path / "masks").exists()


def test_a_limit_that_cannot_be_met_is_an_error_with_the_required_memory(segment, tiny_run):
    for arguments in ((), ("--dry-run",)):
        done = segment(tiny_run, "--max-memory", "50MB", *arguments)
        assert done.exit_code == 2
        assert "this case needs" in done.stderr
        assert "--max-memory" in done.stderr


def test_windows_of_air_are_left_out_unless_all_are_requested(segment, uncropped, tmp_path):
    rows = [segment(uncropped, "--dry-run", *more).stdout.splitlines() for more in ((), ("--all-windows",))]
    counts = (next(line.split() for line in lines if "scan" in line)[6:9] for lines in rows)
    (fewer, far, air), whole = (tuple(map(int, row)) for row in counts)
    assert (air > 0, far) == (True, 0)
    assert whole == (fewer + air, 0, 0)
    segment(uncropped)
    segment(uncropped, "--all-windows", output="whole")
    less, all_ = (read_label(tmp_path / folder / "scan.nii.gz").array for folder in ("masks", "whole"))
    np.testing.assert_array_equal(less[:, :14], all_[:, :14])
    assert not less[:, 38:].any()


def test_a_time_limit_is_met_with_a_warning(segment, tiny_run):
    done = segment(tiny_run, "--time-limit", "0.05s", "--step-size", "0.2")
    assert done.exit_code == 0
    assert "scan: to end in time: windows " in done.stderr
    assert "instead of 0.2 patches apart" in done.stderr


@pytest.mark.parametrize("typed", [("--max-memory", "much"), ("--time-limit", "soon")])
def test_amounts_that_are_none_are_refused(typed, segment, tiny_run):
    done = segment(tiny_run, *typed)
    assert typed[0] in str(done.exception)


def test_messages_that_repeat_are_shown_for_a_few_cases(capsys):
    seen = Counter()
    for number in range(50):
        show_case(
            CaseResult(case=f"x{number:02d}", error=f"x{number:02d} has 3 channels", warnings=("odd units",)), seen
        )
    shown = capsys.readouterr().err
    assert (shown.count("has 3 channels"), shown.count("odd units")) == (4, 4)
    assert shown.count("more cases like this are not shown") == 2


def test_a_prediction_that_stopped_early_says_how_many_cases_there_were(capsys, tmp_path):
    show_summary([CaseResult(case="a"), CaseResult(case="b", error="b is empty")], tmp_path, 1.0, 200)
    assert "1 of 200 cases written" in capsys.readouterr().err
