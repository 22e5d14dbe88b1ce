"""The trainings of a comparison: in which order, and that they stay comparable."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import typer

from attunet.bundle import fold_folder
from attunet.cli import comparison_run, console
from attunet.cli.comparison_run import Request, train_variants
from attunet.config import Plan, load_settings
from attunet.data.cases import read_dataset
from attunet.errors import ConfigError, DatasetError
from attunet.evaluation.summary import summarize
from attunet.planning.options import PlanOptions
from attunet.training import fit as fit_module
from attunet.training.run_folder import FoldPaths


@pytest.fixture
def ask(write_blobs, tiny_config, tiny_plan, tmp_path):
    """A request, some of it changed, trained with a plan that may be changed, too."""
    data = write_blobs(tmp_path / "data")

    def run(names=("gated", "ungated"), *, plan=None, fold="all", **changes):
        config = tiny_config(**changes)
        request = Request(read_dataset(data), names, config, tmp_path / "out", fold, "cpu", "fail", tmp_path / "store")
        written = tmp_path / "plan.json"
        written.write_text((plan or tiny_plan()).model_dump_json())
        train_variants(request, written, PlanOptions(), None)

    return run


@pytest.fixture
def trained(monkeypatch):
    """What would have been trained, in order: nothing is, but a checkpoint is left."""
    order = []

    def train_fold(_source, plan, config, run, fold, **how):
        order.append((run.name, fold, plan, config))
        last = FoldPaths(fold_folder(run, fold)).last
        last.parent.mkdir(parents=True, exist_ok=True)
        last.touch()
        (run / "plan.json").write_text(plan.model_dump_json())
        (run / "training.yaml").write_text(config.model_dump_json())
        assert how["resume"]
        return SimpleNamespace(summary=summarize([], {"blob": 1}), trained=True)

    monkeypatch.setattr(comparison_run, "train_fold", train_fold)
    return order


def test_fold_by_fold_with_one_seed_patch_and_budget(ask, trained, tiny_plan, tmp_path):
    ask(("gated", "ungated", "wider"))
    assert [(name, fold) for name, fold, *_ in trained] == [
        (name, fold) for fold in (0, 1) for name in ("gated", "ungated", "wider")
    ]
    plans, configs = ({str(entry[place]) for entry in trained} for place in (2, 3))
    assert len(plans) == 3
    assert len(configs) == 1
    assert {(entry[2].patch_size, entry[2].batch_size) for entry in trained} == {(tiny_plan().patch_size, 2)}
    assert load_settings(Plan, tmp_path / "out" / "plan.json") == tiny_plan()


def test_one_comparison_has_one_recipe_and_one_plan(ask, trained, tiny_plan):
    ask(fold="0")
    with pytest.raises(ConfigError, match=r"begun with another epochs \(2, not 9\)"):
        ask(epochs=9)
    with pytest.raises(ConfigError, match="begun with another plan"):
        ask(plan=tiny_plan(batch_size=3))
    ask(("gated", "wider"), fold="0", workers=0, loggers=("tensorboard",))  # neither changes what is learnt
    assert trained[-1][0] == "wider"


def test_a_run_that_was_trained_otherwise_is_no_part_of_it(ask, trained, tiny_config, tmp_path):
    ask(fold="0")
    (tmp_path / "out" / "gated" / "training.yaml").write_text(tiny_config(seed=3).model_dump_json())
    with pytest.raises(ConfigError, match=r"gated was trained with another seed \(3, not 0\)"):
        ask(fold="0")


def test_a_data_set_that_has_changed_is_refused(ask, trained, write_blobs, tmp_path):
    ask(fold="0")
    (tmp_path / "out" / "gated" / "folds.yaml").write_text("0: {train: [case0, gone], validation: [case1]}\n")
    with pytest.raises(DatasetError, match=r"changed since .*gated was begun: case2, case3, gone"):
        ask(fold="0")


def test_a_model_folder_and_several_devices_are_refused(ask, tmp_path):
    with pytest.raises(ConfigError, match="one device"):
        ask(devices=2)
    (tmp_path / "out" / "fold_0").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a model folder itself"):
        ask()


def test_a_stop_says_how_to_go_on_and_how_to_judge_what_is_there(ask, monkeypatch, capsys):
    def stopped(*_args, **_how):
        raise KeyboardInterrupt

    console.notes.cache_clear()
    monkeypatch.setattr(fit_module, "fit", stopped)
    with pytest.raises(typer.Exit) as left:
        ask()
    console.notes.cache_clear()
    assert left.value.exit_code == 130
    told = " ".join(capsys.readouterr().err.split())
    assert "go on with the same command" in told
    assert "attunet compare" in told
