"""JSON and YAML of any origin: bounded, and every mistake is one error of the kind that was asked for."""

from __future__ import annotations

import os

import pytest

from attunet.documents import open_regular, parse_document, read_document, reading
from attunet.errors import BundleError, FormatError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"b{level}: &b{level} [{','.join(['*' + ('a' if not level else f'b{level - 1}')] * 10)}]\n" for level in range(8)
)
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"b{level}: &b{level}\n  <<: [{','.join(['*' + ('a' if not level else f'b{level - 1}')] * 10)}]\n"
    for level in range(8)
)


def test_json_and_yaml_by_suffix(tmp_path):
    (tmp_path / "x.json").write_text('\ufeff{"a": [1, "\\ud83d\\ude00"]}', encoding="utf-8")
    (tmp_path / "x.yaml").write_text("a: &b [1, two]\nc: *b\n")
    assert read_document(tmp_path / "x.json") == {"a": [1, "😀"]}
    assert read_document(tmp_path / "x.yaml") == {"a": [1, "two"], "c": [1, "two"]}
    (tmp_path / "empty.yaml").touch()
    assert read_document(tmp_path / "empty.yaml") is None


@pytest.mark.parametrize("text", [BOMB, MERGES, "a: &a [*a]", "a: &a {b: *a}"], ids=["lists", "merges", "list", "dict"])
def test_aliases_that_stand_for_too_much_are_refused(text):
    with pytest.raises(ValueError, match="aliases"):
        parse_document(text.encode(), json_text=False)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 100_000, b"{", b"9" * 5000, b"", b'{"a": 1}', b'{"sha256": 3}', b"[]", b"\0"]
)
@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_whatever_is_wrong_is_one_error_of_the_kind(content, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot read .*x\.") as caught, reading(path, BundleError, "copy it again"):
        dict(read_document(path)["sha256"])
    assert caught.value.hint == "copy it again"


def test_other_errors_of_ours_become_the_kind_with_their_own_hint(tmp_path):
    with pytest.raises(BundleError, match="no number") as caught, reading(tmp_path, BundleError, "copy it again"):
        raise FormatError("no number", hint="write one")
    assert caught.value.hint == "write one"
    with pytest.raises(FormatError), reading(tmp_path):
        read_document(tmp_path / "missing.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.yaml").open("wb") as file:
        file.truncate(2**34)
    with pytest.raises(FormatError, match="more than"):
        read_document(tmp_path / "x.yaml")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing", tmp_path / "a\0b"):
        with pytest.raises(FormatError) as caught:
            open_regular(path)
        assert caught.value.hint
    (tmp_path / "file").write_bytes(b"abc")
    with open_regular(tmp_path / "file") as stream:
        assert stream.read() == b"abc"
