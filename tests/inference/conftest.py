"""The plainest way to a mask, whole grids at once, for the way that is taken to be compared with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from attunet.data.preprocess import prepare
from attunet.data.record import PreprocessingRecord
from attunet.data.restoration.whole import restore
from attunet.inference.outputs import as_probabilities


@pytest.fixture(scope="session")
def ask():
    """`ask(members, volume, how)`: probabilities on the grid of `record`, attention on the image's, and its box.

    One member answers on its model grid; several are averaged on the image's own.
    """

    def run(members, volume, how):
        prepared = [prepare(volume, member.plan.preprocessing) for member in members]
        answers = [member.answer(each.array, how) for member, each in zip(members, prepared, strict=True)]
        gates = {}
        for member, each, answer in zip(members, prepared, answers, strict=True):
            prefix = f"{member.name}/" if len(members) > 1 else ""
            gates |= {f"{prefix}{gate}": restore(alpha, each.record) for gate, alpha in answer.attention.items()}
        content = min((each.record for each in prepared), key=lambda record: np.prod(record.cropped_shape)).content
        if len(members) == 1:
            return SimpleNamespace(
                probabilities=answers[0].logits, record=prepared[0].record, attention=gates, content=content
            )
        shares = [
            as_probabilities(restore(answer.logits, each.record), member.plan)
            for member, each, answer in zip(members, prepared, answers, strict=True)
        ]
        record = untouched(volume, members[0].plan.preprocessing)
        return SimpleNamespace(probabilities=np.mean(shares, axis=0), record=record, attention=gates, content=content)

    return run


def untouched(volume, preprocessing):
    """The trail of a volume to which nothing was done."""
    shape = volume.spatial_shape
    return PreprocessingRecord(
        volume.affine, shape, (0, 1, 2), (False, False, False), (0, 0, 0), shape, shape, preprocessing
    )
