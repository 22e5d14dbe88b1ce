"""What another turn of a dial would plan."""

from __future__ import annotations

from dataclasses import replace

from attunet.config import Plan
from attunet.errors import ConfigError
from attunet.planning.budget import BUDGETS, Dials
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.planner import make_plan

__all__ = ["alternatives"]


def alternatives(fingerprint: Fingerprint, dials: Dials) -> dict[str, Plan]:
    """Plans by the flag that makes them, all else as chosen: the sizes, the other dimension, the other resolutions.

    Flags that the data do not allow, or that change nothing, are left out. Memory is not fitted.
    """
    chosen = make_plan(fingerprint, dials)
    turned = {f"--size {size}": replace(dials, size=size) for size in BUDGETS}
    turned |= {f"--spatial-dims {dims}": replace(dials, spatial_dims=dims) for dims in (2, 3)}
    turned |= {f"--resolution {kind}": replace(dials, resolution=kind) for kind in ("full", "low")}
    plans = {}
    for flag, other in turned.items():
        try:
            plan = make_plan(fingerprint, other)
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
