"""The memory of a case is estimated, and the case is divided until it fits."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.budget import Footprint, fit_to_memory, peak_resident_bytes, resident_bytes, seconds_per_window
from attunet.inference.case import CasePlan, plan_case, segment
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Chunking, Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

MB = 2**20


class Flat:
    """The same logits everywhere, without an array of their own."""

    name, batch = "flat", 1

    def __init__(self, classes):
        self.classes = classes

    def __call__(self, patches):
        return EngineOutput(np.broadcast_to(np.float32(0), (len(patches), self.classes, *patches.shape[2:])), {})


def footprint(plan, shape=(100, 100, 100), folds=1, members=1, **how):
    many = plan.model_copy(update={"patch_size": (20, 20, 20)})
    engines = (Flat(len(plan.labels)),) * folds
    voters = [Member(f"member {index}", many, engines) for index in range(members)]
    volume = Volume.from_array(np.ones(shape, np.int16))
    options = PredictOptions(step_size=1.0, **how)
    return Footprint(cases=plan_case(voters, volume, options).members, options=options)


@pytest.fixture(scope="module")
def plan(make_plan_of):
    return make_plan_of(labels={"background": 0} | {f"organ_{index}": index for index in range(1, 50)})


def test_without_a_limit_the_case_is_gone_through_once(plan):
    chunking, peak = fit_to_memory(footprint(plan), None, 1000 * MB)
    assert chunking.bands == 1
    assert 1000 * MB < peak < 1300 * MB


@pytest.mark.parametrize("members", [1, 2])
def test_bands_become_more_until_it_fits(plan, members):
    asked = footprint(plan, members=members)
    _, peak = fit_to_memory(asked, None, 0)
    found = [fit_to_memory(asked, int(share * peak), 0) for share in (1, 0.6, 0.35)]
    assert [bands.bands for bands, _ in found] == sorted(bands.bands for bands, _ in found)
    assert found[-1][0].bands > 1
    assert all(taken <= share * peak for share, (_, taken) in zip((1, 0.6, 0.35), found, strict=True))


def test_folds_labels_and_attention_take_more(plan):
    chunking = Chunking(planes=8)
    one = footprint(plan).bytes(chunking)
    assert footprint(plan, folds=3).bytes(chunking) > 1.5 * one
    assert footprint(plan, attention=True).bytes(chunking) > one
    assert footprint(plan, probabilities=True).bytes(chunking) > one
    assert replace(footprint(plan), postprocessed=True).bytes(chunking) >= one
    assert footprint(plan, (100, 100, 200)).bytes(chunking) - one < 5 * MB  # the mask; windows follow the longest axis


def test_a_case_that_cannot_fit_is_refused_with_the_memory_it_needs(plan):
    with pytest.raises(ConfigError, match=r"needs at least \d\.\d\d GB, but only 0\.10 GB are allowed") as refused:
        fit_to_memory(footprint(plan, folds=2), 100 * MB, 90 * MB)
    assert "--max-memory" in refused.value.hint
    assert "one fold" in refused.value.hint


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("chunking", [Chunking(planes=8), Chunking(bands=3, planes=4, fill=1)])
def test_arrays_stay_below_the_prediction(chunking, members, plan):
    import tracemalloc

    expected = replace(footprint(plan, members=members), margin=MB)
    planned = CasePlan(members=tuple(expected.cases), options=expected.options, chunking=chunking)
    tracemalloc.start()
    try:
        segment(planned)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.4 * expected.bytes(chunking) < peak < expected.bytes(chunking)


def test_the_process_holds_something():
    assert 20 * MB < resident_bytes() <= peak_resident_bytes() < 2**40


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
    (case,) = plan_case([member], IMAGE, PredictOptions()).members
    assert 4 * PAUSE <= seconds_per_window(case, PredictOptions()) < 20 * PAUSE
    assert PAUSE <= seconds_per_window(case, PredictOptions(mirror=False)) < 6 * PAUSE


def test_with_time_enough_nothing_changes(member):
    planned = plan_case([member], IMAGE, PredictOptions(time_limit=1000))
    assert planned.warnings == ()
    assert planned.windows == plan_case([member], IMAGE, PredictOptions()).windows == 7 * 5 * 5


def test_the_step_grows_before_mirroring_is_given_up(member):
    seconds = [plan_case([member], IMAGE, PredictOptions(time_limit=limit)) for limit in (4.5, 1.0)]
    assert [planned.options.step_size for planned in seconds] == [seconds[0].options.step_size, 1.0]
    assert 0.5 < seconds[0].options.step_size <= 1
    assert [planned.options.mirror for planned in seconds] == [None, False], "None: as the model decides"
    assert "instead of 0.5 patches apart" in seconds[0].warnings[0]
    assert "without mirrored copies" in seconds[1].warnings[0]


def test_a_case_finishes_in_time_and_a_warning_says_how(member):
    started = time.perf_counter()
    result = Segmenter((member,)).predict(IMAGE, time_limit=5.0)
    assert time.perf_counter() - started < 5.0
    assert len(result.warnings) == 1


def test_what_cannot_end_in_time_is_done_as_fast_as_can_be(member):
    planned = plan_case([member], IMAGE, PredictOptions(time_limit=0.01))
    assert "longer than allowed" in planned.warnings[0]
    assert (planned.options.step_size, planned.options.mirror) == (1.0, False)
