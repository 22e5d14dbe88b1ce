"""The process that measures a training step: `… -m attunet.training.dry_step DEVICE PRECISION < plan.json`.

`attunet.planning.memory.measure_step` starts it. On a CPU, a large step would take minutes, so it runs a smaller batch
or patch: except for the weights, the memory of a step is proportional to its voxels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.config import Plan
from attunet.planning.hardware import Precision
from attunet.planning.memory import MemoryUse, activations_gb

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["dry_step"]

Step = Callable[[int, tuple[int, ...]], None]
"""One training step with a batch of patches of that size."""

_GB = 1024**3
_LIBRARIES_GB = 0.35
"""Additional memory of the training process in GB: Lightning, MONAI, validation cases, export."""
_CPU_STEP_GB = 0.25
"""Activations in GB of the largest step that is run on a CPU, which takes a few seconds on one core."""


def dry_step(
    plan: Plan,
    device: str,
    precision: Precision = "fp32",
    *,
    largest_gb: float = _CPU_STEP_GB,
    step: Step | None = None,
) -> MemoryUse:
    """Measure the memory in GB of this process (cpu) or on the device (cuda) during one training step.

    Args:
        plan: the plan to measure.
        device: cpu or cuda.
        precision: precision of the training; bf16 only on a GPU that has it.
        largest_gb: activations of the largest step that is run on a CPU; the memory of larger ones is scaled up.
        step: runs a training step; None trains the plan's network.
    Returns: the memory, and the share of the step's voxels that was run.
    """
    import torch

    step = step or _Trained(plan, device, precision).step
    if device == "cuda":
        step(plan.micro_batch_size, plan.patch_size)
        return MemoryUse(torch.cuda.max_memory_allocated() / _GB, 1.0)
    stride = _total_stride(plan)
    batch, patch = _affordable(plan, stride, largest_gb, precision)
    share = batch * prod(patch) / (plan.micro_batch_size * prod(plan.patch_size))
    if share < 1.0:
        step(1, stride)  # memory of a step that does not depend on its voxels, such as copies of the weights
    before = _peak_gb()
    step(batch, patch)
    return MemoryUse(before + (_peak_gb() - before) / share + _LIBRARIES_GB, share)


class _Trained:
    """A network with everything that training keeps in memory: gradients, averaged weights, AdamW's two moments."""

    def __init__(self, plan: Plan, device: str, precision: Precision) -> None:
        import torch

        from attunet.nn import AttentionUNet, in_layout

        dims = plan.network.spatial_dims
        self.plan, self.device, self.dims = plan, device, dims
        self.half = precision == "bf16" and (device == "cpu" or torch.cuda.is_bf16_supported())
        self.layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        self.network = in_layout(AttentionUNet.from_config(plan.network), self.layout).to(device)
        if plan.checkpointing:
            self.network.recompute_stages()
        # Tensors stand in for the optimizer, whose first step would load torch's compiler for seconds.
        self.lasting = [weight.detach().clone() for weight in self.network.parameters() for _ in range(3)]
        for weight in self.network.parameters():
            weight.grad = torch.zeros_like(weight)

    def step(self, batch: int, patch: tuple[int, ...]) -> None:
        """Forward, a loss at every resolution, backward."""
        import torch

        image = torch.randn(batch, self.plan.network.in_channels, *patch[: self.dims], device=self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            result = self.network(image.to(memory_format=self.layout), detailed=True)
            loss = torch.stack(list(_losses((result.logits, *result.auxiliary), bool(self.plan.regions)))).sum()
        loss.backward()


def _losses(outputs: tuple[Tensor, ...], regions: bool) -> Iterator[Tensor]:
    """Stand-in for Dice and cross-entropy with the same memory: probabilities and targets of every class in float32."""
    import torch
    from torch.nn import functional

    for logits in (output.float() for output in outputs):
        target = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.long, device=logits.device)
        if regions:
            yield functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
            yield (torch.sigmoid(logits) * torch.ones_like(logits)).mean()
            continue
        yield functional.cross_entropy(logits, target)
        yield (torch.softmax(logits, 1) * torch.ones_like(logits)).mean()


def _total_stride(plan: Plan) -> tuple[int, ...]:
    """The smallest patch that the network can halve evenly, with three axes."""
    return (*plan.network.total_strides[-1], 1)[:3]


def _affordable(
    plan: Plan, stride: tuple[int, ...], largest_gb: float, precision: Precision
) -> tuple[int, tuple[int, ...]]:
    """Batch and patch of a step that a CPU can run in seconds."""
    batch, patch = plan.micro_batch_size, list(plan.patch_size)
    while activations_gb(plan.network, patch, batch, precision, checkpointing=plan.checkpointing) > largest_gb:
        longest = max(range(3), key=lambda axis: patch[axis] // stride[axis])
        if batch > 1:
            batch -= 1
        elif patch[longest] >= 2 * stride[longest]:
            patch[longest] -= stride[longest]
        else:
            break
    return batch, tuple(patch)


def _peak_gb() -> float:
    """The peak memory of this process so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: there, a child process starts with its parent's maximum.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024**2
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GB


if __name__ == "__main__":
    measured = dry_step(
        Plan.model_validate_json(sys.stdin.read()), sys.argv[1], "bf16" if sys.argv[2] == "bf16" else "fp32"
    )
    sys.stdout.write(json.dumps(measured._asdict()) + "\n")
