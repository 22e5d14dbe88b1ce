"""What a case takes is foretold, and the portions are cut until it fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.agenda import make_agenda
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.limits.footprint import Needs, plan_course, resident_bytes
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.streaming import segment
from attunet.inference.windows.slabs import Course

MB = 2**20


class Flat:
    """The same logits everywhere, without an array of their own."""

    name, batch = "flat", 1

    def __init__(self, classes):
        self.classes = classes

    def __call__(self, patches):
        return EngineOutput(np.broadcast_to(np.float32(0), (len(patches), self.classes, *patches.shape[2:])), {})


def needs(plan, shape=(100, 100, 100), folds=1, members=1, **how):
    many = plan.model_copy(update={"patch_size": (20, 20, 20)})
    engines = (Flat(len(plan.labels)),) * folds
    voters = [Member(f"member {index}", many, engines) for index in range(members)]
    volume = Volume.from_array(np.ones(shape, np.int16))
    options = PredictOptions(step_size=1.0, **how)
    return Needs(make_agenda(voters, volume, options).tasks, options)


@pytest.fixture(scope="module")
def plan(make_plan_of):
    return make_plan_of(labels={"background": 0} | {f"organ_{index}": index for index in range(1, 50)})


def test_without_a_limit_the_case_is_gone_through_once(plan):
    course, peak = plan_course(needs(plan), None, 1000 * MB)
    assert course.bands == 1
    assert 1000 * MB < peak < 1300 * MB


@pytest.mark.parametrize("members", [1, 2])
def test_bands_become_more_until_it_fits(plan, members):
    asked = needs(plan, members=members)
    _, peak = plan_course(asked, None, 0)
    found = [plan_course(asked, int(share * peak), 0) for share in (1, 0.6, 0.35)]
    assert [bands.bands for bands, _ in found] == sorted(bands.bands for bands, _ in found)
    assert found[-1][0].bands > 1
    assert all(taken <= share * peak for share, (_, taken) in zip((1, 0.6, 0.35), found, strict=True))


def test_folds_labels_and_attention_take_more(plan):
    course = Course(planes=8)
    one = needs(plan).bytes(course)
    assert needs(plan, folds=3).bytes(course) > 1.5 * one
    assert needs(plan, attention=True).bytes(course) > one
    assert needs(plan, probabilities=True).bytes(course) > one
    assert replace(needs(plan), cleaned=True).bytes(course) >= one
    assert needs(plan, (100, 100, 200)).bytes(course) - one < 5 * MB  # the mask; windows follow the longest axis


def test_what_cannot_fit_is_refused_with_what_it_takes(plan):
    with pytest.raises(ConfigError, match=r"takes \d\.\d\d GB at least, 0\.10 GB are allowed") as refused:
        plan_course(needs(plan, folds=2), 100 * MB, 90 * MB)
    assert "--max-memory" in refused.value.hint
    assert "one fold" in refused.value.hint


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("course", [Course(planes=8), Course(bands=3, planes=4, fill=1)])
def test_arrays_stay_below_what_was_foretold(course, members, plan, monkeypatch):
    import tracemalloc

    asked = needs(plan, members=members)
    monkeypatch.setattr("attunet.inference.limits.footprint._SLACK", MB)
    tracemalloc.start()
    try:
        segment(asked.tasks, asked.options, course)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.4 * asked.bytes(course) < peak < asked.bytes(course)


def test_the_process_holds_something():
    assert 20 * MB < resident_bytes() < 2**40
