"""What fuzzing has found stays mended, and the fuzzer still finds: see fuzz/run.py."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORPUS = sorted((ROOT / "tests" / "corpus").glob("*"))


@pytest.fixture(scope="module")
def child():
    """A process that reads inputs and survives them."""
    sys.path.insert(0, str(ROOT / "fuzz"))
    try:
        from children import Child

        reader = Child()
        yield reader
        reader.close()
    finally:
        sys.path.remove(str(ROOT / "fuzz"))


@pytest.mark.parametrize("folder", CORPUS, ids=lambda folder: folder.name)
def test_an_input_that_once_did_harm_is_read_or_refused(folder, child):
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert child.read(folder.name.rpartition("-")[0], files) in ("read", "refused")


def test_a_crash_a_hang_and_a_foreign_error_are_told_apart(child, tmp_path, monkeypatch):
    import children

    source = (
        "import os, time\n"
        "from dataclasses import dataclass\n"
        "def read(path):\n"
        "    content = path.read_text()\n"
        "    os.abort() if content == 'crash' else time.sleep(99) if content == 'hang' else {}['x']\n"
        "@dataclass\nclass Target:\n    name: str\n    main: str\n    read: object\n"
        "TARGETS = [Target('x', 'x', read)]\n"
    )
    (tmp_path / "targets.py").write_text(source)
    (tmp_path / "children.py").write_text(Path(children.__file__).read_text())
    (tmp_path / "mutations.py").write_text("Files = dict\n")
    monkeypatch.setattr(children, "__file__", str(tmp_path / "children.py"))
    monkeypatch.setattr(children, "LONGEST_SECONDS", 2.0)
    reader = children.Child()
    try:
        outcomes = [reader.read("x", {"x": content}) for content in (b"crash", b"error", b"hang", b"error")]
    finally:
        reader.close()
    assert "signal 6" in outcomes[0]
    assert outcomes[1] == outcomes[3] == "KeyError at no line of ours"
    assert "seconds" in outcomes[2]


def test_inputs_depend_on_the_seed_alone(child):
    from mutations import mutate

    files = {"x.json": b'{"a": [1, 2.5, "x"]}', "y.raw": bytes(range(99))}
    first, second = ([mutate(files, random.Random(number)) for number in range(200)] for _ in range(2))
    assert first == second
    assert sum(changed != files for changed in first) > 150
