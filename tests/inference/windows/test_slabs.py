"""Slabs of a member: one plane of each is in the next, and all together are the whole."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.inference.agenda import make_agenda
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.slabs import Course, slabs_of


class Same:
    """Logits that are the image, three times."""

    name, batch = "same", 2

    def __call__(self, patches):
        return EngineOutput(np.concatenate([patches, 2 * patches, -patches], axis=1), {"level1": np.tanh(patches) ** 2})


@pytest.mark.parametrize("planes", [None, 1, 3])
def test_slabs_meet_in_one_plane_and_add_up_to_the_whole(planes, make_plan_of):
    member = Member("one", make_plan_of(), (Same(), Same()))
    volume = Volume.from_array(np.random.default_rng(0).uniform(size=(40, 12, 9)))
    (task,) = make_agenda([member], volume, PredictOptions()).tasks
    how, whole = PredictOptions(attention=True), member.answer(task.prepared.array, PredictOptions(attention=True))
    expected = whole.logits.transpose(0, *(axis + 1 for axis in task.tiling.axes))
    alphas = whole.attention["level1"].transpose(0, *(axis + 1 for axis in task.tiling.axes))
    band, done = slice(2, 8), 0
    for slab in slabs_of(member, task.prepared.array, task.tiling, band, member.blending(how), Course(planes=planes)):
        likely = slab.probabilities
        assert likely.first == max(0, done - 1)
        assert slab.known == min(done, 1)
        assert slab.fresh.shape[1] == likely.stop - done
        assert planes is None or slab.fresh.shape[1] <= planes
        np.testing.assert_array_equal(likely.array, expected[:, likely.first : likely.stop, band])
        np.testing.assert_array_equal(slab.attention["level1"].array, alphas[:, likely.first : likely.stop, band])
        done = likely.stop
    assert done == expected.shape[1]
