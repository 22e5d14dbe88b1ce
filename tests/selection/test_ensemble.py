"""The choice between runs and ensembles, and the model folder that is written."""

from __future__ import annotations

import json
import shutil
from math import nan

import pytest

from attunet.bundle import fold_folder, load_bundle, load_model, save_postprocessing
from attunet.config import Postprocessing, QualityCalibration
from attunet.data.folds import Split
from attunet.errors import BundleError, ConfigError
from attunet.selection.candidates import CandidateScore, EnsembleCandidate
from attunet.selection.ensemble import Selection, choose, name_runs, select, write_selection

QUALITY = QualityCalibration(cases=9, spearman=0.7, low=0.4, high=0.9, error=0.02)


def candidate(members, dice):
    return EnsembleCandidate(
        tuple(members), {"case": CandidateScore(dice=(dice,), expected=0.5, agreement=nan, seconds=1.0)}
    )


def choice(runs, *candidates):
    return Selection(
        runs=runs,
        folds=(0,),
        candidates=candidates,
        chosen=choose(candidates),
        quality=QUALITY,
        agreement=None,
    )


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"a": 0.80, "b": 0.70, "ab": 0.79}, "a"),
        ({"a": 0.80, "b": 0.70, "ab": 0.81}, "ab"),
        ({"a": 0.80, "b": 0.70, "ab": 0.8009}, "a"),
        ({"a": 0.80, "b": 0.8005, "ab": 0.801}, "b"),
        ({"a": 0.80, "b": nan, "ab": 0.802, "abc": 0.8025}, "ab"),
    ],
)
def test_the_best_is_chosen_and_of_equals_the_smallest(scores, chosen):
    found = choose([candidate(members, dice) for members, dice in scores.items()])
    assert found.members == tuple(chosen)


def test_without_any_label_nothing_can_be_chosen():
    with pytest.raises(ConfigError, match="no validation case has a label"):
        choose([candidate("a", nan)])


def test_the_sentence_says_what_and_why():
    best = choice({}, candidate("a", 0.8), candidate("b", 0.7), candidate("ab", 0.79))
    assert best.conclusion == "a has a cross-validated Dice of 0.8000, the best of 3; next is a + b with 0.7900."
    close = choice({}, candidate("a", 0.8), candidate("ab", 0.8006))
    assert close.conclusion.endswith("within 0.001 of the best (a + b, 0.8006) with fewer members.")


def test_runs_are_called_as_their_folders(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "z", tmp_path / "z"]
    assert list(name_runs(folders)) == ["run", "run_2", "z"]
    with pytest.raises(ConfigError, match="got 1 run"):
        name_runs([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def test_the_best_ensemble_is_written_as_a_model(tiny_run, tmp_path):
    other = shutil.copytree(tiny_run, tmp_path / "other")
    runs = {"one": tiny_run, "two": other}
    found = choice(runs, candidate(["one"], 0.7), candidate(["two"], 0.7), candidate(["one", "two"], 0.8))
    write_selection(found, tmp_path / "best")
    model = load_model(tmp_path / "best")
    assert list(model.members) == ["one", "two"]
    assert model.postprocessing.quality == QUALITY
    record = json.loads((tmp_path / "best" / "selection.json").read_text())
    assert record["chosen"] == ["one", "two"]
    assert [row["dice"] for row in record["candidates"]] == [0.7, 0.7, 0.8]
    with pytest.raises(ConfigError, match="exists already"):
        write_selection(found, tmp_path / "best")


def test_the_predicted_dice_of_an_ensemble_has_an_interval(tiny_run, tmp_path):
    other = shutil.copytree(tiny_run, tmp_path / "other")
    cases = {
        f"case{row}": CandidateScore(dice=(0.8 + row / 200,), expected=0.7 + row / 100, agreement=nan, seconds=1.0)
        for row in range(20)
    }
    both = EnsembleCandidate(("one", "two"), cases)
    found = choice({"one": tiny_run, "two": other}, both, candidate(["one"], 0.7), candidate(["two"], 0.7))
    write_selection(found, tmp_path / "best")
    learnt = load_model(tmp_path / "best").postprocessing
    assert learnt.dice_interval.cases == 20
    assert learnt.volume_intervals == {}
    assert learnt.reasons["volume interval body"] == "none: select compares Dice, not volumes"


@pytest.mark.parametrize("results", [Postprocessing(), Postprocessing(temperature=2.0)])
def test_a_single_run_keeps_the_results_of_its_own_cross_validation(results, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    if results != Postprocessing():
        save_postprocessing(results, run)
    found = choice({"run": run, "b": tiny_run}, candidate(["run"], 0.8), candidate(["b"], 0.7))
    write_selection(found, tmp_path / "best")
    written = load_bundle(tmp_path / "best").postprocessing
    assert written.temperature == results.temperature
    assert written.quality == (QUALITY if results == Postprocessing() else None)


def test_nothing_is_left_of_a_model_that_cannot_be_written(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "fold_0" / "graph.bin").unlink()
    found = choice({"run": run, "b": tiny_run}, candidate(["run"], 0.8), candidate(["b"], 0.7))
    with pytest.raises(BundleError, match="missing"):
        write_selection(found, tmp_path / "best")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_runs_are_compared_and_chosen_from(folded, tmp_path):
    twin = shutil.copytree(folded, tmp_path / "twin")
    Split.read(fold_folder(folded, 0)).write(fold_folder(twin, 0))
    runs = {"run": folded, "twin": twin}
    found = select(runs, tmp_path / "new" / "best", device="cpu")
    assert len(load_model(tmp_path / "new" / "best").members) == 1
    with pytest.raises(ConfigError, match="exists already"):
        select(runs, tmp_path / "new" / "best", device="cpu", progress=lambda *_: pytest.fail("it was computed"))
    assert found.folds == (0, 1)
    assert len(found.candidates) == 3
    assert found.chosen.members == ("run",)  # no better than its twin, and no worse than both
    both = found.candidates[-1]
    assert {score.agreement for score in both.scores.values()} == {1.0}
    assert both.mean_dice == pytest.approx(found.chosen.mean_dice, abs=1e-3)
