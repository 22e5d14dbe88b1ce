from dataclasses import replace

import pytest

from attunet.bundle import fold_folder
from attunet.cli.evaluate import evaluate
from attunet.cli.tables.scores import show_cross_validation
from attunet.data.folds import Split
from attunet.errors import ConfigError


@pytest.fixture(scope="module")
def run(make_model, write_blobs, tmp_path_factory):
    """A model whose only fold validated on two of three cases."""
    dataset = write_blobs(tmp_path_factory.mktemp("data") / "blobs", cases=3)
    model = make_model(3, labels={"background": 0, "blob": 1})
    Split(dataset, "fail", ("case0",), ("case1", "case2")).write(fold_folder(model, 0))
    return model


def test_a_run_is_cross_validated(invoke, run, tmp_path):
    output = tmp_path / "summary.json"
    result = invoke(evaluate, "--cross-validation", run, "-o", output, "--device", "cpu")
    assert result.exit_code == 0
    for text in ("2 cases", "blob", "worst cases", "postprocessing blob: ", "temperature: 1", "quality: not"):
        assert text in result.stdout
    assert "report.html" in result.stderr
    assert output.read_text() == (run / "cross_validation" / "summary.json").read_text()
    assert (run / "postprocessing.json").exists()


def test_json_is_the_summary_and_nothing_else(invoke, run):
    result = invoke(evaluate, "--cross-validation", run, "--device", "cpu", "--json")
    assert result.stdout == (run / "cross_validation" / "summary.json").read_text()


@pytest.mark.parametrize("given", [["a", "b"], ["--labels", "blob=1"]])
def test_files_and_a_run_do_not_go_together(invoke, run, given):
    result = invoke(evaluate, "--cross-validation", run, *given)
    assert isinstance(result.exception, ConfigError)
    assert "one or the other" in str(result.exception)


def test_unseen_cases_belong_to_a_cross_validation(invoke, tmp_path):
    result = invoke(evaluate, "--unseen", tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert "--cross-validation RUN" in str(result.exception)


@pytest.mark.parametrize("given", [[], ["truth.nii"]])
def test_nothing_to_compare_is_reported(invoke, given):
    result = invoke(evaluate, *given)
    assert isinstance(result.exception, ConfigError)
    assert "--cross-validation RUN" in str(result.exception)


def test_folds_that_were_left_out_are_reported(capsys, run):
    from attunet.cli import console
    from attunet.selection.cross_validation import cross_validate

    console.notes.cache_clear()
    found = replace(cross_validate(run, device="cpu"), warnings=("fold [1] is left out",))
    show_cross_validation(found)
    assert "fold [1] is left out" in capsys.readouterr().err
