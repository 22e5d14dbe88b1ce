"""Training patches: each is a pure function of (seed, index), whatever the workers, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.training.losses.targets import known_classes, known_outputs
from attunet.training.patches.augment import Augmentation, Patch
from attunet.training.store import StoredCase

__all__ = ["PatchDataset"]

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
