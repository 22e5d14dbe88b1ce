"""What a job computes: the scan is read, predicted and explained by the library, and its results get their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from attunet.data.cases import Case, find_cases
from attunet.data.formats import write_volume
from attunet.data.layouts.dicom_cases import SeriesChoice
from attunet.dicom.output_types import make_destination
from attunet.errors import ConfigError, DataError
from attunet.files import write_text
from attunet.inference.case_worker import CaseResult, CaseWorker
from attunet.inference.destination import Destination
from attunet.inference.intervals import interval_reasons
from attunet.inference.prediction import Prediction, PredictOptions
from attunet.locks import exclusive
from attunet.serve.hints import client_warning
from attunet.serve.shapes import JobOptions, LabelStatistics, Statistics
from attunet.serve.store import ResultFile

if TYPE_CHECKING:
    from attunet.inference.segmenter import Segmenter

__all__ = ["JobRun", "has_attention"]

NIFTI, DICOM, JSON, HTML, PNG = (
    "application/gzip",
    "application/dicom",
    "application/json",
    "text/html; charset=utf-8",
    "image/png",
)
_EXPLAINING = 100
_ALONE = Lock()
"""Large scans of all jobs take turns."""


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """One job at work.

    Args:
        model: name of the model.
        folder: its folder.
        segmenter: the model itself.
        scan: the image, its folder or archive.
        options: what is computed.
        output: an empty folder for the results.
        max_memory: limit of the process's memory in bytes; None for no limit.
        progress: called with the finished and all windows.
        cancelled: an event that stops it.
        case: its case where it is one of the studies, with all of its files; None to find it in `scan`.
        in_words: makes a message of the library one for people, who know no path of the server.
    """

    model: str
    folder: Path
    segmenter: Segmenter
    scan: Path
    options: JobOptions
    output: Path
    max_memory: int | None
    progress: Callable[[int, int], None]
    cancelled: Event
    case: Case | None = None
    in_words: Callable[[str], str] = str

    def run(self) -> list[ResultFile]:
        """Compute everything.

        Returns: the results.
        Raises: DataError for a scan that cannot be predicted, ConfigError for a result that the model has not,
            CancelledError.
        """
        wanted: set[str] = set(self.options.outputs)
        if "attention" in wanted and not has_attention(self.segmenter):
            raise ConfigError(f"{self.model} has no gates, and no attention", hint="leave attention out of the outputs")
        case, notices = self._find_case()
        destination, more = make_destination(self.segmenter, "nifti", ("dicom-seg",) if "dicom-seg" in wanted else ())
        keeper = _Keeper(self, wanted)
        result = self._predict(case, destination, keeper)
        if result.error is not None:
            raise DataError(result.error, hint=result.hint)
        statistics = self._statistics(result, keeper, (*notices, *more))
        write_text(self.output / "statistics.json", statistics.model_dump_json(indent=1))
        files = [*self._written(result), *keeper.files]
        if "explanation" in wanted:
            files.append(self._explain(case))
        return files

    def _predict(self, case: Case, destination: Destination, keeper: _Keeper) -> CaseResult:
        wanted = self.options.outputs
        worker = CaseWorker(
            self.segmenter,
            self.output,
            PredictOptions(
                step_size=self.options.step_size,
                mirror=self.options.mirror,
                probabilities="probabilities" in wanted,
                attention="attention" in wanted,
                all_windows=self.options.all_windows,
                max_memory=self.max_memory,
                scratch=self.output,
            ),
            destination=destination,
            on_prediction=keeper,
            progress=lambda _case, done, total: self.progress(done, total),
            cancelled=self.cancelled,
            alone=_ALONE,
        )
        with exclusive(self.output, "attunet serve"):
            destination.begin([case], self.output)
            return worker(case)

    def _find_case(self) -> tuple[Case, list[str]]:
        """The case of the scan, and what was left out of it. Raises: DataError when it holds several."""
        if self.case is not None and self.case.key is None:
            return self.case, []
        told: list[str] = []
        series = SeriesChoice(
            series=(self.options.series,) if self.options.series else (),
            on_listing=lambda listing, _names: told.extend(map(str, (*listing.refused, *listing.left_out))),
        )
        channels = self.segmenter.plan.channel_names
        cases = find_cases([self.scan], len(channels), names=channels, series=series)
        if len(cases) != 1:
            keys = ", ".join(str(case.key) for case in cases[:20] if case.key)
            raise DataError(
                f"the scan holds {len(cases)} images, expected one of {len(channels)} channels",
                hint=f"choose one as series: {keys}" if keys else "send one image, or one file for each channel",
            )
        return cases[0], told

    def _written(self, result: CaseResult) -> list[ResultFile]:
        files = [self._file("mask", "Mask", Path(result.files["nifti"][-1]), NIFTI)]
        files.append(self._file("statistics", "Statistics", self.output / "statistics.json", JSON))
        for path in map(Path, result.files.get("dicom-seg", ())[:1]):
            files.append(self._file("dicom-seg", "DICOM segmentation", path, DICOM))
        for path in sorted((self.output / "probabilities").glob("*")):
            files.append(self._file("probabilities", "Probabilities", path, NIFTI))
        return files

    def _file(self, name: str, title: str, path: Path, media_type: str) -> ResultFile:
        return ResultFile(name=name, title=title, file=str(path.relative_to(self.output)), media_type=media_type)

    def _statistics(self, result: CaseResult, keeper: _Keeper, notices: tuple[str, ...]) -> Statistics:
        plan, reasons = self.segmenter.plan, interval_reasons(self.segmenter.postprocessing, self.segmenter.plan)
        labels = {}
        for name, volume in result.volumes_ml.items():
            interval = result.volume_intervals_ml.get(name)
            labels[name] = LabelStatistics(
                value=None if plan.regions else plan.labels.get(name),
                volume_ml=volume,
                interval_ml=None if interval is None else [interval.low, interval.high],
                level=None if interval is None else interval.level,
                interval_reason=reasons.get(name, ""),
                expected_dice=result.expected_dice.get(name),
            )
        dice = result.dice_interval
        return Statistics(
            model=self.model,
            manifest=self.segmenter.manifest,
            engine=keeper.engine,
            labels=labels,
            predicted_dice=result.predicted_dice,
            dice_interval=None if dice is None else [dice.low, dice.high],
            dice_reason=reasons["predicted Dice"],
            windows=result.windows,
            skipped_windows=result.air_windows + result.skipped_windows,
            seconds=result.seconds,
            warnings=list(dict.fromkeys(client_warning(self.in_words(one)) for one in (*notices, *result.warnings))),
        )

    def _explain(self, case: Case) -> ResultFile:
        from attunet.explanation.explain import explain

        if not has_attention(self.segmenter):
            raise ConfigError(f"{self.model} has no gates to explain", hint="leave explanation out of the outputs")
        target = self.output / "explanation"

        def report(done: int, total: int) -> None:
            self.progress(done * _EXPLAINING // max(total, 1), _EXPLAINING)

        explain(self.folder, [case], target, progress=report, cancelled=self.cancelled)
        return self._file("explanation", "Explanation", target / "report.html", HTML)


def has_attention(segmenter: Segmenter) -> bool:
    """Whether a model has maps of attention: those of gates, or of a localizer."""
    return any(member.plan.network.gate_widths or member.localizers for member in segmenter.members)


class _Keeper:
    """Keeps what only a prediction in memory has: the image as it was read, a picture, and the names of the gates.

    Attributes: files, what was or will be written; engine, what computed it.
    """

    def __init__(self, job: JobRun, wanted: set[str]) -> None:
        self._job, self._wanted = job, wanted
        self.files: list[ResultFile] = []
        self.engine = ""

    def __call__(self, prediction: Prediction) -> Mapping[str, Any]:
        job, self.engine = self._job, prediction.engine
        if "image" in self._wanted:
            path = job.output / "image.nii.gz"
            write_volume(prediction.image, path)
            self.files.append(job._file("image", "Image", path, NIFTI))
        for number, (gate, path) in enumerate(prediction.attention_files(job.output).items()):
            self.files.append(job._file(f"attention-{number}", gate, path, NIFTI))
        if "preview" in self._wanted:
            from attunet.explanation.prediction_hook import PredictionHook  # with matplotlib, half a second

            modality = job.segmenter.plan.modality
            hook = PredictionHook(job.output / "preview", agreement=False, attention=True, modality=modality)
            hook(prediction)
            path = job.output / "preview" / f"{prediction.case}.png"
            self.files.append(job._file("preview", "Preview", path, PNG))
        return {}
