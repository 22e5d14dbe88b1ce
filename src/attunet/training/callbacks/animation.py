"""The epoch film: where the gates look in a few cases that stay the same, as the training goes on.

The epoch film on disk: a small 4-D NIfTI per probe case and gate, and what its frames are.

film/  film.json  CASE_image.nii.gz  CASE_label.nii.gz  CASE_GATE.nii.gz (I, J, K, frames)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import nibabel
import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.formats import write_volume
from attunet.data.preprocess import IGNORED
from attunet.data.resample import resize, resize_labels
from attunet.data.volume import Affine, Array, Volume
from attunet.files import staged, write_text
from attunet.gates import attention_map_names
from attunet.training.callbacks.schedule import Schedule
from attunet.training.run_folder import FoldPaths
from attunet.training.store import StoredCase

__all__ = ["EpochFilm", "Frame", "Shot", "small_shape", "write_film"]

_MOST_FRAMES = 16
_MOMENT = ("epoch", "step", "minutes")


class Shot(NamedTuple):
    """One map of a probe case at one moment: uint8 (I, J, K) on its small grid, 255 for a coefficient of 1."""

    case: str
    gate: str
    alpha: npt.NDArray[np.uint8]


class EpochFilm(pl.Callback):
    """Keeps the attention of the first and the middle case, of up to 16 validations spread over the training.

    Each validation is a frame, until there would be too many: then every second frame goes, and from there on every
    second validation is one, and so on; the last validation of a training always is. Which are kept depends on their
    number alone, so that a resumed training has the film of an uninterrupted one. Frames lie beside the checkpoint, one
    file each; `paths.film` is made of them. Of a network without gates nothing is kept.
    Source: Oktay et al. 2018, figure 4.
    """

    def __init__(self, cases: Sequence[StoredCase], plan: Plan, schedule: Schedule, paths: FoldPaths) -> None:
        chosen = dict.fromkeys((0, len(cases) // 2)) if cases and plan.network.gate_widths else ()
        self.probes = tuple(cases[index] for index in chosen)
        self._plan = plan
        self._schedule = schedule
        self._paths = paths
        self._validations = 0
        self._shots: list[Shot] = []
        self._frames: dict[int, Frame] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the frames that are later than what was restored."""
        if not trainer.is_global_zero:
            return
        found = {int(file.stem): file for file in sorted(self._paths.frames.glob("*.npz"))}
        late = [index for index in found if index >= self._validations]
        self._frames = {index: _read(file) for index, file in found.items() if index not in late}
        for index in late:
            found[index].unlink()
        if not self._frames:
            shutil.rmtree(self._paths.film, ignore_errors=True)
        elif late:
            self._write()

    def take(self, case: StoredCase, attention: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Remember a probe's attention (maps, I, J, K) by gate, on the model grid, for the validation going on."""
        for gate, maps in attention.items():
            small = resize(maps, small_shape(maps.shape[1:]), antialias=True)
            bytes_of = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
            self._shots += [
                Shot(case.id, *named) for named in zip(attention_map_names(gate, len(maps)), bytes_of, strict=True)
            ]

    def shots(self) -> list[Shot]:
        """What this process took since it was last asked."""
        taken, self._shots = self._shots, []
        return taken

    def record(self, trainer: pl.Trainer, shots: Sequence[Shot]) -> None:
        """End a validation, of which all processes took these: make a frame of them if it is to be one.

        Raises: FormatError when it cannot be written.
        """
        index = self._validations
        self._validations += 1
        beat = _beat(index)
        if not self.probes or not trainer.is_global_zero or (index % beat and not trainer.should_stop):
            return
        maps = {(case, gate): alpha for case, gate, alpha in shots}
        frame = Frame(trainer.current_epoch, trainer.global_step, round(self._schedule.elapsed / 60, 3), maps)
        _save(frame, self._file(index))
        dropped = [i for i, earlier in self._frames.items() if i % beat or earlier.shapes != frame.shapes]
        self._frames = {**{i: kept for i, kept in self._frames.items() if i not in dropped}, index: frame}
        self._write()
        for earlier in dropped:
            self._file(earlier).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._validations = int(state_dict["validations"])

    def _write(self) -> None:
        write_film(self._paths.film, self.probes, list(self._frames.values()), self._plan)

    def _file(self, index: int) -> Path:
        return self._paths.frames / f"{index:06}.npz"


def _beat(index: int) -> int:
    """From one recorded validation to the next, at this one: the least power of two that keeps a place for the last."""
    beat = 1
    while index // beat >= _MOST_FRAMES - 1:
        beat *= 2
    return beat


def _save(frame: Frame, file: Path) -> None:
    maps = {"/".join(key): alpha for key, alpha in frame.maps.items()}
    moment = {name: np.array(getattr(frame, name)) for name in _MOMENT}
    with staged(file) as stage:
        np.savez_compressed(stage, allow_pickle=False, **moment, **maps)


def _read(file: Path) -> Frame:
    with np.load(file) as archive:
        maps = {tuple(name.rsplit("/", 1)): archive[name] for name in archive.files if name not in _MOMENT}
        epoch, step, minutes = (archive[name].item() for name in _MOMENT)
    return Frame(epoch, step, minutes, maps)


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
