"""How far the training of a fold is, in a file of its folder: for the program that started it on another machine.

The run folder is on storage that all machines share, so that a file needs no connection, and outlives either program.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from attunet.errors import FormatError
from attunet.files import write_text
from attunet.training.callbacks.progress import TrainingCallbacks, TrainingState
from attunet.training.run_folder import FoldPaths

__all__ = ["FoldProgress", "ProgressFile"]

_SECONDS = 1.0
"""Shortest time between two writes."""


@dataclass(frozen=True, kw_only=True)
class FoldProgress:
    """How far the training of a fold is.

    Args:
        stage: what happens now.
        cases: cases that are preprocessed, or evaluated, so far.
        network: the network of a cascade that is trained; empty where there is one.
        epoch: see `TrainingState`.
        progress: see `TrainingState`.
        loss: see `TrainingState`.
        dice: see `TrainingState`.
        warnings: for the user, so far.
    """

    stage: Literal["preprocess", "train", "validate"] = "preprocess"
    cases: int = 0
    network: str = ""
    epoch: int = 0
    progress: float = 0.0
    loss: float | None = None
    dice: float | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, paths: FoldPaths) -> Self | None:
        """What the file of a fold says; None when there is none, or it cannot be read now."""
        try:
            content: dict[str, Any] = json.loads(paths.progress.read_text(encoding="utf-8"))
            known = {field.name: content[field.name] for field in fields(cls)}
            return cls(**{**known, "warnings": tuple(map(str, known["warnings"]))})
        except (OSError, ValueError, TypeError, LookupError):
            return None


class ProgressFile(TrainingCallbacks):
    """Writes the progress of a fold into its folder, at most once a second; a disk that refuses stops no training.

    Args: the files of the fold.
    Attributes: now, the progress.
    """

    def __init__(self, paths: FoldPaths) -> None:
        self._paths, self.now = paths, FoldProgress()
        self._written = float("-inf")

    def on_case_stored(self) -> None:
        """See `TrainingCallbacks`."""
        self._update(cases=self.now.cases + 1)

    def on_network_start(self, network: str) -> None:
        """See `TrainingCallbacks`."""
        self._update(network=network)

    def on_training_start(self) -> None:
        """See `TrainingCallbacks`."""
        self._update(at_once=True, stage="train", cases=0)

    def on_step(self, state: TrainingState) -> None:
        """See `TrainingCallbacks`."""
        self._update(epoch=state.epoch, progress=state.progress, loss=state.loss, dice=state.dice)

    def on_training_end(self) -> None:
        """See `TrainingCallbacks`."""
        self._update(at_once=True, stage="validate", cases=0)

    def on_case_evaluated(self) -> None:
        """See `TrainingCallbacks`."""
        self._update(cases=self.now.cases + 1)

    def on_warning(self, text: str) -> None:
        """See `TrainingCallbacks`."""
        self._update(at_once=True, warnings=(*self.now.warnings, text))

    def remove(self) -> None:
        """Remove the file, as the fold is finished or has failed."""
        with suppress(OSError):
            self._paths.progress.unlink(missing_ok=True)

    def _update(self, *, at_once: bool = False, **changes: Any) -> None:
        self.now = replace(self.now, **changes)
        if not at_once and time.monotonic() - self._written < _SECONDS:
            return
        self._written = time.monotonic()
        with suppress(FormatError):
            write_text(self._paths.progress, json.dumps(asdict(self.now)))
