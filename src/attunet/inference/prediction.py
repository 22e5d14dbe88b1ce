"""`PredictOptions` and `Prediction`: the options and the result of segmenting one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attunet.config import IntervalCalibration, PredictionInterval, QualityCalibration
from attunet.data.facts import count_labels
from attunet.data.formats import float_suffix, mask_suffix, write_volume
from attunet.data.geometry import voxel_ml
from attunet.data.volume import Volume
from attunet.display import NotebookView
from attunet.errors import ConfigError

__all__ = ["PredictOptions", "Prediction"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How an image is segmented, and which results are computed in addition to its mask.

    Args:
        step_size: distance between neighbouring windows as a fraction of the patch, in (0, 1].
        mirror: average over mirrored copies of each window (test-time augmentation), along the axes the plan allows;
            None for the model's own decision, or on where it has none.
        probabilities: compute the probabilities of all labels or regions on the image's grid.
        attention: compute the coefficients of the gates on the image's grid.
        all_windows: run every window, also those that the model's audit allows to skip: far from what the localizer of
            a cascade found, or containing only air.
        max_memory: limit of the process's memory in bytes, for which the case is divided; None for no limit.
        time_limit: limit of the time per case in seconds, for which fewer windows are run; None for no limit.
        scratch: folder for temporary files of large probabilities and attention; None for the system's.
    Raises: ConfigError for a step size out of range.
    """

    step_size: float = 0.5
    mirror: bool | None = None
    probabilities: bool = False
    attention: bool = False
    all_windows: bool = False
    max_memory: int | None = None
    time_limit: float | None = None
    scratch: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.step_size <= 1:
            raise ConfigError(
                f"a step size of {self.step_size} patches", hint="choose a step size above 0 and at most 1"
            )


@dataclass(frozen=True)
class Prediction(NotebookView):
    """The result for one image; all volumes are on the image's own grid.

    Args:
        case: name of the case.
        image: the input.
        segmentation: one channel, with the label values of the training data.
        labels: name to value, background first.
        probabilities: (outputs, I, J, K) in [0, 1], one channel for each label or region in the order of `labels`; None
            unless requested.
        attention: coefficients of each gate in [0, 1], empty unless requested; 0 outside `content`.
        engine: name of the engine.
        expected_dice: for each foreground label, the Dice it would have if the probabilities were right; None if the
            label seems absent.
        regions: for overlapping targets, the values that each unites; in `segmentation` one is painted over the other.
        quality: how reliable `predicted_dice` is on held-out cases; None when it was not measured.
        dice_calibration: the interval of `predicted_dice`; None when it was not measured.
        volume_calibrations: label to the interval of its volume, of the labels for which it was measured.
        content: the box of the grid that the network saw: the image's content, if the model crops to it.
        peak_bytes: predicted peak memory of the process.
        windows: number of windows that all networks ran.
        air_windows: number of windows that all networks skipped because they contain only air.
        skipped_windows: number of windows that all networks skipped because the localizer found nothing near them.
        warnings: how the image differs from those of the training; deviations from the options, and their reasons.
    """

    case: str
    image: Volume
    segmentation: Volume
    labels: dict[str, int]
    probabilities: Volume | None
    attention: dict[str, Volume]
    engine: str
    expected_dice: dict[str, float | None] = field(default_factory=dict)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    quality: QualityCalibration | None = None
    dice_calibration: IntervalCalibration | None = None
    volume_calibrations: dict[str, IntervalCalibration] = field(default_factory=dict)
    content: tuple[slice, slice, slice] = (slice(None), slice(None), slice(None))
    peak_bytes: int = 0
    windows: int = 0
    air_windows: int = 0
    skipped_windows: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume in ml of each foreground label, or of each whole region; 2-D images count as one layer of voxels."""
        voxel = voxel_ml(self.segmentation.voxel)
        united = self.regions or {name: (self.labels[name],) for name in list(self.labels)[1:]}
        counts = count_labels(self.segmentation.array)
        return {name: sum(counts.get(value, 0) for value in values) * voxel for name, values in united.items()}

    @property
    def predicted_dice(self) -> float | None:
        """The mean Dice to expect of this mask, as learnt on held-out cases; None when not measured.

        Also None when every label seems absent.
        """
        known = [dice for dice in self.expected_dice.values() if dice is not None]
        if self.quality is None or not known:
            return None
        return float(np.clip(self.quality.slope * np.mean(known) + self.quality.intercept, 0, 1))

    @property
    def volume_intervals_ml(self) -> dict[str, PredictionInterval | None]:
        """The prediction interval of each volume in ml, from held-out cases.

        None when it was not measured, or nothing was predicted, which says nothing about the size of what was missed.
        """
        known = self.volume_calibrations
        return {
            name: known[name].around(ml) if name in known and ml > 0 else None for name, ml in self.volumes_ml.items()
        }

    @property
    def dice_interval(self) -> PredictionInterval | None:
        """The prediction interval of the case's mean Dice, from held-out cases; None when it was not measured."""
        predicted = self.predicted_dice
        if self.dice_calibration is None or predicted is None:
            return None
        return self.dice_calibration.around(predicted)

    def save(self, folder: str | Path, *, suffix: str = ".nii.gz") -> Path:
        """Write CASE, attention/CASE_GATE and probabilities/CASE, as far as computed; return the mask's path.

        A gate of an ensemble's member, MEMBER/GATE, is written as CASE_MEMBER_GATE.
        Probabilities and attention are written as NIfTI if the format of the suffix cannot store floats.
        """
        folder = Path(folder)
        path = folder / f"{self.case}{mask_suffix(suffix)}"
        for gate, file in self.attention_files(folder, suffix=suffix).items():
            write_volume(self.attention[gate], file)
        if self.probabilities is not None:
            write_volume(self.probabilities, folder / "probabilities" / f"{self.case}{float_suffix(suffix)}")
        write_volume(self.segmentation, path)  # last: its presence marks the case as done
        return path

    def attention_files(self, folder: str | Path, *, suffix: str = ".nii.gz") -> dict[str, Path]:
        """The files into which `save` writes each gate's coefficients."""
        return {
            gate: Path(folder) / "attention" / f"{self.case}_{gate.replace('/', '_')}{float_suffix(suffix)}"
            for gate in self.attention
        }
