"""Train the weights of one fold: lightning's Trainer with our callbacks and checkpoints, and its failures."""

from __future__ import annotations

import logging
import pickle
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch._dynamo.exc import TorchDynamoException

from attunet.config import TrainingConfig
from attunet.errors import FormatError, TrainingError, first_line
from attunet.files import staged
from attunet.training.callbacks.attention_frames import AttentionRecorder
from attunet.training.callbacks.gates import GateMonitor
from attunet.training.callbacks.history import History, make_loggers
from attunet.training.callbacks.schedule import Schedule
from attunet.training.callbacks.threads import ThreadsByLoad, adapts_threads
from attunet.training.callbacks.validation import FullVolumeValidation, probe_cases
from attunet.training.module import DivergenceError, TrainingModule
from attunet.training.patches.dataset import patch_loader
from attunet.training.processes import is_rank_zero
from attunet.training.run_folder import FoldTraining
from attunet.training.start import settle_precision, start_network

__all__ = ["AtomicCheckpointIO", "MakeCallbacks", "TrainerOptions", "Warn", "train_network"]

MakeCallbacks = Callable[[Schedule, History], Sequence[pl.Callback]]
Warn = Callable[[str], None]

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "DataLoader worker (pid")
"""Parts of torch's error messages when memory runs out on the CPU, or when the system kills a worker."""


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The options of the trainer.

    Args:
        accelerator: cpu or cuda.
        resume: continue from the last checkpoint when there is one.
        callbacks: creates the caller's callbacks, in the first process.
        warn: receives warnings.
    """

    accelerator: str = "cpu"
    resume: bool = False
    callbacks: MakeCallbacks = lambda _schedule, _history: ()
    warn: Warn = lambda _text: None


def train_network(fold: FoldTraining, options: TrainerOptions = TrainerOptions()) -> History:
    """Train until the budget is used up; writes the best averaged weights, the last checkpoint and the logs.

    After divergence, training resumes once from its last checkpoint with a quarter of the learning rate.
    Raises: TrainingError when it diverges again, memory runs out, the network cannot be compiled or the checkpoint is
        damaged; ConfigError for a batch that the processes cannot share; KeyboardInterrupt when it was interrupted.
    """
    fold = replace(fold, config=settle_precision(fold.config, options.accelerator))
    schedule = Schedule(fold.config)
    try:
        return _train(fold, schedule, options)
    except DivergenceError as error:
        if schedule.rate_reduced:
            raise _diverged_again(error) from error
        options.warn(f"{error.message}; resuming from the last checkpoint with a quarter of the learning rate")
    schedule = Schedule(fold.config, reduce_rate=True)
    try:
        return _train(fold, schedule, replace(options, resume=True))
    except DivergenceError as error:
        raise _diverged_again(error) from error


def _train(fold: FoldTraining, schedule: Schedule, options: TrainerOptions) -> History:
    plan, config, paths = fold.plan, fold.config, fold.paths
    pl.seed_everything(config.seed, workers=False, verbose=False)
    history = History(schedule, paths)
    shown = probe_cases(fold.validation, plan) if config.case_images else ()
    recorder = AttentionRecorder(shown, plan, schedule, paths)
    validation = FullVolumeValidation(fold, schedule, history, recorder)
    if validation.notice:
        options.warn(validation.notice)
    monitor = GateMonitor(schedule, history, options.warn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightning's advice on workers and loggers does not concern the user
        resumed = options.resume and paths.last.exists()
        module = TrainingModule(plan, config, start_network(plan, config, transfer=not resumed)[0])
        more = options.callbacks(schedule, history) if is_rank_zero() else ()
        threads = [ThreadsByLoad(options.warn)] if adapts_threads(config, options.accelerator) else []
        callbacks = [schedule, *threads, validation, recorder, monitor, history, *more]
        trainer = _trainer(fold, options.accelerator, callbacks)
        loader = patch_loader(fold.train, plan, config, lambda: trainer)
        _fit(trainer, module, loader, paths.last if resumed else None)
    if is_rank_zero() and not paths.best.exists():
        raise TrainingError(
            f"the time of {paths.name} ended before its first step",
            hint="allow more with --max-time, and continue with --resume",
        )
    return history


def _diverged_again(error: DivergenceError) -> TrainingError:
    return TrainingError(
        f"{error.message}, also with a quarter of the learning rate",
        hint="train again with a lower learning_rate in the recipe (--recipe), or check the images with inspect",
    )


def _trainer(fold: FoldTraining, accelerator: str, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    plan, config, paths = fold.plan, fold.config, fold.paths
    checkpoint = ModelCheckpoint(
        paths.last.parent, filename=paths.last.stem, enable_version_counter=False, save_on_train_epoch_end=True
    )
    return pl.Trainer(
        accelerator="gpu" if accelerator == "cuda" else "cpu",
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=_strategy(config, accelerator),
        use_distributed_sampler=False,  # the patches of a step are divided by our own order
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        max_epochs=-1,
        limit_train_batches=config.steps_per_epoch * plan.accumulation,
        accumulate_grad_batches=plan.accumulation,
        logger=make_loggers(config, paths, plan.name) if is_rank_zero() else False,
        callbacks=[*callbacks, checkpoint],
        plugins=[AtomicCheckpointIO(), *_environment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=config.steps_per_epoch,
    )


def _strategy(config: TrainingConfig, accelerator: str) -> str | DDPStrategy:
    if config.devices * config.nodes == 1:
        return "auto"
    return DDPStrategy(process_group_backend="nccl" if accelerator == "cuda" else "gloo")


def _environment() -> list[SLURMEnvironment]:
    """Under SLURM: without lightning's requeueing, which would take SIGUSR1 and write checkpoints of its own."""
    in_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if in_slurm else []


def _fit(trainer: pl.Trainer, module: TrainingModule, loader: object, checkpoint: Path | None) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, loader, ckpt_path=checkpoint)
    except SystemExit:
        # Lightning turns Ctrl-C and SIGTERM into SystemExit, and leaves Ctrl-C ignored from then on.
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    except FormatError as error:  # a checkpoint, weights or the log could not be written
        hint = "make room, or the folder writable, and continue with --resume: the last checkpoint is kept"
        raise FormatError(error.message, hint=hint) from error
    except TorchDynamoException as error:
        hint = "leave `compile: true` out of the recipe and add --resume, or install a C++ compiler"
        raise TrainingError(f"torch.compile failed here: {first_line(error)}", hint=hint) from error
    except RuntimeError as error:
        if trainer.received_sigterm:  # it reached a process that prepares patches, too
            raise KeyboardInterrupt from None
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
            hint = "choose a smaller --size, or free memory and continue with --resume"
            raise TrainingError("training ran out of memory", hint=hint) from error
        raise


class AtomicCheckpointIO(TorchCheckpointIO):
    """Atomic checkpoints.

    Lightning's own writer stages them in the system's temporary folder, and a move to another disk can be interrupted.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write next to the target, then rename.

        Args:
            checkpoint: tensors and plain values by name.
            path: the file.
            storage_options: part of lightning's interface, not used.
        Raises: FormatError when the disk is full.
        """
        with staged(Path(path)) as stage:
            torch.save(checkpoint, stage)

    def load_checkpoint(self, path: str | Path, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Tensors and plain values only, never pickled code. Raises: TrainingError for a damaged file."""
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"the checkpoint {path} cannot be read: {first_line(error)}",
                hint="delete the fold's folder and train it again without --resume",
            ) from error
        return content


logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
