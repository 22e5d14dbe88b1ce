"""Cases that must end in time run fewer windows, and say so."""

from __future__ import annotations

import time

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.inference.agenda import make_agenda
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.limits.deadline import seconds_a_window
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

PAUSE = 0.01


class Slow:
    """Takes its time for each window."""

    name, batch = "slow", 2

    def __call__(self, patches):
        time.sleep(PAUSE * len(patches))
        return EngineOutput(np.zeros((len(patches), 3, *patches.shape[2:]), np.float32), {})


@pytest.fixture
def member(make_plan_of):
    plan = make_plan_of(mirror_axes=(0, 1)).model_copy(update={"patch_size": (8, 8, 8)})
    return Member("one", plan, (Slow(),))


IMAGE = Volume.from_array(np.random.default_rng(0).uniform(size=(32, 24, 24)))


def test_a_window_is_timed_with_its_copies(member):
    (task,) = make_agenda([member], IMAGE, PredictOptions()).tasks
    assert 4 * PAUSE <= seconds_a_window(task, PredictOptions()) < 20 * PAUSE
    assert PAUSE <= seconds_a_window(task, PredictOptions(mirror=False)) < 6 * PAUSE


def test_with_time_enough_nothing_changes(member):
    agenda = make_agenda([member], IMAGE, PredictOptions(time_limit=1000))
    assert agenda.warnings == ()
    assert agenda.windows == make_agenda([member], IMAGE, PredictOptions()).windows == 7 * 5 * 5


def test_the_step_grows_before_mirroring_is_given_up(member):
    seconds = [make_agenda([member], IMAGE, PredictOptions(time_limit=limit)) for limit in (4.5, 1.0)]
    assert [agenda.options.step_size for agenda in seconds] == [seconds[0].options.step_size, 1.0]
    assert 0.5 < seconds[0].options.step_size <= 1
    assert [agenda.options.mirror for agenda in seconds] == [True, False]
    assert "instead of 0.5 patches apart" in seconds[0].warnings[0]
    assert "without mirrored copies" in seconds[1].warnings[0]


def test_a_case_ends_in_time_and_its_notice_says_how(member):
    started = time.perf_counter()
    result = Segmenter((member,)).predict(IMAGE, time_limit=5.0)
    assert time.perf_counter() - started < 5.0
    assert len(result.warnings) == 1


def test_what_cannot_end_in_time_is_done_as_fast_as_can_be(member):
    agenda = make_agenda([member], IMAGE, PredictOptions(time_limit=0.01))
    assert "longer than allowed" in agenda.warnings[0]
    assert (agenda.options.step_size, agenda.options.mirror) == (1.0, False)
