"""A network whose mask is what passes its gates, so that what becomes of it without them is known."""

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

SHAPE = (16, 12, 8)


class Gated:
    """Two gates; level2 looks where the image is bright, level3 everywhere; the logit of body is 10 alpha x - 4."""

    name = "gated"
    batch = 2

    def __init__(self):
        self.received = []

    def __call__(self, patches, attention=None):
        self.received.append(dict(attention or {}))
        fine = (patches[:, :1] > 2).astype(np.float32)
        own = {"level2": fine * 0.9, "level3": np.full_like(fine[:, :, ::2, ::2, ::2], 0.8)}
        alpha = own | dict(attention or {})
        passed = alpha["level2"][:, 0] * (alpha["level3"].mean(axis=(1, 2, 3, 4)) > 0.5)[:, None, None, None]
        logits = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
        logits[:, 1] = 10 * passed * (patches[:, 0] > -0.5) - 4
        return EngineOutput(logits, {gate: alpha[gate] for gate in own})


@pytest.fixture
def gated():
    """The engine."""
    return Gated()


@pytest.fixture
def gated_plan(make_plan_of):
    """A plan of two gated levels for it, in which the image is its own model grid."""
    plan = make_plan_of()
    network = plan.network.model_copy(update={"gated_levels": (2, 3), "channels": (4, 6, 8, 8)})
    network = network.model_copy(update={"strides": ((2, 2, 2),) * 3, "kernel_sizes": ((3, 3, 3),) * 4})
    return plan.model_copy(update={"network": network})


@pytest.fixture
def segmenter(gated, gated_plan):
    """A model of that engine twice, as two folds."""
    return Segmenter((Member("m", gated_plan, (gated, gated)),))


@pytest.fixture(scope="session")
def bright_ball():
    """An image with a bright ball in noise, and its reference, label 1."""
    grid = np.indices(SHAPE)
    ball = sum((axis - middle) ** 2 for axis, middle in zip(grid, (8, 5, 4), strict=True)) < 9
    noise = np.random.default_rng(0).normal(0, 0.05, SHAPE)
    image = Volume.from_array((ball * 3.0 + noise).astype(np.float32))
    return image, image.with_array(ball.astype(np.uint8)[None])
