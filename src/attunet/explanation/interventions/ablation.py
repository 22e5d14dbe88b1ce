"""Ablation: what becomes of a model's masks when its gates are replaced, without training it again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from attunet.config import Refinement
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError
from attunet.evaluation.scores import score_case, scored_labels
from attunet.evaluation.summary_file import plain
from attunet.explanation.interventions.altered_gates import REPLACEMENTS, gates_of, with_gates_replaced
from attunet.inference.member import Pass
from attunet.inference.segmenter import Segmenter

__all__ = ["ALL", "METRICS", "ONCE", "AblationRow", "Against", "ablate_case"]

ALL = "all"
"""The name under which all gates are replaced at once."""

METRICS = ("Dice", "Recall", "HD95")

Against = Literal["reference", "own mask"]

ONCE = Pass(mirror=False)
"""Without mirrored copies: before and after are alike in that, and each copy would cost as much again."""


@dataclass(frozen=True)
class AblationRow:
    """What one label of one case scored before and after a gate was replaced.

    Args: a gate as `gates_of` names it, or `ALL`; a key of `REPLACEMENTS`; case; label; the `METRICS` of both masks as
        `score_case` has them (HD95 in mm), nan where the label is in neither mask and reference; what they were scored
        against, the reference or the model's own mask before.
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
        """The fields by name; nan is None."""
        scores = {"before": self.before, "after": self.after}
        told = {when: {metric: plain(value) for metric, value in values.items()} for when, values in scores.items()}
        named = {"gate": self.gate, "replacement": self.replacement, "case": self.case, "label": self.label}
        return {**named, **told, "against": self.against}


def ablate_case(
    segmenter: Segmenter,
    image: Volume,
    reference: Volume | None = None,
    *,
    case: str,
    annotated: Collection[str] | None = None,
    means: Mapping[str, float] | None = None,
    replacements: Sequence[str] = tuple(REPLACEMENTS),
    how: Pass = ONCE,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[AblationRow, ...]:
    """Segment one case as the model is and with its gates replaced, each alone and all together, and score the masks.

    Nothing is post-processed; a segmenter loaded with raw=True applies nothing else that was learnt either.
    Args:
        segmenter: a model that has not seen the case; all its folds are altered alike.
        image, reference: as `Segmenter.read` and `read_case_label` give them, on one grid; without a reference the mask
            of the model as it is takes its place, and what is lost is likeness to that.
        annotated: names of the labels that were drawn in this case; None for all.
        means: of each gate map, for the replacement "mean" (see `with_gates_replaced`).
        replacements, how: keys of `REPLACEMENTS`; step and mirroring of every prediction.
        advance: called with the predictions done and the predictions in all.
    Raises: ConfigError when the model has no gates, a replacement is unknown or a mean is missing; GeometryError when
        the grids differ; DataError as `Segmenter.predict`.
    """
    altered = list(_altered(segmenter, replacements, means or {}))
    total, plan = len(altered) + 1, segmenter.plan
    own = _mask(segmenter, image, how)
    against: Against = "own mask" if reference is None else "reference"
    truth = own if reference is None else reference.array[0]

    def scored(mask: Array) -> dict[str, dict[str, float]]:
        labels, ignore = scored_labels(plan), plan.ignore_label
        found = score_case(truth, mask, labels, image.spacing, ignore=ignore, annotated=annotated)
        return {name: {metric: scores.values()[metric] for metric in METRICS} for name, scores in found.items()}

    before = scored(own)
    rows: list[AblationRow] = []
    for done, (gate, replacement, model) in enumerate(altered, start=1):
        advance(done, total)
        after = scored(_mask(model, image, how))
        rows += [AblationRow(gate, replacement, case, name, before[name], after[name], against) for name in before]
    advance(total, total)
    return tuple(rows)


def _altered(
    segmenter: Segmenter, replacements: Sequence[str], means: Mapping[str, float]
) -> Iterator[tuple[str, str, Segmenter]]:
    """Gate or `ALL`, replacement and model; where there is one gate only, that is all of them."""
    gates = gates_of(segmenter)
    if not gates:
        raise ConfigError("the model has no gates to replace", hint="explain a model that was trained with gates")
    groups = {gate: (gate,) for gate in gates} | ({ALL: gates} if len(gates) > 1 else {})
    for gate, together in groups.items():
        for replacement in replacements:
            yield gate, replacement, with_gates_replaced(segmenter, replacement, together, means)


def _mask(segmenter: Segmenter, image: Volume, how: Pass) -> Array:
    """Label values (I, J, K), as `Segmenter.predict` without post-processing."""
    bare = replace(segmenter, refinement=Refinement())
    mask: Array = bare.predict(image, step=how.step, mirror=how.mirror, skip_air=False).segmentation.array[0]
    return mask
