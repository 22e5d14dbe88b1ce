import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attunet.data.preprocess import IGNORED
from attunet.training.callbacks import validation as validation_module
from attunet.training.callbacks.attention_frames import AttentionRecorder
from attunet.training.callbacks.history import History
from attunet.training.callbacks.validation import FullVolumeValidation, probe_cases
from attunet.training.callbacks.window_sample import SAMPLED_WINDOWS
from attunet.training.module import TrainingModule
from attunet.training.run_folder import FoldPaths, FoldTraining


class Case:
    """A stored case whose image shows the answer that the network below gives."""

    def __init__(self, label, answer, annotated=None):
        self._label, self._answer, self.annotated = np.asarray(label), np.asarray(answer), annotated

    def label(self):
        return self._label

    def image(self):
        return self._answer[None].astype(np.float32)


def volume(*classes):
    return np.array(classes).reshape(-1, 1, 1)


@pytest.fixture
def make_validation(tiny_plan, tiny_config, tmp_path, monkeypatch):
    """Makes a validation of cases with three labels by a network that answers what the image says."""

    def answer(image, _engine, _tiling, blending, _context):
        gates = {"level2": image} if blending.attention else {}
        return np.stack([image[0] == index for index in range(3)]).astype(np.float32), gates

    monkeypatch.setattr(validation_module, "stitch", answer)
    three = tiny_plan(labels={"background": 0, "liver": 1, "spleen": 2})

    def make(*cases, fraction=1.0, plan=three, patience=None, probes=(), recorder=None, clock=time.monotonic):
        paths = FoldPaths(tmp_path)
        schedule = SimpleNamespace(elapsed=1e9, progress=0.0)
        config = tiny_config(validation_fraction=fraction, patience=patience)
        fold = FoldTraining(train=(), validation=cases, plan=plan, config=config, paths=paths)
        recorder = recorder or AttentionRecorder(probes, plan, schedule, paths)
        history = History(schedule, paths)
        validation = FullVolumeValidation(fold, schedule, history, recorder, clock=clock)
        validation.schedule, validation.history, validation.module = (
            schedule,
            history,
            TrainingModule(plan, tiny_config()),
        )
        validation.case = cases[0]
        return validation

    return make


def a_trainer(epoch=0, stop=False, is_rank_zero=True):
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(current_epoch=epoch, should_stop=stop, is_global_zero=is_rank_zero, strategy=strategy)


def end_epoch(validation, epoch=0, stop=False):
    validation.on_train_epoch_end(a_trainer(epoch, stop), validation.module)
    return validation.history.validation


def test_dice_per_label_averaged_over_the_cases_that_have_it(make_validation):
    validation = make_validation(
        Case(volume(0, 1, 1, 2), volume(0, 1, 0, 2)),
        Case(volume(0, 1, 1, 0), volume(0, 1, 1, 0)),
        Case(volume(0, 0, 0, 0), volume(0, 0, 0, 2)),
    )
    assert validation.validate(validation.module) == {
        "liver": pytest.approx((2 / 3 + 1) / 2),
        "spleen": pytest.approx(0.5),
    }


def test_ignored_voxels_do_not_count(make_validation):
    validation = make_validation(Case(volume(1, 1, IGNORED, IGNORED), volume(1, 1, 1, 2)))
    scores = validation.validate(validation.module)
    assert scores["liver"] == 1
    assert np.isnan(scores["spleen"])


def test_the_mean_leaves_out_labels_that_occur_nowhere(make_validation):
    assert end_epoch(make_validation(Case(volume(0, 1), volume(0, 1))))["dice"] == 1


def test_weights_are_kept_even_when_no_label_occurs_in_any_case(make_validation, tmp_path):
    assert end_epoch(make_validation(Case(volume(0, 0), volume(0, 0))))["dice"] == 0
    assert FoldPaths(tmp_path).best.exists()


def test_the_best_weights_are_kept(make_validation, tmp_path):
    case = Case(volume(0, 1, 1), volume(0, 1, 1))
    validation, best = make_validation(case), FoldPaths(tmp_path).best
    end_epoch(validation)
    good = best.read_bytes()
    with torch.no_grad():
        next(validation.module.averaged.parameters()).add_(1)
    case._answer = volume(0, 1, 0)
    end_epoch(validation, epoch=1)
    assert best.read_bytes() == good
    case._answer = volume(0, 1, 1)
    end_epoch(validation, epoch=2)
    assert best.read_bytes() != good


def test_a_resumed_validation_remembers_the_best(make_validation, tmp_path):
    case = Case(volume(0, 1, 1), volume(0, 1, 1))
    first, second = make_validation(case), make_validation(case)
    end_epoch(first)
    FoldPaths(tmp_path).best.unlink()
    second.load_state_dict(first.state_dict())
    case._answer = volume(0, 1, 0)
    end_epoch(second, epoch=1)
    assert not FoldPaths(tmp_path).best.exists()


def test_it_runs_first_and_last_and_in_between_within_its_share_of_the_time(make_validation):
    clock = iter(range(0, 1000, 5))  # each validation seems to take five seconds
    validation = make_validation(Case(volume(0, 1), volume(0, 1)), fraction=0.1, clock=lambda: next(clock))

    def runs_at(elapsed, epoch, stop=False):
        validation.schedule.elapsed = elapsed
        validation.history.validation = {}
        return bool(end_epoch(validation, epoch, stop))

    assert runs_at(1, epoch=0)
    assert not runs_at(99, epoch=1)  # a second one would make it 10 of 99 seconds
    assert runs_at(101, epoch=2)
    assert not runs_at(140, epoch=3)
    assert runs_at(140, epoch=4, stop=True)
    validation.schedule.progress = 1.0
    assert runs_at(141, epoch=5)


def test_a_share_of_one_validates_after_every_epoch(make_validation):
    validation = make_validation(Case(volume(0, 1), volume(0, 1)), fraction=1.0)
    validation.schedule.elapsed = 0.0
    assert all(end_epoch(validation, epoch) for epoch in range(3))
    assert validation.state_dict()["spent"] > 0


class Recorder:
    """Records the calls of a validation."""

    def __init__(self, probes):
        self.probes, self.calls = probes, []

    def add(self, case, attention):
        self.calls.append((case, attention["level2"].shape))

    def take_maps(self):
        return []

    def end_validation(self, trainer, _maps):
        self.calls.append(trainer.should_stop)


def test_attention_frames_come_from_the_same_pass_and_include_the_last(make_validation):
    cases = [Case(volume(0, 1, index), volume(0, 1, index)) for index in range(3)]
    recorder = Recorder(cases[:2])
    validation = make_validation(*cases, recorder=recorder, patience=1)
    end_epoch(validation)
    assert recorder.calls == [(cases[0], (1, 3, 1, 1)), (cases[1], (1, 3, 1, 1)), False]
    end_epoch(validation, epoch=1)
    assert recorder.calls[-1] is True


def test_of_many_cases_at_most_ten_are_looked_at_spread_over_all(make_validation):
    read = []
    cases = [Case(volume(0, 1), volume(0, 1)) for _ in range(25)]
    for index, case in enumerate(cases):
        case.label = lambda index=index, label=case._label: read.append(index) or label
    validation = make_validation(*cases)
    validation.validate(validation.module)
    assert len(read) <= 10
    assert (read[0], read[-1]) == (0, 24)


def test_the_network_continues_in_the_mode_it_was_in(make_validation):
    validation = make_validation(Case(volume(0, 1), volume(0, 1)))
    for mode in (True, False):
        validation.module.averaged_network.train(mode)
        validation.validate(validation.module)
        assert validation.module.averaged_network.training is mode


def test_a_case_counts_for_the_labels_its_annotator_drew(make_validation):
    validation = make_validation(
        Case(volume(0, 1, 1, 0), volume(0, 1, 1, 2), annotated=("liver",)),
        Case(volume(0, 0, 2, 2), volume(1, 0, 2, 0), annotated=("spleen",)),
    )
    assert validation.validate(validation.module) == {"liver": 1.0, "spleen": pytest.approx(2 / 3)}


def test_each_region_is_evaluated_by_its_own_output(make_validation, make_regions_plan, monkeypatch):
    def answer(_image, _engine, _tiling, _blending, _context):
        says = [[-1, 1, 1, 1, 1], [-1, -1, 1, -1, 1], [3, -2, -2, 0.1, 1]]
        return np.array(says, np.float32).reshape(3, 5, 1, 1), {}

    monkeypatch.setattr(validation_module, "stitch", answer)
    label = volume(0, 1, 2, 3, IGNORED)
    scores = {"tumour": 1.0, "core": pytest.approx(2 / 3), "enhancing": pytest.approx(2 / 3)}
    whole = make_validation(Case(label, label), plan=make_regions_plan())
    assert whole.validate(whole.module) == scores
    partly = make_validation(Case(label, label, annotated=("core",)), plan=make_regions_plan())
    partial = partly.validate(partly.module)
    assert partial["core"] == scores["core"]
    assert np.isnan([partial["tumour"], partial["enhancing"]]).all()


def test_the_dice_of_a_large_case_is_estimated_from_a_sample_of_its_windows(make_validation, tiny_plan, monkeypatch):
    rng = np.random.default_rng(0)
    places = np.indices((96, 96, 96)) - 47.5
    label = ((places**2).sum(axis=0) < 30**2).astype(np.uint8)
    answer = np.where(rng.random(label.shape) < 0.05, 1 - label, label)  # false positives lie everywhere
    runs = []

    class Answers:
        batch = 1

        def __init__(self, *_arguments, **_options):
            pass

        def __call__(self, windows):
            runs.append(windows.shape)
            return SimpleNamespace(logits=np.stack([windows[:, 0] == index for index in range(2)], 1), attention={})

    monkeypatch.setattr(validation_module, "TorchEngine", Answers)
    plan = tiny_plan(patch_size=(8, 8, 8))
    case = Case(label, answer)
    case.id = "trunk"
    validation = make_validation(case, plan=plan)
    true = 2 * (answer & label).sum() / (answer.sum() + label.sum())
    assert validation.validate(validation.module) == {"blob": pytest.approx(float(true), abs=0.03)}
    assert runs == [(1, 1, 8, 8, 8)] * SAMPLED_WINDOWS
    assert "1 of 1 validated cases have more than 1024 windows (trunk)" in validation.notice
    assert probe_cases([case], plan) == ()


def test_small_cases_need_no_notice(make_validation):
    assert make_validation(Case(volume(0, 1), volume(0, 1))).notice == ""


def ends(validation, answers):
    """Whether the training ends, after each validation of these answers about the first case."""
    trainer, stopped = a_trainer(epoch=1), []
    for answer in answers:
        validation.case._answer = volume(*answer)
        validation.on_train_epoch_end(trainer, validation.module)
        stopped.append(trainer.should_stop)
    return stopped


BAD, BETTER, GOOD = (0, 1, 0, 0), (0, 1, 1, 0), (0, 1, 1, 1)


def test_patience_ends_after_so_many_validations_without_a_better_dice(make_validation):
    validation = make_validation(Case(volume(0, 1, 1, 1), volume(*BAD)), patience=2)
    assert ends(validation, [BAD, BAD, BETTER, BETTER, GOOD, BETTER, GOOD]) == [False] * 6 + [True]
    assert validation.stale == 2


def test_without_patience_the_training_continues(make_validation):
    validation = make_validation(Case(volume(0, 1, 1, 1), volume(*BAD)))
    assert not any(ends(validation, [GOOD] + [BAD] * 5))
    assert validation.stale == 5


def test_a_resumed_training_loses_patience_where_it_would_have(make_validation):
    first = make_validation(Case(volume(0, 1, 1, 1), volume(*BAD)), patience=2)
    second = make_validation(Case(volume(0, 1, 1, 1), volume(*BAD)), patience=2)
    assert ends(first, [GOOD, BAD]) == [False, False]
    second.load_state_dict(first.state_dict())
    assert ends(second, [BAD]) == [True]


def test_training_that_ran_out_of_patience_does_not_continue_when_resumed(make_validation):
    ended, resumed = (make_validation(Case(volume(0, 1, 1, 1), volume(*BAD)), patience=1) for _ in range(2))
    ends(ended, [GOOD, BAD])
    trainer = a_trainer()
    resumed.on_train_start(trainer, resumed.module)
    assert not trainer.should_stop
    resumed.load_state_dict(ended.state_dict())
    resumed.on_train_start(trainer, resumed.module)
    assert trainer.should_stop


class Group:
    """Several processes, one after another: what each gave before, each is given again."""

    def __init__(self, size):
        self.size, self.rank, self.given = size, 0, [[] for _ in range(size)]

    def is_available(self):
        return True

    is_initialized = is_available

    def get_rank(self):
        return self.rank

    def get_world_size(self):
        return self.size

    def all_gather_object(self, gathered, rows):
        self.given[self.rank] = rows
        gathered[:] = self.given


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_cases_and_know_all_scores(processes, make_validation, monkeypatch):
    seen = []
    cases = [Case(volume(0, 1, 1, 2), volume(*answer, 2)) for answer in ((0, 1, 1), (1, 1, 0), (0, 0, 1), (1, 0, 0))]
    for index, case in enumerate(cases):
        case.label = lambda index=index, label=case._label: seen.append(index) or label
    validation = make_validation(*cases)
    alone = validation.validate(validation.module)
    seen.clear()
    group = Group(processes)
    for name in ("is_available", "is_initialized", "get_rank", "get_world_size", "all_gather_object"):
        monkeypatch.setattr(torch.distributed, name, getattr(group, name))
    for rank in range(processes):
        group.rank = rank
        scores = validation.validate(validation.module)
    assert sorted(seen) == [0, 1, 2, 3]
    assert scores == pytest.approx(alone)


def test_only_the_first_process_writes_and_all_follow_its_decision(make_validation, tmp_path):
    validation = make_validation(Case(volume(0, 1), volume(0, 1)))
    validation.on_train_epoch_end(a_trainer(is_rank_zero=False), validation.module)
    assert validation.best == 1
    assert not FoldPaths(tmp_path).best.exists()
    trainer = a_trainer(epoch=1)
    trainer.strategy.broadcast = lambda _value: False
    validation.history.validation = {}
    validation.on_train_epoch_end(trainer, validation.module)
    assert not validation.history.validation
