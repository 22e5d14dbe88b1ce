"""Fine-tuning: initialize a network with other weights, report what fitted and what did not, freeze encoder levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attunet.errors import BundleError, ConfigError
from attunet.nn.fitting import ContextCounts, Fit, SharedLabels, fit_layers
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
        loaded: tensors copied unchanged.
        adapted: tensors adapted to other channels or labels.
        new: tensors left as initialized.
        reason: why some are adapted or new.
    """

    part: str
    loaded: int
    adapted: int
    new: int
    reason: str

    @property
    def total(self) -> int:
        """Number of tensors in the part."""
        return self.loaded + self.adapted + self.new


@dataclass(frozen=True)
class Transfer:
    """The result of loading weights from a file.

    Args:
        rows: one per part that the network has.
        unused: tensors of the file that have no counterpart in the network.
        origin: the recognised origin of the file; empty for weights of attunet.
    """

    rows: tuple[TransferRow, ...]
    unused: int
    origin: str = ""

    @property
    def loaded(self) -> int:
        """Number of loaded tensors, including adapted ones."""
        return sum(row.loaded + row.adapted for row in self.rows)

    @property
    def total(self) -> int:
        """Number of tensors in the network."""
        return sum(row.total for row in self.rows)


def transfer_weights(
    weights: Path,
    network: AttentionUNet,
    *,
    outputs: Sequence[str] | None = None,
    source_outputs: Sequence[str] | None = None,
    contexts: ContextCounts = (0, 0),
) -> Transfer:
    """Copy the tensors of a file that fit into the network, in place.

    Tensors are adapted to other input channels and labels if possible: see `attunet.nn.fitting`.
    Args:
        weights: .safetensors, or a PyTorch or lightning checkpoint, from attunet or from a known foreign network.
        network: the network to initialize.
        outputs, source_outputs: what the channels of its logits stand for (Plan.outputs), and those of the file's. The
            heads' rows go by these names; when one is None, the heads must have equally many.
        contexts: how many of the last input channels are context from localizers, here and in the file.
    Returns: which tensors were loaded, adapted and left as initialized.
    Raises: FormatError for a file that cannot be read or contains nan, ConfigError when no convolution fits,
        BundleError when the number of its outputs is not that of source_outputs. The network is unchanged then.
    """
    loaded, origin = _in_our_names(read_weights(weights))
    _check(weights, loaded, source_outputs)
    labels = SharedLabels.of(outputs, source_outputs)
    ours = _learned(network.state_dict())
    fits = fit_layers(ours, loaded, labels, contexts)
    if not any(fit.tensor is not None and ours[key].ndim > 2 for key, fit in fits.items()):
        raise _nothing_fits(weights, ours, loaded)
    for key, fit in fits.items():
        if fit.tensor is not None:
            ours[key].copy_(fit.tensor)
    rows = [_row(part, [fit for key, fit in fits.items() if _part(key) == part]) for part in _PARTS]
    return Transfer(tuple(row for row in rows if row.total), len(loaded.keys() - ours.keys()), origin)


def freeze_encoder(network: AttentionUNet, levels: int) -> None:
    """Freeze the first `levels` levels of the encoder, the finest first, including the statistics of their norms.

    They no longer learn, and stay in evaluation mode (no dropout, no batch statistics) during training.
    Raises: ConfigError when the network has fewer levels.
    """
    stages = list(network.encoder.values())
    if not 0 <= levels <= len(stages):
        raise ConfigError(
            f"freeze_encoder is {levels}, but the encoder has {len(stages)} levels", hint=f"choose 0..{len(stages)}"
        )
    for stage in stages[:levels]:
        stage.requires_grad_(False)
        # a hook, because trainers repeatedly set the whole network to training mode
        stage.register_forward_pre_hook(_evaluating)


def _evaluating(stage: nn.Module, _inputs: tuple[Any, ...]) -> None:
    stage.eval()


def _in_our_names(weights: Weights) -> tuple[Weights, str]:
    """The weights under our names, and the recognised foreign network."""
    family = next((family for family in FAMILIES if family.matches(weights)), None)
    if family is None:
        return _learned(weights), ""
    return _learned({family.translate(key): value for key, value in weights.items()}), family.name


def _learned(state: Mapping[str, Tensor]) -> Weights:
    """All tensors except the batch norms' counters, which would fit anywhere and mean nothing."""
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
        hint="start from a model of the same dimension, size and family, or weights that `attunet convert` recognises",
    )
