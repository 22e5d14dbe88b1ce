"""Full-volume validation during training: the real predictor, at a bounded cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.sliding_window import stitch
from attunet.inference.windows.tiling import Tiling
from attunet.nn.weights import save_weights
from attunet.training.callbacks.attention_frames import AttentionRecorder
from attunet.training.callbacks.history import History
from attunet.training.callbacks.schedule import Schedule
from attunet.training.callbacks.window_sample import MOST_WINDOWS, SAMPLED_WINDOWS, sampled_outputs
from attunet.training.losses.targets import annotated_outputs, output_classes
from attunet.training.module import TrainingModule
from attunet.training.patches.context import read_context
from attunet.training.processes import all_gather, rank_and_world_size
from attunet.training.run_folder import FoldTraining
from attunet.training.store import StoredCase

__all__ = ["FullVolumeValidation", "probe_cases", "validated_cases"]

Floats = npt.NDArray[np.float32]

_MAX_CASES = 10
_STEP = PredictOptions().step_size


class FullVolumeValidation(pl.Callback):
    """Dice per label or region of the averaged network on up to ten validation cases, on the model grid.

    Of a case with more than 1024 windows only a sample is run, see `window_sample`.
    Runs after the first epoch, at the end, and in between as often as its share of the time allows (a share of 1: after
    every epoch). The best weights are written each time they improve. Training ends after `patience` validations
    without a better Dice, which `stale` counts. Several processes share the cases and gather all scores.

    Args:
        fold: the fold to validate.
        schedule: its schedule.
        history: receives the scores.
        recorder: receives the attention of its probe cases.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        fold: FoldTraining,
        schedule: Schedule,
        history: History,
        recorder: AttentionRecorder,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cases = validated_cases(fold.validation)
        self._plan, self._config, self._paths = fold.plan, fold.config, fold.paths
        self._schedule = schedule
        self._history = history
        self._recorder = recorder
        self._clock = clock
        self._spent = 0.0
        self._last = 0.0
        self.best = -1.0
        self.stale = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Skip training when patience is already exhausted."""
        trainer.should_stop = trainer.should_stop or self._patience_exhausted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate when due."""
        assert isinstance(pl_module, TrainingModule)
        # By the clock of the first process: all must agree, because they wait for each other's scores.
        if not trainer.strategy.broadcast(self._due(trainer)):
            return
        started = self._clock()
        scores = self.validate(pl_module)
        known = [score for score in scores.values() if not np.isnan(score)]
        mean = float(np.mean(known)) if known else 0.0  # no label in any case: all weights are equally good
        self._history.add_validation(mean, scores)
        self.stale = 0 if mean > self.best else self.stale + 1
        if mean >= self.best:
            self.best = mean
            if trainer.is_global_zero:
                save_weights(pl_module.averaged_network, self._paths.best)
        trainer.should_stop = trainer.should_stop or self._patience_exhausted
        self._recorder.end_validation(trainer, all_gather(self._recorder.take_maps()))
        self._last = self._clock() - started
        self._spent += self._last

    @property
    def notice(self) -> str:
        """Which cases are too large for all of their windows to be run; empty if none is."""
        large = [case.id for case in self._cases if _is_large(case.label(), self._plan)]
        if not large:
            return ""
        return (
            f"{len(large)} of {len(self._cases)} validated cases have more than {MOST_WINDOWS} windows "
            f"({', '.join(large[:3])}{', …' if len(large) > 3 else ''}): during training, their Dice is estimated from "
            f"{SAMPLED_WINDOWS} windows of each, and no attention frames are recorded; the final evaluation runs all"
        )

    def validate(self, module: TrainingModule) -> dict[str, float]:
        """The Dice of each label or region, averaged over the cases in which it occurs.

        A case counts for the labels that were annotated in it; a label that occurs in no case is nan.
        """
        network = module.averaged_network
        was_training = network.training
        engine = TorchEngine(
            None, network, device=module.device.type, batch=1, low_precision=module.config.precision == "bf16"
        )
        rank, world_size = rank_and_world_size()
        dice = all_gather([self.case_dice(case, engine) for case in self._cases[rank::world_size]])
        network.train(was_training)
        scores = {}
        for index, name in enumerate(self._plan.foreground):
            values = [row[index] for row in dice if not np.isnan(row[index])]
            scores[name] = float(np.mean(values)) if values else float("nan")
        return scores

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming."""
        return {"best": self.best, "stale": self.stale, "spent": self._spent, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that state."""
        self.best, self.stale = state_dict["best"], state_dict["stale"]
        self._spent, self._last = state_dict["spent"], state_dict["last"]

    @property
    def _patience_exhausted(self) -> bool:
        return self._config.patience is not None and self.stale >= self._config.patience

    def _due(self, trainer: pl.Trainer) -> bool:
        if trainer.should_stop or self._schedule.progress >= 1 or trainer.current_epoch == 0:
            return True
        share = self._config.validation_fraction
        return share >= 1 or self._spent + self._last <= share * self._schedule.elapsed

    def case_dice(self, case: StoredCase, engine: TorchEngine) -> list[float]:
        """The Dice of each foreground label or region in a case; of a large one, estimated from some of its windows."""
        plan, label = self._plan, case.label()[:]
        context = read_context(case) if plan.context else None
        if _is_large(label, plan):
            parts = sampled_outputs(case.image(), label, engine, plan, context)
            voxels = np.sum([weight * self._voxels(*part) for *part, weight in parts], axis=0)
        else:
            recorded = case in self._recorder.probes
            tiling = Tiling.of(label.shape, plan.patch_size, _STEP)
            blending = Blending.of(plan, PredictOptions(mirror=False, attention=recorded))
            logits, attention = stitch(case.image()[:], engine, tiling, blending, context)
            if recorded:
                self._recorder.add(case, attention)
            voxels = self._voxels(logits, label)
        annotated = annotated_outputs(plan, case.annotated)[-len(plan.foreground) :]
        return [
            2.0 * float(both) / float(either) if known and either else math.nan
            for (both, either), known in zip(voxels, annotated, strict=True)
        ]

    def _voxels(self, logits: Floats, label: Array) -> npt.NDArray[np.int64]:
        """Of each foreground label or region, the voxels in both masks, and the sum of those in each: (labels, 2)."""
        plan, counted = self._plan, label != IGNORED
        # A sigmoid above one half is a logit above zero.
        answer = logits > 0 if plan.regions else logits.argmax(0) == np.arange(len(logits)).reshape(-1, 1, 1, 1)
        rows = []
        for predicted, classes in list(zip(answer, output_classes(plan), strict=True))[-len(plan.foreground) :]:
            reference = np.logical_or.reduce([label == index for index in classes])
            found = predicted & counted
            rows.append((int((reference & found).sum()), int(reference.sum()) + int(found.sum())))
        return np.array(rows, np.int64)


def validated_cases(cases: Sequence[StoredCase]) -> tuple[StoredCase, ...]:
    """The validation cases that are used during training: at most ten, evenly spaced."""
    return tuple(cases)[:: max(1, -(-len(cases) // _MAX_CASES))]


def probe_cases(cases: Sequence[StoredCase], plan: Plan) -> tuple[StoredCase, ...]:
    """The validated cases of which all windows are run, so that their attention can be recorded.

    Args:
        cases: the validation cases.
        plan: the plan to train.
    Returns: these cases, in order.
    """
    return tuple(case for case in validated_cases(cases) if not _is_large(case.label(), plan))


def _is_large(label: Array, plan: Plan) -> bool:
    i, j, k = label.shape
    return len(Tiling.of((i, j, k), plan.patch_size, _STEP)) > MOST_WINDOWS
