"""What the commands show of a model and of the machine: facts, and engines beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attunet.cli.tables.table import Column, FittedTable

if TYPE_CHECKING:
    from attunet.inference.engines.benchmark import Measured

__all__ = ["engine_table", "facts_table"]


def engine_table(measurements: Sequence[Measured], fastest: Measured) -> FittedTable:
    """Time, speed and exactness of every engine; the first is the reference."""
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
        note = "fastest" if measured is fastest else "" if measured.exact else "not exact enough"
        table.add(
            measured.name,
            f"{measured.typical * 1000:.1f}",
            f"{ratio:.2f} ({low:.2f}–{high:.2f})",
            f"{measured.logit_error:.2g}",
            f"{measured.dice:.4f}",
            note,
        )
    return table


def facts_table(facts: Mapping[str, Any]) -> FittedTable:
    """Names and values; a value that holds values has a line for each."""
    table = FittedTable(Column(heading=""), Column(heading="", kind="text"))
    for name, value in facts.items():
        table.add(Text(name, "bold"), _text(value))
    return table


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_text(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    return str(value)
