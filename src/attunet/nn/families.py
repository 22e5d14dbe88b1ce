"""The foreign networks whose weights can be read: how their keys look, and what ours are called instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from attunet.config import NetworkConfig
from attunet.networks import listing_network, paper_network

__all__ = ["FAMILIES", "Family", "Weights"]

Weights = dict[str, Tensor]

_LEVELS = 5


@dataclass(frozen=True)
class Family:
    """A network of another project.

    Attributes:
        name: what messages call it.
        present, absent: keys that its weights have, and keys that they lack but a sister's have.
        names: its module names to ours.
        describe: its settings, read from the shapes of its weights; KeyError when one is missing.
        double_sigmoid: whether the original applies the sigmoid twice.
    """

    name: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    names: dict[str, str]
    describe: Callable[[Weights], NetworkConfig]
    double_sigmoid: bool = False

    def matches(self, weights: Weights) -> bool:
        """Whether these keys are this family's."""
        return all(key in weights for key in self.present) and not any(key in weights for key in self.absent)

    def translate(self, key: str) -> str:
        """Our name of a key; an unknown one keeps its name, for the strict loading to complain about."""
        module, _, parameter = key.rpartition(".")
        return f"{self.names[module]}.{parameter}" if module in self.names else key


def _conv_norm(foreign: str, ours: str, first: int = 0) -> dict[str, str]:
    return {f"{foreign}.{first}": f"{ours}.conv", f"{foreign}.{first + 1}": f"{ours}.norm"}


def _listing_names() -> dict[str, str]:
    """The listing counts the bottleneck's upsampling as 5, we count its skip's level as 4."""
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
