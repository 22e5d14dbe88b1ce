"""The tables of a plan."""

from __future__ import annotations

from rich.console import Console

from attunet.cli.tables.plans import alternatives_table
from attunet.networks import default_network
from attunet.planning import plan_dataset
from attunet.planning.options import PlanOptions


def test_a_row_for_every_alternative(tiny_plan, monkeypatch):
    wide = default_network(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(32, 64, 128),
        strides=((2, 2, 2),) * 2,
        kernel_sizes=((3, 3, 3),) * 3,
    )
    others = {"--size base": tiny_plan(network=wide, patch_size=(64, 64, 32))}
    monkeypatch.setattr(plan_dataset, "alternative_plans", lambda _facts, _options: others)
    console = Console(width=160)
    with console.capture() as shown:
        console.print(alternatives_table(None, PlanOptions(), tiny_plan()))
    planned, base = (line for line in shown.get().splitlines() if "1x1x1" in line)
    assert all(text in planned for text in ("as planned", "16x16x8", "8–16", "0.0 M", "0.7"))
    assert all(text in base for text in ("--size base", "64x64x32", "32–128", "1.4 M"))
