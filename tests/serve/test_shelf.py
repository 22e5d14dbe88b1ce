"""Models in memory, within a limit."""

import os

import pytest

from attunet.errors import ConfigError
from attunet.serve.shelf import ModelShelf


@pytest.fixture
def models(gated, tiny_run):
    return {"gated": gated, "tiny": tiny_run}


def test_a_model_is_loaded_once_until_its_folder_changes(models, tmp_path):
    shelf = ModelShelf(models)
    assert shelf.loaded == ()
    first = shelf.get("gated")
    assert shelf.get("gated") is first
    manifest = models["gated"] / "manifest.json"
    before = manifest.stat()
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    try:
        assert shelf.get("gated") is not first
    finally:
        os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_least_recently_used_goes_first(models):
    memory = iter(range(0, 10**9, 10**6))
    shelf = ModelShelf({**models, "again": models["gated"]}, limit=5 * 10**6, memory=lambda: next(memory))
    shelf.get("gated")
    shelf.get("tiny")
    shelf.get("gated")
    assert shelf.loaded == ("tiny", "gated")
    shelf.get("again")
    assert shelf.loaded == ("gated", "again")


def test_without_a_limit_all_stay(models):
    shelf = ModelShelf(models)
    for name in models:
        shelf.get(name)
    assert shelf.loaded == tuple(models)


def test_a_name_that_is_not_served_is_refused(models):
    with pytest.raises(ConfigError, match="no model other"):
        ModelShelf(models).get("other")
