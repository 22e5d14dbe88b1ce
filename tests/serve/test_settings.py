"""Settings that would be open to strangers are refused."""

import pytest

from attunet.errors import ConfigError
from attunet.serve.settings import ServeSettings, name_models

TOKEN = "a token of sufficient length"


def settings(tmp_path, **changes):
    return ServeSettings(models={}, data=tmp_path, **changes)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_password(tmp_path, host):
    settings(tmp_path, host=host).check()


def test_others_need_a_password_and_encryption(tmp_path):
    (tmp_path / "cert.pem").touch()
    for changes, match in (
        ({}, "no password"),
        ({"token": TOKEN}, "unencrypted"),
        ({"certificate": tmp_path / "cert.pem"}, "no password"),
        ({"token": "short", "behind_proxy": True}, "5 characters"),
        ({"token": TOKEN, "certificate": tmp_path / "none.pem"}, "does not exist"),
    ):
        with pytest.raises(ConfigError, match=match):
            settings(tmp_path, host="0.0.0.0", **changes).check()
    settings(tmp_path, host="0.0.0.0", token=TOKEN, behind_proxy=True).check()
    settings(tmp_path, host="0.0.0.0", token=TOKEN, certificate=tmp_path / "cert.pem").check()


def test_a_token_is_not_shown(tmp_path):
    assert TOKEN not in repr(settings(tmp_path, token=TOKEN))


def test_models_have_the_names_of_their_folders_or_given_ones(tmp_path):
    (tmp_path / "organs").mkdir()
    (tmp_path / "a=b").mkdir()
    assert name_models([str(tmp_path / "organs")]) == {"organs": tmp_path / "organs"}
    assert name_models([f"x={tmp_path / 'organs'}"]) == {"x": tmp_path / "organs"}
    for runs, match in (
        ([], "no model"),
        ([str(tmp_path / "a=b")], "cannot name"),
        (["a/b=c"], "cannot name"),
        (["x=1", "x=2"], "two models"),
    ):
        with pytest.raises(ConfigError, match=match):
            name_models(runs)
