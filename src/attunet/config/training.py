"""The training settings."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from attunet.config.settings import Settings

__all__ = ["TrainingConfig"]


class TrainingConfig(Settings):
    """How a plan is trained; a recipe is a YAML file with any of these keys."""

    epochs: int = Field(200, ge=1, le=10**7, description="Epochs to train when max_time is not set.")
    max_time: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="Wall-clock budget of the training in seconds; the learning rate decays to zero at that time.",
    )
    steps_per_epoch: int = Field(50, ge=1, le=10**7, description="Optimizer steps in one epoch.")
    folds: int = Field(5, ge=2, le=1000, description="Folds of the cross-validation.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of folds, weights, patches and augmentation.")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="Optimizer.")
    learning_rate: float = Field(2e-3, gt=0, le=1e3, description="Learning rate after the warm-up.")
    weight_decay: float = Field(3e-5, ge=0, le=1e3, description="Weight decay.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Nesterov momentum (sgd).")
    schedule_power: float = Field(
        0.9, gt=0, le=100, description="Exponent of the polynomial decay of the learning rate to zero."
    )
    warmup_steps: int = Field(
        20, ge=0, le=10**9, description="Steps over which the learning rate rises to its full value."
    )
    gradient_clip: float = Field(1.0, gt=0, le=1e9, description="Gradients are clipped to this norm.")
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="Decay per step of the averaged (EMA) weights, which are validated and saved; less at first.",
    )
    loss: Literal["dice_ce", "dice", "dice_focal", "tversky_ce"] = Field(
        "dice_ce",
        description="dice_ce: Dice plus cross-entropy; dice: Dice alone (paper); dice_focal: Dice plus focal loss; "
        "tversky_ce: Tversky plus cross-entropy.",
    )
    include_background: bool = Field(False, description="Whether Dice includes the background class (paper: yes).")
    batch_dice: bool = Field(
        True, description="Whether Dice is computed over all patches of a batch together instead of for each patch."
    )
    focal_gamma: float = Field(
        2.0,
        ge=0,
        le=100,
        description="Exponent of the focal loss: larger values give voxels that are already correct less weight.",
    )
    tversky_beta: float = Field(
        0.7,
        ge=0,
        le=1,
        description="Weight of false negatives in the Tversky loss; false positives have the weight 1 - tversky_beta.",
    )
    class_weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=dict, description="Weight of a label in the cross-entropy, by name; 1 by default."
    )
    attention_supervision: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Weight of a loss that opens each gate on the dilated labels and closes it elsewhere.",
    )
    attention_dilation: float = Field(
        3.0, ge=0, le=1e6, description="Millimetres by which the labels are dilated for attention_supervision."
    )
    attention_sparsity: float = Field(
        0.0, ge=0, le=1e6, description="Weight of the gates' mean coefficient in the loss, which closes gates."
    )
    foreground_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of patches centred on a labelled voxel of a random class."
    )
    augmentation: Literal["default", "paper", "none"] = Field(
        "default", description="Set of random transforms: default, those of the paper, or none."
    )
    elastic: float = Field(0.0, ge=0, le=1, description="Probability that a patch is deformed elastically.")
    context_corruption: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Probability that the context of a patch, from the localizers of a cascade, is shifted, widened, "
        "narrowed or left out, so that the network does not trust it blindly.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="Precision of the training. auto: bf16 on a GPU and on a CPU that has it, otherwise fp32; "
        "`training.yaml` records which. A CPU without bf16 emulates it, many times slower.",
    )
    int8: bool = Field(
        True,
        description="After a training on a CPU that computes them natively, build a second graph in 8-bit integers "
        "within the budget, and keep it if the Dice of the validation cases hardly falls. Needs nncf.",
    )
    compile: bool = Field(
        False,
        description="Compile the network with torch.compile, which takes seconds to minutes and gains little on a CPU.",
    )
    validation_fraction: float = Field(
        0.1, gt=0, le=1, description="Largest share of the training time spent on full-volume validation."
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=10**7,
        description="Stop after this many full-volume validations without a better Dice; null never stops early.",
    )
    group_by: str | None = Field(
        None,
        description="Regular expression that matches the patient in a case's name; folds do not divide patients.",
    )
    init_weights: str | None = Field(None, description="Model folder or weights file to start from.")
    freeze_encoder: int = Field(
        0, ge=0, le=16, description="Number of encoder levels, from the finest, whose weights are not trained."
    )
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (), description="Loggers in addition to log.csv; all write to the fold's folder."
    )
    case_images: bool = Field(
        True,
        description="Keep pictures of a few cases in the run: attention frames, and cases in its reports. They "
        "show patients; false keeps none.",
    )
    devices: int = Field(
        1, ge=1, le=4096, description="Processes per machine (GPUs, or CPU processes) that share each batch."
    )
    nodes: int = Field(1, ge=1, le=4096, description="Machines that share each batch.")
    workers: int = Field(1, ge=0, le=4096, description="Processes that prepare patches.")

    @field_validator("group_by")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value
