"""What a prediction would take, told before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attunet.cli.console import fail, notes, progress_bar, results
from attunet.errors import AttunetError

if TYPE_CHECKING:
    from attunet.cli.prediction_run import Wanted
    from attunet.data.cases import Case
    from attunet.inference.agenda import Agenda
    from attunet.inference.segmenter import Segmenter

__all__ = ["foresee_cases"]


def foresee_cases(segmenter: Segmenter, cases: Sequence[Case], wanted: Wanted) -> int:
    """Print windows and peak memory of each case; how many cannot be predicted as asked."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from attunet.inference.agenda import Options, warm_up
    from attunet.inference.limits.footprint import gigabytes

    asked = Options(
        wanted.step,
        wanted.mirror,
        wanted.attention or wanted.agreement,
        wanted.probabilities,
        wanted.skip_air,
        wanted.max_memory,
        wanted.time_limit,
    )
    warm_up(segmenter.members)
    table = Table("Case", "Voxels", "Windows", "Left out as air", "In bands", "Peak memory", box=box.SIMPLE_HEAD)
    failed = 0
    with progress_bar() as progress:
        reading = progress.add_task("reading", total=len(cases))
        for case in cases:
            try:
                volume = segmenter.read(case)[1]
                agenda = segmenter.agenda(volume, asked)
            except AttunetError as error:
                failed += 1
                fail(f"{case.id}: {error.message}", error.hint)
            else:
                size = " x ".join(map(str, volume.spatial_shape))
                table.add_row(escape(case.id), size, *_row(agenda), gigabytes(agenda.peak))
                for notice in agenda.notices:
                    notes().print(f"{case.id}: {notice}", style="yellow", markup=False, soft_wrap=True)
                del volume, agenda  # before the next is read
            progress.advance(reading)
    results().print(table)
    return failed


def _row(agenda: Agenda) -> tuple[str, str, str]:
    return str(agenda.windows), str(agenda.air), str(agenda.course.bands)
