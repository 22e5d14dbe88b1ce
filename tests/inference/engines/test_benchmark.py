"""Engines against each other: timed in turns, and only exact ones win."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.inference.engines.benchmark import EngineTiming, compare_engines, fastest, windows_of
from attunet.inference.engines.protocol import EngineOutput


class Toy:
    """Logits of 2 labels: the window against a threshold; keeps what it was called with."""

    def __init__(self, name, shift=0.0, calls=None):
        self.name, self.batch, self.shift, self.calls = name, 3, shift, calls if calls is not None else []

    def __call__(self, patches, attention=None):
        self.calls.append((self.name, len(patches)))
        strength = patches[:, :1] - self.shift
        return EngineOutput(np.concatenate([-strength, strength, np.full_like(strength, -9)], axis=1), {})


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_are_those_of_the_network_and_not_too_many(dims, make_plan_of):
    plan = make_plan_of(dims)
    small = windows_of(Volume.from_array(np.random.default_rng(0).normal(size=(9, 12, 5))), plan)
    large = windows_of(Volume.from_array(np.random.default_rng(0).normal(size=(40, 30, 20))), plan, most=6)
    patch = (1, *plan.patch_size[:dims])
    assert small.shape[1:] == large.shape[1:] == patch
    assert len(small) == (5 if dims == 2 else 1)
    assert len(large) == 6


def test_engines_take_turns_on_all_windows(make_plan_of):
    calls, steps = [], []
    engines = {name: Toy(name, calls=calls) for name in ("a", "b")}
    windows = np.random.default_rng(0).normal(size=(4, 1, 16, 12, 8)).astype(np.float32)
    measured = compare_engines(engines, windows, make_plan_of(3), repeat=2, advance=lambda: steps.append(1))
    one_round = [("a", 3), ("a", 1), ("b", 3), ("b", 1)]
    assert calls == one_round * 3
    assert len(steps) == 4
    assert [len(one.seconds) for one in measured] == [2, 2]


def test_errors_and_masks_are_compared_with_the_first(make_plan_of):
    windows = np.random.default_rng(0).normal(size=(2, 1, 16, 12, 8)).astype(np.float32)
    engines = {"exact": Toy("exact"), "off": Toy("off", shift=0.25)}
    exact, off = compare_engines(engines, windows, make_plan_of(3), repeat=1)
    assert (exact.logit_error, exact.dice, exact.exact) == (0, 1, True)
    assert off.logit_error == pytest.approx(0.25, abs=1e-5)
    below, above = (windows > 0.25).sum(), (windows > 0).sum()
    assert off.dice == pytest.approx(2 * below / (below + above))
    assert not off.exact


def test_regions_are_decided_one_by_one(make_plan_of):
    plan = make_plan_of(3).model_copy(update={"regions": {"body": (1, 7), "lesion": (7,)}})
    windows = np.ones((1, 1, 16, 12, 8), np.float32)
    one, other = compare_engines({"a": Toy("a"), "b": Toy("b", shift=2.0)}, windows, plan, repeat=1)
    assert (one.dice, other.dice) == (1, 0)


def test_the_fastest_that_is_exact_wins():
    slow = EngineTiming("slow", (4.0, 6.0, 5.0), 0.0, 1.0)
    wrong = EngineTiming("wrong", (0.1,) * 3, 3.0, 0.9)
    quick = EngineTiming("quick", (2.0, 2.0, 1.0), 0.1, 0.9995)
    assert fastest([slow, wrong, quick]) is quick
    assert quick.ratio_to(slow) == (3.0, 2.0, 5.0)
    assert fastest([slow, wrong]) is slow
