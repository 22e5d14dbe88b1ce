"""A batch of predictions on the console: progress, failures, warnings and estimates of each case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.cli.console import fail, notes, progress_bar, results, show
from attunet.names import listed

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from attunet.data.cases import Case
    from attunet.inference.case_worker import CaseResult
    from attunet.inference.estimate import CaseEstimate
    from attunet.inference.prediction import PredictOptions
    from attunet.inference.segmenter import Segmenter

__all__ = [
    "BatchDisplay",
    "show_case",
    "show_choice",
    "show_estimates",
    "show_left_out",
    "show_notices",
    "show_resume",
    "show_statistics",
    "show_summary",
]


MOST_FILES = 5
MOST_ALIKE = 3
"""Cases with the same message that are shown one by one."""


class BatchDisplay:
    """A bar for each running case, below the bar of all cases; failures and warnings as they occur.

    Attributes: progress, the bars; results, of the finished cases.
    """

    def __init__(
        self,
        progress: Progress,
        cases: Sequence[Case],
        existing: Sequence[str],
        again: Sequence[str] = (),
        record: Callable[[CaseResult], None] = lambda _: None,
    ) -> None:
        """`again` are cases with a mask and without the requested record; `record` is called with each result."""
        self._record = record
        self._seen: Counter[str] = Counter()
        if existing:
            found = "its mask exists" if len(existing) == 1 else "their masks exist"
            text = f"{listed(sorted(existing), MOST_FILES)}: skipped, {found} already"
            notes().print(text, markup=False, highlight=False, soft_wrap=True)
        for name in sorted(again):
            text = f"{name}: segmented again, because the requested statistics or report lack it"
            notes().print(text, markup=False, highlight=False, soft_wrap=True)
        self.progress = progress
        self._overall = progress.add_task("predict", total=len(cases), completed=len(existing))
        self._bars: dict[str, TaskID] = {}
        self.results: list[CaseResult] = []

    def on_windows(self, case: str, done: int, total: int) -> None:
        """Show the windows of a case; called from several threads."""
        if case not in self._bars:
            self._bars[case] = self.progress.add_task(f"  {case} windows", total=total)
        self.progress.update(self._bars[case], completed=done)

    def on_result(self, result: CaseResult) -> None:
        """Show a finished case."""
        self.results.append(result)
        show_case(result, self._seen)
        if result.case in self._bars:
            self.progress.remove_task(self._bars.pop(result.case))
        self.progress.advance(self._overall)
        self._record(result)


def show_case(case: CaseResult | CaseEstimate, seen: Counter[str] | None = None) -> None:
    """Print why a case failed, and its warnings; of messages that `seen` has counted often enough, only the first."""
    for text in filter(None, (case.error, *case.warnings)):
        named = text if text.startswith(f"{case.case} ") else f"{case.case}: {text}"
        alike = text.replace(case.case, "")
        count = 0 if seen is None else seen[alike]
        if seen is not None:
            seen[alike] += 1
        if count == MOST_ALIKE:
            notes().print(f"{named} (more cases like this are not shown)", style="yellow", markup=False, soft_wrap=True)
        elif count > MOST_ALIKE:
            continue
        elif text == case.error:
            fail(named, case.hint)
        else:
            notes().print(named, style="yellow", markup=False, soft_wrap=True)


def show_estimates(segmenter: Segmenter, cases: Sequence[Case], options: PredictOptions) -> int:
    """Print windows and peak memory of each case; return how many cases cannot be predicted with these options."""
    from attunet.cli.tables.models import estimate_table
    from attunet.inference.estimate import estimate_cases

    estimates = []
    seen: Counter[str] = Counter()
    with progress_bar() as progress:
        reading = progress.add_task("reading", total=len(cases))
        for estimate in estimate_cases(segmenter, cases, options):
            show_case(estimate, seen)
            estimates.append(estimate)
            progress.advance(reading)
    failed = [estimate for estimate in estimates if estimate.error]
    show(estimate_table([estimate for estimate in estimates if not estimate.error]))
    return len(failed)


def show_choice(segmenter: Segmenter, *, automatic: bool, options: PredictOptions) -> None:
    """Say which decisions of the model differ from averaging all folds and mirrored copies, and how to override them.

    `automatic`: whether the folds were left to the model.
    """
    decided = segmenter.postprocessing.prediction
    told = (
        ["without mirrored copies (--tta on adds them)"] if options.mirror is None and decided.mirror is False else []
    )
    used, most = len(segmenter.engines), max((row.folds for row in decided.measured), default=0)
    if automatic and decided.folds is not None and used != most:
        told.append(f"{used} of its folds (--fold all averages all)")
    if told:
        text = f"as the model decided on held-out cases: {', '.join(told)}; see attunet info"
        notes().print(text, markup=False, highlight=False, soft_wrap=True)


def show_left_out(files: Sequence[Path], reason: str) -> None:
    """Print which files of a folder are not predicted, and why."""
    text = f"left out {len(files)} files, which {reason}: {listed([str(file) for file in files], MOST_FILES)}"
    notes().print(text, markup=False, soft_wrap=True)


def show_notices(notices: Sequence[str]) -> None:
    """Print what concerns all cases, once."""
    for notice in notices:
        notes().print(notice, style="yellow", markup=False, soft_wrap=True)


def show_summary(cases: Sequence[CaseResult], output: object, seconds: float, total: int | None = None) -> None:
    """Print how many cases were written, of `total` when it stopped early, and which failed."""
    failed = [case.case for case in cases if case.error]
    each = seconds / max(1, len(cases))
    expected = len(cases) if total is None else total
    text = f"{len(cases) - len(failed)} of {expected} cases written to {output}, {each:.1f} s each"
    notes().print(text, markup=False, soft_wrap=True)
    if failed:
        every = "; --report lists every one" if len(failed) > MOST_FILES else ""
        notes().print(f"not segmented: {listed(failed, MOST_FILES)}{every}", style="red", markup=False, soft_wrap=True)


def show_resume() -> None:
    """Print how to go on after a stop."""
    notes().print("stopped early; --continue-prediction segments the other cases", markup=False, soft_wrap=True)


def show_statistics(cases: Sequence[CaseResult], segmenter: Segmenter) -> None:
    """Print the volumes of each case, its predicted Dice where that was measured, and how reliable both are."""
    from attunet.cli.tables.models import volume_table
    from attunet.inference.batch_record import describe_correlation
    from attunet.inference.intervals import interval_reasons

    done = [case for case in cases if case.error is None]
    if not done:
        return
    show(volume_table(done))
    reliability = describe_correlation(segmenter.postprocessing.quality)
    lines = [f"predicted Dice: {reliability}"] if reliability else []
    reasons = [
        f"interval of {name}: {reason}"
        for name, reason in interval_reasons(segmenter.postprocessing, segmenter.plan).items()
    ]
    lines += reasons[:MOST_FILES]
    if len(reasons) > MOST_FILES:
        lines.append(f"intervals of {len(reasons) - MOST_FILES} others: see attunet info")
    for line in lines:
        results().print(line, markup=False, highlight=False, soft_wrap=True)
