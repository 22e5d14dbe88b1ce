"""Ablation: how a model's masks change when its gates are replaced, without retraining."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from attunet.config import Postprocessing
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError
from attunet.evaluation.scores import score_case, scored_labels
from attunet.evaluation.summary_file import plain
from attunet.explanation.interventions.context import (
    CONTEXT_REPLACEMENTS,
    contexts_of,
    prefixed,
    with_context_replaced,
)
from attunet.gates import MAX_MAPS, attention_map_names
from attunet.inference.engines.protocol import Engine, EngineOutput
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

__all__ = [
    "ABLATION_METRICS",
    "ALL",
    "ONCE",
    "REPLACEMENTS",
    "AblatedEngine",
    "AblationRow",
    "Against",
    "ablate_case",
    "gates_of",
    "with_gates_replaced",
]


Floats = npt.NDArray[np.float32]

REPLACEMENTS: Mapping[str, str] = {
    "one": "1 everywhere: the skip passes unchanged",
    "mean": "its mean over the cases: as open as before, but the same everywhere",
    "zero": "0 everywhere: the skip is removed, so this tests the skip rather than the gate",
    "shuffled": "its own coefficients, permuted in space within each window: as open as before, but elsewhere",
}


class AblatedEngine:
    """An engine that replaces the coefficients of some gates.

    Shuffled coefficients are those that the unaltered network computes for the window, in one fixed permutation, which
    costs a second run; a gate's two maps move together. Constants cost one additional run at the first call, to learn
    the gates' grids.

    Args:
        engine: the engine of the unaltered network.
        replacement: a key of `REPLACEMENTS`.
        gates: names of the gates to replace.
        means: for "mean", the mean of each map, named like the gate, or level3.1 and level3.2 where it has two.
        seed: of the permutation.
    Raises: ConfigError for an unknown replacement or a missing mean, and at the first call for an unknown gate.
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
            raise ConfigError(
                f"replacement {replacement!r} is unknown", hint=f"choose one of {', '.join(REPLACEMENTS)}"
            )
        self.name = f"{engine.name}, {', '.join(gates)} replaced ({replacement})"
        self.batch = engine.batch
        self._engine, self._gates, self._seed = engine, tuple(gates), seed
        # None where the gate's own coefficients are permuted
        self._values = {gate: _values(replacement, gate, means or {}) for gate in gates}
        self._constants: dict[str, Floats] = {}

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """See `Engine`; given coefficients take precedence over replaced ones."""
        return self._engine(patches, {**self._replaced(patches), **(attention or {})})

    def _replaced(self, patches: Floats) -> dict[str, Floats]:
        if None in self._values.values():
            return {gate: self._shuffled(alpha) for gate, alpha in self._own(patches).items()}
        if not self._constants:
            self._constants = {gate: self._constant(gate, alpha) for gate, alpha in self._own(patches[:1]).items()}
        return {gate: np.repeat(alpha, len(patches), axis=0) for gate, alpha in self._constants.items()}

    def _own(self, patches: Floats) -> dict[str, Floats]:
        """The coefficients of the unaltered network."""
        attention = self._engine(patches).attention
        for gate in self._gates:
            if gate not in attention:
                known = ", ".join(attention) or "none"
                raise ConfigError(f"the network has no gate {gate}, its gates: {known}", hint="name one of its gates")
        return {gate: attention[gate] for gate in self._gates}

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
    """The gates of a segmenter, finest first: level2, level3; for an ensemble MEMBER/level2, as in its predictions."""
    return tuple(f"{prefix}{gate}" for prefix, member in prefixed(segmenter) for gate in member.plan.network.gate_names)


def with_gates_replaced(
    segmenter: Segmenter, replacement: str, gates: Sequence[str], means: Mapping[str, float] | None = None
) -> Segmenter:
    """Replace gates of a segmenter in every fold.

    Args:
        segmenter: the model.
        replacement: a key of `REPLACEMENTS`.
        gates: names of gates, as in `gates_of`.
        means: the mean of each map (see `AblatedEngine`), named with the member where there are several.
    Returns: the altered model.
    Raises: ConfigError as `AblatedEngine`.
    """
    members = []
    for prefix, member in prefixed(segmenter):
        mine = [gate for gate in member.plan.network.gate_names if f"{prefix}{gate}" in gates]
        known = {name.removeprefix(prefix): mean for name, mean in (means or {}).items() if name.startswith(prefix)}
        engines = tuple(
            AblatedEngine(engine, replacement, mine, means=known) if mine else engine for engine in member.engines
        )
        members.append(replace(member, engines=engines))
    return replace(segmenter, members=tuple(members))


def _values(replacement: str, gate: str, means: Mapping[str, float]) -> tuple[float, ...] | None:
    """The constant for each of the gate's maps, or for all of them; None for "shuffled"."""
    if replacement != "mean":
        return {"one": (1.0,), "zero": (0.0,)}.get(replacement)
    means_of_gate = tuple(means[name] for name in (gate, *attention_map_names(gate, MAX_MAPS)) if name in means)
    if not means_of_gate:
        raise ConfigError(
            f"there is no mean of gate {gate}, only of {', '.join(means) or 'none'}",
            hint="measure the mean of every gate over the cases first, or leave this replacement out",
        )
    return means_of_gate


ALL = "all"
"""Name for all gates replaced at once."""

ABLATION_METRICS = ("Dice", "Recall", "HD95")

Against = Literal["reference", "own mask"]

ONCE = PredictOptions(mirror=False, all_windows=True)
"""No mirroring, before and after: each mirrored copy would cost as much again."""


@dataclass(frozen=True)
class AblationRow:
    """The scores of one label of one case before and after a gate, or the context of a localizer, was replaced.

    Args:
        gate: as `gates_of` names it, or `ALL`; "localizer" for the context, of an ensemble MEMBER/localizer.
        replacement: a key of `REPLACEMENTS`, or of `CONTEXT_REPLACEMENTS` for the context.
        case: name of the case.
        label: name of the label.
        before: the `ABLATION_METRICS` of the unaltered model's mask, as in `score_case` (HD95 in mm); nan if the
            label is in neither mask nor reference.
        after: the same of the altered model's mask.
        against: what both are scored against: "reference", or "own mask", that of the unaltered model.
    """

    gate: str
    replacement: str
    case: str
    label: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    against: Against = "reference"

    def delta(self, metric: str = "Dice") -> float:
        """After minus before; nan where either is."""
        return self.after[metric] - self.before[metric]

    def to_json(self) -> dict[str, Any]:
        """The fields by name; nan becomes None."""
        masks = {"before": self.before, "after": self.after}
        scores = {when: {metric: plain(value) for metric, value in values.items()} for when, values in masks.items()}
        named = {"gate": self.gate, "replacement": self.replacement, "case": self.case, "label": self.label}
        return {**named, **scores, "against": self.against}


def ablate_case(
    segmenter: Segmenter,
    image: Volume,
    reference: Volume | None = None,
    *,
    case: str,
    annotated: Collection[str] | None = None,
    means: Mapping[str, float] | None = None,
    replacements: Sequence[str] = tuple(REPLACEMENTS),
    options: PredictOptions = ONCE,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[AblationRow, ...]:
    """Segment a case without and with gates replaced, each alone and all together, and score the masks.

    Of a cascade, the context that the networks see from its localizers is replaced, too, on its own. Masks are not
    post-processed; a segmenter loaded with raw=True is not calibrated either.

    Args:
        segmenter: a model that has not seen the case; its folds are altered in the same way.
        image, reference: as from `Segmenter.read` and `read_case_label`, on one grid; without a reference the masks are
            scored against the mask of the unaltered model.
        case: name of the case.
        annotated: names of the labels that are annotated in this case; None for all.
        means: of each gate map, for the replacement "mean" (see `with_gates_replaced`).
        replacements: keys of `REPLACEMENTS`, which apply to gates.
        options: of every prediction.
        advance: called with the number of finished predictions and the number of all predictions.
    Returns: a row for each gate, replacement and label; those of the context come first.
    Raises: ConfigError when the model has neither gates nor context, a replacement is unknown or a mean is missing;
        GeometryError when the grids differ; DataError as `Segmenter.predict`.
    """
    altered = list(_altered(segmenter, replacements, means or {}))
    total, plan = len(altered) + 1, segmenter.plan
    own = _mask(segmenter, image, options)
    against: Against = "own mask" if reference is None else "reference"
    truth = own if reference is None else reference.array[0]

    def scored(mask: Array) -> dict[str, dict[str, float]]:
        labels, ignore = scored_labels(plan), plan.ignore_label
        by_label = score_case(truth, mask, labels, image.voxel, ignore=ignore, annotated=annotated)
        return {
            name: {metric: scores.values()[metric] for metric in ABLATION_METRICS} for name, scores in by_label.items()
        }

    before = scored(own)
    rows: list[AblationRow] = []
    for done, (gate, replacement, model) in enumerate(altered, start=1):
        advance(done, total)
        after = scored(_mask(model, image, options))
        rows += [AblationRow(gate, replacement, case, name, before[name], after[name], against) for name in before]
    advance(total, total)
    return tuple(rows)


def _altered(
    segmenter: Segmenter, replacements: Sequence[str], means: Mapping[str, float]
) -> Iterator[tuple[str, str, Segmenter]]:
    """Gate or `ALL`, replacement and model; a single gate is not repeated as `ALL`. Before them, the context."""
    gates, contexts = gates_of(segmenter), contexts_of(segmenter)
    if not gates and not contexts:
        raise ConfigError("the model has no gates to replace", hint="explain a model that was trained with gates")
    for name in contexts:
        for replacement in CONTEXT_REPLACEMENTS:
            yield name, replacement, with_context_replaced(segmenter, replacement, name)
    groups = {gate: (gate,) for gate in gates} | ({ALL: gates} if len(gates) > 1 else {})
    for gate, together in groups.items():
        for replacement in replacements:
            yield gate, replacement, with_gates_replaced(segmenter, replacement, together, means)


def _mask(segmenter: Segmenter, image: Volume, options: PredictOptions) -> Array:
    """Label values (I, J, K), as `Segmenter.predict` without post-processing."""
    bare = replace(segmenter, postprocessing=Postprocessing())
    mask: Array = bare.predict(image, options).segmentation.array[0]
    return mask
