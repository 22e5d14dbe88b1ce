"""The labels column of a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunet.data.layouts.annotated import read_annotated
from attunet.errors import DatasetError

PATH = Path("cases.csv")


@pytest.mark.parametrize(
    ("cells", "names", "annotated"),
    [
        (["", ""], None, (None, None)),
        (["5;7", "5", ""], None, (("label_5", "label_7"), ("label_5",), None)),
        (["label_5", "5"], None, (("label_5",), ("label_5",))),
        (
            ["liver=5; left kidney = 2", "liver", "", "5|7", "left kidney, liver, 7"],
            {"background": 0, "left kidney": 2, "liver": 5, "label_7": 7},
            (("liver", "left kidney"), ("liver",), None, ("liver", "label_7"), None),
        ),
        (["background=255; membrane=0", ""], {"background": 255, "membrane": 0}, (None, None)),
    ],
)
def test_names_values_and_both(cells, names, annotated):
    declared, rows = read_annotated(cells, PATH)
    assert (declared, rows) == (names, annotated)
    assert names is None or list(declared) == list(names)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["", "liver"], "line 3 .*'liver': no row gives it a value"),
        (["liver=5", "liver=6"], "line 3 .*an earlier row says liver=5"),
        (["liver=5", "spleen=5"], "line 3 .*an earlier row says liver=5"),
        (["=5"], "line 2 .*NAME=VALUE"),
        (["liver=x"], "NAME=VALUE"),
        (["liver=1=2"], "NAME=VALUE"),
    ],
)
def test_entries_that_cannot_be_used(cells, message):
    with pytest.raises(DatasetError, match=message):
        read_annotated(cells, PATH)
