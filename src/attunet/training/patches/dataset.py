"""Training patches: each is a pure function of (seed, index), whatever the workers, so that a run can be resumed.

Batches come in the order of the training's steps, divided among its processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.errors import ConfigError
from attunet.training.losses.targets import known_classes, known_outputs
from attunet.training.patches.augmentation import Augmentation, Patch
from attunet.training.store import StoredCase

__all__ = ["PatchDataset", "PatchOrder", "patch_loader", "require_divisible_batch"]

_IN_MEMORY_BYTES = 2 * 2**30


class PatchDataset(Dataset[Patch]):
    """Augmented patches of stored cases; item `index` is always the same.

    Items: see `Patch`; without the last axis for a 2-D network.
    """

    def __init__(self, cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig) -> None:
        self._cases = tuple(cases)
        self._plan = plan
        self._patch = plan.patch_size
        self._flat = plan.network.spatial_dims == 2
        self._batch = plan.batch_size
        self._config = config
        self._augmentation = Augmentation(plan, config)
        voxels = sum(int(np.prod(case.image().shape)) for case in self._cases)
        self._whole = voxels * 4 < _IN_MEMORY_BYTES
        self._opened: dict[int, _Opened] = {}

    def __getitem__(self, index: int) -> Patch:
        rng = np.random.default_rng([self._config.seed, index])
        opened = self._open(int(rng.integers(len(self._cases))))
        motion = self._augmentation.draw_motion(rng)
        image, label = _cut(opened, self._centre(opened, index, rng), self._augmentation.box(motion))
        if self._flat:
            image, label = image[..., 0], label[..., 0]
        patch = Patch(torch.from_numpy(image), torch.from_numpy(label), torch.tensor(opened.known))
        return self._augmentation(patch, motion, rng)

    def _open(self, index: int) -> _Opened:
        if index not in self._opened:
            self._opened[index] = self._opening(self._cases[index])
        return self._opened[index]

    def _opening(self, case: StoredCase) -> _Opened:
        image, label = case.image(), case.label()
        if self._whole:
            image, label = image[:], label[:]
        told = known_classes(self._plan, case.annotated)
        points = [voxels for index, voxels in sorted(case.points().items()) if index in told]
        return _Opened(image, label, points, known_outputs(self._plan, case.annotated))

    def _centre(self, opened: _Opened, index: int, rng: np.random.Generator) -> Array:
        """A voxel of a known class drawn at random for the last patches of each batch, any voxel for the others."""
        position = index % self._batch
        labelled = position >= round(self._batch * (1 - self._config.foreground_fraction))
        if labelled and opened.points:
            points = opened.points[int(rng.integers(len(opened.points)))]
            return np.asarray(points[int(rng.integers(len(points)))])
        starts = [max(1, size - edge + 1) for size, edge in zip(opened.label.shape, self._patch, strict=True)]
        return np.array([int(rng.integers(many)) + edge // 2 for many, edge in zip(starts, self._patch, strict=True)])


@dataclass(frozen=True)
class _Opened:
    """A case being read: image, label, voxels (n, 3) of each class that is present and known, known outputs."""

    image: Array
    label: Array
    points: list[Array]
    known: tuple[bool, ...]


def _cut(opened: _Opened, centre: Array, size: tuple[int, int, int]) -> tuple[Array, Array]:
    """The box around a voxel, inside the volume where it fits; else padded by the edge, the label by IGNORED."""
    starts, pads = [], []
    for position, edge, extent in zip(centre, size, opened.label.shape, strict=True):
        if extent >= edge:
            starts.append(int(np.clip(position - edge // 2, 0, extent - edge)))
            pads.append((0, 0))
        else:
            starts.append(0)
            before = (edge - extent) // 2
            pads.append((before, edge - extent - before))
    box = tuple(slice(start, start + edge) for start, edge in zip(starts, size, strict=True))
    # Copies: a box may be a view of the volume in memory, and some of MONAI's transforms write to what they are given.
    image, label = np.array(opened.image[:, *box]), np.array(opened.label[box])
    if any(sum(pad) for pad in pads):
        image = np.pad(image, [(0, 0), *pads], mode="edge")
        label = np.pad(label, pads, constant_values=IGNORED)
    return image, label


_CONTEXT = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
"""Never a plain fork: a copy of a process whose libraries have started threads (BLAS, blosc2, OpenVINO) can hang."""


def patch_loader(
    cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig, trainer: Callable[[], pl.Trainer]
) -> DataLoader[Patch]:
    """Batches of one epoch, or the parts of each, from the step the training has reached; this process's share.

    Raises: ConfigError when a batch cannot be shared evenly by the processes.
    """
    require_divisible_batch(plan, config)
    workers = config.workers
    return DataLoader(
        PatchDataset(cases, plan, config),
        batch_size=plan.at_once // (config.devices * config.nodes),
        sampler=PatchOrder(trainer, plan.batch_size, config.steps_per_epoch),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        multiprocessing_context=_CONTEXT if workers else None,
    )


def require_divisible_batch(plan: Plan, config: TrainingConfig) -> None:
    """Raises: ConfigError when a batch cannot be shared evenly by the processes."""
    processes = config.devices * config.nodes
    if plan.at_once % processes:
        parts = f" in {plan.accumulation} parts" if plan.accumulation > 1 else ""
        raise ConfigError(
            f"a batch of {plan.batch_size} patches{parts} cannot be shared by {processes} processes",
            hint="choose a number of devices that divides it, or raise batch_size"
            + (" or lower accumulation" if parts else "")
            + " in the plan (attunet plan -o FILE)",
        )


class PatchOrder(Sampler[int]):
    """The indices of the epoch that begins at the current step; of several processes, each takes every n-th."""

    def __init__(self, trainer: Callable[[], pl.Trainer], batch: int, steps: int) -> None:
        self._trainer, self._batch, self._steps = trainer, batch, steps

    def __iter__(self) -> Iterator[int]:
        trainer = self._trainer()
        first = trainer.global_step * self._batch
        return iter(range(first + trainer.global_rank, first + self._steps * self._batch, trainer.world_size))

    def __len__(self) -> int:
        return self._steps * self._batch // self._trainer().world_size


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
