"""Where a training begins: new weights or those of another model, some of them frozen; what can be refused then."""

from __future__ import annotations

from pathlib import Path

from attunet.bundle import load_bundle
from attunet.config import Plan, TrainingConfig
from attunet.nn import AttentionUNet
from attunet.nn.transfer import Transfer, freeze_encoder, transfer_weights
from attunet.training.callbacks.history import require_loggers
from attunet.training.losses.attention import attention_loss
from attunet.training.losses.segmentation import SegmentationLoss
from attunet.training.patches.dataset import require_divisible_batch

__all__ = ["check_start", "start_network"]


def check_start(plan: Plan, config: TrainingConfig, *, transfer: bool = True) -> Transfer | None:
    """Try all that a recipe and a plan can have wrong together, before hours go into reading cases.

    Args: whether `init_weights` are used, which a training that goes on does not.
    Returns: what they give the network and what they do not.
    Raises: ConfigError, EngineError, BundleError or FormatError, as the training itself would.
    """
    require_loggers(config)
    require_divisible_batch(plan, config)
    SegmentationLoss(plan, config)
    attention_loss(plan, config)
    return start_network(plan, config, transfer=transfer)[1]


def start_network(
    plan: Plan, config: TrainingConfig, *, transfer: bool = True
) -> tuple[AttentionUNet, Transfer | None]:
    """The plan's network as its training begins, and what it took over from another model, if it shall.

    Raises: BundleError for an unfinished model folder, FormatError for an unreadable file, ConfigError when nothing of
        it fits, or more levels are to be frozen than there are.
    """
    network = AttentionUNet.from_config(plan.network)
    wanted = transfer and config.init_weights
    taken = _begin_from(Path(wanted), network, plan) if wanted else None
    freeze_encoder(network, config.freeze_encoder)
    return network, taken


def _begin_from(source: Path, network: AttentionUNet, plan: Plan) -> Transfer:
    """Load what fits of a model folder (its first finished fold) or of a weights file."""
    if not source.is_dir():
        return transfer_weights(source, network)
    bundle = load_bundle(source)
    weights = bundle.folds[0].weights
    return transfer_weights(weights, network, outputs=plan.outputs, source_outputs=bundle.plan.outputs)
