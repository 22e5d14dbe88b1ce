"""A hook for each prediction of a batch: it draws a preview, and measures the agreement of attention and mask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from attunet.explanation.agreement import attention_agreement
from attunet.inference.prediction import Prediction
from attunet.report.figures import overlay, save_figure

__all__ = ["PredictionHook"]


class PredictionHook:
    """Draws a preview of each prediction, and measures the agreement of attention and mask.

    Args:
        preview: the folder for the drawings; None for none.
        agreement: whether to measure the agreement.
        attention: whether to draw the attention.
        modality: modality of the images, for the grey window.
    """

    def __init__(self, preview: Path | None, *, agreement: bool, attention: bool, modality: str) -> None:
        self._preview, self._agreement = preview, agreement
        self._attention, self._modality = attention, modality
        self._drawing = Lock()  # matplotlib draws in one thread at a time

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process has a lock of its own."""
        settings = partial(
            PredictionHook,
            self._preview,
            agreement=self._agreement,
            attention=self._attention,
            modality=self._modality,
        )
        return settings, ()

    def __call__(self, prediction: Prediction) -> Mapping[str, Any]:
        """The entries for the batch record."""
        if self._preview is not None:
            with self._drawing:
                self._draw(prediction, self._preview)
        if not self._agreement:
            return {"attention_agreement": None}
        return {"attention_agreement": attention_agreement(prediction).to_json()}

    def _draw(self, prediction: Prediction, folder: Path) -> None:
        figure = overlay(
            prediction.image,
            prediction.segmentation,
            prediction.labels,
            attention=prediction.attention if self._attention else None,
            modality=self._modality,
            title=prediction.case,
        )
        save_figure(figure, folder / f"{prediction.case}.png")
