"""The tables of `attunet inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import median

from rich.console import Group, RenderableType
from rich.text import Text

from attunet.cli.tables.table import Column, FittedTable, sizes, spacing
from attunet.data.checks import CaseFacts, Inspection, Problem
from attunet.data.labels import values_by_label

__all__ = ["inspection_tables"]

MOST_CASES = 20
MOST_LABELS = 12
MOST_ALIKE = 3


def inspection_tables(inspection: Inspection, *, every_case: bool) -> RenderableType:
    """Headline, cases (only ranges when more than twenty, unless `every_case`), labels, findings."""
    facts = inspection.facts
    summarise = len(facts) > MOST_CASES and not every_case
    parts: list[RenderableType] = [_headline(inspection)]
    if inspection.dataset.rule is not None:
        parts.append(Text(f"matched: {inspection.dataset.rule}"))
    if facts:
        parts += [_ranges(facts), _common(facts)] if summarise else [_cases(facts)]
    if any(case.labels for case in facts):
        parts.append(_labels(inspection))
    return Group(*parts, *_findings(inspection.problems, MOST_ALIKE if not every_case else len(inspection.problems)))


def _headline(inspection: Inspection) -> Text:
    dataset = inspection.dataset
    labelled = sum(case.labels is not None for case in inspection.facts)
    partial = sum(case.annotated is not None for case in dataset.cases)
    return Text.assemble(
        (dataset.name, "bold"),
        f": {dataset.layout} layout, {len(dataset.cases)} cases, {len(inspection.facts)} readable, ",
        f"{labelled} with a usable label",
        f", {partial} partially annotated (only some labels)" if partial else "",
    )


def _cases(facts: Iterable[CaseFacts]) -> FittedTable:
    table = FittedTable(
        Column(heading="Case"),
        Column(heading="Shape"),
        Column(heading="Spacing (mm)", rank=1),
        Column(heading="Orientation", rank=3),
        Column(heading="Channels", kind="number", rank=5),
        Column(heading="Type", rank=4),
        Column(heading="Intensity", rank=2),
        Column(heading="Labels: voxels", kind="list"),
        elsewhere="--json",
    )
    for case in facts:
        labels = "-" if case.labels is None else _counts(case.labels)
        geometry = (case.id, sizes(case.shape), spacing(case.spacing), case.orientation)
        table.add(*geometry, str(case.channels), case.dtype, _intensity(case), labels)
    return table


def _ranges(facts: tuple[CaseFacts, ...]) -> FittedTable:
    table = FittedTable(
        Column(heading="Over all cases"),
        Column(heading="Smallest", kind="number"),
        Column(heading="Median", kind="number", rank=1),
        Column(heading="Largest", kind="number"),
        elsewhere="--json",
    )
    for axis in range(3):
        _add_range(table, f"shape, axis {axis}", [float(case.shape[axis]) for case in facts])
    for axis in range(3):
        _add_range(table, f"spacing, axis {axis} (mm)", [case.spacing[axis] for case in facts])
    known = [case.intensity for case in facts if case.intensity is not None]
    _add_range(table, "intensity minimum", [intensity.minimum for intensity in known])
    _add_range(table, "intensity median", [intensity.percentiles[1] for intensity in known])
    _add_range(table, "intensity maximum", [intensity.maximum for intensity in known])
    return table


def _add_range(table: FittedTable, name: str, values: list[float]) -> None:
    if values:
        table.add(name, *(f"{value:.4g}" for value in (min(values), median(values), max(values))))


def _common(facts: tuple[CaseFacts, ...]) -> FittedTable:
    """Categorical properties, with the number of cases for each value."""
    table = FittedTable(Column(heading="Over all cases"), Column(heading="Value (cases)", kind="list"))
    properties: dict[str, Callable[[CaseFacts], str]] = {
        "orientation": lambda case: case.orientation,
        "channels": lambda case: str(case.channels),
        "type": lambda case: case.dtype,
    }
    for name, value in properties.items():
        counts = Counter(map(value, facts)).most_common()
        table.add(name, ", ".join(f"{entry} ({count})" for entry, count in counts))
    return table


def _labels(inspection: Inspection) -> FittedTable:
    """Voxels and cases of every label or region, by name where declared, and of every other value in label files."""
    counts = [case.labels for case in inspection.facts if case.labels]
    voxels: Counter[int] = Counter()
    for case in counts:
        voxels.update(case)
    total = sum(voxels.values())
    table = FittedTable(
        Column(heading="Label"),
        Column(heading="Value", kind="list"),
        Column(heading="Voxels", kind="number"),
        Column(heading="Share", kind="number", rank=1),
        Column(heading="Cases", kind="number", rank=2),
        elsewhere="--json",
    )
    for name, values in _label_rows(inspection, voxels):
        count = sum(voxels[value] for value in values)
        cases = sum(not case.keys().isdisjoint(values) for case in counts)
        table.add(name, ", ".join(map(str, values)), f"{count:,}", f"{count / total:.2%}", str(cases))
    return table


def _label_rows(inspection: Inspection, present: Iterable[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Names with their values: without regions by value, with regions in their order; "-" is undeclared."""
    named = list(values_by_label(inspection.dataset).items())
    known = {value for _, values in named for value in values}
    rows = [(name, values) for name, values in named if inspection.dataset.regions or set(values) & set(present)]
    rows += [("-", (value,)) for value in present if value not in known]
    return rows if inspection.dataset.regions else sorted(rows, key=lambda row: row[1])


def _findings(problems: tuple[Problem, ...], most_alike: int) -> list[RenderableType]:
    """Every problem, but one row for those of one kind that more cases than `most_alike` have."""
    if not problems:
        return [Text("no problems found", style="green")]
    table = FittedTable(
        Column(heading="Severity"),
        Column(heading="Case"),
        Column(heading="What", kind="text"),
        Column(heading="What to do", kind="text"),
        elsewhere="--json",
    )
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.severity, problem.kind), []).append(problem)
    for problem in problems:
        others = alike[problem.severity, problem.kind]
        if len(others) > most_alike and problem is not others[0]:
            continue
        cases = f"{problem.case} and {len(others) - 1} more" if len(others) > most_alike else problem.case
        style = "red" if problem.severity == "problem" else "yellow"
        what = Text.assemble((problem.kind, style), f": {problem.message}")
        table.add(Text(problem.severity, style), cases or "all", what, problem.remedy)
    warnings = sum(problem.severity == "warning" for problem in problems)
    count = len(problems) - warnings
    every = "" if all(len(others) <= most_alike for others in alike.values()) else "; --cases lists every one"
    return [table, Text(f"problems: {count}, warnings: {warnings}{every}", style="red" if count else "green")]


def _intensity(case: CaseFacts) -> str:
    if case.intensity is None:
        return "not finite"
    return f"{case.intensity.minimum:.4g} to {case.intensity.maximum:.4g}"


def _counts(labels: dict[int, int]) -> str:
    shown = ", ".join(f"{value}: {count}" for value, count in list(labels.items())[:MOST_LABELS])
    return f"{shown}, {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else shown
