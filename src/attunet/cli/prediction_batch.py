"""The batch of `attunet predict`: what is left to do is predicted, recorded case by case, and shown."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.cli.console import notes, progress_bar
from attunet.cli.prediction_run import BatchDisplay, show_resume, show_statistics, show_summary
from attunet.errors import AttunetError

if TYPE_CHECKING:
    from attunet.cli.places import OutputPlace
    from attunet.cluster.ledger import Ledger
    from attunet.cluster.parts import RunPart
    from attunet.cluster.prediction import PredictionWork
    from attunet.cluster.ray_worker import RayWorkers
    from attunet.data.cases import Case
    from attunet.inference.batch_record import RecordFiles
    from attunet.inference.case_worker import CaseResult
    from attunet.inference.segmenter import Segmenter

__all__ = ["PredictionBatch"]

STATISTICS = "statistics.json"


@dataclass(frozen=True, kw_only=True)
class PredictionBatch:
    """What is predicted, and what is recorded of it.

    Args:
        segmenter: the model.
        work: what is done with each case.
        place: where the results go; its folder is that of `work`.
        agreement: whether the agreement of attention and mask is measured, and preview: whether a picture is drawn; for
            the record.
        preview: see `agreement`.
        statistics: whether statistics.json is written.
        report: the record of the run; None for none.
        summary: the page that sums up the run; None for none.
        resumed: whether cases that are done already are skipped.
        part: which of the cases are predicted here; None for all.
        workers: the workers of a cluster; None for this process.
    """

    segmenter: Segmenter
    work: PredictionWork
    place: OutputPlace
    agreement: bool = False
    preview: bool = False
    statistics: bool = False
    report: Path | None = None
    summary: Path | None = None
    resumed: bool = False
    part: RunPart | None = None
    workers: RayWorkers | None = None

    @contextmanager
    def open(self, cases: Sequence[Case]) -> Iterator[tuple[Sequence[Case], BatchDisplay]]:
        """What is left to predict of the cases, or of the part of them, and what shows and records it in the block.

        At the end, also an early one, the records are written, and it is shown how the batch went.
        Raises: BusyError and ConfigError as `RunPart.held`.
        """
        folder = self.place.folder
        if self.resumed:
            self.place.fetch("statistics*.json", "ledger*.jsonl", "parts-of-*.json")
        with ExitStack() as stack:
            mine = cases
            if self.part is not None:
                mine = stack.enter_context(self.part.held(folder, cases, self.place.first))
                text = f"part {self.part.index} of {self.part.count}: {len(mine)} of {len(cases)} cases"
                notes().print(text, markup=False, highlight=False, soft_wrap=True)
            with self._recorded(mine) as (missing, display):
                yield missing, display
        self._merge(cases)
        self.place.copy(now=True)
        if self.summary is not None:
            from attunet.cluster.summary import write_run_summary

            if self.part is not None:
                self.place.fetch("ledger*.jsonl", again=True)
            write_run_summary(self.summary, folder, str(self.place))

    @contextmanager
    def _recorded(self, cases: Sequence[Case]) -> Iterator[tuple[Sequence[Case], BatchDisplay]]:
        started = time.perf_counter()
        record = self._record("" if self.part is None else str(self.part))
        destination, folder = self.work.destination, self.place.folder
        masked = [case.id for case in cases if self.resumed and destination.done(case, folder)]
        existing = {case for case in masked if record.has(case)}
        missing = [case for case in cases if case.id not in existing]
        with progress_bar() as progress, ExitStack() as stack:
            ledger = self._ledger(stack, missing, existing)

            def on_result(result: CaseResult) -> None:
                record.add(result)
                _enter(ledger, result)
                self.place.copy()

            again = [case for case in masked if case not in existing]
            display = BatchDisplay(progress, cases, list(existing), again, on_result)
            try:
                yield missing, display
            except BaseException:
                with suppress(AttunetError):
                    record.write()
                    self.place.copy(now=True)
                if display.results:
                    show_summary(display.results, self.place, time.perf_counter() - started, len(missing))
                    show_resume()
                raise
        record.write()
        if self.statistics:
            show_statistics(display.results, self.segmenter)
        show_summary(display.results, self.place, time.perf_counter() - started)

    def _merge(self, cases: Sequence[Case]) -> None:
        """Put the records of all parts together, if this is the last of them, or a run without parts after them."""
        from attunet.cluster.parts import all_ended, has_parts, merge_ledgers, merging

        folder, destination = self.place.folder, self.work.destination
        if not has_parts(folder) or (self.part is not None and self.place.store is not None):
            return  # at URLs nobody can know whether another part still writes
        with merging(folder) as alone:
            if alone and (self.part is None or all_ended(cases, folder, lambda case: destination.done(case, folder))):
                if self.part is not None:
                    self._record("", extend=True).write()
                merge_ledgers(folder)
                notes().print("the records of all parts are merged", markup=False)

    def _record(self, part: str, *, extend: bool = False) -> RecordFiles:
        from attunet.inference.batch_record import RecordFiles

        settings = {
            **asdict(self.work.options),
            "mirror": self.segmenter.mirrors(self.work.options),
            "attention": self.work.save_attention,
            "preview": self.preview,
            "agreement": self.agreement,
        }
        return RecordFiles(
            self.work.model,
            self.segmenter,
            settings,
            statistics=self.place.folder / STATISTICS if self.statistics else None,
            report=self.report,
            extend=self.resumed or extend,
            part=part,
        )

    def _ledger(self, stack: ExitStack, missing: Sequence[Case], existing: Iterable[str]) -> Ledger | None:
        """The ledger of what this process predicts, if there is one; on a cluster, the run keeps it from here on.

        A kill may have come between a mask and its row, which is entered now.
        """
        if self.workers is None and self.part is None and self.summary is None:
            return None
        from attunet.cluster.ledger import LEDGER, Ledger, LedgerRow
        from attunet.cluster.parts import read_ledgers
        from attunet.inference.batch_record import of_part

        rows = read_ledgers(self.place.folder)
        told = {case for case, row in rows.items() if row.state == "done"}
        path = of_part(self.place.folder / LEDGER, "" if self.part is None else str(self.part))
        assert path is not None
        ledger = stack.enter_context(Ledger(path))
        ledger.add(*(LedgerRow(case=case, state="done") for case in sorted(set(existing) - told)))
        if self.workers is not None:
            return None
        ledger.add(*(LedgerRow(case=case.id, state="queued") for case in missing))
        return ledger


def _enter(ledger: Ledger | None, result: CaseResult) -> None:
    """Enter a result into the ledger."""
    if ledger is not None:
        from attunet.cluster.ledger import LedgerRow
        from attunet.inference.budget import peak_resident_bytes

        ledger.add(LedgerRow.of(result, node=socket.gethostname(), peak_bytes=peak_resident_bytes()))
