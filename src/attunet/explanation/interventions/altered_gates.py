"""A model whose gates are told their coefficients instead of finding them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.errors import ConfigError
from attunet.inference.engines.engine import Engine, EngineOutput
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

__all__ = ["REPLACEMENTS", "AblatedEngine", "gates_of", "prefixed", "with_gates_replaced"]

Floats = npt.NDArray[np.float32]

REPLACEMENTS: Mapping[str, str] = {
    "one": "1 everywhere: the skip passes whole",
    "mean": "its mean over the cases: as open as before, but alike everywhere",
    "zero": "0 everywhere: nothing of the skip passes, so this judges the skip more than the gate",
    "shuffled": "its own coefficients, permuted in space within each window: as open as before, but elsewhere",
}


class AblatedEngine:
    """An engine that tells its network the coefficients of some gates.

    Shuffled coefficients are those that the unaltered network gives the window, all in one fixed order, which costs a
    second run; a gate's two maps move together. A constant costs one more run at the first call, for the gates' grids.
    Args: the engine; a key of `REPLACEMENTS`; the gates; for "mean", of each gate map its mean, named like the gate, or
        level3.1 and level3.2 where it has two; the seed of the permutation.
    Raises: ConfigError for an unknown replacement or a missing mean, at the first call for a gate that is not there.
    """

    def __init__(
        self,
        engine: Engine,
        replacement: str,
        gates: Collection[str],
        *,
        means: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        if replacement not in REPLACEMENTS:
            raise ConfigError(f"replacement {replacement!r} is unknown", hint=f"choose of {', '.join(REPLACEMENTS)}")
        self.name = f"{engine.name}, {', '.join(gates)} replaced ({replacement})"
        self.batch = engine.batch
        self._engine, self._gates, self._seed = engine, tuple(gates), seed
        # None where there is no constant to tell, but the order of the gate's own
        self._values = {gate: _values(replacement, gate, means or {}) for gate in gates}
        self._constants: dict[str, Floats] = {}

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """See `Engine`; what is given comes before what is replaced."""
        return self._engine(patches, {**self._replaced(patches), **(attention or {})})

    def _replaced(self, patches: Floats) -> dict[str, Floats]:
        if None in self._values.values():
            return {gate: self._shuffled(alpha) for gate, alpha in self._own(patches).items()}
        if not self._constants:
            self._constants = {gate: self._constant(gate, alpha) for gate, alpha in self._own(patches[:1]).items()}
        return {gate: np.repeat(alpha, len(patches), axis=0) for gate, alpha in self._constants.items()}

    def _own(self, patches: Floats) -> dict[str, Floats]:
        """What the gates find themselves."""
        found = self._engine(patches).attention
        for gate in self._gates:
            if gate not in found:
                known = ", ".join(found) or "none"
                raise ConfigError(f"the network has no gate {gate}, its gates: {known}", hint="name one of its gates")
        return {gate: found[gate] for gate in self._gates}

    def _shuffled(self, alpha: Floats) -> Floats:
        flat = alpha.reshape(*alpha.shape[:2], -1)
        order = np.random.default_rng(self._seed).permutation(flat.shape[2])
        return np.ascontiguousarray(flat[..., order]).reshape(alpha.shape)

    def _constant(self, gate: str, alpha: Floats) -> Floats:
        """(1, maps, *level grid), as the coefficients given."""
        values = np.array(self._values[gate], np.float32)
        if len(values) not in (1, alpha.shape[1]):
            raise ConfigError(
                f"{len(values)} means for gate {gate}, expected one for each of its {alpha.shape[1]} maps",
                hint="measure each map of a gate",
            )
        result = np.empty_like(alpha)
        result[:] = values.reshape(1, -1, *[1] * (alpha.ndim - 2))
        return result


def gates_of(segmenter: Segmenter) -> tuple[str, ...]:
    """Its gates, finest first: level2, level3; of several members MEMBER/level2, as in its predictions."""
    return tuple(f"{prefix}{gate}" for prefix, member in prefixed(segmenter) for gate in _levels(member.plan))


def prefixed(segmenter: Segmenter) -> list[tuple[str, Member]]:
    """The members, and what stands before the names of their gates: MEMBER/ where there are several (see `Task`)."""
    several = len(segmenter.members) > 1
    return [(f"{member.name}/" if several else "", member) for member in segmenter.members]


def with_gates_replaced(
    segmenter: Segmenter, replacement: str, gates: Sequence[str], means: Mapping[str, float] | None = None
) -> Segmenter:
    """The segmenter with those of its gates replaced in every fold.

    Args: a key of `REPLACEMENTS`; gates of `gates_of`; the means (see `Ablated`), named with the member where there are
        several.
    Raises: ConfigError as `Ablated`.
    """
    members = []
    for prefix, member in prefixed(segmenter):
        mine = [gate for gate in _levels(member.plan) if f"{prefix}{gate}" in gates]
        known = {name.removeprefix(prefix): mean for name, mean in (means or {}).items() if name.startswith(prefix)}
        engines = tuple(
            AblatedEngine(engine, replacement, mine, means=known) if mine else engine for engine in member.engines
        )
        members.append(replace(member, engines=engines))
    return replace(segmenter, members=tuple(members))


def _levels(plan: Plan) -> tuple[str, ...]:
    return tuple(f"level{level}" for level in plan.network.gate_widths)


def _values(replacement: str, gate: str, means: Mapping[str, float]) -> tuple[float, ...] | None:
    """The constant of each of the gate's maps, or one for all; None for "shuffled"."""
    if replacement != "mean":
        return {"one": (1.0,), "zero": (0.0,)}.get(replacement)
    found = tuple(means[name] for name in (gate, f"{gate}.1", f"{gate}.2") if name in means)
    if not found:
        raise ConfigError(
            f"there is no mean of gate {gate}, only of {', '.join(means) or 'none'}",
            hint="measure the mean of every gate over the cases first, or leave this replacement out",
        )
    return found
