"""How an inspection is shown: tables for people, JSON for machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from statistics import median

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attunet.data.checks import CaseFacts, Inspection, Problem
from attunet.data.labels import label_values

__all__ = ["as_json", "as_tables"]

FEW_CASES = 20
FEW_LABELS = 12


def as_json(inspection: Inspection) -> str:
    """Everything found, as one JSON object; numbers that are not finite never occur in it."""
    dataset = inspection.dataset
    content = {
        "dataset": str(dataset.root),
        "layout": dataset.layout,
        "channel_names": dataset.channel_names,
        "labels": dataset.label_names,
        "regions": dataset.regions,
        "ignore_label": dataset.ignore_label,
        "cases_found": len(dataset.cases),
        "partly_labelled": {case.id: case.annotated for case in dataset.cases if case.annotated is not None},
        "clean": inspection.clean,
        "cases": [asdict(facts) for facts in inspection.facts],
        "problems": [asdict(problem) for problem in inspection.problems],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def as_tables(inspection: Inspection, *, every_case: bool) -> RenderableType:
    """Headline, cases (only ranges when more than twenty, unless `every_case`), labels, findings."""
    facts = inspection.facts
    summarise = len(facts) > FEW_CASES and not every_case
    parts: list[RenderableType] = [_headline(inspection)]
    if facts:
        parts.append(_ranges(facts) if summarise else _cases(facts))
    if any(case.labels for case in facts):
        parts.append(_labels(inspection))
    return Group(*parts, *_findings(inspection.problems))


def _headline(inspection: Inspection) -> Text:
    dataset = inspection.dataset
    labelled = sum(case.labels is not None for case in inspection.facts)
    partial = sum(case.annotated is not None for case in dataset.cases)
    return Text.assemble(
        (dataset.name, "bold"),
        f": {dataset.layout} layout, {len(dataset.cases)} cases, {len(inspection.facts)} readable, ",
        f"{labelled} with a usable label",
        f", {partial} partly labelled (only some labels drawn)" if partial else "",
    )


def _cases(facts: Iterable[CaseFacts]) -> Table:
    table = _table("case", "shape", "spacing (mm)", "orient.", "ch.", "type", "intensity", "labels: voxels")
    for case in facts:
        labels = "-" if case.labels is None else _counts(case.labels)
        row = (case.id, _shape(case.shape), _spacing(case.spacing), case.orientation, str(case.channels))
        table.add_row(*map(escape, (*row, case.dtype, _intensity(case), labels)))
    return table


def _ranges(facts: tuple[CaseFacts, ...]) -> Table:
    table = _table("over all cases", "smallest", "median", "largest")
    for axis in range(3):
        _range_row(table, f"shape, axis {axis}", [float(case.shape[axis]) for case in facts])
    for axis in range(3):
        _range_row(table, f"spacing, axis {axis} (mm)", [case.spacing[axis] for case in facts])
    known = [case.intensity for case in facts if case.intensity is not None]
    _range_row(table, "intensity minimum", [intensity.minimum for intensity in known])
    _range_row(table, "intensity median", [intensity.percentiles[1] for intensity in known])
    _range_row(table, "intensity maximum", [intensity.maximum for intensity in known])
    _common_row(table, "orientation", facts, lambda case: case.orientation)
    _common_row(table, "channels", facts, lambda case: str(case.channels))
    _common_row(table, "type", facts, lambda case: case.dtype)
    return table


def _range_row(table: Table, name: str, values: list[float]) -> None:
    if values:
        table.add_row(name, *(f"{value:.4g}" for value in (min(values), median(values), max(values))))


def _common_row(table: Table, name: str, facts: Iterable[CaseFacts], value: Callable[[CaseFacts], str]) -> None:
    counts = Counter(map(value, facts)).most_common()
    table.add_row(name, "", ", ".join(f"{entry} ({count})" for entry, count in counts), "")


def _labels(inspection: Inspection) -> Table:
    """Voxels and cases of every label or region, by name where it is declared, and of every other value found."""
    counts = [case.labels for case in inspection.facts if case.labels]
    voxels: Counter[int] = Counter()
    for case in counts:
        voxels.update(case)
    total = sum(voxels.values())
    table = _table("label", "value", "voxels", "share", "cases")
    for name, values in _label_rows(inspection, voxels):
        count = sum(voxels[value] for value in values)
        cases = sum(not case.keys().isdisjoint(values) for case in counts)
        table.add_row(escape(name), ", ".join(map(str, values)), f"{count:,}", f"{count / total:.2%}", str(cases))
    return table


def _label_rows(inspection: Inspection, found: Iterable[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Names with their values: without regions by value, with regions in their order; "-" is undeclared."""
    named = list(label_values(inspection.dataset).items())
    known = {value for _, values in named for value in values}
    rows = [(name, values) for name, values in named if inspection.dataset.regions or set(values) & set(found)]
    rows += [("-", (value,)) for value in found if value not in known]
    return rows if inspection.dataset.regions else sorted(rows, key=lambda row: row[1])


def _findings(problems: tuple[Problem, ...]) -> list[RenderableType]:
    if not problems:
        return [Text("no problems found", style="green")]
    table = _table("", "case", "what", "what to do")
    for problem in problems:
        style = "red" if problem.severity == "problem" else "yellow"
        what = f"[{style}]{escape(problem.kind)}[/]: {escape(problem.message)}"
        table.add_row(f"[{style}]{problem.severity}[/]", escape(problem.case or "all"), what, escape(problem.remedy))
    notices = sum(problem.severity == "notice" for problem in problems)
    count = len(problems) - notices
    style = "red" if count else "green"
    return [table, Text(f"problems: {count}, notices: {notices}", style=style)]


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _spacing(spacing: tuple[float, ...]) -> str:
    return "x".join(f"{size:.3g}" for size in spacing)


def _intensity(case: CaseFacts) -> str:
    if case.intensity is None:
        return "not finite"
    return f"{case.intensity.minimum:.4g} to {case.intensity.maximum:.4g}"


def _counts(labels: dict[int, int]) -> str:
    shown = ", ".join(f"{value}: {count}" for value, count in list(labels.items())[:FEW_LABELS])
    return f"{shown}, {len(labels) - FEW_LABELS} more" if len(labels) > FEW_LABELS else shown
