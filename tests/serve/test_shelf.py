"""Models in memory, within a limit."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from attunet.errors import BundleError, ConfigError
from attunet.inference.segmenter import Segmenter
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


@pytest.mark.integration
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


def test_who_listens_hears_what_was_loaded_and_what_could_not_be(models, tmp_path):
    broken = shutil.copytree(models["gated"], tmp_path / "broken")
    graph = next(broken.rglob("graph.bin"))
    graph.write_bytes(graph.read_bytes()[:-100])
    heard = []
    shelf = ModelShelf({**models, "broken": broken}, on_load=lambda *told: heard.append(told))
    shelf.get("tiny")
    with pytest.raises(BundleError):
        shelf.get("broken")
    assert shelf.loaded == ("tiny",)
    assert heard[0] == ("tiny", "")
    assert heard[1][0] == "broken"
    assert "graph.bin" in heard[1][1]


def test_who_needs_another_model_does_not_wait(models, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    load = Segmenter.load

    def slow(folder, **how):
        if folder == models["gated"]:
            begun.set()
            assert go_on.wait(60)
        return load(folder, **how)

    monkeypatch.setattr(Segmenter, "load", slow)
    shelf = ModelShelf(models)
    with ThreadPoolExecutor(2) as pool:
        first, again = pool.submit(shelf.get, "gated"), pool.submit(shelf.get, "gated")
        assert begun.wait(60)
        shelf.get("tiny")
        assert shelf.loaded == ("tiny",)
        go_on.set()
        assert first.result() is again.result()


def test_a_model_larger_than_its_share_has_no_room(models):
    size = sum(file.stat().st_size for file in models["tiny"].rglob("*") if file.is_file())
    assert ModelShelf(models).has_room("tiny")
    assert ModelShelf(models, limit=2 * size).has_room("tiny")
    assert not ModelShelf(models, limit=2 * size - 1).has_room("tiny")
