"""The epoch film: where the gates look in a few cases that stay the same, as the training goes on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.resample import resize
from attunet.files import staged
from attunet.gates import attention_map_names
from attunet.training.callbacks.film_files import Frame, small_shape, write_film
from attunet.training.callbacks.schedule import Schedule
from attunet.training.paths import FoldPaths
from attunet.training.store import StoredCase

__all__ = ["EpochFilm", "Shot"]

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
