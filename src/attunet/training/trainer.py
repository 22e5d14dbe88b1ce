"""Train the weights of one fold: lightning's Trainer with our callbacks and checkpoints, and how it can end."""

from __future__ import annotations

import logging
import pickle
import signal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch._dynamo.exc import TorchDynamoException

from attunet.config import Plan, TrainingConfig
from attunet.errors import TrainingError, first_line
from attunet.files import staged
from attunet.training.callbacks.animation import EpochFilm
from attunet.training.callbacks.gates import GateWatch
from attunet.training.callbacks.history import History, make_loggers
from attunet.training.callbacks.schedule import Schedule
from attunet.training.callbacks.validation import FullVolumeValidation, validated_cases
from attunet.training.module import DivergenceError, TrainingModule
from attunet.training.patches.dataset import patch_loader
from attunet.training.processes import is_rank_zero
from attunet.training.run_folder import FoldPaths
from attunet.training.start import start_network
from attunet.training.store import StoredCase

__all__ = ["AtomicCheckpointIO", "MakeCallbacks", "Notice", "train_network"]

MakeCallbacks = Callable[[Schedule, History], Sequence[pl.Callback]]
Notice = Callable[[str], None]

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "DataLoader worker (pid")
"""Words of the errors that torch raises when memory runs out on the CPU, or the system ends a process for it."""


def train_network(
    train: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    plan: Plan,
    config: TrainingConfig,
    paths: FoldPaths,
    *,
    accelerator: str = "cpu",
    resume: bool = False,
    callbacks: MakeCallbacks = lambda _schedule, _history: (),
    notice: Notice = lambda _text: None,
) -> History:
    """Train until the budget is used up, from the last checkpoint when there is one and `resume` is set.

    A training that diverges goes back to its last checkpoint and on at a quarter of the rate, once.
    Leaves the best averaged weights, the last checkpoint and the logs under `paths`.
    Raises: TrainingError when it diverges again, memory runs out, the network cannot be compiled or the checkpoint is
        damaged; ConfigError for a batch
        that the processes cannot share; KeyboardInterrupt when it was stopped from outside.
    """
    schedule = Schedule(config)
    try:
        return _train(train, validation, plan, config, paths, schedule, accelerator, resume, callbacks, notice)
    except DivergenceError as error:
        if schedule.calmed:
            raise _hopeless(error) from error
        notice(f"{error.message}; going back to the last checkpoint, and on at a quarter of the rate")
    schedule = Schedule(config, calmer=True)
    try:
        return _train(train, validation, plan, config, paths, schedule, accelerator, True, callbacks, notice)
    except DivergenceError as error:
        raise _hopeless(error) from error


def _train(
    train: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    plan: Plan,
    config: TrainingConfig,
    paths: FoldPaths,
    schedule: Schedule,
    accelerator: str,
    resume: bool,
    callbacks: MakeCallbacks,
    notice: Notice,
) -> History:
    pl.seed_everything(config.seed, workers=False, verbose=False)
    history = History(schedule, paths)
    film = EpochFilm(validated_cases(validation), plan, schedule, paths)
    judge = FullVolumeValidation(validation, plan, config, schedule, history, paths, film)
    watch = GateWatch(schedule, history, notice)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightning's advice on workers and loggers is not the user's concern
        begun = resume and paths.last.exists()
        module = TrainingModule(plan, config, start_network(plan, config, transfer=not begun)[0])
        reporting = callbacks(schedule, history) if is_rank_zero() else ()
        trainer = _trainer(plan, config, paths, accelerator, [schedule, judge, film, watch, history, *reporting])
        loader = patch_loader(train, plan, config, lambda: trainer)
        _fit(trainer, module, loader, paths, resume)
    return history


def _hopeless(error: DivergenceError) -> TrainingError:
    return TrainingError(
        f"{error.message}, also at a quarter of the rate",
        hint="train anew with a lower learning_rate in the recipe (--recipe), or look for strange images with inspect",
    )


def _trainer(
    plan: Plan, config: TrainingConfig, paths: FoldPaths, accelerator: str, callbacks: Sequence[pl.Callback]
) -> pl.Trainer:
    checkpoint = ModelCheckpoint(
        paths.last.parent, filename=paths.last.stem, enable_version_counter=False, save_on_train_epoch_end=True
    )
    return pl.Trainer(
        accelerator="gpu" if accelerator == "cuda" else "cpu",
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=_strategy(config, accelerator),
        use_distributed_sampler=False,  # the patches of a step are divided by our own order
        precision=_precision(config, accelerator),
        max_epochs=-1,
        limit_train_batches=config.steps_per_epoch * plan.accumulation,
        accumulate_grad_batches=plan.accumulation,
        logger=make_loggers(config, paths, plan.name) if is_rank_zero() else False,
        callbacks=[*callbacks, checkpoint],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=config.steps_per_epoch,
    )


def _strategy(config: TrainingConfig, accelerator: str) -> str | DDPStrategy:
    if config.devices * config.nodes == 1:
        return "auto"
    return DDPStrategy(process_group_backend="nccl" if accelerator == "cuda" else "gloo")


def _fit(trainer: pl.Trainer, module: TrainingModule, loader: object, paths: FoldPaths, resume: bool) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, loader, ckpt_path=paths.last if resume and paths.last.exists() else None)
    except SystemExit:
        # Lightning turns Ctrl-C and SIGTERM into an exit of its own, and leaves Ctrl-C ignored from then on.
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    except TorchDynamoException as error:
        hint = "leave `compile: true` out of the recipe and add --resume, or install a C++ compiler"
        raise TrainingError(f"torch.compile failed here: {first_line(error)}", hint=hint) from error
    except RuntimeError as error:
        if trainer.received_sigterm:  # it reached a process that prepares patches, too
            raise KeyboardInterrupt from None
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
            hint = "choose a smaller --size, or free memory and go on with --resume"
            raise TrainingError("the training ran out of memory", hint=hint) from error
        raise


def _precision(config: TrainingConfig, accelerator: str) -> str:
    if config.precision == "fp32":
        return "32-true"
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "32-true"


logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writer stages in the system's temporary folder, from where a move to another disk can be cut."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside the target, then rename. Raises: FormatError when the disk is full."""
        with staged(Path(path)) as stage:
            torch.save(checkpoint, stage)

    def load_checkpoint(self, path: str | Path, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Tensors and plain values only, never pickled code. Raises: TrainingError for a damaged file."""
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"the checkpoint {path} cannot be read: {' '.join(str(error).split())[:160]}",
                hint="delete the fold's folder and train it again without --resume",
            ) from error
        return content
