from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attunet.data.preprocess import IGNORED
from attunet.inference.sliding_window import Stitched
from attunet.training import validation
from attunet.training.history import History
from attunet.training.module import TrainingModule
from attunet.training.paths import FoldPaths
from attunet.training.validation import FullVolumeValidation


class Case:
    """A stored case whose image shows the answer that the network below gives."""

    def __init__(self, label, answer):
        self._label, self._answer = np.asarray(label), np.asarray(answer)

    def label(self):
        return self._label

    def image(self):
        return self._answer[None].astype(np.float32)


def volume(*classes):
    return np.array(classes).reshape(-1, 1, 1)


@pytest.fixture
def judge(tiny_plan, tiny_config, tmp_path, monkeypatch):
    """Makes a validation of cases with three labels by a network that answers what the image says."""

    def answer(image, _engine, _patch, *, classes):
        return Stitched(np.stack([image[0] == index for index in range(classes)]).astype(np.float32), {})

    monkeypatch.setattr(validation, "sliding_window", answer)
    plan = tiny_plan(labels={"background": 0, "liver": 1, "spleen": 2})

    def make(*cases, fraction=1.0):
        paths = FoldPaths(tmp_path)
        schedule = SimpleNamespace(elapsed=1e9, progress=0.0)
        judge = FullVolumeValidation(cases, plan, fraction, schedule, History(schedule, paths), paths)
        judge.schedule, judge.module = schedule, TrainingModule(plan, tiny_config())
        return judge

    return make


def end_epoch(judge, epoch=0, stop=False):
    judge.on_train_epoch_end(SimpleNamespace(current_epoch=epoch, should_stop=stop), judge.module)
    return judge._history._validated


def test_dice_per_label_averaged_over_the_cases_that_have_it(judge):
    judge = judge(
        Case(volume(0, 1, 1, 2), volume(0, 1, 0, 2)),
        Case(volume(0, 1, 1, 0), volume(0, 1, 1, 0)),
        Case(volume(0, 0, 0, 0), volume(0, 0, 0, 2)),
    )
    assert judge.validate(judge.module) == {"liver": pytest.approx((2 / 3 + 1) / 2), "spleen": pytest.approx(0.5)}


def test_ignored_voxels_do_not_count(judge):
    judge = judge(Case(volume(1, 1, IGNORED, IGNORED), volume(1, 1, 1, 2)))
    scores = judge.validate(judge.module)
    assert scores["liver"] == 1
    assert np.isnan(scores["spleen"])


def test_the_mean_leaves_out_labels_that_occur_nowhere(judge):
    assert end_epoch(judge(Case(volume(0, 1), volume(0, 1))))["dice"] == 1


def test_weights_are_kept_even_when_no_label_occurs_in_any_case(judge, tmp_path):
    assert end_epoch(judge(Case(volume(0, 0), volume(0, 0))))["dice"] == 0
    assert FoldPaths(tmp_path).best.exists()


def test_the_best_weights_are_kept(judge, tmp_path):
    case = Case(volume(0, 1, 1), volume(0, 1, 1))
    judge, best = judge(case), FoldPaths(tmp_path).best
    end_epoch(judge)
    good = best.read_bytes()
    with torch.no_grad():
        next(judge.module.averaged.parameters()).add_(1)
    case._answer = volume(0, 1, 0)
    end_epoch(judge, epoch=1)
    assert best.read_bytes() == good
    case._answer = volume(0, 1, 1)
    end_epoch(judge, epoch=2)
    assert best.read_bytes() != good


def test_a_resumed_validation_remembers_the_best(judge, tmp_path):
    case = Case(volume(0, 1, 1), volume(0, 1, 1))
    first, second = judge(case), judge(case)
    end_epoch(first)
    FoldPaths(tmp_path).best.unlink()
    second.load_state_dict(first.state_dict())
    case._answer = volume(0, 1, 0)
    end_epoch(second, epoch=1)
    assert not FoldPaths(tmp_path).best.exists()


def test_it_runs_first_and_last_and_in_between_within_its_share_of_the_time(judge, monkeypatch):
    judge = judge(Case(volume(0, 1), volume(0, 1)), fraction=0.1)
    clock = iter(range(0, 1000, 5))  # each validation seems to take five seconds
    monkeypatch.setattr(validation, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def runs_at(elapsed, epoch, stop=False):
        judge.schedule.elapsed = elapsed
        judge._history._validated = {}
        return bool(end_epoch(judge, epoch, stop))

    assert runs_at(1, epoch=0)
    assert not runs_at(99, epoch=1)  # a second one would make it 10 of 99 seconds
    assert runs_at(101, epoch=2)
    assert not runs_at(140, epoch=3)
    assert runs_at(140, epoch=4, stop=True)
    judge.schedule.progress = 1.0
    assert runs_at(141, epoch=5)


def test_a_share_of_one_validates_after_every_epoch(judge):
    judge = judge(Case(volume(0, 1), volume(0, 1)), fraction=1.0)
    judge.schedule.elapsed = 0.0
    assert all(end_epoch(judge, epoch) for epoch in range(3))
    assert judge.state_dict()["spent"] > 0


def test_of_many_cases_at_most_ten_are_looked_at_spread_over_all(judge):
    read = []
    cases = [Case(volume(0, 1), volume(0, 1)) for _ in range(25)]
    for index, case in enumerate(cases):
        case.label = lambda index=index, label=case._label: read.append(index) or label
    judge = judge(*cases)
    judge.validate(judge.module)
    assert len(read) <= 10
    assert (read[0], read[-1]) == (0, 24)


def test_the_network_goes_on_in_the_mode_it_was_in(judge):
    judge = judge(Case(volume(0, 1), volume(0, 1)))
    for mode in (True, False):
        judge.module.kept.train(mode)
        judge.validate(judge.module)
        assert judge.module.kept.training is mode
