"""The start of training: precision, initial weights or those of another model, frozen levels, checks of a recipe."""

from __future__ import annotations

from pathlib import Path

import torch

from attunet.bundle import load_bundle
from attunet.config import Plan, TrainingConfig
from attunet.nn import AttentionUNet
from attunet.nn.transfer import Transfer, freeze_encoder, transfer_weights
from attunet.planning.hardware import cpu_precision
from attunet.training.callbacks.history import require_loggers
from attunet.training.losses.attention import attention_loss
from attunet.training.losses.segmentation import SegmentationLoss
from attunet.training.patches.augmentation import Augmentation
from attunet.training.patches.dataset import require_divisible_batch

__all__ = ["check_start", "emulates_bf16", "settle_precision", "start_network"]


def settle_precision(config: TrainingConfig, accelerator: str) -> TrainingConfig:
    """The recipe with the precision that the accelerator (cpu or cuda) will compute in, instead of auto.

    auto: bf16 where the device has it. A GPU that cannot compute in bf16 uses fp32, whatever the recipe says.
    """
    settled = config.precision
    if accelerator == "cuda":
        possible = torch.cuda.is_bf16_supported(including_emulation=settled == "bf16")
        settled = "bf16" if settled != "fp32" and possible else "fp32"
    elif settled == "auto":
        settled = cpu_precision()
    return config.model_copy(update={"precision": settled})


def emulates_bf16(config: TrainingConfig, accelerator: str) -> str:
    """A warning when training in bf16 is emulated by this CPU; empty when it is not."""
    if accelerator != "cpu" or config.precision != "bf16" or cpu_precision() == "bf16":
        return ""
    return "this CPU has no bf16 and emulates it, many times slower; `precision: fp32` in a recipe would not"


def check_start(plan: Plan, config: TrainingConfig, *, transfer: bool = True) -> Transfer | None:
    """Check a recipe together with a plan, before the time-consuming reading of cases.

    Args:
        plan: the plan.
        config: the recipe.
        transfer: whether `init_weights` are used; a resumed run does not use them.
    Returns: the tensors that `init_weights` provides; None without it.
    Raises: ConfigError, EngineError, BundleError or FormatError, as training would.
    """
    require_loggers(config)
    for each in (plan, plan.coarse) if plan.localizer else (plan,):
        require_divisible_batch(each, config)
        SegmentationLoss(each, config)
        attention_loss(each, config)
        Augmentation(each, config)
    return start_network(plan, config, transfer=transfer)[1]


def start_network(
    plan: Plan, config: TrainingConfig, *, transfer: bool = True
) -> tuple[AttentionUNet, Transfer | None]:
    """The plan's network at the start of training.

    Args:
        plan: the plan.
        config: the recipe.
        transfer: whether `init_weights` are used.
    Returns: the network, and its tensors that come from another model; None without another model.
    Raises: BundleError for an unfinished model folder, FormatError for an unreadable file, ConfigError when none of its
        tensors fits, or when there are fewer levels than should be frozen.
    """
    network = AttentionUNet.from_config(plan.network)
    transferred = _load_fitting(Path(config.init_weights), network, plan) if transfer and config.init_weights else None
    freeze_encoder(network, config.freeze_encoder)
    return network, transferred


def _load_fitting(source: Path, network: AttentionUNet, plan: Plan) -> Transfer:
    """Load the fitting weights of a model folder (its first finished fold) or of a weights file."""
    if not source.is_dir():
        return transfer_weights(source, network, contexts=(len(plan.context), None))
    bundle = load_bundle(source)
    weights = bundle.folds[0].weights
    return transfer_weights(
        weights,
        network,
        outputs=plan.outputs,
        source_outputs=bundle.plan.outputs,
        contexts=(len(plan.context), len(bundle.plan.context)),
    )
