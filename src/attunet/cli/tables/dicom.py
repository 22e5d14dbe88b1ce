"""The table of the series of DICOM that were found."""

from __future__ import annotations

from collections.abc import Mapping

from attunet.cli.tables.table import Column, FittedTable, sizes, spacing
from attunet.data.formats.dicom import SeriesListing

__all__ = ["series_table"]

REFUSED = "refused, see below"
NOT_CHOSEN = "-"


def series_table(listing: SeriesListing, names: Mapping[str, str]) -> FittedTable:
    """Number (with its part, as `--series` takes it), description, size, modality and case of each series.

    `names` are those of the cases by key; series without one were not chosen.
    """
    table = FittedTable(
        Column(heading="Series"),
        Column(heading="Description", kind="text", rank=2),
        Column(heading="Slices", kind="number"),
        Column(heading="Pixels", rank=3),
        Column(heading="Spacing (mm)", rank=1),
        Column(heading="Modality"),
        Column(heading="Case"),
    )
    for one in listing.series:
        steps = spacing(one.spacing) if one.spaced else "unknown"
        about = (one.description, str(one.shape[2]), sizes(one.shape[:2]), steps, one.modality)
        table.add(_called(one.key, one.number), *about, names.get(one.key, NOT_CHOSEN))
    for refused in listing.refused:
        if refused.key:
            table.add(_called(refused.key, refused.number), REFUSED, "", "", "", "", names.get(refused.key, NOT_CHOSEN))
    return table


def _called(key: str, number: int | None) -> str:
    uid, mark, part = key.partition("#")
    return f"{uid if number is None else number}{mark}{part}"
