"""Predictions that stay on the model grid: for faithfulness curves, and for the samples of a cross-validation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from attunet.data.preprocess import Prepared, begin_preparation
from attunet.data.restore import Planes
from attunet.data.volume import Array, Volume
from attunet.inference.budget import Footprint, fit_to_memory
from attunet.inference.buffers import OutputBuffers
from attunet.inference.case import tile_cases, write_mask
from attunet.inference.coarse_pass import CoarsePass, coarse_passes
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions

__all__ = ["ModelGridOutput", "find_context", "predict_prepared"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ModelGridOutput:
    """The result of one member for a prepared image.

    Args:
        mask: label values (I, J, K) on the original grid.
        probabilities: (outputs, I, J, K) on the model grid.
        attention: by gate (maps, I, J, K) on the model grid, empty unless requested.
    """

    mask: Array
    probabilities: Floats
    attention: dict[str, Floats]


def find_context(member: Member, volume: Volume) -> CoarsePass:
    """What the localizers of a member find in an image, as context for all of its windows.

    Args:
        member: the networks.
        volume: the image.
    Returns: the context; none for a model of one stage.
    Raises: ConfigError when the member lacks its localizers.
    """
    (found,) = coarse_passes([member], [begin_preparation(volume, member.plan.preprocessing)], all_windows=True)
    return found


def predict_prepared(
    member: Member, prepared: Prepared, options: PredictOptions, context: CoarsePass | None = None
) -> ModelGridOutput:
    """Segment a preprocessed image with all windows; probabilities and attention stay on the small model grid.

    Args:
        member: the networks.
        prepared: their input, and the preprocessing record.
        options: step size, mirroring and attention; limits do not apply.
        context: of a cascade, as from `find_context`; None for a model of one stage.
    Returns: the mask, probabilities and attention.
    """
    (case,) = tile_cases([member], [prepared], [context or CoarsePass()], replace(options, all_windows=True))
    chunking, _ = fit_to_memory(Footprint(cases=[case], options=options), None, 0)
    record, plan = prepared.record, member.plan
    buffers = OutputBuffers(record, plan, probabilities=False, folder=None)
    grid: dict[str, Floats] = {}

    def collect(name: str, planes: Planes) -> None:
        if name not in grid:
            grid[name] = np.empty((len(planes.array), *record.model_shape), np.float32)
        transposed = grid[name].transpose(0, *(axis + 1 for axis in case.tiling.axes))
        transposed[:, planes.first : planes.stop] = planes.array

    for band in case.bands(chunking):
        for slab, rows in case.slabs(band, options, chunking, lambda _: None):
            write_mask(case, slab, band, rows, buffers)
            collect("", slab.probabilities)
            for gate, planes in slab.attention.items():
                collect(gate, planes)
    probabilities = grid.pop("")
    return ModelGridOutput(mask=buffers.mask[0], probabilities=probabilities, attention=dict(sorted(grid.items())))
