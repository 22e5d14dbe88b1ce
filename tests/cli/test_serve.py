"""`attunet serve`: what it refuses before it serves, and users."""

import pytest

from attunet.cli.serve import serve
from attunet.errors import ConfigError
from attunet.serve.access import Access


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((), "no model"),
        (("-m", "RUN", "--host", "0.0.0.0", "--port", "0"), "has no password"),
        (("-m", "RUN", "--host", "0.0.0.0", "--token", "a token of sufficient length"), "unencrypted"),
        (("-m", "RUN", "--token", "short"), "5 characters"),
        (("-m", "RUN", "--keep", "soon"), "--keep got 'soon'"),
        (("-m", "RUN", "--max-memory", "much"), "--max-memory got 'much'"),
        (("--add-user", "maria"), "without --users"),
    ],
)
def test_what_is_open_or_wrong_is_refused(invoke, gated, tmp_path, words, match):
    given = [gated if word == "RUN" else word for word in words]
    done = invoke(serve, *given, "--data", tmp_path / "data")
    assert isinstance(done.exception, ConfigError)
    assert match in str(done.exception)
    assert not (tmp_path / "data").exists()


def test_a_user_is_added(tmp_path, gated, monkeypatch):
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(serve)
    words = ["--users", str(tmp_path / "users"), "--add-user", "maria"]
    done = CliRunner().invoke(app, words, input="a good password\na good password\n")
    assert done.exit_code == 0, done.output
    assert "good" not in done.output
    assert Access(users=tmp_path / "users").login("maria", "a good password", "here")
