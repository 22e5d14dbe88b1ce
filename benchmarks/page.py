"""Tables as Markdown, and the generated part of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Row, Table, ratios

__all__ = ["BEGIN", "END", "duration", "insert", "markdown"]

BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"


def markdown(table: Table) -> str:
    """Title, rows, targets and whether they were reached, notes, and the command that reproduces the table."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row.facts))
    ratio = {"faster": "speed-up over the first row", "longer": "time relative to the first row"}[table.ratio]
    timed = any(row.seconds for row in table.rows)
    head = ["", *(["median", f"{ratio} (range)"] if timed else []), *columns]
    lines = [f"### {table.title}", "", _line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(row, table, columns, timed)) for row in table.rows]
    lines += ["", *(f"- {goal}" for goal in table.goals)] if table.goals else []
    lines += ["", *(f"{note}  " for note in table.notes)] if table.notes else []
    rounds = f"{len(table.rows[0].seconds)} rounds, " if timed else ""
    return "\n".join([*lines, "", f"{rounds}{table.date}: `{table.command}`", ""])


def insert(page: str, tables: Sequence[Table]) -> str:
    """Replace the generated part of the page, between the markers; a page without markers gets it at its end."""
    generated = f"{BEGIN}\n{_machines(tables)}\n" + "\n".join(markdown(table) for table in tables) + END
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not (begin and end):
        return f"{page.rstrip()}\n\n{generated}\n"
    return before + generated + after


def _cells(row: Row, table: Table, columns: Sequence[str], timed: bool) -> list[str]:
    facts = [row.facts.get(column, "") for column in columns]
    if not timed:
        return [row.name, *facts]
    if not row.seconds:
        return [row.name, "", "", *facts]
    return [row.name, duration(row.median), _comparison(row, table), *facts]


def _comparison(row: Row, table: Table) -> str:
    first = table.rows[0]
    if row is first or len(row.seconds) != len(first.seconds):
        return ""
    pair = (first.seconds, row.seconds) if table.ratio == "faster" else (row.seconds, first.seconds)
    middle, low, high = ratios(*pair)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def duration(seconds: float) -> str:
    """Seconds as on the page, with three digits or whole seconds."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _machines(tables: Sequence[Table]) -> str:
    """The machine, or each of several machines with the tables measured on it."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for table in tables:
        groups.setdefault(tuple(table.machine.items()), []).append(table.title)
    lines = []
    for facts, titles in groups.items():
        which = f" ({'; '.join(titles)})" if len(groups) > 1 else ""
        described = "; ".join(f"{name} {value}" for name, value in facts)
        lines.append(f"Measured on{which}: {described}.\n")
    return "\n".join(lines)
