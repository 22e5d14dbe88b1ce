"""A cascade is trained stage by stage, and can be interrupted anywhere without a trace in the result."""

import shutil
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from attunet.bundle import load_bundle
from attunet.config import Localizer
from attunet.inference.segmenter import Segmenter
from attunet.nn.weights import read_weights
from attunet.training import contexts
from attunet.training import fit as fit_module
from attunet.training.callbacks.progress import TrainingCallbacks
from attunet.training.contexts import Contexts
from attunet.training.localizers import localizer_config, member_cases, remaining_config
from attunet.training.run_folder import FoldPaths

pytestmark = pytest.mark.integration

EPOCHS = 8
STAGES = ["localizer 1 of 2", "localizer 2 of 2", "segmentation network"]


class Stopping(TrainingCallbacks):
    """Records the stages, and stops like Ctrl-C when a step of one of them was reached."""

    def __init__(self, stage="", steps=0):
        self.stages, self.steps, self.stop = [], 0, (stage, steps)

    def on_network_start(self, network):
        self.stages.append(network)
        self.steps = 0
        self._check()

    def on_step(self, state):
        self.steps += 1
        self._check()

    def _check(self):
        if self.stages and (self.stages[-1], self.steps) == self.stop:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def plan(tiny_plan, make_cascade):
    return make_cascade(tiny_plan())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, blobs, plan, tiny_config, store):
    """A cascade that was trained without an interruption, and the stages that were reported."""
    run, callbacks = tmp_path_factory.mktemp("cascade") / "run", Stopping()
    fit_module.fit(blobs, plan, tiny_config(epochs=EPOCHS), run, device="cpu", store=store, callbacks=callbacks)
    return run, callbacks.stages


@pytest.fixture
def unfinished(monkeypatch):
    """Leave out the export and the evaluation of a trained fold, which take longer than these trainings."""
    monkeypatch.setattr(fit_module, "finish_fold", lambda *_arguments, **_named: None)


def networks(run):
    fold = FoldPaths(run / "fold_0")
    return [fold.localizer(0), fold.localizer(1), fold]


def same_weights(run, other):
    pairs = zip(networks(run), networks(other), strict=True)
    states = [(read_weights(ours.best), read_weights(theirs.best)) for ours, theirs in pairs]
    return all(ours.keys() == theirs.keys() for ours, theirs in states) and all(
        torch.equal(ours[name], theirs[name]) for ours, theirs in states for name in ours
    )


def test_a_cascade_is_one_model_that_predicts(whole, blobs):
    run, stages = whole
    assert stages == STAGES
    bundle = load_bundle(run)
    assert len(bundle.folds[0].localizers) == 2
    assert bundle.folds[0].skipping is not None
    result = Segmenter.load(run, device="cpu").predict(blobs.cases[0])
    assert result.segmentation.spatial_shape == (24, 24, 16)


def test_the_epochs_are_divided(whole, log_of):
    run, _ = whole
    rows = [paths.log.read_text().splitlines()[1:] for paths in networks(run)]
    assert [len(each) for each in rows] == [1, 1, EPOCHS - 2]


@pytest.mark.parametrize(
    ("stage", "steps"),
    [(STAGES[0], 2), (STAGES[1], 0), (STAGES[2], 0), (STAGES[2], 7)],
    ids=["in the first localizer", "between localizers", "before the fine network", "in the fine network"],
)
def test_an_interruption_anywhere_changes_nothing(stage, steps, whole, train, plan, tmp_path, unfinished):
    stopped = Stopping(stage, steps)
    with pytest.raises(KeyboardInterrupt):
        train(plan=plan, epochs=EPOCHS, callbacks=stopped)
    assert stopped.stages[-1] == stage
    resumed = Stopping()
    train(plan=plan, epochs=EPOCHS, resume=True, callbacks=resumed)
    assert same_weights(whole[0], tmp_path / "run")
    if stage == STAGES[2]:
        assert resumed.stages == STAGES[2:]  # finished localizers are not even opened


def test_a_kill_between_two_contexts_changes_nothing(whole, train, plan, tmp_path, monkeypatch, unfinished):
    written = []

    def killed(file):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(file)
        return contexts_staged(file)

    contexts_staged = contexts.staged
    with monkeypatch.context() as patched:
        patched.setattr(contexts, "staged", killed)
        with pytest.raises(KeyboardInterrupt):
            train(plan=plan, epochs=EPOCHS)
    train(plan=plan, epochs=EPOCHS, resume=True)
    assert same_weights(whole[0], tmp_path / "run")


def test_a_finished_cascade_is_not_trained_again(whole, train, plan, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    resumed = Stopping()
    assert train(plan=plan, epochs=EPOCHS, resume=True, callbacks=resumed).trained is False
    assert resumed.stages == STAGES[2:]


def test_a_larger_budget_goes_to_the_fine_network(whole, train, plan, tmp_path, log_of, unfinished):
    shutil.copytree(whole[0], tmp_path / "run")
    train(plan=plan, epochs=EPOCHS + 2, resume=True)
    assert len(log_of(tmp_path / "run")) == EPOCHS
    before, after = ([read_weights(paths.best) for paths in networks(run)[:2]] for run in (whole[0], tmp_path / "run"))
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, after, strict=True) for name in a)


@pytest.mark.slow
def test_a_lost_context_and_a_larger_budget_leave_the_localizers_as_they_are(
    whole, train, plan, tmp_path, log_of, unfinished
):
    shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(FoldPaths(tmp_path / "run" / "fold_0").context)
    resumed = Stopping()
    train(plan=plan, epochs=4 * EPOCHS, resume=True, callbacks=resumed)  # a share of two epochs for each localizer
    assert resumed.stages == STAGES[2:]
    assert len(log_of(tmp_path / "run")) == 4 * EPOCHS - 2


def test_a_lost_context_is_made_again(whole, train, plan, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    folder = FoldPaths(tmp_path / "run" / "fold_0").context
    lost = sorted(folder.glob("*.npy"))[0]
    kept = lost.read_bytes()
    lost.unlink()
    train(plan=plan, epochs=EPOCHS, resume=True)
    assert lost.read_bytes() == kept
    assert len(list(folder.glob("*.npy"))) == 4


@pytest.mark.parametrize("context", ["foreground", "none"])
def test_one_localizer_sees_all_cases(context, train, tiny_plan, make_cascade, tmp_path, unfinished):
    plan = make_cascade(tiny_plan(), context=context, members=1)
    callbacks = Stopping()
    train(plan=plan, epochs=3, callbacks=callbacks)
    assert callbacks.stages == ["localizer", "segmentation network"]
    files = list(FoldPaths(tmp_path / "run" / "fold_0").context.glob("*.npy"))
    assert len(files) == (0 if context == "none" else 4)


def test_patients_stay_together_and_each_case_is_unseen_by_one(blobs, stored):
    cases = [replace(blobs.cases[0], id=f"case{index}", group=f"p{index // 2}") for index in range(12)]
    dataset = replace(blobs, cases=tuple(cases))
    many = {case.id: stored[0] for case in cases}
    train = [case.id for case in cases[:10]]
    seen = member_cases(dataset, train, many, 3, seed=5)
    assert seen == member_cases(dataset, train[::-1], many, 3, seed=5)
    left_out = [set(train) - set(names) for names in seen]
    assert set().union(*left_out) == set(train)
    assert not any(one & other for one, other in combinations(left_out, 2))
    groups = [{case.group for case in cases if case.id in part} for part in left_out]
    assert not any(one & other for one, other in combinations(groups, 2))
    assert max(map(len, left_out)) - min(map(len, left_out)) <= 2


def test_with_a_single_patient_every_localizer_sees_all(blobs, stored):
    cases = tuple(replace(case, group="one") for case in blobs.cases)
    many = {case.id: stored[0] for case in cases}
    names = tuple(case.id for case in cases)
    assert member_cases(replace(blobs, cases=cases), names, many, 2, seed=0) == (names, names)


@pytest.fixture
def localizer(plan):
    def make(**changes):
        return Localizer.model_validate({**dict(plan.localizer), **changes})

    return make


def test_the_budget_stays_as_it_was(localizer, tiny_config):
    timed = localizer_config(tiny_config(max_time=100.0), localizer(share=0.3, members=3), 1)
    assert timed.max_time == pytest.approx(10)
    rest = remaining_config(tiny_config(max_time=100.0), Contexts(epochs=3, seconds=31.5))
    assert rest.max_time == pytest.approx(68.5)
    assert localizer_config(tiny_config(epochs=40), localizer(share=0.2, members=2), 0).epochs == 4
    assert localizer_config(tiny_config(epochs=2), localizer(share=0.2, members=2), 0).epochs == 1
    assert remaining_config(tiny_config(epochs=40), Contexts(epochs=8, seconds=1)).epochs == 32
    assert remaining_config(tiny_config(epochs=1), Contexts(epochs=2, seconds=1)).epochs == 1


def test_localizers_differ_and_keep_no_pictures(localizer, tiny_config):
    seeds = {localizer_config(tiny_config(seed=2**32 - 1), localizer(), member).seed for member in range(3)}
    assert len(seeds) == 3
    assert not localizer_config(tiny_config(), localizer(), 0).case_images


@pytest.mark.parametrize("kind", ["regions", "slices", "ignored"])
def test_other_kinds_of_tasks(kind, train, tiny_plan, make_cascade, make_regions_plan, tmp_path):
    plans = {
        "regions": lambda: make_regions_plan(),
        "slices": lambda: tiny_plan(dims=2),
        "ignored": lambda: tiny_plan(ignore_label=9),
    }
    result = train(plan=make_cascade(plans[kind]()), epochs=3)
    assert result.trained
    assert len(result.summary.cases) == 2
