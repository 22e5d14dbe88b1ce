"""Attention frames: where the gates look in a few fixed cases, recorded at up to 16 validations during training.

On disk, a small 4-D NIfTI file per probe case and gate, and an index of the frames:
attention_frames/  frames.json  CASE_image.nii.gz  CASE_label.nii.gz  CASE_GATE.nii.gz (I, J, K, frames)
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

__all__ = ["AttentionFrame", "AttentionMap", "AttentionRecorder", "thumbnail_shape", "write_attention_frames"]

_MAX_FRAMES = 16
_INDEX = "frames.json"
_OLD_FOLDER, _OLD_INDEX = "film", "film.json"
"""File names of earlier versions."""
_TIME_KEYS = ("epoch", "step", "minutes")


class AttentionMap(NamedTuple):
    """One map of a probe case.

    Args:
        case: its id.
        gate: name of the map.
        alpha: uint8 (I, J, K) on the thumbnail grid, 255 for a coefficient of 1.
    """

    case: str
    gate: str
    alpha: npt.NDArray[np.uint8]


class AttentionRecorder(pl.Callback):
    """Records the attention of the first and the middle case at up to 16 validations spread over training.

    Every validation becomes a frame until there are too many; then every second frame is dropped and only every second
    validation is recorded, and so on. The last validation is always recorded. The remaining frames depend only on the
    number of validations, so a resumed run has the frames of an uninterrupted one. Frames are files next to the
    checkpoint, from which `paths.attention_frames` is written. A network without gates has none.
    Source: Oktay et al. 2018, figure 4.

    Args:
        cases: the validation cases used during training; none to record nothing.
        plan: the plan to train.
        schedule: the schedule of the training, for its clock.
        paths: the files of the fold.
    """

    def __init__(self, cases: Sequence[StoredCase], plan: Plan, schedule: Schedule, paths: FoldPaths) -> None:
        chosen = dict.fromkeys((0, len(cases) // 2)) if cases and plan.network.gate_widths else ()
        self.probes = tuple(cases[index] for index in chosen)
        self._plan = plan
        self._schedule = schedule
        self._paths = paths
        self._validations = 0
        self._maps: list[AttentionMap] = []
        self._frames: dict[int, AttentionFrame] = {}

    @property
    def state_key(self) -> str:
        """The name in checkpoints, the same as in earlier versions."""
        return "EpochFilm"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop frames later than the restored checkpoint, and all of them when none are recorded any more."""
        if not trainer.is_global_zero:
            return
        if not self.probes:
            for folder in (self._paths.recorded_frames, self._paths.attention_frames):
                shutil.rmtree(folder, ignore_errors=True)
            return
        _rename_old(self._paths)
        files = {int(file.stem): file for file in sorted(self._paths.recorded_frames.glob("*.npz"))}
        late = [index for index in files if index >= self._validations]
        self._frames = {index: _read(file) for index, file in files.items() if index not in late}
        for index in late:
            files[index].unlink()
        if not self._frames:
            shutil.rmtree(self._paths.attention_frames, ignore_errors=True)
        elif late:
            self._write()

    def add(self, case: StoredCase, attention: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Add a probe's attention (maps, I, J, K) by gate, on the model grid, to the current validation."""
        for gate, maps in attention.items():
            thumbnails = resize(maps, thumbnail_shape(maps.shape[1:]), antialias=True)
            coded = np.rint(np.clip(thumbnails, 0, 1) * 255).astype(np.uint8)
            names = attention_map_names(gate, len(maps))
            self._maps += [AttentionMap(case.id, *named) for named in zip(names, coded, strict=True)]

    def take_maps(self) -> list[AttentionMap]:
        """Return the maps that this process has added since the last call."""
        maps, self._maps = self._maps, []
        return maps

    def end_validation(self, trainer: pl.Trainer, maps: Sequence[AttentionMap]) -> None:
        """Make a frame from the validation maps of all processes, if this validation is recorded.

        Raises: FormatError when it cannot be written.
        """
        index = self._validations
        self._validations += 1
        interval = frame_interval(index)
        if not self.probes or not trainer.is_global_zero or (index % interval and not trainer.should_stop):
            return
        minutes = round(self._schedule.elapsed / 60, 3)
        by_name = {(case, gate): alpha for case, gate, alpha in maps}
        frame = AttentionFrame(epoch=trainer.current_epoch, step=trainer.global_step, minutes=minutes, maps=by_name)
        _save(frame, self._file(index))
        dropped = [i for i, earlier in self._frames.items() if i % interval or earlier.shapes != frame.shapes]
        self._frames = {**{i: earlier for i, earlier in self._frames.items() if i not in dropped}, index: frame}
        self._write()
        for earlier in dropped:
            self._file(earlier).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that state."""
        self._validations = int(state_dict["validations"])

    def _write(self) -> None:
        write_attention_frames(self._paths.attention_frames, self.probes, list(self._frames.values()), self._plan)

    def _file(self, index: int) -> Path:
        return self._paths.recorded_frames / f"{index:06}.npz"


def frame_interval(index: int) -> int:
    """The current number of validations between frames: the smallest power of two with space for the last one."""
    interval = 1
    while index // interval >= _MAX_FRAMES - 1:
        interval *= 2
    return interval


def _rename_old(paths: FoldPaths) -> None:
    """Rename frames that were recorded by an earlier version."""
    for folder in (paths.recorded_frames, paths.attention_frames):
        if (old := folder.with_name(_OLD_FOLDER)).is_dir() and not folder.exists():
            old.rename(folder)
    if (index := paths.attention_frames / _OLD_INDEX).exists():
        index.rename(paths.attention_frames / _INDEX)


def _save(frame: AttentionFrame, file: Path) -> None:
    maps = {"/".join(key): alpha for key, alpha in frame.maps.items()}
    times = {name: np.array(getattr(frame, name)) for name in _TIME_KEYS}
    with staged(file) as stage:
        np.savez_compressed(stage, allow_pickle=False, **times, **maps)


def _read(file: Path) -> AttentionFrame:
    with np.load(file, allow_pickle=False) as archive:
        maps = {tuple(name.rsplit("/", 1)): archive[name] for name in archive.files if name not in _TIME_KEYS}
        epoch, step, minutes = (archive[name].item() for name in _TIME_KEYS)
    return AttentionFrame(epoch=epoch, step=step, minutes=minutes, maps=maps)


Triple = tuple[int, int, int]
Bytes = npt.NDArray[np.uint8]

_MAX_LENGTH = 64
_MAX_PICTURE_LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class AttentionFrame:
    """The attention of the probe cases at one validation.

    Args:
        epoch: epoch of the validation.
        step: training step of the validation.
        minutes: training time so far.
        maps: by case and gate, uint8 (I, J, K), 255 for 1.0.
    """

    epoch: int
    step: int
    minutes: float
    maps: Mapping[tuple[str, str], Bytes]

    @property
    def shapes(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """The grid of each map, the same in all frames."""
        return {key: alpha.shape for key, alpha in self.maps.items()}


def thumbnail_shape(shape: Sequence[int]) -> Triple:
    """The thumbnail grid (I, J, K) for a model grid: at most 64 voxels per axis, 256 for a picture."""
    i, j, k = shape
    longest = _MAX_LENGTH if k > 1 else _MAX_PICTURE_LENGTH
    return min(i, longest), min(j, longest), min(k, longest)


def write_attention_frames(
    folder: Path, probes: Sequence[StoredCase], frames: Sequence[AttentionFrame], plan: Plan
) -> None:
    """Write frames, replacing those of an earlier call; files are written atomically, frames.json last.

    Values are coefficients in [0, 1] in steps of 1/255. All files of a case share one grid in the patient's space. The
    image is in Hounsfield units if the plan's normalization can be inverted, else normalized; the label has the values
    of its file.

    Args:
        folder: folder for the files.
        probes: the cases that were recorded.
        frames: their attention, in order.
        plan: the trained plan.
    Raises: FormatError when the folder cannot be written to.
    """
    entries = []
    for probe in probes:
        gates = sorted(gate for case, gate in frames[-1].maps if case == probe.id)
        affine = _thumbnail_affine(probe)
        image, label = (f"{probe.id}_{kind}.nii.gz" for kind in ("image", "label"))
        if len(frames) == 1 or not (folder / label).exists():
            _write_image_and_label(probe, plan, folder / image, folder / label, affine)
        for gate in gates:
            stack = np.stack([frame.maps[probe.id, gate] for frame in frames], axis=-1)
            _write_maps(stack, affine, folder / f"{probe.id}_{gate}.nii.gz")
        entries.append({"case": probe.id, "gates": gates, "image": image, "label": label})
    times = [{"epoch": frame.epoch, "step": frame.step, "minutes": frame.minutes} for frame in frames]
    write_text(folder / _INDEX, json.dumps({"frames": times, "probes": entries}, indent=2) + "\n")


def _thumbnail_affine(probe: StoredCase) -> Affine:
    """The affine of a case's thumbnail grid, which covers the same box as the model grid."""
    shape = probe.label().shape
    scale = np.divide(shape, thumbnail_shape(shape))
    resampling = np.diag([*scale, 1.0])
    # Half-voxel centres: the grids share their outer faces, not their first voxel centres.
    resampling[:3, 3] = scale / 2 - 0.5
    return np.asarray(probe.affine() @ resampling)


def _write_image_and_label(probe: StoredCase, plan: Plan, image: Path, label: Path, affine: Affine) -> None:
    array, classes = probe.image()[:], probe.label()[:]
    small = thumbnail_shape(classes.shape)
    shown = resize(array, small, antialias=True).copy()
    for channel, normalization in zip(shown, plan.preprocessing.normalization, strict=True):
        if normalization.kind == "ct":
            channel[:] = channel * np.float32(normalization.std) + np.float32(normalization.mean)
    write_volume(Volume(shown, affine), image)
    write_volume(Volume(_file_values(resize_labels(classes, small), plan)[None], affine), label)


def _file_values(classes: Array, plan: Plan) -> Array:
    """Convert stored classes to the values of the label file."""
    table = np.zeros(max(IGNORED + 1, len(plan.file_classes)), np.int32)
    for index, values in enumerate(plan.file_classes):
        table[index] = values[0] if values else 0
    table[IGNORED] = plan.file_classes[0][0] if plan.ignore_label is None else plan.ignore_label
    return np.asarray(table[classes])


def _write_maps(stack: Bytes, affine: Affine, path: Path) -> None:
    image = nibabel.Nifti1Image(stack, affine)
    image.header.set_slope_inter(1 / 255, 0)
    image.header.set_xyzt_units("mm")
    with staged(path) as stage:
        image.to_filename(stage)
