"""Fit the layers of one network into another: unchanged, adapted to other channels or labels, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from attunet.nn.foreign import Weights

__all__ = ["ContextCounts", "Fit", "SharedLabels", "fit_layers"]

ContextCounts = tuple[int, int | None]
"""How many of the last input channels are context from localizers, here and in the file; None when that is unknown:
as many as here if the shapes agree, otherwise none."""

# the layers that see the image itself: the only ones whose inputs depend on its channels
_FIRST = ("encoder.level1.convs.0", "encoder.level1.shortcut")
_HEADS = ("heads", "fuse")


@dataclass(frozen=True)
class Fit:
    """The values for one of our tensors, None to keep its initialization; the note says why it is not a copy."""

    tensor: Tensor | None
    note: str = ""


@dataclass(frozen=True)
class SharedLabels:
    """The labels shared by the heads of two networks.

    Args:
        rows, sources: rows of our heads and the file's rows of the same labels, in pairs.
        sizes: number of labels here and in the file.
        note: the shared and the new labels, in words.
    """

    rows: Tensor
    sources: Tensor
    sizes: tuple[int, int]
    note: str

    @classmethod
    def of(cls, outputs: Sequence[str] | None, source_outputs: Sequence[str] | None) -> Self | None:
        """The shared labels; None when heads can only be loaded unchanged."""
        if outputs is None or source_outputs is None or tuple(outputs) == tuple(source_outputs):
            return None
        ours, theirs = list(outputs), list(source_outputs)
        shared = [name for name in ours if name in theirs]
        new = ", ".join(name for name in ours if name not in theirs)
        note = f"with the rows of {', '.join(shared)}" + (f" (new: {new})" if new else "")
        return cls(
            torch.tensor([ours.index(name) for name in shared]),
            torch.tensor([theirs.index(name) for name in shared]),
            (len(ours), len(theirs)),
            note if shared else "without a label of the same name",
        )

    def fit(self, layer: str, new: Tensor, old: Tensor) -> Fit:
        """Copy the rows of shared labels into a head's tensor.

        Args:
            layer: name of the layer.
            new: our tensor: a head's (labels, ...), or the weight (labels, heads * labels, ...) of their fusion.
            old: the file's tensor.
        Returns: the merged tensor, or the reason why there is none.
        """
        if not len(self.rows):
            return Fit(None, self.note)
        merged, rows, sources = new.clone(), self.rows, self.sources
        ours, theirs = self.sizes
        if layer == "fuse" and new.ndim > 1:
            if new.shape[1] * theirs != old.shape[1] * ours:
                return Fit(None, "of another shape")
            blocks, given = merged.unflatten(1, (-1, ours)), old.unflatten(1, (-1, theirs))
            blocks[rows[:, None], :, rows] = given[sources[:, None], :, sources].to(new)
        elif new.shape[1:] == old.shape[1:]:
            merged[rows] = old[sources].to(new)
        else:
            return Fit(None, "of another shape")
        return Fit(merged, self.note)


def fit_layers(
    ours: Weights, loaded: Weights, labels: SharedLabels | None, contexts: ContextCounts = (0, 0)
) -> dict[str, Fit]:
    """Fit the tensors of a file to ours.

    A layer is loaded completely or not at all: a norm or bias is meaningless without its convolution, and so is a
    gate's psi without its theta and phi. If the input channels of the first convolution differ, its weights are
    averaged, repeated and scaled to keep the magnitude of its activations. Context channels are kept apart from those
    of the image: where their number differs, they start with weights of zero.
    Args:
        ours: tensors of the network by name.
        loaded: tensors of the file by name.
        labels: labels that both share; None to load heads only unchanged.
        contexts: see `ContextCounts`.
    Returns: the fit of each of our tensors, by name.
    """
    fits: dict[str, Fit] = {}
    for layer, tensors in _layers(ours).items():
        fits |= _fit_layer(layer, tensors, loaded, labels, contexts)
    return fits


def _layers(tensors: Weights) -> dict[str, Weights]:
    """The tensors of each convolution with its norm, and of each gate, by the layer's name."""
    layers: dict[str, Weights] = {}
    for key, value in tensors.items():
        module = key.rpartition(".")[0]
        layer = module.removesuffix(".conv").removesuffix(".norm")
        layers.setdefault(".".join(key.split(".")[:2]) if key.startswith("gates.") else layer, {})[key] = value
    return layers


def _fit_layer(
    layer: str, tensors: Weights, loaded: Weights, labels: SharedLabels | None, contexts: ContextCounts
) -> dict[str, Fit]:
    fits = {key: _fit(layer, new, loaded.get(key), labels, contexts) for key, new in tensors.items()}
    unfit = next((fits[key] for key, new in tensors.items() if new.ndim > 2 and fits[key].tensor is None), None)
    return fits if unfit is None else dict.fromkeys(fits, unfit)


def _fit(layer: str, new: Tensor, old: Tensor | None, labels: SharedLabels | None, contexts: ContextCounts) -> Fit:
    if old is None:
        return Fit(None, "not in the file")
    if labels is not None and layer.split(".")[0] in _HEADS:
        return labels.fit(layer, new, old)
    first = layer in _FIRST and old.ndim == new.ndim > 1
    if old.shape == new.shape and not (first and contexts[1] not in (None, contexts[0])):
        return Fit(old)
    if first and (len(old), *old.shape[2:]) == (len(new), *new.shape[2:]):
        return _fit_inputs(new, old, contexts)
    return Fit(None, "of another shape")


def _fit_inputs(new: Tensor, old: Tensor, contexts: ContextCounts) -> Fit:
    """The weights of a first convolution for other channels of the image, or of the context that follows them."""
    ours, theirs = contexts[0], contexts[1] or 0
    image, context = old.float().split([old.shape[1] - theirs, theirs], dim=1)
    given, channels = image.shape[1], new.shape[1] - ours
    if given != channels:
        image = (image.sum(1, keepdim=True) / channels).expand(-1, channels, *new.shape[2:])
    if ours != theirs:
        context = torch.zeros_like(new[:, :ours], dtype=image.dtype)
    notes = (
        f"from {given} to {channels} input channels" if given != channels else "",
        f"with {ours} instead of {theirs} channels of context, which start at zero" if ours != theirs else "",
    )
    return Fit(torch.cat([image, context], 1), ", ".join(filter(None, notes)))
