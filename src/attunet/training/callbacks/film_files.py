"""The epoch film on disk: a small 4-D NIfTI per probe case and gate, and what its frames are.

film/  film.json  CASE_image.nii.gz  CASE_label.nii.gz  CASE_GATE.nii.gz (I, J, K, frames)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.formats import write_volume
from attunet.data.preprocess import IGNORED
from attunet.data.resample import resize, resize_labels
from attunet.data.volume import Affine, Array, Volume
from attunet.files import staged, write_text
from attunet.training.store import StoredCase

__all__ = ["Frame", "small_shape", "write_film"]

Triple = tuple[int, int, int]
Bytes = npt.NDArray[np.uint8]

_LONGEST = 64
_LONGEST_FLAT = 256


@dataclass(frozen=True)
class Frame:
    """What the gates looked like when a validation ended.

    epoch, step: of the training; minutes: trained so far; maps: by case and gate, uint8 (I, J, K), 255 for 1.0.
    """

    epoch: int
    step: int
    minutes: float
    maps: Mapping[tuple[str, str], Bytes]

    @property
    def shapes(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """The grid of each map; frames of one film agree in them."""
        return {key: alpha.shape for key, alpha in self.maps.items()}


def small_shape(shape: Sequence[int]) -> Triple:
    """The grid (I, J, K) on which a case of that model grid is kept: at most 64 voxels long, a picture 256."""
    i, j, k = shape
    longest = _LONGEST if k > 1 else _LONGEST_FLAT
    return min(i, longest), min(j, longest), min(k, longest)


def write_film(folder: Path, probes: Sequence[StoredCase], frames: Sequence[Frame], plan: Plan) -> None:
    """Write the film of these frames, in their order, over an earlier one; each file appears whole, film.json last.

    Values are coefficients in [0, 1] in steps of 1/255. Everything lies where the case does, on one grid: the image in
    the units of CT where the plan knows how to go back to them, else as the network gets it; the label in the values of
    its file.
    Raises: FormatError when the folder cannot be written to.
    """
    entries = []
    for probe in probes:
        gates = sorted(gate for case, gate in frames[-1].maps if case == probe.id)
        affine = _small_affine(probe)
        image, label = (f"{probe.id}_{kind}.nii.gz" for kind in ("image", "label"))
        if len(frames) == 1 or not (folder / label).exists():
            _write_still(probe, plan, folder / image, folder / label, affine)
        for gate in gates:
            stack = np.stack([frame.maps[probe.id, gate] for frame in frames], axis=-1)
            _write_maps(stack, affine, folder / f"{probe.id}_{gate}.nii.gz")
        entries.append({"case": probe.id, "gates": gates, "image": image, "label": label})
    moments = [{"epoch": frame.epoch, "step": frame.step, "minutes": frame.minutes} for frame in frames]
    write_text(folder / "film.json", json.dumps({"frames": moments, "probes": entries}, indent=2) + "\n")


def _small_affine(probe: StoredCase) -> Affine:
    """The affine of a case's small grid, which covers the same box as the model grid."""
    shape = probe.label().shape
    scale = np.divide(shape, small_shape(shape))
    resampling = np.diag([*scale, 1.0])
    # Half-voxel centres: the grids share their outer faces, not their first voxel centres.
    resampling[:3, 3] = scale / 2 - 0.5
    return np.asarray(probe.affine() @ resampling)


def _write_still(probe: StoredCase, plan: Plan, image: Path, label: Path, affine: Affine) -> None:
    array, classes = probe.image()[:], probe.label()[:]
    small = small_shape(classes.shape)
    shown = resize(array, small, antialias=True).copy()
    for channel, how in zip(shown, plan.preprocessing.normalization, strict=True):
        if how.kind == "ct":
            channel[:] = channel * np.float32(how.std) + np.float32(how.mean)
    write_volume(Volume(shown, affine), image)
    write_volume(Volume(_file_values(resize_labels(classes, small), plan)[None], affine), label)


def _file_values(classes: Array, plan: Plan) -> Array:
    """Stored classes as the values that the label's file had."""
    table = np.zeros(IGNORED + 1, np.int32)
    table[: len(plan.file_values)] = plan.file_values
    table[IGNORED] = plan.file_values[0] if plan.ignore_label is None else plan.ignore_label
    return np.asarray(table[classes])


def _write_maps(stack: Bytes, affine: Affine, path: Path) -> None:
    image = nibabel.Nifti1Image(stack, affine)
    image.header.set_slope_inter(1 / 255, 0)
    image.header.set_xyzt_units("mm")
    with staged(path) as stage:
        image.to_filename(stage)
