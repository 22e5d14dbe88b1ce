"""Hints of the library in the words of clients."""

import pytest

from attunet.serve.hints import OPERATOR, SEND_ANOTHER, client_hint, client_warning


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("check the path", SEND_ANOTHER),
        ("check that the file exists and may be read", SEND_ANOTHER),
        ("choose one with --key, such as a", SEND_ANOTHER),
        ("correct --series", "name another one as the series of the job"),
        ("choose one with --series, or by its key in a CSV file", "name another one as the series of the job"),
        ("allow more with --max-memory", f"{OPERATOR}allow more with --max-memory"),
        (f"{OPERATOR}allow more with --max-memory", f"{OPERATOR}allow more with --max-memory"),
        (
            "give the same channels in the same order as in training; alpha does not count; "
            "--frame chooses one time of a series",
            "give the same channels in the same order as in training; alpha does not count",
        ),
        ("write it again with attunet export", f"{OPERATOR}write it again with attunet export"),
        ("choose one as series: 1.2, 1.3", "choose one as series: 1.2, 1.3"),
        ("the file may be damaged: copy or export it again", "the file may be damaged: copy or export it again"),
        ("", ""),
    ],
)
def test_a_hint_says_what_a_client_can_do(hint, told):
    assert client_hint(hint) == told


def test_a_remedy_for_a_command_line_is_left_out_of_warnings():
    assert client_warning("slices are missing (state the names with --pattern)") == "slices are missing"
    assert client_warning("the spacing is odd (check it)") == "the spacing is odd (check it)"
    assert client_warning("no remedy") == "no remedy"
