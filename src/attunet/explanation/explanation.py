"""`Explanation`: where a model looks, case by case and over all cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attunet.bundle import load_bundle, save_postprocessing
from attunet.config import Plan, RankCorrelation
from attunet.data.cases import Case, read_case_image, read_case_label
from attunet.data.formats import read_label
from attunet.data.volume import Volume
from attunet.evaluation.scores import nan_mean, scored_labels
from attunet.evaluation.summary_file import plain
from attunet.explanation.agreement import AttentionAgreement, rank_correlation
from attunet.explanation.cases import ExplainCase
from attunet.explanation.interventions.ablation_summary import Ablation
from attunet.explanation.interventions.faithfulness_summary import Faithfulness
from attunet.explanation.scoring.case_maps import MapGrid
from attunet.explanation.scoring.organs import Box, Organs, organs_of
from attunet.explanation.scoring.summary import TRAINED, AttentionScores, AttentionSummary
from attunet.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attunet.report.windows import WindowMap

__all__ = ["CaseExplanation", "Explanation", "organs_of_case"]


@dataclass(frozen=True)
class CaseExplanation:
    """Where a model looks in one case.

    Args:
        selected: the case and the folds that segmented it.
        mask: file of the model's mask.
        maps: files of the attention maps by gate.
        grid: the grid of the image, and the content box in which attention is defined.
        scores: scores of each map, of the model and of the network with shuffled weights.
        agreement: agreement of attention and mask.
        dice: Dice of each label; empty without a reference.
        windows: which windows a prediction runs and skips; None without a localizer.
    """

    selected: ExplainCase
    mask: Path
    maps: Mapping[str, Path]
    grid: MapGrid
    scores: tuple[AttentionScores, ...]
    agreement: AttentionAgreement
    dice: Mapping[str, float]
    windows: WindowMap | None = None

    @property
    def name(self) -> str:
        """Id of the case."""
        return self.selected.case.id

    @property
    def mean_dice(self) -> float:
        """Mean over the labels with a Dice; nan when there is none."""
        return nan_mean(self.dice.values())

    def image(self) -> Volume:
        """The image, read again. Raises: FormatError."""
        return read_case_image(self.selected.case)

    def reference(self) -> Volume:
        """The label, or the model's own mask where there is none. Raises: FormatError, GeometryError."""
        if self.selected.case.label is None:
            return read_label(self.mask)
        return read_case_label(self.selected.case, geometry=self.selected.geometry)

    def organs(self, plan: Plan) -> Organs | None:
        """The organs of the reference within the content box; None where no label was annotated."""
        return organs_of_case(self.reference(), self.grid.content, plan, self.selected.case)

    def to_json(self) -> dict[str, Any]:
        """Dice and agreement of the case; the scores of its maps are in the summary."""
        dice = {label: plain(value) for label, value in self.dice.items()}
        return {
            "case": self.name,
            "dice": dice,
            "mean_dice": plain(self.mean_dice),
            "agreement": self.agreement.to_json(),
            "windows": self.windows and self.windows.to_json(),
        }


@dataclass(frozen=True)
class Explanation:
    """Where a model looks, over all cases.

    Args:
        model: name of the model folder.
        plan: the model's plan.
        engine: name of the engine that predicted.
        cases: one entry per case.
        summary: the scores of the model's maps and of the null maps.
        ablation: results of replacing gates; None when not requested.
        faithfulness: results of deletion and insertion; None when not requested.
        warnings: folds that were left out, and why.
    """

    model: str
    plan: Plan
    engine: str
    cases: tuple[CaseExplanation, ...]
    summary: AttentionSummary
    ablation: Ablation | None = None
    faithfulness: Faithfulness | None = None
    warnings: tuple[str, ...] = ()

    @property
    def has_references(self) -> bool:
        """Whether the scores are against reference masks, rather than the model's own masks."""
        return any(case.dice for case in self.cases)

    @cached_property
    def agreement_correlation(self) -> RankCorrelation | None:
        """How well the agreement of attention and mask ranks the cases by their Dice; None if unknown."""
        scores = {case.name: case.agreement.score for case in self.cases}
        return rank_correlation(scores, {case.name: case.mean_dice for case in self.cases})

    @property
    def agreement_finding(self) -> str:
        """The rank correlation in words."""
        correlation = self.agreement_correlation
        if correlation is None:
            return (
                "Whether the agreement score predicts the quality of a mask is unknown: at least three cases need a "
                "reference."
            )
        verb = (
            "separates better masks from worse ones"
            if correlation.low > 0
            else "does not separate good masks from bad ones here"
        )
        return (
            f"The agreement score {verb}: rank correlation with the Dice {correlation.spearman:.2f} "
            f"({correlation.low:.2f} to {correlation.high:.2f}) over {correlation.cases} cases."
        )

    @property
    def findings(self) -> tuple[str, ...]:
        """The results in plain words, one sentence each."""
        attention = [self.summary.finding(gate, label) for label in self.summary.labels for gate in self.summary.gates]
        ablation = [self.ablation.finding] if self.ablation else []
        windows = [f"In predictions, {self.windows}."] if self.windows else []
        faithfulness = self.faithfulness.findings if self.faithfulness else ()
        return (*windows, *attention, *ablation, *faithfulness, self.agreement_finding)

    @property
    def windows(self) -> WindowMap | None:
        """The windows of all cases together; None without a localizer."""
        from attunet.report.windows import WindowMap  # imports matplotlib only when needed

        known = [case.windows for case in self.cases if case.windows is not None]
        run, skipped, air = (sum(getattr(each, name) for each in known) for name in ("run", "skipped", "air"))
        return WindowMap(run=run, skipped=skipped, air=air) if known else None

    @property
    def lifts(self) -> list[tuple[str, str, str, float, float, float]]:
        """Gate, label, source, mean lift and its interval, of the model's maps and of the null maps."""
        rows = []
        for label in self.summary.labels:
            for comparison in self.summary.table(label):
                sources = {TRAINED: comparison.trained, **comparison.nulls}
                rows += [
                    (comparison.gate, label, source, value.mean, value.low, value.high)
                    for source, value in sources.items()
                ]
        return rows

    def show(self) -> Figure:
        """Draw the lift of every gate and label, compared with its nulls.

        Returns: a matplotlib figure, which a notebook shows when it is the last value of a cell.
        """
        from attunet.report.attention import score_bars  # imports matplotlib only when needed

        return score_bars(self.lifts)

    def _repr_html_(self) -> str:
        """The findings and a small picture, which a notebook shows in place of the object's text."""
        from attunet.report.notebook import html_fragment

        rows = [[finding] for finding in self.findings]
        title = f"Where {self.model} looks: {len(self.cases)} cases"
        return html_fragment(title, (), rows, self.show() if self.lifts else None)

    def write(self, path: Path) -> None:
        """Write every number as summary.json."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")

    def save_correlation(self, run: Path) -> None:
        """Store the rank correlation in the model folder: later predictions report it with their agreement score."""
        postprocessing = load_bundle(run).postprocessing
        save_postprocessing(postprocessing.model_copy(update={"attention_agreement": self.agreement_correlation}), run)

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain values."""
        correlation = self.agreement_correlation
        return {
            "model": self.model,
            "engine": self.engine,
            "scored_against": "references" if self.has_references else "the model's own masks",
            "findings": list(self.findings),
            "agreement_rank_correlation": correlation and correlation.model_dump(),
            "windows": self.windows and self.windows.to_json(),
            "cases": [case.to_json() for case in self.cases],
            "attention": self.summary.to_json(),
            "ablation": self.ablation and self.ablation.to_json(),
            "faithfulness": self.faithfulness and self.faithfulness.to_json(),
        }


def organs_of_case(reference: Volume, content: Box, plan: Plan, case: Case) -> Organs | None:
    """Cut out the organs for which a case is scored.

    Args:
        reference: label values on the grid of the image.
        content: the box in which attention is defined.
        plan: the model's plan: its labels, and the value to ignore.
        case: the case; labels that are not annotated in it are left out.
    Returns: the organs within the box; None where no label is annotated.
    """
    return organs_of(reference, scored_labels(plan), content, ignore=plan.ignore_label, annotated=case.annotated)
