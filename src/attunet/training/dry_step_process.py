"""One step of a training, and the memory it took: `python -m attunet.training.dry_step_process DEVICE < plan.json`.

On a CPU, where a large step would take minutes, a smaller batch or patch is tried: what a step takes beside the weights
is in proportion to its voxels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from attunet.config import Plan
from attunet.nn import AttentionUNet, in_layout
from attunet.planning.memory import Measured, activations_gb

__all__ = ["dry_step"]

_GB = 1024**3
_LIBRARIES_GB = 0.35
"""What the process that trains holds besides: Lightning, MONAI, the cases it validates, the export."""
_CPU_STEP_GB = 0.25
"""Activations of the largest step that is tried on a CPU, a few seconds of one core."""


def dry_step(plan: Plan, device: str) -> Measured:
    """Memory in GB of this process (cpu) or on the device (cuda) while it trains the plan's network for a step."""
    trained = _Trained(plan, device)
    if device == "cuda":
        trained.step(plan.at_once, plan.patch_size)
        return Measured(torch.cuda.max_memory_allocated() / _GB, 1.0)
    stride = _total_stride(plan)
    batch, patch = _affordable(plan, stride)
    share = batch * prod(patch) / (plan.at_once * prod(plan.patch_size))
    if share < 1.0:
        trained.step(1, stride)  # what a step takes whatever its voxels, such as copies of the weights
    before = _peak_gb()
    trained.step(batch, patch)
    return Measured(before + (_peak_gb() - before) / share + _LIBRARIES_GB, share)


class _Trained:
    """A network with all that lives as long as its training: gradients, averaged weights, AdamW's two moments."""

    def __init__(self, plan: Plan, device: str) -> None:
        dims = plan.network.spatial_dims
        self.plan, self.device, self.dims = plan, device, dims
        self.layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        self.network = in_layout(AttentionUNet.from_config(plan.network), self.layout).to(device)
        if plan.checkpointing:
            self.network.recompute_stages()
        # Tensors stand for the optimiser, whose first step would load torch's compiler for seconds.
        self.lasting = [weight.detach().clone() for weight in self.network.parameters() for _ in range(3)]
        for weight in self.network.parameters():
            weight.grad = torch.zeros_like(weight)

    def step(self, batch: int, patch: tuple[int, ...]) -> None:
        """Forward, a loss at every resolution, backward."""
        image = torch.randn(batch, self.plan.network.in_channels, *patch[: self.dims], device=self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=_has_bf16(self.device)):
            result = self.network(image.to(memory_format=self.layout), detailed=True)
            loss = torch.stack(list(self._losses((result.logits, *result.auxiliary)))).sum()
        loss.backward()

    def _losses(self, outputs: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Dice and cross-entropy as far as memory goes: probabilities and targets of every class in float32."""
        for logits in (output.float() for output in outputs):
            target = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.long, device=logits.device)
            if self.plan.regions:
                yield functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
                yield (torch.sigmoid(logits) * torch.ones_like(logits)).mean()
                continue
            yield functional.cross_entropy(logits, target)
            yield (torch.softmax(logits, 1) * torch.ones_like(logits)).mean()


def _total_stride(plan: Plan) -> tuple[int, ...]:
    """The smallest patch that the network halves evenly, with three axes."""
    return (*plan.network.total_strides[-1], 1)[:3]


def _affordable(plan: Plan, stride: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Batch and patch of a step that a CPU soon gets through."""
    batch, patch = plan.at_once, list(plan.patch_size)
    while activations_gb(plan.network, patch, batch, checkpointing=plan.checkpointing) > _CPU_STEP_GB:
        longest = max(range(3), key=lambda axis: patch[axis] // stride[axis])
        if batch > 1:
            batch -= 1
        elif patch[longest] >= 2 * stride[longest]:
            patch[longest] -= stride[longest]
        else:
            break
    return batch, tuple(patch)


def _has_bf16(device: str) -> bool:
    return torch.cuda.is_bf16_supported() if device == "cuda" else torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _peak_gb() -> float:
    """The most memory that this process had so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: a child starts with its parent's maximum there.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024**2
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GB


if __name__ == "__main__":
    measured = dry_step(Plan.model_validate_json(sys.stdin.read()), sys.argv[1])
    sys.stdout.write(json.dumps(measured._asdict()) + "\n")
