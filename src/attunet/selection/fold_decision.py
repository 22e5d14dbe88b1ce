"""Decide mirroring and post-processing on the validation cases of a single fold, while they are evaluated.

A cross-validation has more cases and replaces the decision; until then, a far false positive need not reach the user.
The fold chose its best weights on some of these cases, which favours no way to predict over another.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from attunet.bundle import HeldOutCase, fold_cases
from attunet.config import ComponentRules, Evidence, Plan, Postprocessing
from attunet.data.cases import Case, read_own_label
from attunet.data.labels import Values
from attunet.evaluation.scores import CaseScores, scored_labels
from attunet.failures import Failures
from attunet.inference.evaluation import EvaluatedCase, EvaluateOptions, evaluate_case
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.selection.connected_components import LabelComponents, connected_components
from attunet.selection.postprocessing import accepted_rules, decide_rules, rules_reasons
from attunet.selection.prediction_choice import case_dice, choose_mirroring, settle

__all__ = ["FoldDecision", "ReferenceMasks", "single_fold_references"]

_log = logging.getLogger(__name__)

_PLAIN = EvaluateOptions(prediction=PredictOptions(mirror=False))
_SAME = 0.99
_MOST = 100


@dataclass(frozen=True)
class _Observed:
    """A case predicted in one way: its Dice (see `case_dice`), its time, the components of its annotated labels."""

    dice: float
    seconds: float
    components: dict[str, LabelComponents]

    @classmethod
    def of(cls, evaluated: EvaluatedCase, plan: Plan) -> Self:
        assert evaluated.reference is not None
        masks = evaluated.prediction.segmentation.array[0], evaluated.reference.array[0]
        labels = _annotated(evaluated.loaded.case, plan)
        components = connected_components(*masks, plan, labels, evaluated.image.voxel)
        return cls(case_dice(evaluated.dice.values()), evaluated.seconds, components)


class ReferenceMasks:
    """The reference masks of labelled cases by their components, read when a rule is about to be accepted.

    Args:
        cases: the cases, of which at most 100, evenly spread, are read.
        plan: its labels or regions.
    """

    def __init__(self, cases: Sequence[Case], plan: Plan) -> None:
        self._cases, self._plan = cases[:: -(-len(cases) // _MOST) or 1], plan

    def altered(self, label: str, rules: ComponentRules) -> tuple[int, int]:
        """In how many masks the rules would change the label (Dice with itself below 0.99), and of how many."""
        known = [components[label] for components in self._components if label in components]
        present = [components for components in known if components.plain.reference]
        return sum(components.dice(rules) < _SAME for components in present), len(present)

    @cached_property
    def _components(self) -> list[dict[str, LabelComponents]]:
        failures = Failures(lambda case, error: _log.warning("the label of %s was not considered: %s", case, error))
        found = []
        for case in self._cases:
            with failures.of(case.id):
                label = read_own_label(case)
                mask = label.array[0]
                found.append(connected_components(mask, mask, self._plan, _annotated(case, self._plan), label.voxel))
        return found


def single_fold_references(run: Path, cases: Sequence[HeldOutCase], plan: Plan) -> ReferenceMasks | None:
    """The reference masks of a run whose held-out cases are those of one fold, where few cases decide.

    Args:
        run: the model folder.
        cases: its held-out cases.
        plan: its labels or regions.
    Returns: the masks of the fold's training and validation cases; None when several folds have held-out cases.
    Raises: DatasetError, FormatError as `fold_cases`.
    """
    folds = {case.fold for case in cases}
    if len(folds) > 1:
        return None
    return ReferenceMasks([*fold_cases(run, folds.pop(), "train"), *(entry.case for entry in cases)], plan)


class FoldDecision:
    """Collects what the validation cases of a fold say, and decides.

    Args:
        segmenter: the fold, without decisions of its own.
        references: the reference masks of its training and validation cases.
    """

    def __init__(self, segmenter: Segmenter, references: ReferenceMasks) -> None:
        self._segmenter, self._references = segmenter, references
        self._plan = segmenter.plan
        self._variants: tuple[list[_Observed], ...] = ([], []) if self._plan.mirror_axes else ([],)
        self._failures = Failures(lambda case, error: _log.warning("%s does not count in decisions: %s", case, error))

    def observe(self, evaluated: EvaluatedCase) -> CaseScores:
        """Take a case, evaluated with mirrored copies if the plan allows any; predicted again without them.

        Returns: its scores.
        """
        with self._failures.of(evaluated.name):
            ways = [_Observed.of(evaluated, self._plan)]
            if self._plan.mirror_axes:
                ways.append(_Observed.of(evaluate_case(self._segmenter, evaluated.loaded, _PLAIN), self._plan))
            for observed, way in zip(self._variants, ways, strict=True):
                observed.append(way)
        return evaluated.scores

    def decide(self, fold: int) -> Postprocessing:
        """The decisions on all cases that were taken.

        Args: the index of the fold.
        Returns: mirroring and post-processing, with reasons; no temperature, which needs a cross-validation.
        """
        measured = [[(one.dice, one.seconds) for one in observed] for observed in self._variants]
        choice, why = choose_mirroring(measured, self._plan)
        used = self._variants[1 if choice.mirror is False else 0]
        trials = decide_rules([one.components for one in used], self._plan.foreground, self._references)
        rules = rules_reasons(self._plan.foreground, trials, few=True)
        return Postprocessing(
            components=accepted_rules(trials),
            prediction=settle(choice, 1),
            evidence=Evidence(cases=len(used), folds=(fold,)),
            reasons={"mirroring": why, **rules},
        )


def _annotated(case: Case, plan: Plan) -> dict[str, Values]:
    """The labels or regions that are annotated in a case."""
    known = case.annotated
    return {name: values for name, values in scored_labels(plan).items() if known is None or name in known}
