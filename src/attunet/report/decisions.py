"""Tables of what a model decided on held-out cases: Dice against seconds, and each decision with its reason."""

from __future__ import annotations

from math import nan

from attunet.config import MeasuredPrediction, Postprocessing
from attunet.report.cells import NOTHING, between, number
from attunet.report.html import Section, Table

__all__ = ["decision_tables"]

_HEADINGS = ("Folds", "Copies", "Dice", "Gain", "95% interval", "Seconds per case", "Cases", "")


def decision_tables(postprocessing: Postprocessing) -> list[Section]:
    """Dice against seconds, for each way to predict that was measured, and the reason of every decision.

    Args: what was decided; a table without rows is left out.
    """
    tables: list[Section] = []
    if measured := postprocessing.prediction.measured:
        caption = "Dice against seconds, by the folds and the mirrored copies that are averaged"
        tables.append(Table(caption, _HEADINGS, [_row(row) for row in measured]))
    if reasons := postprocessing.reasons:
        decided = postprocessing.evidence
        caption = "What every prediction does" + (f", decided on {decided.text}" if decided else "")
        tables.append(Table(caption, ("Setting", "Decision and reason"), [list(each) for each in reasons.items()]))
    return tables


def _row(row: MeasuredPrediction) -> list[object]:
    dice, gain = (number(nan if value is None else value, 4) for value in (row.dice, row.gain))
    return [
        row.folds,
        row.copies,
        dice,
        gain,
        NOTHING if row.low is None or row.high is None else between((row.low, row.high), 4),
        NOTHING if row.seconds is None else f"{'' if row.cases else 'about '}{row.seconds:.3g}",
        f"{row.cases} {row.measured_on}" if row.cases else "none that no fold has seen",
        "used" if row.used else "",
    ]
