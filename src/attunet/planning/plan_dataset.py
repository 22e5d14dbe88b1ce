"""From a data set to a plan that fits into memory, and the plans of other options."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace

from attunet.config import Plan
from attunet.data.cases import Dataset
from attunet.errors import ConfigError
from attunet.planning import memory
from attunet.planning.fingerprint import Fingerprint, fingerprint
from attunet.planning.hardware import memory_limit
from attunet.planning.options import BUDGETS, PlanOptions
from attunet.planning.planner import make_plan

__all__ = ["alternative_plans", "plan_dataset", "plan_within_memory"]

_DEFAULTS = PlanOptions()


def plan_dataset(
    dataset: Dataset,
    options: PlanOptions = _DEFAULTS,
    *,
    on_case: Callable[[], None] = lambda: None,
    on_warning: Callable[[str], None] = lambda _text: None,
) -> Plan:
    """Read every labelled case, and decide all numbers of the training, within the memory limit.

    Args:
        dataset: a data set with labelled cases, from `read_dataset`.
        options: the planning options.
        on_case: called after each case.
        on_warning: called with each thing that the owner of the data should know.
    Returns: the plan, with the reason of each decision.
    Raises: ConfigError, DatasetError, LabelError and DataError when the data cannot be planned.
    """
    facts = fingerprint(dataset, labels=options.labels, geometry=options.geometry, advance=on_case)
    for warning in facts.warnings:
        on_warning(warning)
    return plan_within_memory(facts, options)


def plan_within_memory(facts: Fingerprint, options: PlanOptions) -> Plan:
    """The plan of a fingerprint that fits into the device's memory; measured by a dry step if torch is installed.

    Raises: ConfigError when the options contradict the data, or not even the smallest patch fits.
    """
    options = options.resolved()
    return memory.fit_memory(
        lambda voxels: make_plan(facts, options, voxels),
        memory_limit(options.machine, options.memory_gb),
        (lambda plan: memory.measure_step(plan, options.machine, precision=options.trained_in))
        if importlib.util.find_spec("torch")
        else None,
        precision=options.trained_in,
        # On a CPU, many small steps train better than few large ones.
        growth=2.0 if options.machine == "cuda" else 1.0,
    )


def alternative_plans(facts: Fingerprint, options: PlanOptions) -> dict[str, Plan]:
    """Plans by the flag that gives them, with all else equal: the other sizes, dimension and resolutions.

    Flags that the data do not allow, or that change nothing, are left out. Memory is not fitted.
    """
    options = options.resolved()
    chosen = make_plan(facts, options)
    changed = {f"--size {size}": replace(options, size=size) for size in BUDGETS}
    changed["--spatial-dims 2"] = replace(options, spatial_dims=2)
    changed["--spatial-dims 3"] = replace(options, spatial_dims=3)
    changed["--resolution full"] = replace(options, resolution="full")
    changed["--resolution low"] = replace(options, resolution="low")
    plans = {}
    for flag, other in changed.items():
        try:
            plan = make_plan(facts, other)
        except ConfigError:
            continue
        if _differs(plan, chosen):
            plans[flag] = plan
    return plans


def _differs(plan: Plan, chosen: Plan) -> bool:
    return (plan.network, plan.patch_size, plan.batch_size, plan.preprocessing.spacing) != (
        chosen.network,
        chosen.patch_size,
        chosen.batch_size,
        chosen.preprocessing.spacing,
    )
