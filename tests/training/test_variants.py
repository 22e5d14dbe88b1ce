"""The training runs of a comparison: their order, and that they stay comparable."""

from __future__ import annotations

from dataclasses import replace
from threading import Event

import pytest

from attunet.bundle import fold_folder
from attunet.config import Plan, load_settings
from attunet.data.cases import read_dataset
from attunet.errors import CancelledError, ConfigError, DatasetError
from attunet.evaluation.summary import summarize
from attunet.training import fold_jobs
from attunet.training.finish import FoldResult
from attunet.training.run_folder import FoldPaths
from attunet.training.variants import VariantCallbacks, VariantOptions, compare_variants, train_variants

SILENT = VariantCallbacks()


@pytest.fixture
def ask(write_blobs, tiny_config, tiny_plan, tmp_path):
    """Trains variants, some settings changed, with a plan that may be changed, too."""
    data = write_blobs(tmp_path / "data")

    def run(names=("gated", "ungated"), *, plan=None, folds=None, callbacks=SILENT, cancelled=None, **changes):
        options = VariantOptions(
            plan=plan or tiny_plan(),
            variants=names,
            config=tiny_config(**changes),
            folds=folds,
            device="cpu",
            store=tmp_path / "store",
        )
        train_variants(read_dataset(data), tmp_path / "out", options, callbacks=callbacks, cancelled=cancelled)

    return run


@pytest.fixture
def trained(monkeypatch):
    """What would have been trained, in order: nothing is, but a checkpoint is left."""
    order = []

    def fit(_dataset, plan, config, run, *, fold, resume, **_options):
        order.append((run.name, fold, plan, config))
        last = FoldPaths(fold_folder(run, fold)).last
        last.parent.mkdir(parents=True, exist_ok=True)
        last.touch()
        (run / "plan.json").write_text(plan.model_dump_json())
        (run / "training.yaml").write_text(config.model_dump_json())
        assert resume
        return FoldResult(fold=fold, folder=last.parent, summary=summarize([], {"blob": 1}))

    monkeypatch.setattr(fold_jobs, "fit", fit)
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
    ask(folds=(0,))
    with pytest.raises(ConfigError, match=r"started with another epochs \(2, not 9\)"):
        ask(epochs=9)
    with pytest.raises(ConfigError, match="started with another plan"):
        ask(plan=tiny_plan(batch_size=3))
    ask(("gated", "wider"), folds=(0,), workers=0, loggers=("tensorboard",))  # neither changes what is learnt
    assert trained[-1][0] == "wider"


def test_a_run_that_was_trained_otherwise_is_no_part_of_it(ask, trained, tiny_config, tmp_path):
    ask(folds=(0,))
    (tmp_path / "out" / "gated" / "training.yaml").write_text(tiny_config(seed=3).model_dump_json())
    with pytest.raises(ConfigError, match=r"gated was trained with another seed \(3, not 0\)"):
        ask(folds=(0,))


def test_a_data_set_that_has_changed_is_refused(ask, trained, write_blobs, tmp_path):
    ask(folds=(0,))
    (tmp_path / "out" / "gated" / "folds.yaml").write_text("0: {train: [case0, gone], validation: [case1]}\n")
    with pytest.raises(DatasetError, match=r"changed since .*gated was started: case2, case3, gone"):
        ask(folds=(0,))


def test_a_model_folder_and_several_devices_are_refused(ask, tmp_path):
    with pytest.raises(ConfigError, match="one device"):
        ask(devices=2)
    (tmp_path / "out" / "fold_0").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a model folder itself"):
        ask()


def test_it_is_reported_and_cancelled_between_two_trainings(ask, trained):
    events, cancelled = [], Event()

    class Record(VariantCallbacks):
        def on_plan(self, plan, origin, run):
            events.append(origin)

        def on_variants(self, variants, folds, config):
            events.append(([variant.name for variant in variants], folds))

        def on_variant_start(self, variant, fold):
            events.append((variant.name, fold))

        def on_variant_end(self, variant, fold, dice, trained):
            cancelled.set()

    with pytest.raises(CancelledError):
        ask(callbacks=Record(), cancelled=cancelled)
    assert events == ["given", (["gated", "ungated"], (0, 1)), ("gated", 0)]
    assert len(trained) == 1


@pytest.mark.integration
def test_one_call_trains_and_compares(write_blobs, tiny_plan, tiny_config, tmp_path):
    config = tiny_config(epochs=1, steps_per_epoch=2)
    options = VariantOptions(
        plan=tiny_plan(),
        variants=("gated", "ungated"),
        config=config,
        folds=(0,),
        device="cpu",
        store=tmp_path / "store",
    )
    dataset = read_dataset(write_blobs(tmp_path / "data"))
    comparison = compare_variants(dataset, tmp_path / "out", options)
    assert comparison.cases == 2
    assert (tmp_path / "out" / "report.html").exists()
    with pytest.raises(ConfigError, match="no variant 'plain'"):
        compare_variants(dataset, tmp_path / "new", replace(options, variants=("gated", "plain")))
