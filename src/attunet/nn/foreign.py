"""Weights of other projects' Attention U-Nets: recognised by their keys, rebuilt as ours, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from attunet.config import NetworkConfig, load_settings
from attunet.errors import ConfigError
from attunet.nn.families import FAMILIES, Family, Weights
from attunet.nn.network import AttentionUNet

__all__ = ["rebuild", "recognize", "unwrap"]

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")


def rebuild(state_dict: Mapping[str, object], *, double_sigmoid: bool | None = None) -> AttentionUNet:
    """Our network with another project's weights, computing the same function, in evaluation mode.

    Args:
        state_dict: the weights, or a checkpoint that holds them; `module.` and similar prefixes are removed.
        double_sigmoid: whether the gates apply the sigmoid twice. None does what the original does: twice,
            with a warning, for the tutorial listing; once for all others.
    Raises: ConfigError when the weights belong to no known family, or only partly.
    """
    weights = unwrap(state_dict)
    family = recognize(weights)
    twice = family.double_sigmoid if double_sigmoid is None else double_sigmoid
    network = AttentionUNet.from_config(_settings(family, weights, twice))
    try:
        network.load_state_dict({family.translate(key): value for key, value in weights.items()})
    except RuntimeError as error:
        raise _misfit(family, " ".join(str(error).split())[:400]) from error
    return network.eval()


def recognize(weights: Weights) -> Family:
    """The family these keys belong to. Raises: ConfigError naming the known ones and some of the keys."""
    for family in FAMILIES:
        if family.matches(weights):
            return family
    known = "; ".join(family.name for family in FAMILIES)
    raise ConfigError(
        f"weights of an unknown network, with {len(weights)} keys such as {', '.join(list(weights)[:4])}",
        hint=f"known are: {known}",
    )


def unwrap(checkpoint: Mapping[str, object]) -> Weights:
    """The tensors inside a checkpoint, without the prefixes that training wrappers add.

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
        if all(key.startswith(prefix) for key in weights):
            return unwrap({key.removeprefix(prefix): value for key, value in weights.items()})
    return weights


def _settings(family: Family, weights: Weights, double_sigmoid: bool) -> NetworkConfig:
    try:
        described = family.describe(weights)
    except (KeyError, IndexError) as error:
        raise _misfit(family, f"{error} is missing or has too few axes") from error
    return load_settings(NetworkConfig, described.model_dump(), double_sigmoid=double_sigmoid and bool(described.gate))


def _misfit(family: Family, details: str) -> ConfigError:
    return ConfigError(
        f"these weights look like {family.name}, but do not fit it: {details}",
        hint="give the complete, unchanged state dict of one of the known networks",
    )
