"""The plan of a case before its first window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.budget import peak_resident_bytes, resident_bytes
from attunet.inference.case import plan_case
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions


class Blank:
    """Counts the batches it was given."""

    name, batch = "blank", 2

    def __init__(self):
        self.calls = 0

    def __call__(self, patches):
        self.calls += 1
        return EngineOutput(np.zeros((len(patches), 3, *patches.shape[2:]), np.float32), {})


@pytest.fixture
def member(make_plan_of):
    return Member("one", make_plan_of(), (Blank(), Blank()))


IMAGE = np.random.default_rng(0).uniform(1, 2, (48, 24, 16))


def test_windows_count_for_every_engine_and_none_is_run(member):
    planned = plan_case([member], Volume.from_array(IMAGE), PredictOptions())
    assert planned.windows == 2 * len(planned.members[0].tiling) == 2 * 5 * 3 * 3
    assert [engine.calls for engine in member.engines] == [0, 0]
    assert (planned.air_windows, planned.warnings, planned.chunking.bands) == (0, (), 1)


def test_members_that_see_an_image_alike_share_it(member):
    coarse = member.plan.preprocessing.model_copy(update={"spacing": (2.0, 2.0, 2.0)})
    other = replace(member, plan=member.plan.model_copy(update={"preprocessing": coarse}))
    planned = plan_case([member, member, other], Volume.from_array(IMAGE), PredictOptions())
    first, second, third = (case.prepared.array for case in planned.members)
    assert first is second
    assert third.shape == (1, 24, 12, 8)
    assert [case.prefix for case in planned.members] == ["one/"] * 3


def test_members_follow_the_first_ones_axis(member):
    turned = member.plan.preprocessing.model_copy(update={"slice_axis": 0})
    other = replace(member, plan=member.plan.model_copy(update={"preprocessing": turned}))
    cases = plan_case([member, other], Volume.from_array(IMAGE), PredictOptions()).members
    natives = [[case.prepared.record.axes[axis] for axis in case.tiling.axes] for case in cases]
    assert natives[0] == natives[1]


def test_air_is_left_out_where_the_member_allows(member):
    image = IMAGE.copy()
    image[20:, 0, 0] = 1.0
    image[20:] = 1 + (image[20:] - 1) * 0.01
    whole = member.plan.preprocessing.model_copy(update={"crop_to_content": False})
    careful = replace(member, plan=member.plan.model_copy(update={"preprocessing": whole}), air=0.5)
    volume = Volume.from_array(image)
    planned, every = (plan_case([careful], volume, PredictOptions(all_windows=every)) for every in (False, True))
    assert planned.air_windows > 0
    assert planned.windows + planned.air_windows == every.windows
    assert every.air_windows == 0


def test_a_limit_warms_the_engines_up_and_is_kept_or_refused(member):
    volume = Volume.from_array(IMAGE)
    assert plan_case([member], volume, PredictOptions(max_memory=2**40)).peak_bytes < 2**40
    assert [engine.calls for engine in member.engines] == [1, 1]
    with pytest.raises(ConfigError, match="this case needs"):
        plan_case([member], volume, PredictOptions(max_memory=2**20))


def test_what_exceeds_the_limit_is_refused_before_it_is_preprocessed(member):
    coarse = Volume.from_array(IMAGE, tuple(12 * step for step in member.plan.preprocessing.spacing))
    before = peak_resident_bytes()
    with pytest.raises(ConfigError, match="to be preprocessed"):
        plan_case([member], coarse, PredictOptions(max_memory=resident_bytes() + 2**24))
    assert peak_resident_bytes() < before + 2**24
