"""`Explanation`: all that was found of where a model looks, case by case and over all cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attunet.bundle import load_bundle, save_refinement
from attunet.config import Plan, Worth
from attunet.data.cases import Case, GeometryPolicy, read_case_image, read_case_label
from attunet.data.formats import read_label
from attunet.data.volume import Volume
from attunet.evaluation.scores import nan_mean, scored_labels
from attunet.evaluation.summary_file import plain
from attunet.explanation.agreement import AttentionAgreement, rank_correlation
from attunet.explanation.interventions.ablation_summary import Ablation
from attunet.explanation.interventions.faithfulness_summary import Faithfulness
from attunet.explanation.scoring.case_maps import MapGrid
from attunet.explanation.scoring.organs import Box, Organs, organs_of
from attunet.explanation.scoring.summary import AttentionScores, AttentionSummary
from attunet.files import write_text

__all__ = ["CaseExplanation", "ExplainCase", "Explanation", "organs_of_case"]


@dataclass(frozen=True)
class ExplainCase:
    """A case to explain, the folds that segment it (None: all), and what to do where its label's grid differs."""

    case: Case
    folds: tuple[int, ...] | None = None
    geometry: GeometryPolicy = "fail"


@dataclass(frozen=True)
class CaseExplanation:
    """What was found of one case.

    Args: the case; files of its mask, and of its maps by gate; where they lie; the scores of the maps, beside those of
        the network with shuffled weights; attention against mask; Dice of each label, empty without a reference.
    """

    selected: ExplainCase
    mask: Path
    maps: Mapping[str, Path]
    place: MapGrid
    scores: tuple[AttentionScores, ...]
    agreement: AttentionAgreement
    dice: Mapping[str, float]

    @property
    def name(self) -> str:
        """Of the case."""
        return self.selected.case.id

    @property
    def mean_dice(self) -> float:
        """Mean of the labels that count; nan when none does."""
        return nan_mean(self.dice.values())

    def image(self) -> Volume:
        """Read again. Raises: FormatError."""
        return read_case_image(self.selected.case)

    def reference(self) -> Volume:
        """The label, or the model's own mask where there is none. Raises: FormatError, GeometryError."""
        if self.selected.case.label is None:
            return read_label(self.mask)
        return read_case_label(self.selected.case, geometry=self.selected.geometry)

    def organs(self, plan: Plan) -> Organs | None:
        """The organs of the reference within the content box; None where none was drawn."""
        return organs_of_case(self.reference(), self.place[2], plan, self.selected.case)

    def to_json(self) -> dict[str, Any]:
        """The numbers that are this case's own; the scores are in the summary."""
        dice = {label: plain(value) for label, value in self.dice.items()}
        return {
            "case": self.name,
            "dice": dice,
            "mean_dice": plain(self.mean_dice),
            "agreement": self.agreement.to_json(),
        }


@dataclass(frozen=True)
class Explanation:
    """What was found of all cases; ablation and faithfulness are None where they were not asked for.

    Args: the model folder's name, plan and engine; one entry per case; the scores of maps and nulls.
    """

    model: str
    plan: Plan
    engine: str
    cases: tuple[CaseExplanation, ...]
    summary: AttentionSummary
    ablation: Ablation | None = None
    faithfulness: Faithfulness | None = None

    @property
    def referenced(self) -> bool:
        """Whether references were scored against, rather than the model's own masks."""
        return any(case.dice for case in self.cases)

    @cached_property
    def agreement_worth(self) -> Worth | None:
        """How well the agreement of attention and mask ranks the cases by their Dice; None where that is not known."""
        scores = {case.name: case.agreement.score for case in self.cases}
        return rank_correlation(scores, {case.name: case.mean_dice for case in self.cases})

    @property
    def worth(self) -> str:
        """The same in words."""
        found = self.agreement_worth
        if found is None:
            return "What the agreement score is worth is not known: that takes references of three cases or more."
        told = "tells better masks from worse ones" if found.low > 0 else "does not tell good masks from bad ones here"
        return (
            f"The agreement score {told}: rank correlation with the Dice {found.spearman:.2f} "
            f"({found.low:.2f} to {found.high:.2f}) over {found.cases} cases."
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in plain words, one sentence a line."""
        looks = [self.summary.sentence(gate, label) for label in self.summary.labels for gate in self.summary.gates]
        ablation = [self.ablation.sentence] if self.ablation else []
        faithful = self.faithfulness.sentences if self.faithfulness else ()
        return (*looks, *ablation, *faithful, self.worth)

    def write(self, path: Path) -> None:
        """Write every number as summary.json."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")

    def save_worth(self, run: Path) -> None:
        """Let every later prediction of the run tell what its agreement score is worth."""
        refinement = load_bundle(run).refinement
        save_refinement(refinement.model_copy(update={"attention": self.agreement_worth}), run)

    def to_json(self) -> dict[str, Any]:
        """Every number, plain."""
        worth = self.agreement_worth
        return {
            "model": self.model,
            "engine": self.engine,
            "scored_against": "references" if self.referenced else "the model's own masks",
            "sentences": list(self.sentences),
            "agreement_worth": worth and worth.model_dump(),
            "cases": [case.to_json() for case in self.cases],
            "attention": self.summary.to_json(),
            "ablation": self.ablation and self.ablation.to_json(),
            "faithfulness": self.faithfulness and self.faithfulness.to_json(),
        }


def organs_of_case(reference: Volume, content: Box, plan: Plan, case: Case) -> Organs | None:
    """The organs that a case is scored for, within its content box."""
    return organs_of(reference, scored_labels(plan), content, ignore=plan.ignore_label, annotated=case.annotated)
