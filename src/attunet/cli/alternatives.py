"""What another dial would do, as the second table of `attunet plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from attunet.config import Plan
    from attunet.planning.budget import Dials
    from attunet.planning.fingerprint import Fingerprint

__all__ = ["alternatives_table", "spacing_of", "times"]


def alternatives_table(facts: Fingerprint, dials: Dials, plan: Plan) -> Table:
    """The plan beside those that another turn of one dial would give; their memory is estimated, not measured."""
    from rich import box
    from rich.table import Table

    from attunet.planning.alternatives import alternatives
    from attunet.planning.layers import count_parameters
    from attunet.planning.memory import estimate_gb

    title = "What another dial would do"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left", padding=(0, 1, 0, 0))
    for name in ("Dial", "Spacing mm", "Patch", "Batch", "Channels", "Weights", "GB"):
        table.add_column(name, justify="right" if name in ("Batch", "Weights", "GB") else "left", no_wrap=True)
    for dial, other in {"as planned": plan, **alternatives(facts, dials)}.items():
        table.add_row(
            dial,
            "x".join(f"{value:.2g}" for value in other.preprocessing.spacing),
            "x".join(str(size) for size in other.patch_size),
            str(other.batch_size),
            f"{other.network.channels[0]}–{other.network.channels[-1]}",
            f"{count_parameters(other.network) / 1e6:.1f} M",
            f"{estimate_gb(other, dials.device):.1f}",
        )
    return table


def spacing_of(plan: Plan) -> str:
    """Voxel size as 0.80 x 0.80 x 3.00."""
    return " x ".join(f"{value:.2f}" for value in plan.preprocessing.spacing)


def times(sizes: tuple[int, ...]) -> str:
    """Sizes as 64 x 64 x 32."""
    return " x ".join(str(size) for size in sizes)
