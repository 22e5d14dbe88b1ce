"""Several folds in one call: which are trained, with which plan and settings, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from threading import Event

import pytest
import yaml

from attunet.bundle import fold_folder, save_plan
from attunet.config import TrainingConfig
from attunet.errors import CancelledError, ConfigError, LabelError
from attunet.planning.options import PlanOptions
from attunet.training import train as train_module
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.run_folder import FoldPaths
from attunet.training.train import TrainOptions, resolve_config, resolve_plan, select_folds, train
from attunet.training.variants import VariantOptions, train_variants


@pytest.fixture
def options(tiny_plan, tiny_config, store):
    return TrainOptions(plan=tiny_plan(), config=tiny_config(epochs=1), folds=None, device="cpu", store=store)


def begin(run, fold=0):
    last = FoldPaths(fold_folder(run, fold)).last
    last.parent.mkdir(parents=True)
    last.touch()


@pytest.mark.integration
def test_all_folds_are_trained_and_cross_validated(blobs, options, tmp_path):
    events = []

    class Record(TrainingCallbacks):
        def on_fold_start(self, fold, run):
            events.append(fold)

        def on_fold_end(self, result):
            events.append(result.trained)

        def on_evaluation(self, done, total):
            events.append("evaluated")

    result = train(blobs, tmp_path / "run", options, callbacks=Record())
    assert [each.fold for each in result.folds] == [0, 1]
    assert events[:4] == [0, True, 1, True]
    assert set(events[4:]) == {"evaluated"}
    assert len(result.cross_validation.summary.cases) == 4
    again = train(blobs, tmp_path / "run", replace(options, folds=(1,), resume=True, config=None))
    assert (again.folds[0].trained, again.cross_validation) == (False, None)


def test_what_was_started_is_only_resumed(blobs, options, tmp_path):
    begin(tmp_path / "run", 1)
    with pytest.raises(ConfigError, match="already contains a training run of this fold"):
        train(blobs, tmp_path / "run", options)


def test_it_is_cancelled_before_a_fold(blobs, options, tmp_path):
    cancelled = Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        train(blobs, tmp_path / "run", options, cancelled=cancelled)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_settings_come_from_the_recipe_or_from_the_run(tiny_config, tmp_path):
    run, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"max_time": 60, "seed": 3}))
    assert resolve_config(run) == TrainingConfig()
    assert (resolve_config(run, recipe, seed=None).seed, resolve_config(run, recipe, seed=4).seed) == (3, 4)
    assert resolve_config(run, recipe, epochs=5).max_time is None
    run.mkdir()
    (run / "training.yaml").write_text(yaml.safe_dump(tiny_config(seed=9).model_dump(mode="json")))
    assert [resolve_config(run, resume=resume).seed for resume in (True, False)] == [9, 0]
    assert resolve_config(run, recipe, resume=True).seed == 3
    with pytest.raises(ConfigError, match="both --epochs and --max-time"):
        resolve_config(run, epochs=1, max_time=2.0)


def test_the_plan_is_given_or_that_of_the_run_or_made(blobs, tiny_plan, tmp_path, monkeypatch):
    run, origins, counts = tmp_path / "run", [], Counter()

    def plan_dataset(dataset, options, on_case, on_warning):
        on_case()
        return tiny_plan()

    monkeypatch.setattr(train_module, "plan_dataset", plan_dataset)

    class Record(TrainingCallbacks):
        def on_plan(self, plan, origin, run):
            origins.append(origin)

        def on_planning_start(self, cases):
            counts["cases"] += cases

        def on_case_planned(self):
            counts["planned"] += 1

    def resolve(plan=None, resume=False):
        return resolve_plan(blobs, run, plan or PlanOptions(), resume=resume, callbacks=Record())

    assert resolve().batch_size == 2
    save_plan(tiny_plan(batch_size=3), run)
    assert resolve().batch_size == 2
    assert resolve(resume=True).batch_size == 3
    begin(run)
    assert resolve().batch_size == 3
    assert counts == {"cases": 8, "planned": 2}
    assert resolve(tiny_plan(batch_size=4)).batch_size == 4
    assert origins == ["new", "new", "run", "run", "given"]
    with pytest.raises(LabelError, match="no case holds a label of the plan: it knows dark"):
        resolve(tiny_plan(labels={"background": 0, "dark": 77}))


def test_a_plan_is_made_for_the_device_and_the_geometry_of_the_training(blobs, options, tmp_path, monkeypatch):
    made = []

    class PlannedError(Exception):
        """Ends the call."""

    def plan_dataset(dataset, options, on_case, on_warning):
        made.append(options)
        raise PlannedError

    monkeypatch.setattr(train_module, "plan_dataset", plan_dataset)
    planning = PlanOptions(size="base", device="cuda", geometry="fail")
    with pytest.raises(PlannedError):
        train(blobs, tmp_path / "run", replace(options, plan=planning, device="cpu", geometry="resample"))
    with pytest.raises(PlannedError):
        train_variants(blobs, tmp_path / "compared", VariantOptions(plan=planning, device="cpu", geometry="resample"))
    expected = PlanOptions(size="base", device="cpu", geometry="resample")
    assert made == [replace(expected, precision=precision) for precision in ("fp32", "auto")]


def test_folds_are_selected_once_each(blobs, tiny_config, tmp_path):
    assert select_folds(blobs, tiny_config(), tmp_path, None) == (0, 1)
    assert select_folds(blobs, tiny_config(), tmp_path, (1, 1)) == (1,)
    with pytest.raises(ConfigError, match="this data set gives 2"):
        select_folds(blobs, tiny_config(), tmp_path, (2,))
