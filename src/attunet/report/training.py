"""The report of a trained model: scores, learning curves, some cases, and the decisions of its plan."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from attunet.config import Plan
from attunet.display import decimals
from attunet.documents import reading
from attunet.evaluation.metrics import TABULATED
from attunet.evaluation.summary import Summary
from attunet.report.attention_frames import read_attention_frames
from attunet.report.cases import CaseView, case_pictures
from attunet.report.cells import mean_cells, number, score_cells
from attunet.report.figures import GATE_PREFIX, curves, gate_curves, score_boxes
from attunet.report.html import Picture, Section, Table, write_report

__all__ = ["read_history", "write_training_report"]

_NOTES = (
    "Filled: the prediction. Dashed: the reference.",
    "Attention: the coefficient by which each gate multiplies the skip connection, 0 (suppressed) to 1 (passed). "
    "It is a weight inside the network, not a cause: a bright region passed the gate, which does not mean that it "
    "determined the mask.",
    "This is research software, not a medical device.",
)


def write_training_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    plan: Plan,
    history: Sequence[dict[str, float]],
    summary: Summary,
    views: Sequence[CaseView],
    precision: str = "",
    attention_frames: Path | None = None,
    more: Sequence[Section] = (),
) -> None:
    """Write one self-contained HTML file: facts, scores, learning curves, box plot, cases, epoch animation, decisions.

    Args:
        path: the HTML file.
        title, subtitle: one line each.
        plan: the plan of the model.
        history: rows of log.csv.
        summary: the scores.
        views: the cases to draw, in order.
        precision: precision of the training, such as bf16; not shown when empty.
        attention_frames: folder of the attention frames; None, or a missing folder, for no animation.
        more: further sections, before the decisions.
    Raises: DataError and its subclasses when the attention frames cannot be read.
    """
    sections: list[Section] = [
        _scores(summary),
        Picture("Dice of every case", score_boxes(summary), "dice"),
        Picture("Learning curves", curves(history), "learning_curves"),
        *_gates(history),
        *case_pictures(views, plan, "prediction and attention"),
    ]
    if attention_frames is not None and attention_frames.is_dir():
        # The images are normalized; they can be converted back to HU only if the plan normalizes every channel as CT.
        windowed = all(channel.kind == "ct" for channel in plan.preprocessing.normalization)
        sections += read_attention_frames(
            attention_frames, labels=plan.labels, modality=plan.modality if windowed else "other"
        )
    sections += [*more, _decisions(plan)]
    write_report(
        path,
        title=title,
        subtitle=subtitle,
        facts=_facts(plan, history, summary, precision),
        sections=sections,
        notes=_NOTES,
    )


def _gates(history: Sequence[dict[str, float]]) -> list[Section]:
    """The mean coefficients of the gates, if they were logged."""
    if not any(key.startswith(GATE_PREFIX) for row in history for key in row):
        return []
    caption = "Mean coefficient of each gate on the training patches, ± its standard deviation: 1 passes everything"
    return [Picture(caption, gate_curves(history), "gates")]


def read_history(log: Path) -> list[dict[str, float]]:
    """The rows of a fold's log.csv, without the empty fields. Raises: FormatError when the file is damaged."""
    with reading(log, hint="remove the lines that were cut"), log.open(encoding="utf-8", newline="") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]


def _facts(plan: Plan, history: Sequence[dict[str, float]], summary: Summary, precision: str) -> dict[str, object]:
    network = plan.network
    training = f"{history[-1]['minutes']:.1f} min, {int(history[-1]['step'])} steps" if history else "none"
    return {
        "Mean Dice": number(summary.foreground_mean("Dice"), 3),
        "Cases scored": len(summary.cases),
        "Network": f"{plan.preset}, {network.spatial_dims}-D, gate: {network.gate or 'none'}",
        "Training": f"{training}, {precision}" if precision else training,
        "Spacing": " × ".join(decimals(value, 2) for value in plan.preprocessing.spacing) + " mm",
        "Patch": " × ".join(str(value) for value in plan.patch_size),
    }


def _scores(summary: Summary) -> Table:
    rows = [[label, *score_cells(summary, label)] for label in summary.labels]
    if len(summary.labels) > 1:
        rows.append(["mean", *mean_cells(summary)])
    headings = ("Label", *(spec.column for spec in TABULATED))
    return Table(f"Scores over {len(summary.cases)} cases (mean ± standard deviation)", headings, rows)


def _decisions(plan: Plan) -> Table:
    rows = [[name.replace("_", " "), reason] for name, reason in plan.reasons.items()]
    return Table("Decisions of the plan", ("Decision", "Reason"), rows)
