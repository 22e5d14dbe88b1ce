"""Where a training begins: new weights, or those of another model, with some of them frozen."""

from __future__ import annotations

from pathlib import Path

from attunet.bundle import load_bundle
from attunet.config import Plan, TrainingConfig
from attunet.nn import AttentionUNet
from attunet.nn.transfer import Transfer, freeze_encoder, transfer_weights

__all__ = ["begin_from", "preview_start", "start_network"]


def start_network(plan: Plan, config: TrainingConfig) -> AttentionUNet:
    """The plan's network as its training begins. Raises: see `begin_from` and `freeze_encoder`."""
    network = AttentionUNet.from_config(plan.network)
    if config.init_weights:
        begin_from(Path(config.init_weights), network, plan)
    if config.freeze_encoder:
        freeze_encoder(network, config.freeze_encoder)
    return network


def preview_start(plan: Plan, config: TrainingConfig) -> Transfer:
    """What `init_weights` would give the plan's network. Raises: see `begin_from`."""
    return begin_from(Path(str(config.init_weights)), AttentionUNet.from_config(plan.network), plan)


def begin_from(source: Path, network: AttentionUNet, plan: Plan) -> Transfer:
    """Load what fits of a model folder (its first finished fold) or a weights file; what was loaded and what was not.

    Raises: BundleError for an unfinished folder, FormatError for an unreadable file, ConfigError when nothing fits.
    """
    if not source.is_dir():
        return transfer_weights(source, network)
    bundle = load_bundle(source)
    return transfer_weights(bundle.folds[0].weights, network, outputs=plan.outputs, source_outputs=bundle.plan.outputs)
