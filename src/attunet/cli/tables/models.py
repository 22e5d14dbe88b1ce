"""Tables about a model, its predictions and the machine: facts, volumes, estimates and engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attunet.cli.tables.table import Column, FittedTable
from attunet.config import interval_text

if TYPE_CHECKING:
    from attunet.inference.case_worker import CaseResult
    from attunet.inference.engines.benchmark import EngineTiming
    from attunet.inference.estimate import CaseEstimate

__all__ = ["engine_table", "estimate_table", "facts_table", "prediction_table", "volume_table"]


def engine_table(measurements: Sequence[EngineTiming], fastest: EngineTiming) -> FittedTable:
    """Time, speed and accuracy of every engine; the first is the reference."""
    table = FittedTable(
        Column(heading="Engine"),
        Column(heading="ms per window", kind="number"),
        Column(heading="Speed relative to the first", kind="number"),
        Column(heading="Logit error", kind="number", rank=2),
        Column(heading="Dice", kind="number", rank=1),
        Column(heading="", kind="text"),
    )
    for measured in measurements:
        ratio, low, high = measured.ratio_to(measurements[0])
        note = "fastest" if measured is fastest else "" if measured.exact else "not accurate enough"
        table.add(
            measured.name,
            f"{measured.typical * 1000:.1f}",
            f"{ratio:.2f} ({low:.2f}–{high:.2f})",
            f"{measured.logit_error:.2g}",
            f"{measured.dice:.4f}",
            note,
        )
    return table


def estimate_table(estimates: Sequence[CaseEstimate]) -> FittedTable:
    """Windows and peak memory of each case."""
    table = FittedTable(
        Column(heading="Case"),
        Column(heading="Voxels"),
        Column(heading="Windows", kind="number"),
        Column(heading="Skipped by the localizer", kind="number", rank=2),
        Column(heading="Air windows skipped", kind="number", rank=2),
        Column(heading="Bands", kind="number", rank=1),
        Column(heading="Peak memory", kind="number"),
    )
    for estimate in estimates:
        counts = (estimate.windows, estimate.skipped_windows, estimate.air_windows, estimate.bands)
        memory = f"{estimate.peak_bytes / 2**30:.2f} GB"
        table.add(estimate.case, " x ".join(map(str, estimate.shape)), *map(str, counts), memory)
    return table


def volume_table(results: Sequence[CaseResult]) -> FittedTable:
    """Volumes of each case, and its predicted Dice if available, with their prediction intervals."""
    predicted = any(result.predicted_dice is not None for result in results)
    table = FittedTable(
        Column(heading="Case"),
        *(Column(heading=f"{name} ml", kind="number") for name in results[0].volumes_ml),
        *([Column(heading="Predicted Dice", kind="number")] if predicted else []),
        elsewhere="statistics.json",
    )
    for result in results:
        known, predicted_dice = result.volume_intervals_ml, result.predicted_dice
        dice = "–" if predicted_dice is None else interval_text(predicted_dice, result.dice_interval, 3)
        volumes = (interval_text(value, known.get(name), 2) for name, value in result.volumes_ml.items())
        table.add(result.case, *volumes, *([dice] if predicted else []))
    return table


def facts_table(facts: Mapping[str, Any]) -> FittedTable:
    """Names and values; a nested mapping has a line for each of its entries."""
    table = FittedTable(Column(heading=""), Column(heading="", kind="text"))
    for name, value in facts.items():
        table.add(Text(name, "bold"), _text(value))
    return table


def prediction_table(measured: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Dice against seconds: a row for each way to predict that was measured, the one that predictions follow in bold.

    `measured`: the rows of `MeasuredPrediction`, as plain values.
    """
    table = FittedTable(
        Column(heading="Folds", kind="number"),
        Column(heading="Copies", kind="number"),
        Column(heading="Dice", kind="number", rank=1),
        Column(heading="Gain (95% interval)", kind="number"),
        Column(heading="s per case", kind="number"),
        Column(heading="Cases", kind="text", rank=2),
        Column(heading="Used"),
        title="Dice against seconds: folds averaged, copies of each window (1: no mirroring)",
        elsewhere="--json",
    )
    for row in measured:
        known = row["cases"] > 0
        gain = "–" if row["low"] is None else f"{row['gain']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        dice = "–" if row["dice"] is None else f"{row['dice']:.4f}"
        seconds = "–" if row["seconds"] is None else f"{'' if known else 'about '}{row['seconds']:.3g}"
        cases = f"{row['cases']} {row['measured_on']}" if known else "none that no fold has seen"
        cells = str(row["folds"]), str(row["copies"]), dice, gain, seconds, cases, "yes" if row["used"] else ""
        table.add(*cells, style="bold" if row["used"] else "")
    return table


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_text(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    return str(value)
