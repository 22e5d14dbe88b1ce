"""Prediction of one study: every series by every rule that matches it, into files that are ready to be sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, cast

from attunet.dicom.network.identity import read_identity
from attunet.dicom.node.queue import SeriesResult, StudyQueue
from attunet.dicom.node.rules import matching_rules, read_facts
from attunet.dicom.node.settings import NodeSettings, OutputType, RuleSettings
from attunet.dicom.node.storage import Storage
from attunet.dicom.output_types import make_destination, split_output_types
from attunet.errors import AttunetError, BundleError, CancelledError, ConfigError, DataError, EngineError, FormatError
from attunet.failures import one_case

if TYPE_CHECKING:
    from attunet.inference.segmenter import Segmenter

__all__ = ["Predict", "Predictor", "check_models", "predict_series"]

_log = logging.getLogger(__name__)

Predict = Callable[[Path, RuleSettings, Path, Event], dict[Path, OutputType]]
"""Predicts the folder of a series by a rule into an empty folder, until an event is set; results and their kinds."""

HOUR = 3600.0
MODELS = 2
"""Models that stay in memory."""
_NOT_THE_SERIES = (BundleError, ConfigError, EngineError)
"""Errors of a model or a machine, which somebody may repair."""


class _LaterError(Exception):
    """Nothing is wrong with the study: it can be predicted when a model or the disk is in order again."""


class Predictor:
    """Predicts the studies of a queue.

    Args:
        settings: the rules and destinations.
        queue: where outcomes are recorded.
        storage: where instances are, and results go.
        predict: what predicts a series.
    """

    def __init__(self, settings: NodeSettings, queue: StudyQueue, storage: Storage, predict: Predict) -> None:
        self._settings, self._queue, self._storage, self._predict = settings, queue, storage, predict

    def run(self, study: str, cancelled: Event) -> None:
        """Predict a study that was taken from the queue, and record its results.

        A series that cannot be predicted does not stop the others. Without a usable model or disk, the whole study is
        tried again later.

        Args: the study; an event that stops it.
        Raises: CancelledError once the event is set.
        """
        seen = self._queue.instances(study)
        try:
            outcomes = [
                outcome for series in self._queue.series(study) for outcome in self._outcomes(study, series, cancelled)
            ]
        except _LaterError as error:
            _log.warning("study %s: %s; it is tried again", study, error)
            retry = self._settings.retry
            self._queue.postpone(study, str(error), wait=retry.wait, longest=retry.give_up_hours * HOUR)
            return
        if not self._queue.finish(study, seen, outcomes):
            _log.info("study %s: instances came in while it was predicted; it waits until it has settled again", study)
            return
        for outcome in outcomes:
            told = outcome.reason or f"{len(outcome.files)} results"
            _log.info("study %s, series %s, rule %s: %s", study, outcome.series, outcome.rule, told)

    def _outcomes(self, study: str, series: str, cancelled: Event) -> Iterator[SeriesResult]:
        """What every rule that matches makes of a series, those aside that have predicted it."""
        done = self._queue.predicted(series)
        try:
            facts = read_facts(self._storage.series(study, series))
        except FormatError as error:
            if not done:
                yield SeriesResult(series, "", reason=str(error))
            return
        expected = self._queue.instances(study, series)
        for rule in matching_rules(facts, self._settings.rules):
            if rule.name in done:
                continue
            if facts.instances < expected:
                reason = f"only {facts.instances} of its {expected} instances are still stored; send the study again"
                yield SeriesResult(series, rule.name, reason=reason)
            else:
                yield self._outcome(study, series, rule, cancelled)

    def _outcome(self, study: str, series: str, rule: RuleSettings, cancelled: Event) -> SeriesResult:
        try:
            with one_case():
                files = self._predict(self._storage.series(study, series), rule, self._storage.work(study), cancelled)
                return SeriesResult(series, rule.name, tuple(self._published(study, series, rule, files)))
        except CancelledError:
            raise
        except _NOT_THE_SERIES as error:
            raise _LaterError(f"rule {rule.name}: {error}") from error
        except AttunetError as error:
            if not self._storage.has_room():
                raise _LaterError("the disk has less than least_free_mb free") from error
            return SeriesResult(series, rule.name, reason=str(error))

    def _published(
        self, study: str, series: str, rule: RuleSettings, files: dict[Path, OutputType]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give each result the name under which it is recorded, and put it where it waits for its destinations."""
        for number, (file, output) in enumerate(sorted(files.items())):
            if output == "nifti":
                part = f"_{number}" if list(files.values()).count(output) > 1 else ""
                name = f"{series}_{rule.name}{part}.nii.gz"
            else:
                name = f"{read_identity(file).uid}.dcm"
            published = self._storage.publish(file.replace(file.with_name(name)), study)
            yield published.name, self._settings.destinations_of(rule, output)


def predict_series(folder: Path, rule: RuleSettings, output: Path, cancelled: Event) -> dict[Path, OutputType]:
    """Predict the volumes of a series with the model of a rule.

    Args:
        folder: the instances of the series.
        rule: the model, and what is written.
        output: an empty folder for the results.
        cancelled: an event that stops it.
    Returns: the results and their kinds.
    Raises: DataError for a series that cannot be read or predicted, BundleError or EngineError for a model that cannot
        be used, CancelledError.
    """
    from attunet.data.cases import find_cases
    from attunet.data.layouts.dicom_cases import SeriesChoice
    from attunet.inference.batch import predict_cases

    segmenter = _load(rule.model, _version(rule.model))
    images, objects = split_output_types(rule.outputs)
    destination, notices = make_destination(segmenter, images, objects)
    told: list[str] = []
    choice = SeriesChoice(
        on_listing=lambda listing, _names: told.extend(map(str, (*listing.refused, *listing.left_out)))
    )
    cases = find_cases([folder], 1, names=segmenter.plan.channel_names, series=choice)
    results = predict_cases(segmenter, cases, output, destination=destination, cancelled=cancelled)
    if cancelled.is_set():
        raise CancelledError("the prediction was stopped")
    made: dict[Path, OutputType] = {}
    for result in results:
        if result.error is not None:
            raise DataError(result.error, hint=result.hint)
        told.extend(result.warnings)
        for kind, files in result.files.items():
            made |= {Path(file): cast("OutputType", kind) for file in files}
    for notice in (*notices, *dict.fromkeys(told)):
        _log.warning("series %s, rule %s: %s", folder.name, rule.name, notice)
    return made


def check_models(settings: NodeSettings) -> None:
    """Open every model once, so that a wrong path is told at the start and not with the first study.

    Raises: BundleError for a folder that is no finished model, ConfigError for one that needs several channels.
    """
    for rule in settings.rules:
        channels = _load(rule.model, _version(rule.model)).plan.channel_names
        if len(channels) != 1:
            raise ConfigError(
                f"rule {rule.name}: its model needs {len(channels)} channels ({', '.join(channels)}), a series has one",
                hint="choose a model of one channel",
            )


@lru_cache(maxsize=MODELS)
def _load(model: Path, _version: int) -> Segmenter:
    """A model, loaded again when its manifest has changed."""
    from attunet.inference.segmenter import Segmenter

    return Segmenter.load(model)


def _version(model: Path) -> int:
    """The time at which a model was sealed; 0 where there is none, which loading it explains."""
    manifest = model / "manifest.json"
    return manifest.stat().st_mtime_ns if manifest.exists() else 0
