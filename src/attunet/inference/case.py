"""`CasePlan`: the computation of one case, fixed before the first window and executed slab by slab.

No array of all classes ever covers a whole grid. Several members are averaged on rows of the original grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from math import prod

import numpy as np
import numpy.typing as npt

from attunet.data.preprocess import Preparation, Prepared, begin_preparation
from attunet.data.restore import Band, Box
from attunet.data.slabs import row_chunks
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError
from attunet.inference.budget import (
    Footprint,
    fit_to_deadline,
    fit_to_memory,
    gigabytes,
    peak_resident_bytes,
    resident_bytes,
)
from attunet.inference.buffers import OutputBuffers
from attunet.inference.coarse_pass import CoarsePass, coarse_passes
from attunet.inference.engines.protocol import window_shape
from attunet.inference.ensemble import average_members
from attunet.inference.member import Chunking, Member, MemberCase, Slab
from attunet.inference.outputs import DiceSums, normalized
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.tiling import Tiling, without_air

__all__ = ["CaseOutput", "CasePlan", "plan_case", "segment", "tile_cases", "warm_up", "write_mask"]

Floats = npt.NDArray[np.float32]
OnWindows = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class CasePlan:
    """A case that is ready to be segmented.

    Args:
        members: the case as each member sees it.
        options: options of the prediction; step size and mirroring may differ from the caller's to meet the time limit.
        chunking: how the case is divided.
        peak_bytes: predicted peak memory of the process.
        air_windows: number of windows that all engines skip because they contain only air.
        skipped_windows: number of windows that all engines skip because the localizer found nothing near them.
        warnings: deviations from the caller's options.
    """

    members: tuple[MemberCase, ...]
    options: PredictOptions
    chunking: Chunking
    peak_bytes: int = 0
    air_windows: int = 0
    skipped_windows: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def content(self) -> Box:
        """The content box on the original grid: the smallest box that any of the members sees."""
        boxes = (case.prepared.record.content for case in self.members)
        return min(boxes, key=lambda box: prod(part.stop - part.start for part in box))

    @property
    def windows(self) -> int:
        """Number of windows that all engines run; those at the borders of bands count for each band."""
        return sum(case.windows(self.chunking) * len(case.member.engines) for case in self.members)


@dataclass(frozen=True, kw_only=True)
class CaseOutput:
    """The result on the original grid.

    Args:
        mask: label values (1, I, J, K).
        expected_dice: see `outputs.expected_dice`.
        probabilities: (outputs, I, J, K), None unless requested.
        attention: by gate (maps, I, J, K), empty unless requested.
    """

    mask: Array
    expected_dice: dict[str, float | None]
    probabilities: Floats | None = None
    attention: dict[str, Floats] = field(default_factory=dict)


def plan_case(
    members: Sequence[Member], volume: Volume, options: PredictOptions, *, postprocessed: bool = False
) -> CasePlan:
    """Preprocess a case for each member, and choose its windows and its chunking.

    Args:
        members: members of the model.
        volume: the image.
        options: of the prediction.
        postprocessed: whether the mask will be post-processed, which needs memory, too.
    Returns: the plan.
    Raises: DataError, GeometryError as `prepare`; ConfigError when the case does not fit into the memory limit.
    """
    started, before = time.perf_counter(), peak_resident_bytes()
    allow = partial(_allow, options.max_memory)
    preparations = _preparations(members, volume)
    coarse = coarse_passes(members, preparations, all_windows=options.all_windows, allow=allow)
    prepared = _prepared(members, preparations, coarse, allow)
    tile = partial(tile_cases, members, prepared, coarse)
    preparing = peak_resident_bytes() if peak_resident_bytes() > before else 0  # otherwise an earlier case needed more
    cases, warning = tile(options), None
    if options.max_memory is not None:
        warm_up(members)
    footprint = Footprint(cases=cases, options=options, postprocessed=postprocessed)
    held = resident_bytes()
    chunking, peak = fit_to_memory(footprint, options.max_memory, held)
    if options.time_limit is not None:
        left = options.time_limit - (time.perf_counter() - started)
        cases, options, warning = fit_to_deadline(cases, options, left, chunking, tile)
        chunking, peak = fit_to_memory(replace(footprint, cases=cases, options=options), options.max_memory, held)
    peak = max(peak, preparing)
    if options.max_memory is not None and peak > options.max_memory:
        raise ConfigError(
            f"preprocessing this case took {gigabytes(peak)}, but only {gigabytes(options.max_memory)} are allowed",
            hint="allow more with --max-memory",
        )
    return CasePlan(
        members=tuple(cases),
        options=options,
        chunking=chunking,
        peak_bytes=peak,
        air_windows=sum(case.air_windows * len(case.member.engines) for case in cases),
        skipped_windows=sum(case.skipped_windows * len(case.member.engines) for case in cases),
        warnings=tuple(dict.fromkeys(filter(None, (*(each.warning for each in coarse), warning)))),
    )


def warm_up(members: Sequence[Member]) -> None:
    """Run one batch in every engine of this thread, so that they allocate their memory."""
    for member in members:
        for engine in member.engines:
            engine(np.zeros((engine.batch, *window_shape(member.plan)), np.float32))
        for engine in chain(*member.localizers):
            engine(np.zeros((engine.batch, *window_shape(member.plan.coarse)), np.float32))


def segment(plan: CasePlan, on_windows: OnWindows = lambda _: None) -> CaseOutput:
    """Segment a case; `on_windows` is called with the number of newly finished windows."""
    first, options = plan.members[0], plan.options
    record, network_plan = first.prepared.record, first.member.plan
    buffers = OutputBuffers(record, network_plan, probabilities=options.probabilities, folder=options.scratch)
    if len(plan.members) > 1:
        sums = average_members(plan.members, options, plan.chunking, buffers, on_windows)
    else:
        sums = DiceSums.zero(network_plan)
        for band in first.bands(plan.chunking):
            for slab, rows in first.slabs(band, options, plan.chunking, on_windows):
                own = slice(band.own.start - band.sources.start, band.own.stop - band.sources.start)
                sums += DiceSums.of_all(slab.fresh(own), network_plan)
                write_mask(first, slab, band, rows, buffers)
                buffers.write_attention(first, slab, band, rows, plan.chunking.rows)
                _write_probabilities(first, slab, band, rows, buffers, plan.chunking.rows)
    return CaseOutput(
        mask=buffers.mask,
        expected_dice=sums.expected_dice(network_plan),
        probabilities=None if buffers.probabilities is None else buffers.probabilities.array,
        attention={gate: scratch.array for gate, scratch in buffers.attention.items()},
    )


def _allow(limit: int | None, size: int) -> None:
    """Refuse an array before it is made. Raises: ConfigError when it would exceed the limit."""
    if limit is not None and resident_bytes() + size > limit:
        raise ConfigError(
            f"this case needs {gigabytes(resident_bytes() + size)} to be preprocessed (the process already uses "
            f"{gigabytes(resident_bytes())}), but only {gigabytes(limit)} are allowed",
            hint="allow more with --max-memory; check the voxel size in the image's header",
        )


def _preparations(members: Sequence[Member], volume: Volume) -> list[Preparation]:
    """Members with the same preprocessing share it."""
    begun: list[Preparation] = []
    for member in members:
        settings = member.plan.preprocessing
        same = (each for each in begun if each.record.preprocessing == settings)
        begun.append(next(same, None) or begin_preparation(volume, settings))
    return begun


def _prepared(
    members: Sequence[Member],
    preparations: Sequence[Preparation],
    coarse: Sequence[CoarsePass],
    allow: Callable[[int], None],
) -> list[Prepared]:
    """The image for each member, as far as any window sees it; what exceeds the limit is refused before it begins.

    A window that touches the region reaches at most a patch beyond it, whatever the distance between windows.
    """
    boxes: dict[Preparation, Box | None] = {}
    for member, preparation, found in zip(members, preparations, coarse, strict=True):
        box = None if found.region is None else found.region.box(member.plan.patch_size)
        boxes[preparation] = _around(boxes[preparation], box) if preparation in boxes else box
    finished = {preparation: preparation.finish(box, allow) for preparation, box in boxes.items()}
    return [finished[preparation] for preparation in preparations]


def _around(first: Box | None, second: Box | None) -> Box | None:
    """The smallest box around two; None is everything."""
    if first is None or second is None:
        return None
    i, j, k = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return i, j, k


def tile_cases(
    members: Sequence[Member], prepared: Sequence[Prepared], coarse: Sequence[CoarsePass], options: PredictOptions
) -> list[MemberCase]:
    """The windows of each member, ordered along the axis of the original grid that suits the first member best.

    Args:
        members: members of the model.
        prepared: the image for each of them, as far as windows see it.
        coarse: what the localizers of each of them found.
        options: of the prediction.
    Returns: the case of each member.
    """
    cases: list[MemberCase] = []
    for member, each, found in zip(members, prepared, coarse, strict=True):
        record = each.record
        axes = None
        if cases:
            first = cases[0].prepared.record
            i, j, k = (record.axes.index(first.axes[axis]) for axis in cases[0].tiling.axes)
            axes = i, j, k
        tiling = Tiling.of(record.model_shape, member.plan.patch_size, options.step_size, axes)
        near = tiling if found.region is None else tiling.within(found.region)
        kept = near if options.all_windows else without_air(near, each.array, member.air)
        cases.append(
            MemberCase(
                member=member,
                prepared=each,
                tiling=kept,
                prefix=f"{member.name}/" if len(members) > 1 else "",
                contexts=found.contexts,
                found=found.found,
                air_windows=len(near) - len(kept),
                skipped_windows=len(tiling) - len(near),
            )
        )
    return cases


def write_mask(case: MemberCase, slab: Slab, band: Band, rows: slice, buffers: OutputBuffers) -> None:
    """Write the rows of the mask that a slab determines; probabilities are interpolated only at label boundaries.

    Args:
        case: the case of the member.
        slab: its finished planes.
        band: the band that they belong to.
        rows: rows of the content.
        buffers: receive the mask.
    """
    case.inverse.argmax(
        slab.probabilities,
        band,
        rows,
        regions=bool(case.member.plan.regions),
        write=partial(buffers.write_mask, case.inverse.content(buffers.mask, band)[0]),
        across=None if case.tiling.region is None else slab.across,  # the mask is background already
    )


def _write_probabilities(
    case: MemberCase, slab: Slab, band: Band, rows: slice, buffers: OutputBuffers, most: int
) -> None:
    """Write the rows of the probabilities that a slab determines, a limited number at a time."""
    if buffers.probabilities is not None:
        target = case.inverse.content(buffers.probabilities.array, band)
        for chunk in row_chunks(rows, most):
            target[:, chunk] = normalized(case.inverse.interpolate(slab.probabilities, band, chunk), case.member.plan)
            buffers.probabilities.release()
