"""Weights of other projects' Attention U-Nets: recognised by their keys, described as settings, and renamed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from attunet.config import NetworkConfig, load_settings
from attunet.errors import ConfigError
from attunet.names import listed
from attunet.networks import listing_network, paper_network

__all__ = ["FAMILIES", "Family", "ForeignNetwork", "Weights", "misfit", "read_foreign", "recognize", "unwrap"]

Weights = dict[str, Tensor]

_LEVELS = 5
_PREFIXES = ("module.", "_orig_mod.", "_forward_module.", "model.", "net.")
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
)
_COUNTED = ("total_ops", "total_params")
"""Buffers that thop's counting leaves in every module."""
_BESIDE = re.compile(r"(?i)(\w+_)?(loss|criterion|metric|acc|accuracy|dice|iou|f1|auroc|confmat|bce|ce)(_\w+|fn|s)?")
"""Names of modules that a training keeps beside its network: losses and metrics."""


@dataclass(frozen=True)
class Family:
    """A network of another project.

    Args:
        name: its name in messages.
        present, absent: keys that its weights have, and keys that only the weights of a related family have.
        names: translates its module names to ours.
        describe: reads its settings from the shapes of its weights; KeyError when one is missing.
        double_sigmoid: whether the original applies the sigmoid twice.
    """

    name: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    names: dict[str, str]
    describe: Callable[[Weights], NetworkConfig]
    double_sigmoid: bool = False

    def matches(self, weights: Weights) -> bool:
        """Whether these keys belong to this family."""
        return all(key in weights for key in self.present) and not any(key in weights for key in self.absent)

    def translate(self, key: str) -> str:
        """Our name for a key; unknown keys are unchanged and rejected by strict loading."""
        module, _, parameter = key.rpartition(".")
        return f"{self.names[module]}.{parameter}" if module in self.names else key


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """Another project's network, translated to ours.

    Args:
        family: the recognised family.
        config: settings of our network that computes the same function.
        weights: its tensors under our names.
    """

    family: Family
    config: NetworkConfig
    weights: Weights


def _conv_norm(foreign: str, ours: str, first: int = 0) -> dict[str, str]:
    return {f"{foreign}.{first}": f"{ours}.conv", f"{foreign}.{first + 1}": f"{ours}.norm"}


def _listing_names() -> dict[str, str]:
    """Translate the listing's numbers: it counts the bottleneck's upsampling as 5, we count its skip's level, 4."""
    names = {"Conv_1x1": "heads.level1"}
    for level in range(1, _LEVELS + 1):
        for index in (0, 1):
            names |= _conv_norm(f"Conv{level}.conv", f"encoder.level{level}.convs.{index}", 3 * index)
            names |= _conv_norm(f"Up_conv{level}.conv", f"decoder.level{level - 1}.convs.{index}", 3 * index)
        upsampler, gate = f"upsamplers.level{level - 1}", f"gates.level{level - 1}"
        names |= {f"Up{level}.up": f"{upsampler}.expand"}
        names |= _conv_norm(f"Up{level}.Conv", f"{upsampler}.refine")
        names |= _conv_norm(f"Up{level}.up", f"{upsampler}.refine", 1)
        for foreign, ours in (("W_x", "theta"), ("W_g", "phi"), ("psi", "psi")):
            names |= _conv_norm(f"Att{level}.{foreign}", f"{gate}.{ours}")
    return names


def _paper_names() -> dict[str, str]:
    names = {"final": "fuse", "dsv1": "heads.level1", **_conv_norm("gating.conv1", "gating")}
    for level in range(1, _LEVELS + 1):
        names[f"dsv{level}.dsv.0"] = f"heads.level{level}"
        encoder = f"conv{level}" if level < _LEVELS else "center"
        for index in (0, 1):
            names |= _conv_norm(f"{encoder}.conv{index + 1}", f"encoder.level{level}.convs.{index}")
            names |= _conv_norm(f"up_concat{level}.conv.conv{index + 1}", f"decoder.level{level}.convs.{index}")
            block, gate = f"attentionblock{level}.gate_block_{index + 1}", f"gates.level{level}.gates.{index}"
            names |= {f"{block}.{layer}": f"{gate}.{layer}" for layer in ("theta", "phi", "psi")}
            names |= _conv_norm(f"{block}.W", f"{gate}.project")
        names |= _conv_norm(f"attentionblock{level}.combine_gates", f"gates.level{level}.combine")
    return names


def _describe_listing(upsample: Literal["transpose", "nearest"], weights: Weights) -> NetworkConfig:
    first = [weights[f"Conv{level}.conv.0.weight"] for level in range(1, _LEVELS + 1)]
    config = listing_network(
        upsample,
        in_channels=first[0].shape[1],
        out_channels=weights["Conv_1x1.weight"].shape[0],
        channels=[weight.shape[0] for weight in first],
    )
    inner = tuple(weights[f"Att{level}.psi.0.weight"].shape[1] for level in range(2, _LEVELS + 1))
    return config.model_copy(update={"gate_channels": inner})


def _describe_paper(variant: Literal["single", "multi", "unet"], weights: Weights) -> NetworkConfig:
    first = [weights[f"conv{level}.conv1.0.weight"] for level in range(1, _LEVELS)]
    config = paper_network(
        variant,
        in_channels=first[0].shape[1],
        out_channels=weights["final.weight"].shape[0],
        spatial_dims=first[0].ndim - 2,
        channels=[weight.shape[0] for weight in (*first, weights["center.conv1.0.weight"])],
    )
    if variant == "unet":
        return config
    inner = tuple(weights[f"attentionblock{level}.gate_block_1.psi.weight"].shape[1] for level in range(2, _LEVELS))
    return config.model_copy(update={"gate_channels": inner})


_GATE_1, _GATE_2 = (f"attentionblock4.gate_block_{index}.psi.weight" for index in (1, 2))
_PAPER = ("up_concat4.conv.conv1.0.weight", "final.weight", "dsv1.weight")
_LISTING = ("Conv_1x1.weight", "Att5.psi.0.weight")

FAMILIES = (
    Family(
        name="AttU_Net listing, transposed convolution (keys Up5.up.weight, Up5.Conv.0.weight)",
        present=(*_LISTING, "Up5.up.weight", "Up5.Conv.0.weight"),
        absent=(),
        names=_listing_names(),
        describe=partial(_describe_listing, "transpose"),
        double_sigmoid=True,
    ),
    Family(
        name="AttU_Net listing, nearest upsampling (keys Up5.Conv.0.weight)",
        present=(*_LISTING, "Up5.Conv.0.weight"),
        absent=("Up5.up.weight",),
        names=_listing_names(),
        describe=partial(_describe_listing, "nearest"),
        double_sigmoid=True,
    ),
    Family(
        name="popular AttU_Net with one sigmoid (keys Up5.up.1.weight)",
        present=(*_LISTING, "Up5.up.1.weight"),
        absent=(),
        names=_listing_names(),
        describe=partial(_describe_listing, "nearest"),
    ),
    Family(
        name="the paper authors' unet_CT_multi_att_dsv (keys attentionblock4.gate_block_2...)",
        present=(*_PAPER, _GATE_1, _GATE_2),
        absent=(),
        names=_paper_names(),
        describe=partial(_describe_paper, "multi"),
    ),
    Family(
        name="the paper authors' unet_CT_single_att_dsv (keys attentionblock4.gate_block_1...)",
        present=(*_PAPER, _GATE_1),
        absent=(_GATE_2,),
        names=_paper_names(),
        describe=partial(_describe_paper, "single"),
    ),
    Family(
        name="the paper authors' unet_CT_dsv (keys up_concat4..., dsv1..., final)",
        present=_PAPER,
        absent=(_GATE_1, _GATE_2),
        names=_paper_names(),
        describe=partial(_describe_paper, "unet"),
    ),
)
"""All known families; at most one matches a set of weights."""


def read_foreign(state_dict: Mapping[str, object], *, double_sigmoid: bool | None = None) -> ForeignNetwork:
    """Settings and weights, under our names, of another project's network.

    Args:
        state_dict: the weights, or a checkpoint that contains them; `module.` and similar prefixes are removed, losses,
            metrics and counters beside the network left out with a warning.
        double_sigmoid: whether the gates apply the sigmoid twice; None does what the original does.
    Raises: ConfigError when the weights belong to no known family, or only partly.
    """
    weights = unwrap(state_dict)
    family = recognize(weights)
    if beside := [key for key in weights if _is_beside(key, family)]:
        warnings.warn(f"left out, not part of the network: {listed(beside, 4)}", UserWarning, stacklevel=2)
    weights = {key: value for key, value in weights.items() if key not in beside}
    twice = family.double_sigmoid if double_sigmoid is None else double_sigmoid
    translated = {family.translate(key): value for key, value in weights.items()}
    return ForeignNetwork(family=family, config=_settings(family, weights, twice), weights=translated)


def recognize(weights: Weights) -> Family:
    """The family that these keys belong to. Raises: ConfigError naming the known ones and some of the keys."""
    for family in FAMILIES:
        if family.matches(weights):
            return family
    known = "; ".join(family.name for family in FAMILIES)
    raise ConfigError(
        f"weights of an unknown network, with {len(weights)} keys such as {', '.join(list(weights)[:4])}",
        hint=f"known are: {known}",
    )


def unwrap(checkpoint: Mapping[str, object]) -> Weights:
    """The tensors in a checkpoint, without the prefixes that training wrappers add.

    Raises: ConfigError when there are none.
    """
    for wrapper in _WRAPPERS:
        inner = checkpoint.get(wrapper)
        if isinstance(inner, Mapping):
            return unwrap(inner)
    weights = {str(key): value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    if not weights:
        raise ConfigError(f"no weights found under the keys: {', '.join(map(str, list(checkpoint)[:6])) or 'none'}")
    for prefix in _PREFIXES:
        inside = [key for key in weights if key.startswith(prefix)]
        # What a training keeps beside its network, such as the weights of a loss, has no prefix and no convolution.
        beside = {key: value for key, value in weights.items() if not key.startswith(prefix)}
        if inside and all(value.ndim <= 2 for value in beside.values()):
            return unwrap({key.removeprefix(prefix): weights[key] for key in inside} | beside)
    return weights


def _is_beside(key: str, family: Family) -> bool:
    """Whether a tensor belongs to no module of the network but to the training: a loss, a metric, a counter."""
    module, _, parameter = key.rpartition(".")
    if module in family.names:
        return parameter in _COUNTED
    return parameter in _COUNTED or _BESIDE.fullmatch(key.split(".")[0]) is not None


def _settings(family: Family, weights: Weights, double_sigmoid: bool) -> NetworkConfig:
    try:
        described = family.describe(weights)
    except (KeyError, IndexError) as error:
        raise misfit(family, f"{error} is missing or has too few axes") from error
    return load_settings(NetworkConfig, described.model_dump(), double_sigmoid=double_sigmoid and bool(described.gate))


def misfit(family: Family, details: str) -> ConfigError:
    """The error for weights that resemble a family's but are incomplete or modified."""
    return ConfigError(
        f"these weights look like {family.name}, but do not fit it: {details}",
        hint="give the complete, unchanged state dict of one of the known networks",
    )
