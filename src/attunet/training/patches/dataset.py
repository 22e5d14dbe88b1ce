"""Training patches: each is a pure function of (seed, index), independent of the workers, so that a run can be resumed.

Batches come in the order of the training steps, divided among the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_all_start_methods

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attunet.config import Plan, TrainingConfig
from attunet.data.coarse_map import CoarseMap
from attunet.data.patches import cut_patch, patch_start
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.errors import ConfigError
from attunet.training.losses.targets import annotated_classes, annotated_outputs
from attunet.training.patches.augmentation import Augmentation, Patch
from attunet.training.patches.context import ContextChanges, read_context
from attunet.training.processes import can_start_processes
from attunet.training.store import StoredCase

__all__ = ["PatchDataset", "PatchOrder", "patch_loader", "require_divisible_batch"]

_IN_MEMORY_BYTES = 2 * 2**30


class PatchDataset(Dataset[Patch]):
    """Augmented patches of stored cases; item `index` is always the same.

    Items are `Patch`es, without the last axis for a 2-D network.

    Args:
        cases: the cases to take patches from.
        plan: the plan.
        config: the recipe.
        in_memory_bytes: cases are read into memory if their images need less than this in total.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        plan: Plan,
        config: TrainingConfig,
        *,
        in_memory_bytes: int = _IN_MEMORY_BYTES,
    ) -> None:
        self._cases = tuple(cases)
        self._plan = plan
        self._patch = plan.patch_size
        self._flat = plan.network.spatial_dims == 2
        self._batch = plan.batch_size
        self._config = config
        self._augmentation = Augmentation(plan, config)
        self._context = ContextChanges(plan, config)
        voxels = sum(int(np.prod(case.image().shape)) for case in self._cases)
        self._whole = voxels * 4 < in_memory_bytes
        self._opened: dict[int, _OpenCase] = {}

    def __getitem__(self, index: int) -> Patch:
        rng = np.random.default_rng([self._config.seed, index])
        case = self._open(int(rng.integers(len(self._cases))))
        motion = self._augmentation.draw_motion(rng)
        centre, size = self._centre(case, index, rng), self._augmentation.box(motion)
        # Copies: a patch could be a view of the volume in memory, and some of MONAI's transforms write to their input.
        image, label = cut_patch(case.image, centre, size), cut_patch(case.label, centre, size, fill=IGNORED)
        if self._plan.context:
            start = patch_start(case.label.shape, centre, size)
            image = np.concatenate([image, self._context(case.context(), start, size, rng)])
        if self._flat:
            image, label = image[..., 0], label[..., 0]
        patch = Patch(torch.from_numpy(image), torch.from_numpy(label), torch.tensor(case.annotated))
        return self._augmentation(patch, motion, rng)

    def _open(self, index: int) -> _OpenCase:
        if index not in self._opened:
            self._opened[index] = self._read(self._cases[index])
        return self._opened[index]

    def _read(self, case: StoredCase) -> _OpenCase:
        image, label = case.image(), case.label()
        if self._whole:
            image, label = image[:], label[:]
        classes = annotated_classes(self._plan, case.annotated)
        points = [voxels for index, voxels in sorted(case.points().items()) if index in classes]
        annotated = annotated_outputs(self._plan, case.annotated)
        return _OpenCase(image=image, label=label, points=points, annotated=annotated, context=self._context_of(case))

    def _context_of(self, case: StoredCase) -> Callable[[], CoarseMap]:
        """Reads the context of a case; at once if all cases are kept in memory."""
        if not self._plan.context or not self._whole:
            return partial(read_context, case)
        kept = read_context(case)
        return lambda: kept

    def _centre(self, case: _OpenCase, index: int, rng: np.random.Generator) -> Array:
        """A voxel of a random annotated class for the last patches of each batch, any voxel for the others."""
        position = index % self._batch
        labelled = position >= round(self._batch * (1 - self._config.foreground_fraction))
        if labelled and case.points:
            points = case.points[int(rng.integers(len(case.points)))]
            return np.asarray(points[int(rng.integers(len(points)))])
        starts = [max(1, size - edge + 1) for size, edge in zip(case.label.shape, self._patch, strict=True)]
        return np.array([int(rng.integers(many)) + edge // 2 for many, edge in zip(starts, self._patch, strict=True)])


@dataclass(frozen=True, kw_only=True)
class _OpenCase:
    """An open case: image, label, voxels (n, 3) of each class present and annotated, annotated outputs, its context."""

    image: Array
    label: Array
    points: list[Array]
    annotated: tuple[bool, ...]
    context: Callable[[], CoarseMap]


_CONTEXT = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
"""Never fork: a forked process whose libraries have started threads (BLAS, blosc2, OpenVINO) can hang."""


def patch_loader(
    cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig, trainer: Callable[[], pl.Trainer]
) -> DataLoader[Patch]:
    """This process's share of the batches of an epoch (or of their parts), from the current training step.

    Args:
        cases: the cases to take patches from.
        plan: the plan.
        config: the recipe.
        trainer: the trainer, for the step and the process.
    Returns: a torch DataLoader.
    Raises: ConfigError when the processes cannot share a batch evenly.
    """
    require_divisible_batch(plan, config)
    workers = config.workers if can_start_processes() else 0  # the patches are the same
    return DataLoader(
        PatchDataset(cases, plan, config),
        batch_size=plan.micro_batch_size // (config.devices * config.nodes),
        sampler=PatchOrder(trainer, plan.batch_size, config.steps_per_epoch),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        multiprocessing_context=_CONTEXT if workers else None,
    )


def require_divisible_batch(plan: Plan, config: TrainingConfig) -> None:
    """Raises: ConfigError when the processes cannot share a batch evenly."""
    processes = config.devices * config.nodes
    if plan.micro_batch_size % processes:
        parts = f" in {plan.accumulation} parts" if plan.accumulation > 1 else ""
        raise ConfigError(
            f"a batch of {plan.batch_size} patches{parts} cannot be shared by {processes} processes",
            hint="choose a number of devices that divides it, or raise batch_size"
            + (" or lower accumulation" if parts else "")
            + " in the plan (attunet plan -o FILE)",
        )


class PatchOrder(Sampler[int]):
    """The indices of the epoch that starts at the current step; each of n processes takes every n-th.

    Args:
        trainer: the trainer, for the step and the process.
        batch: patches per step.
        steps: steps per epoch.
    """

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
