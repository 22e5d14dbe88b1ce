"""The table of series."""

from dicom_series import make_series, sample, save_series
from rich.console import Console

from attunet.cli.tables.dicom import series_table
from attunet.data.formats.dicom import find_series


def test_every_series_has_a_row_with_its_case(tmp_path):
    save_series(make_series(sample(), SeriesNumber=2, SeriesDescription="axial"), tmp_path / "a")
    broken = make_series(sample(), SeriesNumber=5)
    save_series(broken[:2] + broken[3:], tmp_path / "b")
    listing = find_series(tmp_path)
    console = Console(width=120)
    with console.capture() as shown:
        console.print(series_table(listing, {listing.series[0].key: "one", listing.refused[0].key: "two"}))
    lines = shown.get().splitlines()
    assert [line.split() for line in lines if line[:1].isdigit()] == [
        ["2", "axial", "6", "12x10", "0.5x0.75x2", "CT", "one"],
        ["5", "refused,", "see", "below", "two"],
    ]
