"""One call explains a model: its own held-out cases or given ones, with progress, cancelling and errors by case."""

import json
import logging
from threading import Event

import pytest

import attunet
from attunet.bundle import load_bundle
from attunet.errors import CancelledError, ConfigError
from attunet.explanation.cases import find_labelled_cases

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(make_folded, tmp_path_factory):
    """A model of two folds, each with three held-out cases."""
    return make_folded(tmp_path_factory.mktemp("explain"))


def test_the_call_is_public_and_the_same_every_time(run, tmp_path):
    explain, options = attunet.explain, attunet.ExplainOptions(folds=(1,), max_cases=2)
    assert callable(attunet.explain)
    assert callable(explain)
    explanation = explain(run, None, tmp_path / "out", options)
    assert [case.name for case in explanation.cases] == ["case1", "case3"]
    assert explanation.warnings == ()
    assert explanation.has_references
    content = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert content["findings"] == list(explanation.findings)
    assert (tmp_path / "out" / "report.html").exists()
    assert (
        load_bundle(run).postprocessing.attention_agreement is None
    )  # only all held-out cases of all folds teach a model


def test_progress_reaches_the_end(run, tmp_path):
    steps = []
    cases = find_labelled_cases(run, [run.parent / "blobs" / "images" / "case0.nii"])
    options = attunet.ExplainOptions(folds=(0,), ablation=True)
    attunet.explain(run, cases, tmp_path, options, progress=lambda *counts: steps.append(counts))
    done = [step for step, _ in steps]
    assert done == sorted(done)
    assert steps[0] == (0, 200)
    assert steps[-1] == (200, 200)


def test_cancelling_ends_the_call_and_writes_no_report(run, tmp_path):
    cancelled, seen = Event(), []

    def stop_after_first(done, total):
        seen.append(done)
        if done >= 100:
            cancelled.set()

    with pytest.raises(CancelledError):
        attunet.explain(run, None, tmp_path, progress=stop_after_first, cancelled=cancelled)
    assert seen == [0, 100]
    assert not (tmp_path / "report.html").exists()


def test_a_case_that_cannot_be_read_is_logged_and_left_out(run, tmp_path, caplog):
    good = find_labelled_cases(run, [run.parent / "blobs" / "images" / "case0.nii"])
    (tmp_path / "bad.nii").write_bytes(b"no image")
    bad = find_labelled_cases(run, [tmp_path / "bad.nii"])
    options = attunet.ExplainOptions(folds=(0,))
    with caplog.at_level(logging.WARNING):
        explanation = attunet.explain(run, [*good, *bad], tmp_path / "out", options)
    assert [case.name for case in explanation.cases] == ["case0"]
    assert "case bad is left out" in caplog.text


def test_the_localizer_of_a_cascade_is_the_first_map_and_its_windows_are_drawn(make_model, write_blobs, tmp_path):
    model = make_model(localizer={"members": 1}, labels={"background": 0, "blob": 1})
    data = write_blobs(tmp_path / "blobs", cases=2, shape=(24, 20, 14))
    cases = find_labelled_cases(model, [data / "images"], data / "labels")
    options = attunet.ExplainOptions(ablation=True, faithfulness=True)
    explanation = attunet.explain(model, cases, tmp_path / "out", options)
    assert explanation.summary.gates == ("localizer", "level2")
    assert (tmp_path / "out" / "attention" / "case0_localizer.nii").exists()
    content = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert "localizer" in content["attention"]["gates"]
    for source in explanation.summary.sources:  # the model, shuffled weights, other cases
        assert explanation.summary.estimate(source, "localizer", "blob", "lift").cases == 2
    assert len(explanation.summary.sources) == 3
    windows = [case["windows"] for case in content["cases"]]
    assert content["windows"]["run"] == sum(each["run"] for each in windows)
    assert content["findings"][0] == f"In predictions, {explanation.windows}."
    assert {row["gate"] for row in content["ablation"]["rows"]} == {"localizer", "level2"}
    assert "localizer" not in explanation.faithfulness.gates
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "windows run" in report
    assert "was not tested by deletion and insertion" in report
    assert list((tmp_path / "out" / "report_figures").glob("windows_*.png"))


def test_there_must_be_cases(run, tmp_path):
    with pytest.raises(ConfigError, match="no cases"):
        attunet.explain(run, [], tmp_path)
