import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from attunet.cli import console
from attunet.cli.evaluate import evaluate
from attunet.cli.options import parse_labels
from attunet.cli.tables.scores import score_table, score_warnings
from attunet.errors import ConfigError, DatasetError
from attunet.evaluation import evaluate as run_evaluation


@pytest.fixture(autouse=True)
def fresh_consoles() -> None:
    """The runner replaces the streams, which the cached consoles would not notice."""
    console.results.cache_clear()
    console.notes.cache_clear()


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(evaluate)
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(argument) for argument in arguments])


def write(path: Path, value: int, start: int = 2) -> None:
    path.parent.mkdir(exist_ok=True)
    array = np.zeros((8, 8, 6), dtype=np.uint8)
    array[start : start + 3, 2:5, 1:4] = value
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth, guess = tmp_path / "truth", tmp_path / "guess"
    for case, shift in (("a", 0), ("b", 1)):
        write(truth / f"{case}.nii.gz", 1)
        write(guess / f"{case}.nii.gz", 1, 2 + shift)
    return truth, guess


def test_the_table_says_means_and_the_worst_case(folders: tuple[Path, Path]) -> None:
    result = run(*folders, "--labels", "liver=1")
    assert result.exit_code == 0
    for text in ("2 cases", "liver", "0.833", "± 0.236", "HD95 mm", "0.667"):
        assert text in result.stdout


def test_the_table_shows_the_interval_of_the_mean_dice_within_80_characters(folders: tuple[Path, Path]) -> None:
    summary = run_evaluation(*folders, labels={"tumour core": 1, "left kidney": 2})
    printer = Console(width=80)
    with printer.capture() as shown:
        printer.print(score_table(summary))
    assert "Volume" in shown.get()
    low, high = summary.interval("tumour core")
    result = run(*folders, "--labels", "liver=1")
    assert f"{low:.3f}–{high:.3f}" in result.stdout
    assert "skeleton recall (thin parts): liver 0." in result.stdout


def test_labels_that_were_not_annotated_everywhere_are_reported(folders: tuple[Path, Path]) -> None:
    summary = run_evaluation(*folders, labels={"liver": 1}, annotated={"a": ()})
    assert "liver: annotated and scored in 1 of 2 cases" in [line.plain for line in score_warnings(summary)]


def test_missing_predictions_are_reported_and_exit_with_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "b.nii.gz").rename(folders[1] / "z.nii.gz")
    output = tmp_path / "summary.json"
    result = run(*folders, "-o", output)
    assert result.exit_code == 1
    assert "no prediction, scored as empty: b" in result.stderr
    assert "no reference, not scored: z" in result.stderr
    content = json.loads(output.read_text())
    assert content["missing_predictions"] == ["b"]
    assert content["mean"]["1"]["Dice"] == pytest.approx(0.5)


def test_cases_that_cannot_be_scored_are_counted_where_the_means_are(folders: tuple[Path, Path]) -> None:
    (folders[1] / "a.nii.gz").write_bytes(b"no image")
    result = run(*folders, "--labels", "liver=1")
    assert result.exit_code == 1
    assert "1 of 2 cases (1 could not be scored and are in no mean)" in " ".join(result.stdout.split())
    assert "1 of 2 cases could not be scored; every mean is without them: a" in " ".join(result.stderr.split())
    assert run(*folders, "--labels", "liver=1", "--json").exit_code == 1


def test_json_is_all_there_is_on_stdout(folders: tuple[Path, Path]) -> None:
    result = run(*folders, "--json")
    assert json.loads(result.stdout)["foreground_mean"]["Dice"] == pytest.approx(5 / 6)


def test_empty_masks_are_reported(folders: tuple[Path, Path]) -> None:
    result = run(*folders, "--labels", "liver=1,spleen=2")
    assert "spleen: 2 case(s) empty in reference and prediction" in result.stderr


def test_a_wrong_path_is_an_error_with_a_remedy(folders: tuple[Path, Path]) -> None:
    result = run(folders[0] / "nothing", folders[1])
    assert isinstance(result.exception, DatasetError)
    assert result.exception.hint


def test_labels_are_parsed() -> None:
    assert parse_labels("liver=1, left kidney = 3") == {"liver": 1, "left kidney": 3}


@pytest.mark.parametrize("text", ["liver", "liver=", "=1", "liver=one", "liver=0", "liver=1,,"])
def test_labels_that_cannot_be_parsed(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_labels(text)
