"""The torch engine: the network from its safetensors, for GPUs and for checks on the CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attunet.config import NetworkConfig
from attunet.forks import refuse_fork
from attunet.inference.engines.protocol import EngineOutput
from attunet.nn import AttentionUNet, in_layout
from attunet.nn.weights import load_weights

__all__ = ["COMPILE_SECONDS", "DeferredCompilation", "TorchEngine", "compile_or_continue"]

Floats = npt.NDArray[np.float32]

COMPILE_SECONDS = 60.0
"""Roughly the time of torch.compile for such a network, in seconds. The number of windows to come is unknown, so a GPU
starts uncompiled and compiles once the windows so far have taken this long: at worst twice the time of the best
choice."""


class TorchEngine:
    """A network in eval mode on a torch device.

    Args:
        weights: path of a fold's weights.safetensors; None uses the network as it is.
        network: its settings, or the network.
        device: a torch device.
        batch: number of windows per call.
        low_precision: compute in 16 bits (fp16 on CUDA, bf16 on the CPU); None does so on CUDA only.
        shuffle: a seed to shuffle the weights with; None leaves them as they are.
        read: reads the weights, see `load_weights`.
    On a GPU, the network is compiled once this is likely to pay off. CUDA graphs are not used: they belong to one
    thread, and several threads predict cases.
    Raises: BundleError when the weights do not fit the network, EngineError in a process that was forked after its
        parent had used torch.
    """

    def __init__(
        self,
        weights: Path | None,
        network: NetworkConfig | AttentionUNet,
        *,
        device: str = "cuda",
        batch: int = 4,
        low_precision: bool | None = None,
        shuffle: int | None = None,
        read: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        refuse_fork("torch")
        net = network if isinstance(network, AttentionUNet) else AttentionUNet.from_config(network)
        if weights is not None:
            load_weights(weights, net, read=read)
        if shuffle is not None:
            net = _shuffled(net, shuffle)
        layout = torch.channels_last if net.config.spatial_dims == 2 else torch.channels_last_3d
        self._net = in_layout(net.to(torch.device(device)).eval(), layout)
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        self._half = on_gpu if low_precision is None else low_precision
        self._dtype = torch.float16 if on_gpu else torch.bfloat16
        self._deferred = DeferredCompilation(self._net) if on_gpu else None
        self.batch = batch
        self.name = f"torch {device} {str(self._dtype).removeprefix('torch.') if self._half else 'float32'}"
        if shuffle is not None:
            self.name += f", weights shuffled with seed {shuffle}"

    @torch.inference_mode()
    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """See `Engine`."""
        refuse_fork("torch")
        given = {gate: self._tensor(alpha) for gate, alpha in (attention or {}).items()}
        started = time.perf_counter()
        net = self._net if self._deferred is None or given or len(patches) < self.batch else self._deferred.network
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._half):
            result = net(self._tensor(patches), detailed=True, attention=given)
        alphas = {gate: alpha.float().cpu().numpy() for gate, alpha in result.attention.items()}
        output = EngineOutput(result.logits.float().cpu().numpy(), alphas)
        if self._deferred is not None:
            self._deferred.add(time.perf_counter() - started)
        return output

    def _tensor(self, array: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self._device)


class DeferredCompilation:
    """The network, uncompiled until full batches have taken so long that compilation is likely to pay off.

    Args:
        network: the network.
        seconds: computing time after which it is compiled.
        compiler: compiles the network; None for `compile_or_continue`.
    Attributes: network, which runs full batches.
    """

    def __init__(
        self,
        network: AttentionUNet,
        seconds: float = COMPILE_SECONDS,
        compiler: Callable[[AttentionUNet], Any] | None = None,
    ) -> None:
        self.network: Any = network
        self._most, self._compiler = seconds, compiler or compile_or_continue
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count the time of one call."""
        before, self._seconds = self._seconds, self._seconds + seconds
        if before < self._most <= self._seconds:
            self.network = self._compiler(self.network)


def compile_or_continue(network: AttentionUNet) -> Any:
    """The network, compiled at its next call; if this machine cannot compile, it continues uncompiled."""
    compiled = torch.compile(network)

    def run(*arguments: Any, **named: Any) -> Any:
        nonlocal compiled
        try:
            return compiled(*arguments, **named)
        except torch._dynamo.exc.TorchDynamoException as error:
            logging.getLogger(__name__).info("torch.compile failed, continuing without it: %s", error)
            compiled = network
            return network(*arguments, **named)

    return run


def _shuffled(network: AttentionUNet, seed: int) -> AttentionUNet:
    """A copy whose values are permuted within each weight, bias and norm statistic."""
    tensors = {}
    for index, (name, tensor) in enumerate(network.state_dict().items()):
        order = np.random.default_rng([seed, index]).permutation(tensor.numel())
        tensors[name] = tensor.flatten()[torch.from_numpy(order).to(tensor.device)].reshape(tensor.shape)
    shuffled = deepcopy(network)
    shuffled.load_state_dict(tensors)
    return shuffled
