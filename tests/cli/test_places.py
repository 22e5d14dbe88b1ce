"""`attunet predict` from and to URLs: results are published, records copied, and nothing stays on this machine."""

from __future__ import annotations

import json
import tempfile

import fsspec
import numpy as np
import pytest

from attunet import storage
from attunet.cli.places import OutputPlace
from attunet.cli.predict import predict
from attunet.cluster.prediction import CaseJob, PredictionWork
from attunet.data.formats import write_volume
from attunet.data.inputs import find_inputs
from attunet.data.volume import Volume
from attunet.errors import BusyError, ConfigError
from attunet.inference.destination import Destination
from attunet.inference.prediction import PredictOptions
from attunet.storage import Store


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """The storage of memory with two scans; the system's temporary folder is a private one."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    for seed, name in enumerate(("a", "b")):
        array = np.random.default_rng(seed).normal(100, 30, (1, 20, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
        files.pipe_file(f"/bucket/in/{name}.nii.gz", (tmp_path / f"{name}.nii.gz").read_bytes())
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    monkeypatch.setattr(storage, "PAUSES", (0.0,))
    return files


@pytest.fixture
def segment(tiny_run, invoke):
    def run(source, target, *words):
        return invoke(predict, "-m", tiny_run, "-i", source, "-o", target, "--fold", "0", "--disable-tta", *words)

    return run


def test_a_bucket_is_predicted_as_a_folder_is(memory, segment, tmp_path):
    done = segment("memory://bucket/in", "memory://bucket/out", "--statistics", "--preview", "--attention")
    assert done.exit_code == 0, done.output
    assert "2 of 2 cases written to memory://bucket/out" in done.stderr
    assert segment(tmp_path, tmp_path / "masks").exit_code == 0
    for name in ("a", "b"):
        published = memory.cat_file(f"/bucket/out/{name}.nii.gz")
        assert published == (tmp_path / "masks" / f"{name}.nii.gz").read_bytes()
        assert memory.exists(f"/bucket/out/preview/{name}.png")
        assert memory.find("/bucket/out/attention")
    assert json.loads(memory.cat_file("/bucket/out/statistics.json"))["cases"].keys() == {"a", "b"}
    assert list((tmp_path / "private").iterdir()) == []


def test_what_exists_there_is_skipped_or_replaced(memory, segment):
    assert segment("memory://bucket/in/a.nii.gz", "memory://bucket/out", "--statistics").exit_code == 0
    first = memory.cat_file("/bucket/out/a.nii.gz")
    memory.pipe_file("/bucket/out/a.nii.gz", b"another mask")
    done = segment("memory://bucket/in", "memory://bucket/out", "--statistics", "--continue-prediction")
    assert "a: skipped" in done.stderr
    assert memory.cat_file("/bucket/out/a.nii.gz") == b"another mask"
    assert json.loads(memory.cat_file("/bucket/out/statistics.json"))["cases"].keys() == {"a", "b"}
    assert segment("memory://bucket/in", "memory://bucket/out").exit_code == 0
    assert memory.cat_file("/bucket/out/a.nii.gz") == first


def test_a_scan_that_cannot_be_fetched_is_that_scans_failure(memory, segment, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(
        "id,image\nhere,memory://bucket/in/a.nii.gz\ngone,memory://bucket/in/gone.nii.gz\nlocal,b.nii.gz\n"
    )
    done = segment(table, tmp_path / "masks", "--report", tmp_path / "run.json")
    assert done.exit_code == 1
    assert "not segmented: gone" in done.stderr
    assert sorted(file.name for file in (tmp_path / "masks").iterdir()) == ["here.nii.gz", "local.nii.gz"]
    cases = {case["case"]: case for case in json.loads((tmp_path / "run.json").read_text())["cases"]}
    assert "there is no file at memory://bucket/in/gone.nii.gz" in cases["gone"]["error"]


def test_a_worker_of_a_cluster_fetches_and_publishes_alike(memory, segment, tiny_run, tmp_path):
    (case,) = find_inputs(["memory://bucket/in/a.nii.gz"], 1)
    work = PredictionWork(
        model=tiny_run,
        output=tmp_path / "of the driver",
        folds=[0],
        options=PredictOptions(mirror=False),
        destination=Destination(store=Store("memory://bucket/out")),
    )
    outcome = work()(CaseJob(case=case, shared=True))
    assert outcome.result.mask == "memory://bucket/out/a.nii.gz"
    assert segment(tmp_path / "a.nii.gz", tmp_path / "masks").exit_code == 0
    assert memory.cat_file("/bucket/out/a.nii.gz") == (tmp_path / "masks" / "a.nii.gz").read_bytes()
    assert not (tmp_path / "of the driver").exists()


def test_scans_at_urls_can_be_estimated(memory, segment, tmp_path):
    done = segment("memory://bucket/in", tmp_path / "masks", "--dry-run")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("source", "target", "words", "said"),
    [
        ("memory://bucket/in", "https://host/out", (), "https storage is only read"),
        ("memory://bucket/in", "memory://bucket/in", (), "would overwrite their images"),
        (
            "memory://bucket/in",
            "memory://bucket/out",
            ("--output-type", "dicom-seg", "--send", "dicom://A@127.0.0.1"),
            "-o is a URL",
        ),
    ],
)
def test_what_cannot_go_to_a_url_is_refused_before_any_work(source, target, words, said, memory, segment):
    done = segment(source, target, *words)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_a_secret_that_another_run_has_just_published_is_not_mixed_with_ours(memory, tmp_path):
    store = Store("memory://bucket/out")
    one, other = (OutputPlace(tmp_path / name, store) for name in ("one", "other"))
    for place in (one, other):
        place.folder.mkdir()
        (place.folder / ".salt").write_text(place.folder.name)
    one.keep_first(".salt")
    one.keep_first(".salt")
    with pytest.raises(BusyError, match="has just begun"):
        other.keep_first(".salt")
