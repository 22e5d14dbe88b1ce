"""The tables about a model."""

from __future__ import annotations

import pytest
from rich.console import Console

from attunet.cli.tables.models import prediction_table

ROW = {
    "folds": 5,
    "copies": 8,
    "dice": 0.871,
    "gain": 0.0042,
    "low": 0.0013,
    "high": 0.0071,
    "seconds": 1.25,
    "cases": 40,
    "measured_on": "held-out",
    "used": True,
}


@pytest.mark.parametrize("width", [80, 60, 46])
def test_what_mirroring_and_folds_add_is_shown_in_any_terminal(width):
    console = Console(width=width)
    with console.capture() as captured:
        console.print(prediction_table([ROW]), crop=False, highlight=False)
    text = captured.get()
    assert "+0.0042" in text
    assert "+0.0013" in text
    assert "+0.0071" in text
    assert ("40 held-out" in text) != ("columns hidden" in text)
