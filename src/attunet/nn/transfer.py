"""Fine-tuning: start a network from other weights, say what fitted and what did not, hold encoder levels fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attunet.errors import BundleError, ConfigError
from attunet.nn.fitting import Fit, SharedLabels, fit_layers
from attunet.nn.foreign import FAMILIES, Weights
from attunet.nn.network import AttentionUNet
from attunet.nn.weights import read_weights

__all__ = ["Transfer", "TransferRow", "freeze_encoder", "transfer_weights"]

_PARTS = {
    "encoder": ("encoder",),
    "gates": ("gates", "gating"),
    "decoder": ("upsamplers", "decoder"),
    "heads": ("heads", "fuse"),
}


@dataclass(frozen=True)
class TransferRow:
    """Tensors of one part of a network.

    Args:
        part: encoder, gates, decoder or heads.
        loaded: tensors copied as they are.
        adapted: tensors fitted to other channels or labels.
        new: tensors left as initialised.
        reason: why some are adapted or new.
    """

    part: str
    loaded: int
    adapted: int
    new: int
    reason: str

    @property
    def total(self) -> int:
        """Tensors of the part."""
        return self.loaded + self.adapted + self.new


@dataclass(frozen=True)
class Transfer:
    """What a network loaded from a file.

    Args:
        rows: one per part that the network has.
        unused: tensors of the file that have no counterpart in the network.
        origin: what the file was recognised as; empty when its names are ours.
    """

    rows: tuple[TransferRow, ...]
    unused: int
    origin: str = ""

    @property
    def loaded(self) -> int:
        """Tensors taken over, adapted ones included."""
        return sum(row.loaded + row.adapted for row in self.rows)

    @property
    def total(self) -> int:
        """Tensors of the network."""
        return sum(row.total for row in self.rows)


def transfer_weights(
    weights: Path,
    network: AttentionUNet,
    *,
    outputs: Sequence[str] | None = None,
    source_outputs: Sequence[str] | None = None,
) -> Transfer:
    """Copy into the network, in place, whatever in the file has its place and shape there.

    Other input channels and other labels are adapted to where that can be done: see `attunet.nn.fitting`.
    Args:
        weights: .safetensors, or a PyTorch or lightning checkpoint, ours or of a known foreign network.
        network: to be filled.
        outputs, source_outputs: what the channels of its logits stand for (Plan.outputs), and those of the file's. The
            heads' rows go by these names; when one is None, the heads must have equally many.
    Returns: what was loaded, adapted and left as initialised.
    Raises: FormatError for a file that cannot be read, ConfigError when no convolution fits or the file holds values
        that are not numbers, BundleError when its heads have not as many outputs as source_outputs names. The network
        is then as it was.
    """
    loaded, origin = _in_our_names(read_weights(weights))
    _check(weights, loaded, source_outputs)
    labels = SharedLabels.of(outputs, source_outputs)
    ours = _learned(network.state_dict())
    fits = fit_layers(ours, loaded, labels)
    if not any(fit.tensor is not None and ours[key].ndim > 2 for key, fit in fits.items()):
        raise _nothing_fits(weights, ours, loaded)
    for key, fit in fits.items():
        if fit.tensor is not None:
            ours[key].copy_(fit.tensor)
    rows = [_row(part, [fit for key, fit in fits.items() if _part(key) == part]) for part in _PARTS]
    return Transfer(tuple(row for row in rows if row.total), len(loaded.keys() - ours.keys()), origin)


def freeze_encoder(network: AttentionUNet, levels: int) -> None:
    """Keep the first `levels` levels of the encoder, the finest first, as they are, their norms' statistics too.

    They no longer learn and compute as in evaluation (no dropout, no statistics of the batch), in training as well.
    Raises: ConfigError when the network has fewer levels.
    """
    stages = list(network.encoder.values())
    if not 0 <= levels <= len(stages):
        raise ConfigError(
            f"freeze_encoder is {levels}, but the encoder has {len(stages)} levels", hint=f"choose 0..{len(stages)}"
        )
    for stage in stages[:levels]:
        stage.requires_grad_(False)
        # a hook, for whoever trains the network sets all of it to training mode, time and again
        stage.register_forward_pre_hook(_evaluating)


def _evaluating(stage: nn.Module, _inputs: tuple[Any, ...]) -> None:
    stage.eval()


def _in_our_names(weights: Weights) -> tuple[Weights, str]:
    """The weights, and the foreign network they were recognised as."""
    family = next((family for family in FAMILIES if family.matches(weights)), None)
    if family is None:
        return _learned(weights), ""
    return _learned({family.translate(key): value for key, value in weights.items()}), family.name


def _learned(state: Mapping[str, Tensor]) -> Weights:
    """All but the batch norms' counters of batches, which would fit anywhere and say nothing."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _part(name: str) -> str:
    return next(part for part, modules in _PARTS.items() if name.split(".")[0] in modules)


def _row(part: str, fits: Sequence[Fit]) -> TransferRow:
    new = sum(fit.tensor is None for fit in fits)
    adapted = sum(fit.tensor is not None and bool(fit.note) for fit in fits)
    notes = Counter(fit.note for fit in fits if fit.note)
    reason = "; ".join(f"{count} {note}" for note, count in notes.items())
    return TransferRow(part, len(fits) - new - adapted, adapted, new, reason)


def _check(path: Path, loaded: Weights, source_outputs: Sequence[str] | None) -> None:
    head = loaded.get("heads.level1.weight")
    if source_outputs is not None and head is not None and len(head) != len(source_outputs):
        raise BundleError(
            f"{path} has {len(head)} outputs, its plan {len(source_outputs)} ({', '.join(source_outputs)})",
            hint="use the weights and the plan of one and the same model",
        )
    for key, value in loaded.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ConfigError(f"{key} in {path} holds values that are not numbers", hint="start from other weights")


def _nothing_fits(path: Path, ours: Weights, loaded: Weights) -> ConfigError:
    key, tensor = next((key, tensor) for key, tensor in ours.items() if tensor.ndim > 2)
    expected = f"{key} {tuple(tensor.shape)}"
    got = (
        f"{tuple(loaded[key].shape)}"
        if key in loaded
        else f"{len(loaded)} others, such as {', '.join(list(loaded)[:3])}"
    )
    return ConfigError(
        f"no convolution in {path} fits the network, which expects {expected} and more; got {got}",
        hint="start from a model of the same dimension, size and family, ours or one that `attunet convert` knows",
    )
