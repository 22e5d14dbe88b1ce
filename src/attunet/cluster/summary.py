"""A page that sums up a run from its ledgers: what is done, what failed and why, how fast, and what stands out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np

from attunet.cluster.ledger import LedgerRow
from attunet.cluster.parts import read_ledgers
from attunet.cluster.summary_figures import dice_histogram, ended_at, rate_chart, volume_boxes
from attunet.display import decimals
from attunet.report.cells import NOTHING
from attunet.report.html import Picture, Section, Table, write_report

__all__ = ["write_run_summary"]

MOST_FAILURES, MOST_SLOW, MOST_LOW, MOST_WARNINGS = 100, 15, 10, 20
"""Rows of the tables; the ledger has all of them."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*%?")

_NOTES = (
    "Every row is the last entry of a case in the ledger (ledger.jsonl), which has all cases.",
    "Seconds are those of a case's own steps, which overlap with those of other cases; fetching it is not included.",
    "A volume that is far from the others is worth a look: a rare patient, or a scan unlike the training data.",
    "This is research software, not a medical device.",
)


def write_run_summary(path: Path, folder: Path, name: str) -> None:
    """Write one self-contained HTML file about the run whose ledgers are in a folder, and its figures beside it.

    Args:
        path: the HTML file.
        folder: the folder of the ledgers.
        name: the output, for the title.
    Raises: FormatError when a ledger cannot be read, or the page cannot be written.
    """
    rows = list(read_ledgers(folder).values())
    ended = [row for row in rows if row.state in ("done", "failed")]
    failed = [row for row in rows if row.state == "failed"]
    write_report(
        path,
        title=f"Prediction into {name}",
        subtitle=_subtitle(rows, failed),
        facts=_facts(rows, ended),
        sections=list(_sections(ended, failed)),
        notes=_NOTES,
    )


def _subtitle(rows: Sequence[LedgerRow], failed: Sequence[LedgerRow]) -> str:
    open_ones = sum(row.state in ("queued", "running", "lost") for row in rows)
    parts = [f"{sum(row.state == 'done' for row in rows):,} of {len(rows):,} cases are done"]
    parts += [f"{len(failed):,} failed"] if failed else []
    parts += [f"{open_ones:,} not ended (--continue-prediction goes on with them)"] if open_ones else []
    return ", ".join(parts)


def _facts(rows: Sequence[LedgerRow], ended: Sequence[LedgerRow]) -> dict[str, object]:
    states = Counter(row.state for row in rows)
    facts: dict[str, object] = {"Done": f"{states['done']:,}", "Failed": f"{states['failed']:,}"}
    if unfinished := len(rows) - len(ended):
        facts["Not ended"] = f"{unfinished:,}"
    seconds = [row.seconds for row in ended if row.state == "done"]
    if (span := _span(ended)) is not None:
        facts["Cases a minute"] = decimals(60 * len(ended) / max(span.total_seconds(), 1e-3), 1)
        facts["First to last"] = str(timedelta(seconds=round(span.total_seconds())))
    if seconds:
        facts["Median time of a case"] = f"{decimals(median(seconds), 1)} s"
    facts["Nodes"] = len({row.node for row in ended if row.node})
    if peak := max((row.peak_bytes for row in ended), default=0):
        facts["Peak memory"] = _memory(peak)
    return facts


def _sections(ended: Sequence[LedgerRow], failed: Sequence[LedgerRow]) -> Iterator[Section]:
    done = [row for row in ended if row.state == "done"]
    if failed:
        yield _failures(failed)
    if any(ended_at(row) for row in ended):
        yield Picture("Cases that ended, done or failed, a minute, by node", rate_chart(ended), "rate")
        yield _nodes(ended)
    volumes = _volumes(done)
    if present := {label: [value for value in by.values() if value > 0] for label, by in volumes.items()}:
        if drawn := {label: values for label, values in present.items() if values}:
            yield Picture("Volumes of each label where it was found, in ml", volume_boxes(drawn), "volumes")
        yield _volume_table(volumes)
    scores = {row.case: row.predicted_dice for row in done if row.predicted_dice is not None}
    if scores:
        yield Picture("Predicted Dice of every case", dice_histogram(list(scores.values())), "predicted_dice")
        lowest = sorted(scores, key=lambda case: (scores[case], case))[:MOST_LOW]
        yield Table(
            f"The {len(lowest)} lowest predicted Dice",
            ("Case", "Predicted Dice"),
            [[case, decimals(scores[case], 3)] for case in lowest],
        )
    if done:
        yield _slowest(done)
    if any(row.warnings for row in done):
        yield _warnings(done)


def _failures(failed: Sequence[LedgerRow]) -> Table:
    shown = sorted(failed, key=lambda row: row.case)[:MOST_FAILURES]
    more = f", the first {len(shown)} by name" if len(shown) < len(failed) else ""
    return Table(
        f"{len(failed):,} cases failed{more}",
        ("Case", "Reason", "What to do", "Tries", "Node"),
        [[row.case, row.error or NOTHING, row.hint or NOTHING, row.tries, row.node or NOTHING] for row in shown],
    )


def _nodes(ended: Sequence[LedgerRow]) -> Table:
    by_node: defaultdict[str, list[LedgerRow]] = defaultdict(list)
    for row in ended:
        by_node[row.node or "unknown"].append(row)
    rows: list[list[object]] = []
    for node, own in sorted(by_node.items()):
        seconds, span = [row.seconds for row in own if row.state == "done"], _span(own)
        rows.append(
            [
                node,
                len(seconds),
                len(own) - len(seconds),
                decimals(60 * len(own) / max(span.total_seconds(), 1e-3), 1) if span else NOTHING,
                decimals(median(seconds), 1) if seconds else NOTHING,
                _memory(max(row.peak_bytes for row in own)),
            ]
        )
    return Table("By node", ("Node", "Done", "Failed", "Cases a minute", "Median s", "Peak memory"), rows)


def _volume_table(volumes: dict[str, dict[str, float]]) -> Table:
    rows: list[list[object]] = []
    for label, by in volumes.items():
        found = {case: value for case, value in by.items() if value > 0}
        if not found:
            rows.append([label, 0, len(by), *[NOTHING] * 5])
            continue
        low, middle, high = np.percentile(list(found.values()), (5, 50, 95))
        by_size = sorted(found, key=lambda case: (found[case], case))
        ends = [f"{decimals(found[case], 2)} ({case})" for case in (by_size[0], by_size[-1])]
        figures = [decimals(float(value), 2) for value in (low, middle, high)]
        rows.append([label, len(found), len(by) - len(found), *figures, *ends])
    headings = ("Label", "Found in", "Not found in", "5%", "Median", "95%", "Smallest", "Largest")
    return Table("Volumes in ml, of the cases in which a label was found", headings, rows)


def _slowest(done: Sequence[LedgerRow]) -> Table:
    slow = sorted(done, key=lambda row: (-row.seconds, row.case))[:MOST_SLOW]
    return Table(
        f"The {len(slow)} slowest cases" if len(slow) > 1 else "The slowest case",
        ("Case", "Seconds", "Windows", "Peak memory", "Tries", "Node"),
        [
            [row.case, decimals(row.seconds, 1), row.windows, _memory(row.peak_bytes), row.tries, row.node or NOTHING]
            for row in slow
        ],
    )


def _warnings(done: Sequence[LedgerRow]) -> Table:
    """The kinds of warnings, which differ in numbers only; those about scans unlike the training are among them."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in done:
        for text in row.warnings:
            found[_NUMBER.sub("#", text.replace(row.case, ""))].setdefault(row.case, text)
    common = sorted(found, key=lambda kind: (-len(found[kind]), kind))[:MOST_WARNINGS]
    rows: list[list[object]] = [[*next(iter(found[kind].items())), len(found[kind])] for kind in common]
    return Table("Warnings of each kind, the most frequent first", ("First case", "Its warning", "Cases"), rows)


def _volumes(done: Sequence[LedgerRow]) -> dict[str, dict[str, float]]:
    """Label to case to millilitres."""
    volumes: dict[str, dict[str, float]] = {}
    for row in done:
        for label, value in row.volumes_ml.items():
            volumes.setdefault(label, {})[row.case] = value
    return volumes


def _span(ended: Sequence[LedgerRow]) -> timedelta | None:
    """From the start of the first case to the end of the last; None without times."""
    times = [(time, row.seconds) for row in ended if (time := ended_at(row)) is not None]
    if not times:
        return None
    return max(time for time, _ in times) - min(time - timedelta(seconds=seconds) for time, seconds in times)


def _memory(bytes: int) -> str:
    return f"{decimals(bytes / 2**30, 1)} GB" if bytes else NOTHING
