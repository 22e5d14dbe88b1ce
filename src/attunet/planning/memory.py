"""How much memory a training takes, and the plan that fits into what there is."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Literal, NamedTuple

from attunet.config import NetworkConfig, Plan
from attunet.errors import ConfigError
from attunet.planning.hardware import Machine, MemoryLimit
from attunet.planning.layers import count_parameters, layers_of

__all__ = ["MemoryUse", "activations_gb", "estimate_gb", "fit_memory", "measure_step"]

Precision = Literal["bf16", "fp32"]

_log = logging.getLogger(__name__)

_DRY_STEP = "attunet.training.dry_step"
_TIME_LIMIT = 60
_OUT_OF_MEMORY = ("OutOfMemoryError", "DefaultCPUAllocator", "MemoryError")
_KILLED = -9
_GB = 1024**3
_BYTES_PER_WEIGHT = 5 * 4
"""In float32: the weight, its gradient, two moments of the optimiser, and its average."""
_BYTES_PER_LOGIT = 6 * 4
"""In float32: the logits, their softmax and logarithm, the target, and gradients."""
_WORKSPACE = 1.25
"""Gradients and scratch over what is kept: measured on 2-D and 3-D plans of all sizes, 1.2 to 1.4."""
_PROCESS_GB = {"cpu": 0.7, "cuda": 0.0}
"""Python and its libraries; on a GPU only what is allocated there counts."""
_SMALLEST_BATCH = 2
_MARGIN = 0.95
_TRIES = 8
_SMALLEST_SHARE = 0.1
"""Of the voxels of the size's patch; a network that sees less of an image is not worth training."""


class MemoryUse(NamedTuple):
    """Memory of a training in GB, and the share of a step that was run to know it; 0 when it is only estimated."""

    gb: float
    share: float


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
    """Activations that a step keeps for the backward pass.

    Args:
        network: settings of the network.
        patch: voxels per axis, of the network's axes or three.
        batch: patches at once.
        precision: of the activations.
        checkpointing: whether stages are computed again; then one stage at a time holds its activations.
    Returns: GB.
    """
    voxels = {1: float(prod(patch))}
    for level, stride in enumerate(network.strides, start=2):
        voxels[level] = voxels[level - 1] / prod(stride)
    layers = list(layers_of(network))
    kept = sum(layer.kept * voxels[layer.level] for layer in layers)
    if checkpointing:
        stages = [layer.recomputed * voxels[layer.level] for layer in layers]
        kept += max(stages) - sum(stages)
    number = 2 if precision == "bf16" else 4
    return batch * (number * kept + _BYTES_PER_LOGIT * network.out_channels * voxels[1]) / _GB


def estimate_gb(plan: Plan, device: Machine = "cpu", precision: Precision = "bf16") -> float:
    """Memory of a training by formula: weights with gradients and moments, activations, and the process (CPU).

    Args:
        plan: what is trained.
        device: where.
        precision: of the activations.
    Returns: GB.
    """
    activations = activations_gb(
        plan.network, plan.patch_size, plan.at_once, precision, checkpointing=plan.checkpointing
    )
    return _fixed_gb(plan, device) + _WORKSPACE * activations


def _fixed_gb(plan: Plan, device: Machine) -> float:
    return _PROCESS_GB[device] + count_parameters(plan.network) * _BYTES_PER_WEIGHT / _GB


def measure_step(
    plan: Plan,
    device: Machine,
    command: Sequence[str] = (sys.executable, "-m", _DRY_STEP),
    *,
    time_limit: float = _TIME_LIMIT,
) -> MemoryUse:
    """Memory in GB of training this plan: weights, optimizer, averaged weights and one full step.

    On "cuda" the peak of what is allocated there, on "cpu" that of the whole process.

    Args:
        plan: the plan to measure.
        device: where the training would run.
        command: starts the child process; the device is appended.
        time_limit: seconds after which the child is ended.
    Returns: infinity when memory ran out; the formula's estimate when no step could be run at all.
    """
    try:
        done = subprocess.run(
            [*command, device], input=plan.model_dump_json(), capture_output=True, text=True, timeout=time_limit
        )
        if done.returncode == _KILLED or any(words in done.stderr for words in _OUT_OF_MEMORY):
            return MemoryUse(float("inf"), 1.0)
        return MemoryUse(**json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        _log.info("the dry step failed: %s", error)
        return MemoryUse(estimate_gb(plan, device), 0.0)


def fit_memory(make: Make, limit: MemoryLimit, measure: Measure | None = None, *, growth: float = 1.0) -> Plan:
    """The largest plan whose training stays within the limit.

    The batch gives way first (to 2); then patches are trained one at a time, then with gradient checkpointing; the
    patch, without which nothing is seen, gives way last.
    Args:
        make: plans with at most so many voxels a patch; None for those of the size.
        limit: what may be used.
        measure: a dry step of a plan; None for the formula alone.
        growth: factor by which the batch may grow where memory is left.
    Returns: the plan, with what it takes under the reasons.
    Raises: ConfigError when not even the smallest patch fits.
    """
    scales = _Scales(limit, measure)
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
            f"training takes {measured.gb:.1f} GB even with patches of {patch} voxels, {limit.gb:.1f} GB are allowed",
            hint="choose a smaller --size, or allow more with --memory",
        )
    if plan is whole and plan.preset != "paper":  # which is to be trained with the paper's batch
        plan, measured = _grown(plan, measured, scales, growth)
    return _explained(plan, whole, measured, limit)


@dataclass(frozen=True)
class _Scales:
    limit: MemoryLimit
    measure: Measure | None

    def weigh(self, plan: Plan) -> MemoryUse:
        """By formula alone where a step would hardly fit: trying it could take the machine down."""
        estimate = estimate_gb(plan, self.limit.device)
        if self.measure is None or estimate > 1.5 * self.limit.gb:
            return MemoryUse(estimate, 0.0)
        return self.measure(plan)

    def part(self, plan: Plan, gb: float) -> float:
        """How many times a plan's voxels will about use up the limit, when they take that much."""
        if not isfinite(gb):
            return 0.5
        fixed = _fixed_gb(plan, self.limit.device)
        return _MARGIN * (self.limit.gb - fixed) / max(gb - fixed, 1e-6)


def _smaller(plan: Plan, make: Make, part: float, smallest: float) -> Plan:
    """The next plan to try, when one takes more than there is: it should have about that part of its voxels."""
    if plan.batch_size > _SMALLEST_BATCH:
        return _with_batch(plan, max(_SMALLEST_BATCH, min(int(plan.batch_size * part), plan.batch_size - 1)))
    if plan.at_once > 1:
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
    """A plan whose patch, rounded up as it is to what the network halves, has at most so many voxels."""
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
        memory = f"estimated at {measured.gb:.1f} GB {allowed}; no dry step was possible, it needs torch"
    elif measured.share == 1.0:
        memory = f"a dry step took {measured.gb:.1f} GB {allowed}"
    else:
        memory = f"{measured.gb:.1f} GB {allowed}, scaled up from a dry step with {measured.share:.0%} of the voxels"
    reasons = {**plan.reasons, "memory": memory + _spared(plan)}
    if plan.patch_size != whole.patch_size:
        reasons["patch_size"] += "; made smaller to fit into the memory"
    if plan.batch_size != whole.batch_size:
        reason = "as memory is left" if plan.batch_size > whole.batch_size else "to fit into the memory"
        reasons["batch_size"] += f"; then changed from {whole.batch_size} {reason}"
    return plan.model_copy(update={"reasons": reasons})


def _spared(plan: Plan) -> str:
    """How the patch was saved, if it had to be."""
    measures = [f"in {plan.accumulation} parts"] if plan.accumulation > 1 else []
    measures += ["with gradient checkpointing"] if plan.checkpointing else []
    return f"; to fit, each batch is trained {' and '.join(measures)}" if measures else ""
