"""Passwords, sessions, and those who guess."""

import pytest

from attunet.errors import ConfigError
from attunet.serve import access
from attunet.serve.access import Access, DeniedError, TooManyFailuresError, add_user

TOKEN = "a token of sufficient length"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_an_open_server_lets_everybody_in():
    assert Access().who(None, "here") == "anybody"
    assert not Access().closed


def test_a_token_is_a_password_and_begins_sessions():
    closed = Access(TOKEN)
    assert closed.who(TOKEN, "here") == "token"
    assert closed.who(closed.login("anybody", TOKEN, "here"), "here") == "token"
    for wrong in (None, "", TOKEN[:-1], TOKEN + " ", "ä\ud800"):
        with pytest.raises(DeniedError):
            closed.who(wrong, "here")
    with pytest.raises(DeniedError, match="wrong"):
        closed.login("token", "wrong", "here")


def test_sessions_end():
    clock = Clock()
    closed = Access(TOKEN, clock=clock)
    secret = closed.login("", TOKEN, "here")
    closed.logout(secret)
    with pytest.raises(DeniedError):
        closed.who(secret, "here")
    secret = closed.login("", TOKEN, "here")
    clock.now += access.SESSION_SECONDS + 1
    with pytest.raises(DeniedError):
        closed.who(secret, "here")


def test_who_guesses_has_to_wait():
    clock = Clock()
    closed = Access(TOKEN, clock=clock)
    for _ in range(access.FAILURES):
        with pytest.raises(DeniedError):
            closed.who("wrong", "there")
    with pytest.raises(TooManyFailuresError):
        closed.who(TOKEN, "there")
    with pytest.raises(TooManyFailuresError):
        closed.login("", TOKEN, "there")
    assert closed.who(TOKEN, "here") == "token"
    clock.now += access.WINDOW + 1
    assert closed.who(TOKEN, "there") == "token"


def test_users_have_hashes_in_a_private_file(tmp_path):
    file = tmp_path / "users"
    add_user(file, "maria", "a good password")
    add_user(file, "jose", "another password")
    assert "good" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    closed = Access(users=file)
    assert closed.who(closed.login("maria", "a good password", "here"), "here") == "maria"
    for name, password in (("maria", "another password"), ("nobody", "a good password"), ("", "")):
        with pytest.raises(DeniedError):
            closed.login(name, password, "here")


@pytest.mark.parametrize("content", ["", "maria", "maria:plain password", "../x:$argon2id$"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "users").write_text(content)
    with pytest.raises(ConfigError, match="users"):
        Access(users=tmp_path / "users")


@pytest.mark.parametrize(("name", "password"), [("a:b", "long enough"), ("", "long enough"), ("maria", "short")])
def test_users_that_cannot_be_are_refused(tmp_path, name, password):
    with pytest.raises(ConfigError):
        add_user(tmp_path / "users", name, password)
