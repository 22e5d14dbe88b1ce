"""Variants of one experiment: each differs from the plan and recipe in one point, so differences have one cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from attunet.config import NetworkConfig, Plan, TrainingConfig, load_settings
from attunet.errors import ConfigError
from attunet.planning.layers import count_parameters

__all__ = ["VARIANTS", "Variant", "make_variants", "parse_variants", "widened"]

VARIANTS: Mapping[str, str] = {
    "gated": "the Attention U-Net as planned",
    "ungated": "the same U-Net without gates",
    "wider": "a U-Net without gates, its channels widened until it has at least as many weights as the gated one",
    "additive": "additive gates, as in the popular 2-D listing",
    "multi": "two gates side by side on each skip, as the paper's multi variant",
    "projected": "a 1x1 convolution and norm behind each gate, as in the paper's released code",
    "supervised": "gates supervised with the dilated labels (attention_supervision 0.1)",
    "sparse": "gates penalised for being open (attention_sparsity 0.05)",
}
"""Name to the difference; `gated` is the plan and the recipe unchanged."""

_FINENESS = 1024
_UNGATED_TRAINING = {"attention_supervision": 0.0, "attention_sparsity": 0.0}


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Args:
        name: a key of `VARIANTS`.
        description: the difference from the plan and recipe.
        plan, config: its plan and recipe.
    """

    name: str
    description: str
    plan: Plan
    config: TrainingConfig


Edit = Callable[[NetworkConfig], dict[str, Any]]

_NETWORKS: Mapping[str, Edit] = {
    "gated": lambda _network: {},
    "ungated": lambda _network: {"gate": None},
    "wider": lambda network: {"gate": None, "channels": widened(network)},
    "additive": lambda _network: {"gate": "additive"},
    "multi": lambda _network: {"gate": "multi"},
    "projected": lambda _network: {"gate_projection": True},
}
_TRAININGS: Mapping[str, dict[str, Any]] = {
    "ungated": _UNGATED_TRAINING,
    "wider": _UNGATED_TRAINING,
    "supervised": {"attention_supervision": 0.1},
    "sparse": {"attention_sparsity": 0.05},
}


def parse_variants(text: str) -> tuple[str, ...]:
    """Parse names such as "gated,ungated", each once. Raises: ConfigError for an unknown one, or fewer than two."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if unknown := [name for name in names if name not in VARIANTS]:
        known = "; ".join(f"{name}: {what}" for name, what in VARIANTS.items())
        raise ConfigError(f"there is no variant {', '.join(map(repr, unknown))}", hint=f"known are {known}")
    if len(names) < 2:
        raise ConfigError(f"got {len(names)} variant, expected two or more to compare", hint="add another variant")
    return names


def make_variants(names: Sequence[str], plan: Plan, config: TrainingConfig) -> tuple[Variant, ...]:
    """Make the variants of a gated plan and a recipe; they share patches, batch, folds, seed and budget.

    Args:
        names: keys of `VARIANTS`.
        plan: a plan with gates.
        config: the recipe.
    Returns: the variants in the order of the names.
    Raises: ConfigError when the plan has no gate, a variant cannot be made of it, or two would be the same.
    """
    if plan.network.gate is None:
        raise ConfigError("the plan has no gate to compare with", hint="plan it with a gate: --gate grid")
    variants = tuple(_variant(name, plan, config) for name in names)
    for first, second in combinations(variants, 2):
        if (first.plan.network, first.config) == (second.plan.network, second.config):
            raise ConfigError(
                f"of this plan and recipe, {first.name} and {second.name} are the same", hint="leave one of them out"
            )
    return variants


def widened(network: NetworkConfig) -> tuple[int, ...]:
    """Channels of the ungated network, widened by the smallest factor that reaches the gated one's parameters.

    Source: the paper's control; its authors widened all levels by one factor, too, and cut to whole channels.
    """
    target = count_parameters(network)
    low, high = 0, _FINENESS
    while _ungated_parameters(network, high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _ungated_parameters(network, middle) < target else (low, middle)
    return _scaled(network, high)


def _variant(name: str, plan: Plan, config: TrainingConfig) -> Variant:
    edit = _NETWORKS.get(name, _NETWORKS["gated"])(plan.network)
    network = load_settings(NetworkConfig, plan.network.model_dump(), **edit)
    reasons = plan.reasons if name == "gated" else {**plan.reasons, "variant": f"{name}: {VARIANTS[name]}"}
    recipe = load_settings(TrainingConfig, config.model_dump(), **_TRAININGS.get(name, {}))
    return Variant(name, VARIANTS[name], plan.model_copy(update={"network": network, "reasons": reasons}), recipe)


def _scaled(network: NetworkConfig, steps: int) -> tuple[int, ...]:
    """Channels times 1 + steps / 1024, cut to whole numbers."""
    return tuple(width * (_FINENESS + steps) // _FINENESS for width in network.channels)


def _ungated_parameters(network: NetworkConfig, steps: int) -> int:
    return count_parameters(network.model_copy(update={"gate": None, "channels": _scaled(network, steps)}))
