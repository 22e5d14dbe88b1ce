"""Another project's weights as a model folder that predicts and shows its attention like any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from attunet.bundle import fold_folder, save_manifest, save_plan
from attunet.config import (
    FingerprintSummary,
    NetworkConfig,
    Normalization,
    Plan,
    Preprocessing,
    load_settings,
)
from attunet.errors import ConfigError
from attunet.export.formats import export_openvino
from attunet.files import staged
from attunet.nn import AttentionUNet, read_weights, save_weights

__all__ = ["ForeignInput", "convert_weights", "with_background"]

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class ForeignInput:
    """The information that a weights file lacks: its labels, and the preprocessing of its images.

    Args:
        labels: name to value, background first; None names the classes class_1, class_2, ...
        spacing: voxel size of the model grid in mm; None assumes 2 mm, or 1 mm for 2-D.
        normalization: normalization of its training images.
        patch: patch size in voxels, depth 1 for 2-D; None assumes 160 x 160 x 96, or 256 x 256 x 1.
    """

    labels: dict[str, int] | None = None
    spacing: tuple[float, float, float] | None = None
    normalization: Literal["zscore", "none"] = "zscore"
    patch: Triple | None = None


def convert_weights(weights: Path, model: Path, given: ForeignInput, *, double_sigmoid: bool | None = None) -> Plan:
    """Write a model folder from a checkpoint of a known network; see `AttentionUNet.from_foreign`.

    A single output channel (sigmoid) becomes two (background 0 and the channel) with the same probabilities.

    Args:
        weights: the checkpoint.
        model: the folder to write.
        given: the information that the checkpoint lacks.
        double_sigmoid: whether the listing's second sigmoid was applied in training; None decides by the keys.
    Returns: the plan that was written.
    Raises: FormatError for unreadable weights, ConfigError for an unknown network or labels that do not fit it.
    """
    network = AttentionUNet.from_foreign(read_weights(weights), double_sigmoid=double_sigmoid)
    if network.config.out_channels == 1:
        network = with_background(network)
    plan = _plan(weights.stem, network.config, given)
    with staged(model) as stage:  # the model folder appears whole or not at all
        save_plan(plan, stage)
        save_weights(network, fold_folder(stage, 0) / "weights.safetensors")
        export_openvino(network, plan, fold_folder(stage, 0) / "graph.xml")
        save_manifest(stage)
    return plan


def with_background(network: AttentionUNet) -> AttentionUNet:
    """A network with one output channel z as one with two, (0, z): their softmax is the sigmoid of z."""
    wider = AttentionUNet.from_config(network.config.model_copy(update={"out_channels": 2}))
    tensors = {name: _widened(name, tensor) for name, tensor in network.state_dict().items()}
    wider.load_state_dict(tensors)
    return wider.eval()


def _widened(name: str, tensor: Tensor) -> Tensor:
    if name == "fuse.weight":  # one column per head becomes a pair of columns, of which only the second counts
        columns = torch.zeros(1, 2 * tensor.shape[1], *tensor.shape[2:])
        columns[:, 1::2] = tensor
        tensor = columns
    if name.startswith(("heads.", "fuse.")):
        return torch.cat([torch.zeros_like(tensor), tensor])
    return tensor


def _plan(name: str, network: NetworkConfig, given: ForeignInput) -> Plan:
    classes = [f"class_{index}" for index in range(1, network.out_channels)]
    labels = given.labels or {"background": 0, **{name: index for index, name in enumerate(classes, start=1)}}
    if len(labels) != network.out_channels:
        raise ConfigError(
            f"{len(labels) - 1} labels were given, the weights have {network.out_channels - 1} besides the background",
            hint="name them all with --labels, in the order of the output channels",
        )
    flat = network.spatial_dims == 2
    spacing = given.spacing or ((1.0, 1.0, 1.0) if flat else (2.0, 2.0, 2.0))
    patch = given.patch or ((256, 256, 1) if flat else (160, 160, 96))
    settings: dict[str, Any] = {
        "name": name,
        "labels": labels,
        "channel_names": tuple(f"channel {index}" for index in range(network.in_channels)),
        "preset": "listing" if network.gate == "additive" else "paper",
        "preprocessing": Preprocessing(
            spacing=spacing, normalization=(Normalization(kind=given.normalization),) * network.in_channels
        ),
        "patch_size": patch,
        "batch_size": 2,
        "network": network,
        "fingerprint": FingerprintSummary(
            cases=0, channels=network.in_channels, median_shape=patch, median_spacing=spacing, label_voxels={}
        ),
        "reasons": {
            "network": f"recognised from the keys and shapes of {name}",
            "spacing": "given with --spacing" if given.spacing else "assumed: not contained in the weights",
            "normalization": "given with --normalization, or assumed: not contained in the weights",
            "patch_size": "given with --patch" if given.patch else "assumed: not contained in the weights",
        },
    }
    return load_settings(Plan, settings)
