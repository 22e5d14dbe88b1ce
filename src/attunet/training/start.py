"""The start of training: initial weights or those of another model, frozen levels, and the checks of a recipe."""

from __future__ import annotations

from pathlib import Path

from attunet.bundle import load_bundle
from attunet.config import Plan, TrainingConfig
from attunet.nn import AttentionUNet
from attunet.nn.transfer import Transfer, freeze_encoder, transfer_weights
from attunet.training.callbacks.history import require_loggers
from attunet.training.losses.attention import attention_loss
from attunet.training.losses.segmentation import SegmentationLoss
from attunet.training.patches.augmentation import Augmentation
from attunet.training.patches.dataset import require_divisible_batch

__all__ = ["check_start", "start_network"]


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
    require_divisible_batch(plan, config)
    SegmentationLoss(plan, config)
    attention_loss(plan, config)
    Augmentation(plan, config)
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
        return transfer_weights(source, network)
    bundle = load_bundle(source)
    weights = bundle.folds[0].weights
    return transfer_weights(weights, network, outputs=plan.outputs, source_outputs=bundle.plan.outputs)
