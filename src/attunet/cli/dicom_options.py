"""DICOM on the command line: which series are segmented, how their cases are named, and what a folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, show
from attunet.names import listed

if TYPE_CHECKING:
    from attunet.data.formats.dicom import SeriesListing
    from attunet.data.layouts.dicom_cases import SeriesChoice

__all__ = ["CaseNameOption", "SeriesOption", "series_choice", "show_listing"]

MOST_FILES = 3

CaseNameOption = Annotated[
    str | None,
    typer.Option(
        metavar="TAG",
        help="DICOM: name cases by elements, such as AccessionNumber,SeriesNumber. [default: a salted hash]",
    ),
]
SeriesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SERIES", help="DICOM: the number or UID of a series to segment; repeat for more. [default: all]"
    ),
]


def series_choice(series: Sequence[str] | None, case_name: str | None, output: Path, *, dry_run: bool) -> SeriesChoice:
    """The choice that flags make.

    Args:
        series: numbers or UIDs; None for all series.
        case_name: keywords of elements, separated by commas; None for hashes.
        output: the folder of the batch, which keeps the salt of the hashes.
        dry_run: whether nothing is written into it.
    Returns: the choice, which shows what is found.
    """
    from attunet.data.layouts.dicom_cases import SALT_FILE, SeriesChoice, name_salt

    names = tuple(part.strip() for part in (case_name or "").split(",") if part.strip())
    choice = SeriesChoice(series=tuple(series or ()), case_name=names, on_listing=show_listing)
    named = not dry_run or (output / SALT_FILE).exists()
    return replace(choice, salt=lambda: name_salt(output)) if named else choice


def show_listing(listing: SeriesListing, names: Mapping[str, str]) -> None:
    """Print the series of a path as a table, with the names of their cases; what was left out, and what is refused."""
    from attunet.cli.tables.dicom import series_table

    if listing.series or names:
        show(series_table(listing, names), stderr=True)
    left_out = [
        f"left out: {left} ({listed([file.name for file in left.files], MOST_FILES)})" for left in listing.left_out
    ]
    refused = [f"refused: {each}" for each in listing.refused if not each.key]  # the others are cases that fail
    lines = left_out + refused
    for line in (*listing.notices, *lines):
        notes().print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
