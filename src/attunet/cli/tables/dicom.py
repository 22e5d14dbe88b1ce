"""The table of the series of DICOM that were found."""

from __future__ import annotations

from attunet.cli.tables.table import Column, FittedTable, sizes, spacing
from attunet.data.formats.dicom import DicomSeries, SeriesListing

__all__ = ["series_table"]


def series_table(listing: SeriesListing) -> FittedTable:
    """Number (with its part, as `--series` takes it), description, slices, spacing and modality of each series."""
    table = FittedTable(
        Column(heading="Series"),
        Column(heading="Description", kind="text", rank=2),
        Column(heading="Slices", kind="number"),
        Column(heading="Pixels", rank=3),
        Column(heading="Spacing (mm)", rank=1),
        Column(heading="Modality"),
    )
    for one in listing.series:
        steps = spacing(one.spacing) if one.spaced else "unknown"
        size = one.shape[:2], str(one.shape[2])
        table.add(_named(one), one.description, size[1], sizes(size[0]), steps, one.modality)
    return table


def _named(one: DicomSeries) -> str:
    number = one.uid if one.number is None else str(one.number)
    return f"{number}#{one.part}" if one.part else number
