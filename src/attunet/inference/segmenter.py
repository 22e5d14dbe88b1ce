"""`Segmenter`: a trained model ready to segment files, volumes and arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.bundle import load_bundle
from attunet.config import Plan
from attunet.data.cases import Case, find_cases, read_case
from attunet.data.preprocess import prepare, restore, restore_labels
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError, DataError
from attunet.inference.engines import Engine, make_engine
from attunet.inference.prediction import Prediction
from attunet.inference.sliding_window import Stitched, count_windows, sliding_window

__all__ = ["Segmenter"]

Floats = npt.NDArray[np.float32]
Advance = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """No progress wanted."""


@dataclass(frozen=True)
class Segmenter:
    """A plan and the engines of its folds, whose probabilities are averaged."""

    plan: Plan
    engines: tuple[Engine, ...]

    @classmethod
    def load(cls, model: str | Path, *, folds: Sequence[int] | None = None, device: str = "auto") -> Self:
        """Open a model folder: every finished fold, or those named.

        Raises: BundleError for an unfinished or altered folder, EngineError when the device is not there.
        """
        bundle = load_bundle(Path(model), folds)
        return cls(bundle.plan, tuple(make_engine(fold, bundle.plan, device) for fold in bundle.folds))

    def predict(
        self,
        image: str | Path | Volume | Array | Case,
        *,
        spacing: tuple[float, ...] | None = None,
        step: float = 0.5,
        mirror: bool = True,
        probabilities: bool = False,
        attention: bool = False,
        advance: Advance = _silent,
    ) -> Prediction:
        """Segment one image; the result lies on the image's own grid.

        Args:
            image: a file, a `Case` of several files, a `Volume`, or an array (I, J), (I, J, K) or (C, I, J, K) with its
                spacing in mm.
            step: distance of neighbouring windows as a share of the patch, in (0, 1].
            mirror: average over mirrored copies, along the axes the plan allows.
            probabilities, attention: keep the class probabilities and the gates' coefficients too.
            advance: called with the windows done and the windows in all.
        Raises: DataError and its kind for an image that the model cannot take, ConfigError for a step out of range.
        """
        if not 0 < step <= 1:
            raise ConfigError(f"a step of {step} patches", hint="choose a step size above 0 and at most 1")
        name, volume = self._read(image, spacing)
        self._check(volume, name)
        prepared = prepare(volume, self.plan.preprocessing)
        stitched = self._stitch(prepared.array, step, mirror, attention, advance)
        values = tuple(self.plan.labels.values())
        likely = restore(stitched.logits, prepared.trail) if probabilities else None
        labels = restore_labels(stitched.logits, prepared.trail, values)
        return Prediction(
            case=name,
            image=volume,
            segmentation=volume.with_array(labels[None]),
            labels=self.plan.labels,
            probabilities=None if likely is None else volume.with_array(_outside_is_background(likely)),
            attention={
                gate: volume.with_array(restore(alpha, prepared.trail)) for gate, alpha in stitched.attention.items()
            },
            engine=self.engines[0].name,
        )

    def _read(self, image: str | Path | Volume | Array | Case, spacing: tuple[float, ...] | None) -> tuple[str, Volume]:
        if isinstance(image, Case):
            return image.id, read_case(image)[0]
        if isinstance(image, Volume):
            return "volume", image
        if isinstance(image, np.ndarray):
            return "array", Volume.from_array(image, spacing or (1.0, 1.0, 1.0))
        cases = find_cases([Path(image)], self.plan.network.in_channels)
        if len(cases) != 1:
            raise DataError(f"{image} holds {len(cases)} images, expected one", hint="predict them one after the other")
        return cases[0].id, read_case(cases[0])[0]

    def _check(self, volume: Volume, name: str) -> None:
        expected = self.plan.network.in_channels
        if volume.channels != expected:
            raise DataError(
                f"{name} has {volume.channels} channels, the model expects {expected}: "
                f"{', '.join(self.plan.channel_names)}",
                hint="give the same channels in the same order as in training",
            )
        if self.plan.network.spatial_dims == 3 and min(volume.spatial_shape) == 1:
            raise DataError(
                f"{name} is a 2-D image of shape {volume.spatial_shape}, the model was trained on volumes",
                hint="give a volume, or use a model trained with --spatial-dims 2",
            )

    def _stitch(self, image: Floats, step: float, mirror: bool, attention: bool, advance: Advance) -> Stitched:
        """Probabilities of all folds averaged (as `logits` of the result), attention likewise."""
        total = count_windows(_spatial(image), self.plan.patch_size, step) * len(self.engines)
        done = 0

        def count(windows: int) -> None:
            nonlocal done
            done += windows
            advance(done, total)

        results = [
            sliding_window(
                image,
                engine,
                self.plan.patch_size,
                classes=len(self.plan.labels),
                step=step,
                mirror_axes=self.plan.mirror_axes if mirror else (),
                attention=attention,
                advance=count,
            )
            for engine in self.engines
        ]
        average = np.asarray(np.mean([softmax(result.logits) for result in results], axis=0), np.float32)
        gates = {gate: np.mean([result.attention[gate] for result in results], axis=0) for gate in results[0].attention}
        return Stitched(average, gates)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the first axis."""
    shifted = np.exp(logits - logits.max(axis=0, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=0, keepdims=True), np.float32)


def _outside_is_background(probabilities: Floats) -> Floats:
    """Voxels outside the content box hold no probability yet: they are background."""
    probabilities[0] += 1 - probabilities.sum(axis=0)
    return np.clip(probabilities, 0, 1)


def _spatial(image: Floats) -> tuple[int, int, int]:
    i, j, k = image.shape[1:]
    return i, j, k
