"""The network families, built: `default`, `paper` and `listing` take the arguments of their settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from attunet.config import NetworkConfig
from attunet.networks import default_network, listing_network, paper_network
from attunet.nn.network import AttentionUNet

__all__ = ["default", "listing", "paper"]

P = ParamSpec("P")


def _built(settings: Callable[P, NetworkConfig]) -> Callable[P, AttentionUNet]:
    """The function that makes the network of these settings."""

    @wraps(settings)
    def build(*args: P.args, **kwargs: P.kwargs) -> AttentionUNet:
        return AttentionUNet.from_config(settings(*args, **kwargs))

    return build


default = _built(default_network)
paper = _built(paper_network)
listing = _built(listing_network)
