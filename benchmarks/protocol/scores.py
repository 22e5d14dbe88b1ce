"""One scorer for all programs, and the table: each program's scores, and the paired difference from the first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

from harness import Row, Table
from protocol.shares import Share

from attunet.data.cases import read_dataset
from attunet.evaluation import Summary, evaluate, summarize
from attunet.evaluation.paired import PairedTest, paired_test

__all__ = ["Result", "accuracy_table", "case_dice", "score"]


@dataclass(frozen=True)
class Result:
    """A program on all shares.

    Args:
        title: its name.
        records: what it reported for each share: "steps", "seconds", "prediction_seconds".
        summary: the scores of all unseen cases.
    """

    title: str
    records: tuple[Mapping[str, Any], ...]
    summary: Summary


def score(title: str, shares: Sequence[Share], folders: Sequence[Path]) -> Result:
    """Score the masks of a program, in FOLDER/masks of each share, against the labels of the unseen cases."""
    records, summaries = [], []
    for share, folder in zip(shares, folders, strict=True):
        labels = read_dataset(share.training).label_names
        summary = evaluate(share.references, folder / "masks", labels=labels)
        if summary.failed or summary.extra_predictions:
            raise SystemExit(f"{title}, {share.name}: {dict(summary.failed)} {summary.extra_predictions}")
        summary.write(folder / "summary.json")
        summaries.append(summary)
        records.append(json.loads((folder / "record.json").read_text(encoding="utf-8")))
    cases = [case for summary in summaries for case in summary.cases]
    return Result(title, tuple(records), summarize(cases, summaries[0].labels))


def case_dice(summary: Summary) -> dict[str, float]:
    """Mean Dice over the labels of each case."""
    values = [summary.values(label) for label in summary.labels]
    cases = dict.fromkeys(case for scores in values for case in scores)
    return {case: fmean(scores[case] for scores in values if case in scores) for case in cases}


def accuracy_table(name: str, title: str, results: Sequence[Result], notes: Sequence[str]) -> Table:
    """The first program is compared with each of the others."""
    first = results[0]
    rows = [_row(result, _difference(first, result) if result is not first else "") for result in results]
    return Table(name, title, tuple(rows), notes=(*notes, *_verdicts(results)))


def _test(first: Result, other: Result) -> PairedTest:
    return paired_test(case_dice(first.summary), case_dice(other.summary))


def _difference(first: Result, other: Result) -> str:
    test = _test(first, other)
    return f"{test.mean:+.3f} ({test.low:+.3f} to {test.high:+.3f})"


def _verdicts(results: Sequence[Result]) -> list[str]:
    """One sentence for each other program: better, worse, or a tie, where the interval includes zero."""
    first, sentences = results[0], []
    for other in results[1:]:
        test = _test(first, other)
        if isnan(test.low) or test.low <= 0 <= test.high:
            sentences.append(f"{first.title} and {other.title}: a tie, the interval includes zero.")
        else:
            verdict = "better" if test.mean > 0 else "worse"
            sentences.append(f"{first.title} is {verdict} than {other.title} by {abs(test.mean):.3f} Dice.")
    return sentences


def _row(result: Result, difference: str) -> Row:
    summary = result.summary
    low, high = summary.foreground_interval()
    dice = case_dice(summary)
    steps = [record["steps"] for record in result.records]
    seconds = sum(record["prediction_seconds"] for record in result.records) / len(summary.cases)
    facts = {
        "Dice (95% interval)": f"{summary.foreground_mean():.3f} ({low:.3f}–{high:.3f})",
        "first row minus this, paired": difference,
        "HD95, mm": f"{summary.foreground_mean('HD95'):.2f}",
        "precision": f"{summary.foreground_mean('Precision'):.2f}",
        "recall": f"{summary.foreground_mean('Recall'):.2f}",
        "worst case": f"{min(dice.values()):.2f}" if dice else "",
        "steps": f"{fmean(steps):.0f}",
        "prediction, s per case": f"{seconds:.2g}",
    }
    missing = len(summary.missing_predictions)
    title = result.title + (f" ({missing} cases without a mask)" if missing else "")
    return Row(title, (), facts, {case: round(value, 5) for case, value in sorted(dice.items())})
