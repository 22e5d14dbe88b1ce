"""The settings of a training."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from attunet.config.settings import Settings

__all__ = ["TrainingConfig"]


class TrainingConfig(Settings):
    """How a plan is trained; a recipe is a YAML file with any of these keys."""

    epochs: int = Field(200, ge=1, description="Epochs to train, when no max_time is given.")
    max_time: float | None = Field(None, gt=0, description="Wall-clock budget of the training in seconds.")
    steps_per_epoch: int = Field(50, ge=1, description="Optimiser steps in one epoch.")
    folds: int = Field(5, ge=2, description="Folds of the cross-validation.")
    seed: int = Field(0, ge=0, description="Seed of folds, weights, patches and augmentation.")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="Optimiser.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate at the start.")
    weight_decay: float = Field(3e-5, ge=0, description="Weight decay.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Nesterov momentum (sgd).")
    schedule_power: float = Field(0.9, gt=0, description="Exponent of the polynomial decay to zero.")
    warmup_steps: int = Field(20, ge=0, description="Steps over which the rate grows to its start value.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay per step of the averaged weights that are kept.")
    loss: Literal["dice_ce", "dice", "dice_focal", "tversky_ce"] = Field(
        "dice_ce",
        description="Dice plus cross-entropy; Dice alone (paper); Dice plus focal loss; Tversky plus cross-entropy.",
    )
    include_background: bool = Field(False, description="Whether Dice counts the background class (paper: yes).")
    batch_dice: bool = Field(True, description="Dice over all patches of a batch together, or of each patch.")
    focal_gamma: float = Field(2.0, ge=0, description="How little the focal loss counts what is right already.")
    tversky_beta: float = Field(
        0.7, ge=0, le=1, description="Weight of missed voxels in the Tversky loss; false alarms weigh the rest to 1."
    )
    class_weights: dict[str, float] = Field(
        default_factory=dict, description="Weight of a label in the cross-entropy, by name; 1 where nothing is said."
    )
    attention_supervision: float = Field(
        0.0, ge=0, description="Weight of a loss that asks each gate to open on the dilated labels and close elsewhere."
    )
    attention_dilation: float = Field(
        3.0, ge=0, description="Millimetres by which the labels grow before gates are supervised by them."
    )
    attention_sparsity: float = Field(0.0, ge=0, description="Weight of the gates' mean coefficient in the loss.")
    foreground_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of patches centred on a labelled voxel, classes in turn."
    )
    augmentation: Literal["default", "paper", "none"] = Field("default", description="Set of random transforms.")
    elastic: float = Field(0.0, ge=0, le=1, description="Share of patches that are deformed elastically, too.")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Arithmetic of the training.")
    compile: bool = Field(
        False,
        description="torch.compile the network: seconds to minutes at the start, for steps that gain little on a CPU.",
    )
    validation_fraction: float = Field(
        0.1, gt=0, le=1, description="Largest share of the training time spent on full-volume validation."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many full-volume validations without a better Dice; null never stops."
    )
    group_by: str | None = Field(
        None, description="Regular expression whose match in a case's name is its patient; a patient stays on one side."
    )
    init_weights: str | None = Field(None, description="Model folder or weights file to start from.")
    freeze_encoder: int = Field(0, ge=0, description="Encoder levels, from the finest, whose weights stay as they are.")
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="Where to log beside log.csv; all of them to files in the fold's folder."
    )
    devices: int = Field(1, ge=1, description="Processes (GPUs, or CPU processes) that share each batch, per node.")
    nodes: int = Field(1, ge=1, description="Machines that share each batch.")
    workers: int = Field(1, ge=0, description="Processes that prepare patches.")

    @field_validator("group_by")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value
