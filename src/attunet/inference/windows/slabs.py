"""A member's answer slab by slab: what of its model grid is finished, averaged over its folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.data.restoration.route import Planes
from attunet.data.slabs import cores, each_slab
from attunet.inference.member import Member
from attunet.inference.outputs import activate
from attunet.inference.windows.running import Windows
from attunet.inference.windows.sliding_window import FILLED_BATCHES, Finished, sweep
from attunet.inference.windows.tiling import Tiling

__all__ = ["PROBABILITIES", "Course", "Slab", "slabs_of"]

Floats = npt.NDArray[np.float32]

PROBABILITIES = "logits"
"""What the engines call their main output; in a slab it has become probabilities."""


@dataclass(frozen=True)
class Course:
    """In what portions a case is gone through, which changes time and memory, never the result.

    Args: bands that it is cut into across the order of the windows, each with all windows that touch it; planes that
        are decided at once, None for all that are finished; batches of windows to fill between two slabs, at least;
        rows of the original grid of which all classes are held at once.
    """

    bands: int = 1
    planes: int | None = None
    fill: int = FILLED_BATCHES
    rows: int = 8


@dataclass(frozen=True)
class Slab:
    """Finished planes of a member. The last of a slab is the first of the next, so that rows between them can be made.

    Args: by name, probabilities and attention of gates as (C, planes, band, columns), valid until the next slab is
        asked for; how many of the planes were in the slab before.
    """

    outputs: dict[str, Planes]
    known: int

    @property
    def probabilities(self) -> Planes:
        """Those of all outputs of the plan."""
        return self.outputs[PROBABILITIES]

    @property
    def attention(self) -> dict[str, Planes]:
        """By gate."""
        return {name: planes for name, planes in self.outputs.items() if name != PROBABILITIES}

    @property
    def fresh(self) -> Floats:
        """The probabilities of the planes that were in no slab before."""
        return self.probabilities.array[:, self.known :]


def slabs_of(
    member: Member, image: Floats, tiling: Tiling, band: slice, blending: Windows, course: Course
) -> Iterator[Slab]:
    """Go through a prepared image (C, I, J, K), or a band of it along the tiling's second axis, in the tiling's order.

    Args: the member; the image; the windows; the band on the model grid; how windows are run; in what portions.
    """
    buffers: dict[str, Floats] = {}
    held = 0
    for finished in sweep(image, member.engines, tiling, blending, band=band, planes=course.planes, fill=course.fill):
        known, count = min(held, 1), finished.planes
        across = band.stop - band.start, tiling.shape[tiling.axes[2]]
        channels = {PROBABILITIES: len(member.plan.outputs)}
        channels |= {name: len(array) for name, array in finished.outputs[0].items()}
        for name, size in channels.items():
            _make_room(buffers, name, (size, count + 1, *across), held)
        held, first = known + count, finished.first - known
        _fill(buffers, slice(known, held), member, finished)
        yield Slab({name: Planes(first, buffer[:, :held]) for name, buffer in buffers.items()}, known)


def _make_room(buffers: dict[str, Floats], name: str, shape: tuple[int, ...], held: int) -> None:
    """See that there is room for an output of that shape, its first plane the last of those held."""
    old = buffers.get(name)
    if old is None:
        buffers[name] = np.zeros(shape, np.float32)
        return
    if old.shape[1] < shape[1]:
        buffers[name] = np.empty(shape, np.float32)
    buffers[name][:, 0] = old[:, held - 1]


def _fill(buffers: dict[str, Floats], where: slice, member: Member, finished: Finished) -> None:
    """Write the mean over the engines, plane by plane on every core; background where there was no window."""
    engines = len(finished.outputs)

    def work(planes: slice) -> None:
        for name in finished.outputs[0]:
            ones = (outputs[name][:, planes] for outputs in finished.outputs)
            if name == PROBABILITIES:
                ones = (activate(one, member.plan, member.temperature) for one in ones)
            target = buffers[name][:, where][:, planes]
            target[:] = next(ones)
            for one in ones:
                target += one
            target /= engines
        if finished.covered is not None:
            uncovered = ~finished.covered[planes]
            likely = buffers[PROBABILITIES][:, where][:, planes]
            likely[:, uncovered] = 0
            if not member.plan.regions:
                likely[0][uncovered] = 1

    count = where.stop - where.start
    each_slab(work, count, -(-count // cores()))
