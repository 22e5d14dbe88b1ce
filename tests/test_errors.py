"""Errors as users meet them, and the one line that is shown of another library's error."""

from __future__ import annotations

import pytest

from attunet.errors import first_line, last_line


@pytest.mark.parametrize(
    ("message", "first", "last"),
    [
        ("truncated", "truncated", "truncated"),
        ("\n  Check failed at core.cpp:68:\n\nUnknown type: x\n", "Check failed at core.cpp:68:", "Unknown type: x"),
        (" \n", "ValueError", "ValueError"),
    ],
)
def test_one_line_of_an_error_without_blank_ones(message, first, last):
    assert (first_line(ValueError(message)), last_line(ValueError(message))) == (first, last)
