"""Training patches: each is a pure function of (seed, index), whatever the workers, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.training.augment import Augmentation, Patch
from attunet.training.store import StoredCase

__all__ = ["PatchDataset", "patch_loader"]

_IN_MEMORY_BYTES = 2 * 2**30
_CONTEXT = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
"""Never a plain fork: a copy of a process whose libraries have started threads (BLAS, blosc2, OpenVINO) can hang."""


class PatchDataset(Dataset[Patch]):
    """Augmented patches of stored cases; item `index` is always the same.

    Items: image float32 (C, *patch) and label int64 (*patch), without the last axis for a 2-D network.
    """

    def __init__(self, cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig) -> None:
        self._cases = tuple(cases)
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
        size = self._augmentation.input_size(self._patch, rng)
        image, label = _cut(opened, self._centre(opened, index, rng), size)
        if self._flat:
            image, label = image[..., 0], label[..., 0]
        patch = Patch(torch.from_numpy(image), torch.from_numpy(label.astype(np.int64)))
        return self._augmentation(patch, rng)

    def _open(self, index: int) -> _Opened:
        if index not in self._opened:
            case = self._cases[index]
            image, label = case.image(), case.label()
            whole = _Opened(image[:], label[:], case.points()) if self._whole else None
            self._opened[index] = whole or _Opened(image, label, case.points())
        return self._opened[index]

    def _centre(self, opened: _Opened, index: int, rng: np.random.Generator) -> Array:
        """A voxel of a class drawn at random for the last patches of each batch, any voxel for the others."""
        position = index % self._batch
        labelled = position >= round(self._batch * (1 - self._config.foreground_fraction))
        if labelled and opened.points:
            present = sorted(opened.points)
            points = opened.points[present[int(rng.integers(len(present)))]]
            return np.asarray(points[int(rng.integers(len(points)))])
        starts = [max(1, size - edge + 1) for size, edge in zip(opened.label.shape, self._patch, strict=True)]
        return np.array([int(rng.integers(many)) + edge // 2 for many, edge in zip(starts, self._patch, strict=True)])


def patch_loader(
    cases: Sequence[StoredCase], plan: Plan, config: TrainingConfig, steps_done: Callable[[], int]
) -> DataLoader[Patch]:
    """Batches of one epoch, starting at the step the training has reached."""
    workers = config.workers
    return DataLoader(
        PatchDataset(cases, plan, config),
        batch_size=plan.batch_size,
        sampler=_FromStep(steps_done, plan.batch_size, config.steps_per_epoch),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        multiprocessing_context=_CONTEXT if workers else None,
    )


class _FromStep(Sampler[int]):
    """The indices of the epoch that begins at the current step."""

    def __init__(self, steps_done: Callable[[], int], batch: int, steps: int) -> None:
        self._steps_done, self._batch, self._steps = steps_done, batch, steps

    def __iter__(self) -> Iterator[int]:
        first = self._steps_done() * self._batch
        return iter(range(first, first + len(self)))

    def __len__(self) -> int:
        return self._steps * self._batch


@dataclass(frozen=True)
class _Opened:
    image: Array
    label: Array
    points: dict[int, Array]


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


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
