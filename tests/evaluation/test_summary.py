import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from attunet.errors import FormatError
from attunet.evaluation.bootstrap import interval
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import Summary, summarize

LABELS = {"background": 0, "liver": 1, "spleen": 2}


def case(name: str, liver: int, found: int, spleen: int = 0, **more: object) -> CaseScores:
    """A case with so many rows of liver, so many found, and the same rows of spleen in both masks."""
    reference, prediction = np.zeros((10, 3, 3), dtype=int), np.zeros((10, 3, 3), dtype=int)
    reference[:liver], prediction[:found] = 1, 1
    if spleen:
        reference[-spleen:], prediction[-spleen:] = 2, 2
    return CaseScores(name, score_case(reference, prediction, LABELS, (1.0, 1.0, 1.0)), **more)


@pytest.fixture
def summary() -> Summary:
    cases = [
        case("a", 4, 4, spleen=2),
        case("b", 4, 2),
        case("c", 4, 0, missing=True),
        case("d", 0, 0),
        case("e", 0, 1),
    ]
    return summarize(cases, LABELS, extra=["z"])


def test_mean_leaves_out_only_what_is_empty_in_both(summary: Summary) -> None:
    assert summary.values("liver") == pytest.approx({"a": 1.0, "b": 2 / 3, "c": 0.0, "e": 0.0})
    assert summary.mean("liver") == pytest.approx((1 + 2 / 3) / 4)
    assert summary.mean("spleen") == 1.0
    assert summary.foreground_mean() == pytest.approx((summary.mean("liver") + 1) / 2)


def test_empty_and_missing_are_counted(summary: Summary) -> None:
    assert summary.empty("liver") == {"both": 1, "reference_only": 1, "prediction_only": 1}
    assert summary.empty("spleen") == {"both": 4, "reference_only": 0, "prediction_only": 0}
    assert summary.missing_predictions == ("c",)
    assert summary.worst("liver") == ("c", 0.0)


def test_deviation_needs_two_cases(summary: Summary) -> None:
    assert summary.deviation("liver") == pytest.approx(np.std([1, 2 / 3, 0, 0], ddof=1))
    assert isnan(summary.deviation("spleen"))


def test_intervals_hold_the_means_and_are_written(summary: Summary) -> None:
    low, high = summary.interval("liver")
    assert low < summary.mean("liver") < high
    assert summary.interval("liver") == interval(list(summary.values("liver").values()))
    assert isnan(summary.interval("spleen")[0])
    low, high = summary.foreground_interval()
    assert low < summary.foreground_mean() < high
    content = summary.to_dict()["ci95"]
    assert content["foreground_mean"]["Dice"] == [low, high]
    assert content["mean"]["2"]["Dice"] == [None, None]


def test_cases_in_which_a_label_is_not_annotated_count_nowhere() -> None:
    partial = case("a", 4, 4, spleen=2)
    partial = replace(partial, scores={"spleen": partial.scores["spleen"]})
    summary = summarize([partial, case("b", 4, 2)], LABELS)
    assert summary.values("liver") == pytest.approx({"b": 2 / 3})
    assert summary.empty("liver")["both"] == 0


def test_regions_have_the_keys_of_nnunet(tmp_path: Path) -> None:
    reference = np.zeros((4, 4, 4), dtype=int)
    reference[:2], reference[0] = 1, 2
    regions = {"whole": (1, 2), "core": (2,)}
    summary = summarize([CaseScores("a", score_case(reference, reference, regions, (1.0, 1.0, 1.0)))], regions)
    assert list(summary.to_dict()["mean"]) == ["(1, 2)", "2"]
    summary.write(tmp_path / "summary.json")
    assert Summary.read(tmp_path / "summary.json").to_json() == summary.to_json()


def test_files_of_earlier_versions_are_read(summary: Summary, tmp_path: Path) -> None:
    content = summary.to_dict()
    del content["ci95"]
    for entry in content["metric_per_case"]:
        for scores in entry["metrics"].values():
            del scores["SkeletonRecall"]
    (tmp_path / "summary.json").write_text(json.dumps(content))
    earlier = Summary.read(tmp_path / "summary.json")
    assert earlier.interval("liver") == summary.interval("liver")
    assert isnan(earlier.mean("liver", "SkeletonRecall"))


def test_json_has_the_keys_of_nnunet_and_no_nan(summary: Summary) -> None:
    content = json.loads(summary.to_json())
    nnunet = {"Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"}
    assert nnunet <= content["foreground_mean"].keys()
    assert nnunet <= content["mean"]["1"].keys()
    entry = content["metric_per_case"][3]
    assert {"reference_file", "prediction_file", "metrics"} <= entry.keys()
    assert nnunet <= entry["metrics"]["1"].keys()
    assert entry["metrics"]["1"]["Dice"] is None
    assert entry["metrics"]["1"]["TN"] == 90
    assert content["missing_predictions"] == ["c"]
    assert content["extra_predictions"] == ["z"]
    assert content["empty"]["1"]["both"] == 1
    assert content["rules"]


def test_what_is_written_is_read_back(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    summary.write(path)
    assert Summary.read(path).to_json() == summary.to_json()
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"labels": {"a": 1}, "metric_per_case": [{}]}'])
def test_foreign_json_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(FormatError, match="cannot read"):
        Summary.read(path)


def test_nothing_to_average_is_nan() -> None:
    empty = summarize([], LABELS)
    assert isnan(empty.mean("liver"))
    assert isnan(empty.foreground_mean())
    assert empty.worst("liver") is None
    assert empty.to_dict()["foreground_mean"]["Dice"] is None
