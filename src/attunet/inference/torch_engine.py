"""The torch engine: the network from its safetensors, for GPUs and for checks on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from attunet.config import NetworkConfig
from attunet.inference.engines import EngineOutput
from attunet.nn import AttentionUNet, in_layout
from attunet.nn.weights import load_weights

__all__ = ["TorchEngine"]


class TorchEngine:
    """A network in eval mode on a torch device.

    Args: weights.safetensors of a fold and the network they belong to, or a network as it is; the device; windows in
        one call; whether to compute in 16 bits (fp16 on CUDA, bf16 on the CPU), by default on CUDA only.
    Raises: BundleError when the weights do not fit the network.
    """

    def __init__(
        self,
        weights: Path | None,
        network: NetworkConfig | AttentionUNet,
        *,
        device: str = "cuda",
        batch: int = 4,
        low_precision: bool | None = None,
    ) -> None:
        net = network if isinstance(network, AttentionUNet) else AttentionUNet.from_config(network)
        if weights is not None:
            load_weights(weights, net)
        layout = torch.channels_last if net.config.spatial_dims == 2 else torch.channels_last_3d
        self._net = in_layout(net.to(torch.device(device)).eval(), layout)
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        self._half = on_gpu if low_precision is None else low_precision
        self._dtype = torch.float16 if on_gpu else torch.bfloat16
        self.batch = batch
        self.name = f"torch {device} {str(self._dtype).removeprefix('torch.') if self._half else 'float32'}"

    @torch.inference_mode()
    def __call__(self, patches: npt.NDArray[np.float32]) -> EngineOutput:
        """See `Engine`."""
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._half):
            result = self._net(torch.from_numpy(np.ascontiguousarray(patches)).to(self._device), detailed=True)
        attention = {name: alpha.float().cpu().numpy() for name, alpha in result.attention.items()}
        return EngineOutput(result.logits.float().cpu().numpy(), attention)
