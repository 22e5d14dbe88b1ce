"""`Segmenter`: a trained model ready to segment files, volumes and arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from attunet.bundle import check_agreement, load_model
from attunet.config import Plan, Refinement
from attunet.data.cases import Case, find_cases, read_case_image
from attunet.data.volume import Array, Volume
from attunet.errors import ConfigError, DataError
from attunet.inference.agenda import Agenda, Options, make_agenda
from attunet.inference.engines.engine import Engine, make_engine
from attunet.inference.member import Member, Pass
from attunet.inference.postprocess import clean
from attunet.inference.prediction import Prediction
from attunet.inference.streaming import segment
from attunet.inference.windows.air import air_level

__all__ = ["Segmenter"]

Advance = Callable[[int, int], None]
Image = str | Path | Volume | Array | Case


def _silent(_done: int, _total: int) -> None:
    """No progress wanted."""


@dataclass(frozen=True)
class Segmenter:
    """The members of a model, whose probabilities are averaged, and what is done to the result.

    Args: the members, all of one task; post-processing and quality, nothing by default.
    Raises: ConfigError when the members differ in labels, regions or channels.
    """

    members: tuple[Member, ...]
    refinement: Refinement = field(default_factory=Refinement)

    def __post_init__(self) -> None:
        check_agreement({member.name: member.plan for member in self.members})

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        folds: Sequence[int] | None = None,
        device: str = "auto",
        raw: bool = False,
        shuffle: int | None = None,
    ) -> Self:
        """Open the folder of a run or an ensemble: every finished fold, or those named.

        Args: raw leaves out what a cross-validation taught (refinement.json), for judging the networks themselves;
            a seed to shuffle each layer's weights with, for networks that have learnt nothing (they are raw, too).
        Raises: BundleError for an unfinished or altered folder, EngineError when the device is not there.
        """
        opened = load_model(Path(model), folds)
        refinement = Refinement() if raw or shuffle is not None else opened.refinement
        members = []
        for name, bundle in opened.members.items():
            engines = tuple(make_engine(fold, bundle.plan, device, shuffle=shuffle) for fold in bundle.folds)
            members.append(Member(name, bundle.plan, engines, refinement.temperature, air_level(bundle.folds)))
        return cls(tuple(members), refinement)

    @property
    def plan(self) -> Plan:
        """The plan of the first member; labels, regions and channels are those of all."""
        return self.members[0].plan

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of all members."""
        return tuple(engine for member in self.members for engine in member.engines)

    def read(self, image: Image, spacing: tuple[float, ...] | None = None) -> tuple[str, Volume]:
        """Name and volume of what `predict` takes, checked against what the model expects.

        Raises: DataError and its kind for a file or an array that the model cannot take.
        """
        name, volume = self._read(image, spacing)
        self._check(volume, name)
        return name, volume

    def predict(
        self,
        image: Image,
        *,
        spacing: tuple[float, ...] | None = None,
        name: str | None = None,
        step: float = 0.5,
        mirror: bool = True,
        probabilities: bool = False,
        attention: bool = False,
        skip_air: bool = True,
        max_memory: int | None = None,
        time_limit: float | None = None,
        scratch: Path | None = None,
        advance: Advance = _silent,
    ) -> Prediction:
        """Segment one image; the result lies on the image's own grid.

        Args:
            image: a file, a `Case` of several files, a `Volume`, or an array (I, J), (I, J, K) or (C, I, J, K) with its
                spacing in mm.
            name: what to call the case; by default as its file.
            step: distance of neighbouring windows as a share of the patch, in (0, 1].
            mirror: average over mirrored copies, along the axes the plan allows.
            probabilities, attention: keep the class probabilities and the gates' coefficients too.
            skip_air: leave out windows of air, if the model was found to lose nothing by it.
            max_memory: bytes that the process may hold; the case is gone through in smaller portions to keep to it.
            time_limit: seconds that the case may take; fewer windows are run to keep to it, and `notices` says so.
            scratch: folder for probabilities and attention that are too large for memory.
            advance: called with the windows done and the windows in all.
        Raises: DataError and its kind for an image that the model cannot take, ConfigError for a step out of range or a
            case that does not fit into `max_memory`.
        """
        asked = Options(step, mirror, attention, probabilities, skip_air, max_memory, time_limit, scratch)
        called, volume = self.read(image, spacing)
        agenda = self.agenda(volume, asked)
        done = segment(agenda.tasks, _counted(agenda, advance), agenda.course, asked.probabilities, folder=scratch)
        return Prediction(
            case=name or called,
            image=volume,
            segmentation=volume.with_array(self._cleaned(done.mask, volume)),
            labels=self.plan.labels,
            probabilities=None if done.probabilities is None else volume.with_array(done.probabilities),
            attention={gate: volume.with_array(alpha) for gate, alpha in done.attention.items()},
            engine=self.engines[0].name,
            expected_dice=done.expected_dice,
            regions=self.plan.regions,
            quality=self.refinement.quality,
            content=agenda.content,
            peak_bytes=agenda.peak,
            notices=agenda.notices,
        )

    def agenda(self, volume: Volume, asked: Options) -> Agenda:
        """What predicting a volume comes to: its windows, and the memory that it will take.

        Raises: as `predict`.
        """
        if not 0 < asked.step <= 1:
            raise ConfigError(f"a step of {asked.step} patches", hint="choose a step size above 0 and at most 1")
        return make_agenda(self.members, volume, replace(asked, cleaned=bool(self.refinement.postprocessing)))

    def _cleaned(self, mask: Array, volume: Volume) -> Array:
        how = self.refinement.postprocessing
        if not how:
            return mask
        return clean(mask[0], how, self.plan.labels, volume.spacing, regions=self.plan.regions)[None]

    def _read(self, image: Image, spacing: tuple[float, ...] | None) -> tuple[str, Volume]:
        if isinstance(image, Case):
            return image.id, read_case_image(image)
        if isinstance(image, Volume):
            return "volume", image
        if isinstance(image, np.ndarray):
            return "array", Volume.from_array(image, spacing or (1.0, 1.0, 1.0))
        cases = find_cases([Path(image)], self.plan.network.in_channels)
        if len(cases) != 1:
            raise DataError(f"{image} holds {len(cases)} images, expected one", hint="predict them one after the other")
        return cases[0].id, read_case_image(cases[0])

    def _check(self, volume: Volume, name: str) -> None:
        expected = self.plan.network.in_channels
        if volume.channels != expected:
            raise DataError(
                f"{name} has {volume.channels} channels, the model expects {expected}: "
                f"{', '.join(self.plan.channel_names)}",
                hint="give the same channels in the same order as in training",
            )
        if min(volume.spatial_shape) == 1 and any(member.plan.network.spatial_dims == 3 for member in self.members):
            raise DataError(
                f"{name} is a 2-D image of shape {volume.spatial_shape}, the model was trained on volumes",
                hint="give a volume, or use a model trained with --spatial-dims 2",
            )


def _counted(agenda: Agenda, advance: Advance) -> Pass:
    """The pass of a case, which tells how many of its windows are done."""
    done, total = 0, agenda.windows

    def count(windows: int) -> None:
        nonlocal done
        done += windows
        advance(done, total)

    return replace(agenda.how, advance=count)
