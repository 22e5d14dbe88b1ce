"""The table of what a fine-tuning starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from attunet.nn.transfer import Transfer

__all__ = ["transfer_table"]


def transfer_table(transfer: Transfer, source: str) -> Table:
    """What was loaded of another model's weights and what was not, part by part."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    origin = f" ({transfer.origin})" if transfer.origin else ""
    title = f"Starting from {escape(source + origin)}: {transfer.loaded} of {transfer.total} tensors"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left")
    table.add_column("Part")
    for name in ("Loaded", "Adapted", "New"):
        table.add_column(name, justify="right")
    table.add_column("Reason", overflow="fold")
    for row in transfer.rows:
        table.add_row(row.part, str(row.loaded), str(row.adapted), str(row.new), escape(row.reason))
    if transfer.unused:
        table.caption = f"{transfer.unused} tensors of the file have no place in this network"
    return table
