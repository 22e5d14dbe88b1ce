"""Console output of the commands."""

from __future__ import annotations

import pytest
from rich.text import Text

from attunet.cli.console import fail, notes, progress_bar, results, show


@pytest.fixture(autouse=True)
def fresh_stream(capsys):
    notes.cache_clear()
    yield
    notes.cache_clear()


def test_an_error_is_one_line_whatever_is_in_it(capsys):
    fail("cannot read [/red]\nat all " + "x" * 300, "look [here]")
    assert capsys.readouterr().err == "error: cannot read [/red] at all " + "x" * 300 + "; look [here]\n"


def test_an_error_without_a_remedy(capsys):
    fail("broken")
    assert capsys.readouterr().err == "error: broken\n"


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with progress_bar() as progress:
        progress.advance(progress.add_task("work", total=2))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_control_characters_of_a_name_never_reach_the_terminal(capsys):
    results.cache_clear()
    show(Text("scan \x1b]0;title\x07 \u202e"))
    results.cache_clear()
    assert capsys.readouterr().out == "scan \\x1b]0;title \\u202e\n"  # rich itself leaves the bell out
