"""The plainest way to a mask, whole grids at once, to compare the streaming one with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from attunet.data.preprocess import prepare
from attunet.data.restore import PreprocessingRecord
from attunet.inference.outputs import activate, normalized
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.sliding_window import stitch
from attunet.inference.windows.tiling import Tiling


@pytest.fixture(scope="session")
def whole_grid():
    """`whole_grid(member, image, options)`: probabilities and attention of a prepared image, averaged over engines."""

    def run(member, image, options):
        plan = member.plan
        tiling = Tiling.of(image.shape[1:], plan.patch_size, options.step_size)
        results = [stitch(image, engine, tiling, Blending.of(plan, options)) for engine in member.engines]
        count = np.float32(len(results))
        total = sum(activate(logits, plan, member.temperature) for logits, _ in results)
        gates = {gate: sum(attention[gate] for _, attention in results) / count for gate in results[0][1]}
        return total / count, gates

    return run


@pytest.fixture(scope="session")
def decide(restore):
    """`decide(probabilities, record, plan)`: label values on the original grid, every channel restored as a whole."""

    def run(probabilities, record, plan):
        values, restored = list(plan.labels.values()), restore(probabilities, record)
        mask = np.full(record.shape, values[0])
        if plan.regions:
            for value, channel in zip(values[1:], restored, strict=True):
                mask[channel > 0.5] = value
        else:
            mask[record.content] = np.array(values)[restored.argmax(axis=0)][record.content]
        return mask

    return run


@pytest.fixture(scope="session")
def ask(restore, whole_grid):
    """`ask(members, volume, options)`: probabilities on the grid of `record`, attention on the image's, and its box.

    One member answers on its model grid; several are averaged on the image's own.
    """

    def run(members, volume, options):
        prepared = [prepare(volume, member.plan.preprocessing) for member in members]
        answers = [whole_grid(member, each.array, options) for member, each in zip(members, prepared, strict=True)]
        gates = {}
        for member, each, (_, attention) in zip(members, prepared, answers, strict=True):
            prefix = f"{member.name}/" if len(members) > 1 else ""
            gates |= {f"{prefix}{gate}": restore(alpha, each.record) for gate, alpha in attention.items()}
        content = min((each.record for each in prepared), key=lambda record: np.prod(record.cropped_shape)).content
        if len(members) == 1:
            return SimpleNamespace(
                probabilities=answers[0][0], record=prepared[0].record, attention=gates, content=content
            )
        shares = [
            normalized(restore(probabilities, each.record), member.plan)
            for member, each, (probabilities, _) in zip(members, prepared, answers, strict=True)
        ]
        record = untouched(volume, members[0].plan.preprocessing)
        return SimpleNamespace(probabilities=np.mean(shares, axis=0), record=record, attention=gates, content=content)

    return run


def untouched(volume, preprocessing):
    """The record of a volume to which nothing was done."""
    shape = volume.spatial_shape
    return PreprocessingRecord(
        volume.affine, shape, (0, 1, 2), (False, False, False), (0, 0, 0), shape, shape, preprocessing
    )
