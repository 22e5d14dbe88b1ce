"""Batches of patches in the order of the training's steps, divided among its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_all_start_methods

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Sampler

from attunet.config import Plan, TrainingConfig
from attunet.errors import ConfigError
from attunet.training.patches.augment import Patch
from attunet.training.patches.dataset import PatchDataset
from attunet.training.store import StoredCase

__all__ = ["PatchOrder", "patch_loader", "require_shares"]

_CONTEXT = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
"""Never a plain fork: a copy of a process whose libraries have started threads (BLAS, blosc2, OpenVINO) can hang."""


def patch_loader(
    cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig, trainer: Callable[[], pl.Trainer]
) -> DataLoader[Patch]:
    """Batches of one epoch, or the parts of each, from the step the training has reached; this process's share.

    Raises: ConfigError when a batch cannot be shared evenly by the processes.
    """
    require_shares(plan, config)
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


def require_shares(plan: Plan, config: TrainingConfig) -> None:
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
