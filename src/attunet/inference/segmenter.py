"""`Segmenter`: a trained model ready to segment files, volumes and arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from threading import Event
from typing import Any, Literal, Self

from attunet.bundle import check_agreement, load_model
from attunet.bundle.execution import common_air_level
from attunet.config import Plan, Postprocessing
from attunet.data.cases import Case, find_cases, image_warnings, read_case_image
from attunet.data.geometry import MAX_SCALE
from attunet.data.in_memory import volume_in_memory
from attunet.data.volume import Array, Volume
from attunet.errors import CancelledError, DataError
from attunet.inference.case import CasePlan, plan_case, segment
from attunet.inference.engines.factory import make_engine, make_localizers
from attunet.inference.engines.precision import choose_precision
from attunet.inference.engines.protocol import Engine
from attunet.inference.familiarity import unfamiliar
from attunet.inference.member import Member
from attunet.inference.outputs import biases_of
from attunet.inference.postprocess import clean
from attunet.inference.prediction import Prediction, PredictOptions

__all__ = ["Segmenter"]

Image = str | PathLike[str] | Volume | Array | Case | Any
"""A file, a case, or what `volume_in_memory` takes."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Segmenter:
    """The members of a model, whose probabilities are averaged, and the post-processing of the result.

    Args:
        members: members with the same labels, regions and channels.
        postprocessing: calibration and post-processing; none by default.
        manifest: sha256 of the manifest of the model folder that it was loaded from; None for none.
    Raises: ConfigError when the members differ in labels, regions or channels.
    """

    members: tuple[Member, ...]
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
    manifest: str | None = None

    def __post_init__(self) -> None:
        check_agreement({member.name: member.plan for member in self.members})

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        folds: Sequence[int] | Literal["all"] | None = None,
        device: str = "auto",
        raw: bool = False,
        shuffle: int | None = None,
        precision: str = "auto",
    ) -> Self:
        """Load the folder of a run or an ensemble: the folds that the model decided on, or the selected ones.

        Args:
            model: the folder.
            folds: folds to use; "all" for every finished one; None for the model's own decision, or all if it has none.
            device: "auto", "cpu" or "cuda".
            raw: ignore the decisions of the model (postprocessing.json), to evaluate the networks themselves.
            shuffle: a seed to shuffle each layer's weights, which gives untrained null models and implies `raw`; None
                does not shuffle.
            precision: "auto", "bf16", "fp32" or "int8", see `choose_precision`.
        Returns: the segmenter.
        Raises: BundleError for an unfinished or altered folder, EngineError when the device is not available or cannot
            compute in that precision.
        """
        opened = load_model(Path(model), None if folds == "all" else folds)
        postprocessing = Postprocessing() if raw or shuffle is not None else opened.postprocessing
        members, decided = [], None if folds is not None else postprocessing.prediction.folds
        for name, bundle in opened.members.items():
            used = bundle.selected(decided)
            # Shuffled weights have lost the ranges that their 8-bit integers were made for.
            chosen = "auto" if shuffle is not None else choose_precision(used, device, precision)
            members.append(
                Member(
                    name,
                    bundle.plan,
                    tuple(make_engine(fold, bundle.plan, device, shuffle=shuffle, precision=chosen) for fold in used),
                    postprocessing.temperature,
                    common_air_level(fold.air for fold in used),
                    make_localizers(used, bundle.plan, device, shuffle=shuffle, precision=chosen),
                    tuple(fold.skipping for fold in used),
                    biases_of(bundle.plan, postprocessing.logit_bias),
                )
            )
        return cls(tuple(members), postprocessing, opened.manifest)

    @property
    def plan(self) -> Plan:
        """The plan of the first member; all members share its labels, regions and channels."""
        return self.members[0].plan

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines of all members."""
        return tuple(engine for member in self.members for engine in member.engines)

    def read(self, image: Image, spacing: tuple[float, ...] | None = None) -> tuple[str, Volume]:
        """Read an input of `predict`: its name and its volume, checked against the model's requirements.

        Raises: DataError and its subclasses for a file or an array that does not suit the model.
        """
        name, volume = self._read(image, spacing)
        self._check(volume, name)
        return name, volume

    def predict(
        self,
        image: Image,
        options: PredictOptions | None = None,
        *,
        spacing: tuple[float, ...] | None = None,
        name: str | None = None,
        progress: Progress | None = None,
        cancelled: Event | None = None,
        **overrides: Any,
    ) -> Prediction:
        """Segment one image; the result is on the image's own grid.

        Args:
            image: a file, a `Case` of several files, a `Volume`, an array or list (I, J), (I, J, K) or (C, I, J, K), a
                torch tensor, or an image of nibabel or SimpleITK, whose geometry is kept.
            options: what to compute, and the limits; None for the defaults.
            spacing: voxel size of an array in mm; None for 1 mm.
            name: name of the case in the result; None for the name of its file.
            progress: called with the number of finished windows and of all windows.
            cancelled: an event that ends the prediction before its next windows.
            overrides: fields of `PredictOptions` that differ from `options`, such as `attention=True`.
        Returns: the mask, and the requested other results.
        Raises: DataError and its subclasses for an image that does not suit the model, ConfigError for options out of
            range or a case that does not fit into `max_memory`, CancelledError once `cancelled` is set.
        """
        options = replace(options or PredictOptions(), **overrides)
        case, volume = self.read(image, spacing)
        plan = self.plan_case(volume, options)
        output = segment(plan, _counter(plan.windows, progress, cancelled))
        return Prediction(
            case=name or case,
            image=volume,
            segmentation=volume.with_array(self._cleaned(output.mask, volume)),
            labels=self.plan.labels,
            probabilities=None if output.probabilities is None else volume.with_array(output.probabilities),
            attention={gate: volume.with_array(alpha) for gate, alpha in output.attention.items()},
            engine=self.engines[0].name,
            expected_dice=output.expected_dice,
            regions=self.plan.regions,
            quality=self.postprocessing.quality,
            dice_calibration=self.postprocessing.dice_interval,
            volume_calibrations=self.postprocessing.volume_intervals,
            content=plan.content,
            peak_bytes=plan.peak_bytes,
            windows=plan.windows,
            air_windows=plan.air_windows,
            skipped_windows=plan.skipped_windows,
            warnings=(*self._file_warnings(image), *unfamiliar(volume, plan.content, self.plan), *plan.warnings),
        )

    def mirrors(self, options: PredictOptions) -> bool:
        """Whether mirrored copies are averaged: as the options say, or else as the model decided."""
        decided = self.postprocessing.prediction.mirror if options.mirror is None else options.mirror
        return decided is not False

    def plan_case(self, volume: Volume, options: PredictOptions) -> CasePlan:
        """Plan the windows of a volume, and estimate the memory that it needs.

        Raises: as `predict`.
        """
        options = replace(options, mirror=self.mirrors(options))
        return plan_case(self.members, volume, options, postprocessed=bool(self.postprocessing.components))

    def _cleaned(self, mask: Array, volume: Volume) -> Array:
        steps = self.postprocessing.components
        if not steps:
            return mask
        return clean(mask[0], steps, self.plan.labels, volume.voxel, regions=self.plan.regions)[None]

    def _read(self, image: Image, spacing: tuple[float, ...] | None) -> tuple[str, Volume]:
        if isinstance(image, Case):
            return image.id, self._read_case(image)
        if not isinstance(image, str | PathLike):
            return volume_in_memory(image, spacing)
        cases = find_cases([Path(image)], len(self.plan.channel_names), names=self.plan.channel_names)
        if len(cases) != 1:
            raise DataError(
                f"{image} contains {len(cases)} images, expected one", hint="predict them one after the other"
            )
        return cases[0].id, self._read_case(cases[0])

    def _read_case(self, case: Case) -> Volume:
        """Read a case; with alpha if only this gives the channels of the model, as models of earlier versions need."""
        volume, expected = read_case_image(case), len(self.plan.channel_names)
        if volume.channels < expected and (whole := read_case_image(case, alpha=True)).channels == expected:
            return whole
        return volume

    def _file_warnings(self, image: Image) -> tuple[str, ...]:
        if isinstance(image, str | PathLike):
            channels = len(self.plan.channel_names)
            image = find_cases([Path(image)], channels, names=self.plan.channel_names)[0]
        return image_warnings(image) if isinstance(image, Case) else ()

    def _check(self, volume: Volume, name: str) -> None:
        expected = len(self.plan.channel_names)
        if volume.channels != expected:
            raise DataError(
                f"{name} has {volume.channels} channels, the model expects {expected}: "
                f"{', '.join(self.plan.channel_names)}",
                hint="give the same channels in the same order as in training; alpha does not count; "
                "--frame chooses one time of a series",
            )
        if min(volume.spatial_shape) == 1 and any(member.plan.network.spatial_dims == 3 for member in self.members):
            raise DataError(
                f"{name} is a 2-D image of shape {volume.spatial_shape}, the model was trained on volumes",
                hint="give a volume, or use a model trained with --spatial-dims 2",
            )
        _check_scale(volume, self.plan, name)


def _check_scale(volume: Volume, plan: Plan, name: str) -> None:
    """Make sure that voxels are of the size that the model knows, give or take a factor of `MAX_SCALE`."""
    steps = [step for step, size in zip(volume.spacing, volume.spatial_shape, strict=True) if size > 1]
    edge = min(steps, default=min(volume.spacing))
    known = min(plan.fingerprint.median_spacing)
    if not 1 / MAX_SCALE <= edge / known <= MAX_SCALE:
        given = "" if volume.calibrated else ", assumed because it declares none"
        raise DataError(
            f"{name} has voxels of {edge:g} mm{given}, the images of the training {known:g} mm",
            hint="give the image its true spacing, for example as OME-TIFF or NIfTI; for a model that was trained on "
            "images without a spacing, save it without one, for example as PNG",
        )


def _counter(total: int, progress: Progress | None, cancelled: Event | None) -> Callable[[int], None]:
    """Counts windows, reports them, and raises CancelledError once the event is set."""
    done = 0

    def count(windows: int) -> None:
        nonlocal done
        if cancelled is not None and cancelled.is_set():
            raise CancelledError("the prediction was cancelled")
        done += windows
        if progress is not None:
            progress(done, total)

    return count
