"""The memory that training needs, and the plan that fits into the available memory."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import NamedTuple

from attunet.config import NetworkConfig, Plan
from attunet.errors import ConfigError
from attunet.planning.hardware import Machine, MemoryLimit, Precision, machine_precision
from attunet.planning.layers import count_parameters, layers_of

__all__ = ["MemoryUse", "activations_gb", "estimate_gb", "fit_memory", "measure_step"]

_log = logging.getLogger(__name__)

_DRY_STEP = "attunet.training.dry_step"
_TIME_LIMIT = 60
_OUT_OF_MEMORY = ("OutOfMemoryError", "DefaultCPUAllocator", "MemoryError")
_KILLED = -9
_GB = 1024**3
_BYTES_PER_WEIGHT = 5 * 4
"""Bytes per parameter, in float32: the weight, its gradient, two moments of the optimizer, and its average."""
_BYTES_PER_LOGIT = 6 * 4
"""Bytes per logit, in float32: the logits, their softmax and logarithm, the target, and gradients."""
_WORKSPACE = 1.25
"""Ratio of peak to stored activations: measured as 1.2 to 1.4 on 2-D and 3-D plans of all sizes."""
_PROCESS_GB = {"cpu": 0.7, "cuda": 0.0}
"""Memory of Python and its libraries; on a GPU only the memory allocated there counts."""
_SMALLEST_BATCH = 2
_MARGIN = 0.95
_TRIES = 8
_SMALLEST_SHARE = 0.1
"""Smallest share of the size's patch voxels; a network that sees less of an image is not worth training."""


class MemoryUse(NamedTuple):
    """The memory of training.

    Args:
        gb: GB.
        share: share of a step that was run to measure it; 0 when it is only estimated.
        failure: why no step was run.
    """

    gb: float
    share: float
    failure: str = ""


Make = Callable[[int | None], Plan]
Measure = Callable[[Plan], MemoryUse]


def activations_gb(
    network: NetworkConfig,
    patch: Sequence[int],
    batch: int,
    precision: Precision = "bf16",
    *,
    checkpointing: bool = False,
) -> float:
    """Activations that a step stores for the backward pass.

    Args:
        network: settings of the network.
        patch: voxels along the network's axes, or along three axes.
        batch: patches in one step.
        precision: precision of the activations.
        checkpointing: whether stages are recomputed; then only one stage at a time stores its activations.
    Returns: GB.
    """
    voxels = {1: float(prod(patch))}
    for level, stride in enumerate(network.strides, start=2):
        voxels[level] = voxels[level - 1] / prod(stride)
    layers = list(layers_of(network))
    stored = sum(layer.stored * voxels[layer.level] for layer in layers)
    if checkpointing:
        stages = [layer.recomputed * voxels[layer.level] for layer in layers]
        stored += max(stages) - sum(stages)
    number = 2 if precision == "bf16" else 4
    return batch * (number * stored + _BYTES_PER_LOGIT * network.out_channels * voxels[1]) / _GB


def estimate_gb(plan: Plan, device: Machine = "cpu", precision: Precision | None = None) -> float:
    """Estimate the memory of training: weights with gradients and moments, activations, and the process (CPU).

    Args:
        plan: the plan to train.
        device: where.
        precision: precision of the activations; None for the fastest of the device.
    Returns: GB.
    """
    activations = activations_gb(
        plan.network,
        plan.patch_size,
        plan.micro_batch_size,
        precision or machine_precision(device),
        checkpointing=plan.checkpointing,
    )
    return _fixed_gb(plan, device) + _WORKSPACE * activations


def _fixed_gb(plan: Plan, device: Machine) -> float:
    return _PROCESS_GB[device] + count_parameters(plan.network) * _BYTES_PER_WEIGHT / _GB


def measure_step(
    plan: Plan,
    device: Machine,
    command: Sequence[str] = (sys.executable, "-m", _DRY_STEP),
    *,
    precision: Precision | None = None,
    time_limit: float = _TIME_LIMIT,
) -> MemoryUse:
    """Measure the memory in GB for training a plan: weights, optimizer, averaged weights and one full step.

    On "cuda", this is the peak of allocated memory; on "cpu", the peak of the whole process.

    Args:
        plan: the plan to measure.
        device: the device for training.
        command: starts the child process; device and precision are appended.
        precision: precision of the training; None for the fastest of the device.
        time_limit: seconds after which the child is terminated.
    Returns: the memory; infinity when memory ran out; the estimate when no step could be run.
    """
    settled = precision or machine_precision(device)
    try:
        done = subprocess.run(
            [*command, device, settled],
            input=plan.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=time_limit,
        )
        if done.returncode == _KILLED or any(words in done.stderr for words in _OUT_OF_MEMORY):
            return MemoryUse(float("inf"), 1.0)
        return MemoryUse(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        failure = f"the dry step was stopped after {time_limit:g} s: this machine is slow or busy"
    except (OSError, ValueError, LookupError) as error:
        _log.info("the dry step failed: %s", error)
        failure = "the dry step failed"
    return MemoryUse(estimate_gb(plan, device, settled), 0.0, failure)


def fit_memory(
    make: Make,
    limit: MemoryLimit,
    measure: Measure | None = None,
    *,
    precision: Precision | None = None,
    growth: float = 1.0,
) -> Plan:
    """The largest plan whose training stays within the limit.

    The batch is reduced first (to 2); then patches are trained one at a time, then with gradient checkpointing; the
    patch is reduced last.
    Args:
        make: makes the plan for a largest number of voxels per patch; None for that of the size.
        limit: the memory limit.
        measure: runs a dry step of a plan; None uses only the estimate, because torch is not installed.
        precision: precision of the training; None for the fastest of the device.
        growth: factor by which the batch may grow if memory is left.
    Returns: the plan, with its memory in the reasons.
    Raises: ConfigError when not even the smallest patch fits.
    """
    scales = _Scales(limit, measure, precision)
    whole = plan = make(None)
    measured = scales.weigh(plan)
    smallest = _SMALLEST_SHARE * prod(whole.patch_size)
    for _ in range(_TRIES):
        if measured.gb <= limit.gb or prod(plan.patch_size) < smallest:
            break
        plan = _smaller(plan, make, min(0.9, max(0.2, scales.part(plan, measured.gb))), smallest)
        measured = scales.weigh(plan)
    if measured.gb > limit.gb:
        patch = " x ".join(str(size) for size in plan.patch_size)
        raise ConfigError(
            f"training needs {measured.gb:.1f} GB even with patches of {patch} voxels, but only {limit.gb:.1f} GB "
            "are allowed",
            hint="choose a smaller --size, or allow more with --memory",
        )
    if plan is whole and plan.preset != "paper":  # the paper's batch size is kept
        plan, measured = _grown(plan, measured, scales, growth)
    return _explained(plan, whole, measured, limit)


@dataclass(frozen=True)
class _Scales:
    limit: MemoryLimit
    measure: Measure | None
    precision: Precision | None

    def weigh(self, plan: Plan) -> MemoryUse:
        """Only estimate if a step would hardly fit: trying it could take the machine down."""
        estimate = estimate_gb(plan, self.limit.device, self.precision)
        if self.measure is None:
            return MemoryUse(estimate, 0.0, "no dry step was possible, because it needs torch")
        if estimate > 1.5 * self.limit.gb:
            return MemoryUse(estimate, 0.0, "no dry step was tried, because it would hardly fit")
        return self.measure(plan)

    def part(self, plan: Plan, gb: float) -> float:
        """The factor by which a plan's voxels may grow until they roughly use up the limit."""
        if not isfinite(gb):
            return 0.5
        fixed = _fixed_gb(plan, self.limit.device)
        return _MARGIN * (self.limit.gb - fixed) / max(gb - fixed, 1e-6)


def _smaller(plan: Plan, make: Make, part: float, smallest: float) -> Plan:
    """The next plan to try when one needs too much memory: it should have about this share of its voxels."""
    if plan.batch_size > _SMALLEST_BATCH:
        return _with_batch(plan, max(_SMALLEST_BATCH, min(int(plan.batch_size * part), plan.batch_size - 1)))
    if plan.micro_batch_size > 1:
        return plan.model_copy(update={"accumulation": plan.batch_size})
    if not plan.checkpointing:
        return plan.model_copy(update={"checkpointing": True})
    spared = {"accumulation": plan.accumulation, "checkpointing": True}
    fewer = _with_voxels(make, part * prod(plan.patch_size), smallest)
    return _with_batch(fewer, _SMALLEST_BATCH).model_copy(update=spared)


def _grown(plan: Plan, measured: MemoryUse, scales: _Scales, growth: float) -> tuple[Plan, MemoryUse]:
    batch = int(plan.batch_size * min(growth, scales.part(plan, measured.gb)))
    if batch <= plan.batch_size:
        return plan, measured
    larger = _with_batch(plan, batch)
    weighed = scales.weigh(larger)
    return (larger, weighed) if weighed.gb <= scales.limit.gb else (plan, measured)


def _with_voxels(make: Make, voxels: float, smallest: float) -> Plan:
    """A plan whose patch, rounded up to sizes that the network can halve, has at most this many voxels."""
    target, plan = voxels, make(int(voxels))
    while prod(plan.patch_size) > voxels and target > smallest / 4:
        target *= 0.9
        plan = make(int(target))
    return plan


def _with_batch(plan: Plan, batch: int) -> Plan:
    return plan.model_copy(update={"batch_size": batch})


def _explained(plan: Plan, whole: Plan, measured: MemoryUse, limit: MemoryLimit) -> Plan:
    allowed = f"of the {limit.gb:.1f} GB allowed ({limit.reason})"
    if measured.share == 0.0:
        memory = f"estimated at {measured.gb:.1f} GB {allowed}; {measured.failure}"
    elif measured.share == 1.0:
        memory = f"a dry step took {measured.gb:.1f} GB {allowed}"
    else:
        memory = f"{measured.gb:.1f} GB {allowed}, scaled up from a dry step with {measured.share:.0%} of the voxels"
    reasons = {**plan.reasons, "memory": memory + _memory_measures(plan)}
    if plan.patch_size != whole.patch_size:
        reasons["patch_size"] += "; reduced to fit into the memory"
    if plan.batch_size != whole.batch_size:
        reason = "because memory is left" if plan.batch_size > whole.batch_size else "to fit into the memory"
        reasons["batch_size"] += f"; then changed from {whole.batch_size} {reason}"
    return plan.model_copy(update={"reasons": reasons})


def _memory_measures(plan: Plan) -> str:
    """A clause on the measures that kept the patch size; empty when there were none."""
    measures = [f"in {plan.accumulation} parts"] if plan.accumulation > 1 else []
    measures += ["with gradient checkpointing"] if plan.checkpointing else []
    return f"; to fit, each batch is trained {' and '.join(measures)}" if measures else ""
