"""Predictions from and to a storage that speaks S3: moto, in an environment of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from attunet.data.formats import write_volume
from attunet.data.volume import Volume

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "peers-s3" / "bin" / "python"
PUBLISH = """
import sys
from pathlib import Path
from attunet.storage import Store
print(Store("s3://bucket/race").publish(Path(sys.argv[1]), "mask.nii.gz"))
"""


class Bucket:
    """A bucket of a server on this machine, spoken to without a library of S3."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}/bucket"
        keys = {"AWS_ACCESS_KEY_ID": "attunet", "AWS_SECRET_ACCESS_KEY": "5ecret", "AWS_DEFAULT_REGION": "us-east-1"}
        places = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "PYTHONPATH": str(ROOT / "src")}
        self.environment = {**os.environ, **keys, **places}

    def put(self, name, content=b""):
        self._ask(name, "PUT", content)

    def get(self, name):
        return self._ask(name, "GET")

    def _ask(self, name, method, content=None):
        headers = {"Authorization": "AWS attunet:unchecked", "Content-Type": "application/octet-stream"}
        asked = urllib.request.Request(f"{self.address}{name}", content, headers, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.read()

    def run(self, *words):
        done = subprocess.run(
            [PYTHON, "-m", "attunet", *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "5ecret" not in done.stdout + done.stderr
        return done


@pytest.fixture
def bucket():
    """An empty bucket."""
    if not PYTHON.exists():
        pytest.skip("s3fs and moto are not installed: see tests/peers/install.sh")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [PYTHON.with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            made = Bucket(port)
            for _ in range(200):
                try:
                    made.put("")
                    break
                except OSError:
                    time.sleep(0.1)
            yield made
        finally:
            server.terminate()


@pytest.fixture
def scans(bucket, tmp_path):
    """Three scans in the bucket, and in a folder."""
    for seed, name in enumerate(("a", "b", "c")):
        array = np.random.default_rng(seed).normal(100, 30, (1, 20, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / f"{name}.nii.gz")
        bucket.put(f"/in/{name}.nii.gz", (tmp_path / "scans" / f"{name}.nii.gz").read_bytes())
    return tmp_path / "scans"


def test_a_bucket_is_predicted_into_a_bucket(bucket, scans, tiny_run, tmp_path):
    common = ("predict", "-m", tiny_run, "--fold", "0", "--disable-tta", "--statistics")
    into = ("-o", "s3://bucket/masks")
    done = bucket.run(*common, *into, "-i", "s3://bucket/in/a.nii.gz")
    assert done.returncode == 0, done.stderr
    bucket.put("/masks/a.nii.gz", b"published by another")
    table = tmp_path / "list.csv"
    table.write_text("image\n" + "".join(f"s3://bucket/in/{name}.nii.gz\n" for name in ("a", "b", "c", "gone")))
    done = bucket.run(*common, *into, "-i", table, "--continue-prediction")
    assert done.returncode == 1, done.stderr
    assert "there is no file at s3://bucket/in/gone.nii.gz" in done.stderr
    assert "a: skipped" in done.stderr
    assert bucket.get("/masks/a.nii.gz") == b"published by another"
    assert json.loads(bucket.get("/masks/statistics.json"))["cases"].keys() == {"a", "b", "c"}
    done = bucket.run(*common, *into, "-i", "s3://bucket/in")
    assert done.returncode == 0, done.stderr
    done = bucket.run(*common, "-o", tmp_path / "masks", "-i", scans)
    assert done.returncode == 0, done.stderr
    for name in ("a", "b", "c"):
        assert bucket.get(f"/masks/{name}.nii.gz") == (tmp_path / "masks" / f"{name}.nii.gz").read_bytes()


def test_parts_in_a_bucket_are_merged_by_a_run_without_parts(bucket, scans, tiny_run):
    common = (
        "predict",
        "-m",
        tiny_run,
        "-i",
        "s3://bucket/in",
        "-o",
        "s3://bucket/masks",
        "--fold",
        "0",
        "--statistics",
    )
    for part in (0, 1):
        done = bucket.run(*common, "--num-parts", "2", "--part", part)
        assert done.returncode == 0, done.stderr
    done = bucket.run(*common, "--continue-prediction")
    assert done.returncode == 0, done.stderr
    assert json.loads(bucket.get("/masks/statistics.json"))["cases"].keys() == {"a", "b", "c"}
    listed = bucket.get("?list-type=2&prefix=masks/").decode()
    assert "ledger.jsonl" in listed
    assert "-of-2" not in listed


def test_of_many_that_publish_at_once_the_first_wins(bucket, tmp_path):
    files = [tmp_path / f"{number}.nii.gz" for number in range(4)]
    for file in files:
        file.write_text(file.name)
    words = [[PYTHON, "-c", PUBLISH, str(file)] for file in files]
    running = [subprocess.Popen(each, env=bucket.environment, stdout=subprocess.PIPE, text=True) for each in words]
    won = {file.name: process.communicate()[0].strip() for file, process in zip(files, running, strict=True)}
    assert sorted(won.values()) == ["False", "False", "False", "True"]
    (first,) = (name for name, answer in won.items() if answer == "True")
    assert bucket.get("/race/mask.nii.gz").decode() == first


def test_a_server_that_goes_away_fails_its_scans_only(bucket, scans, tiny_run, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(f"image,id\n{scans / 'a.nii.gz'},here\ns3://bucket/in/b.nii.gz,there\n")
    bucket.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    bucket.environment["AWS_MAX_ATTEMPTS"] = "1"
    done = bucket.run("predict", "-m", tiny_run, "-i", table, "-o", tmp_path / "masks", "--fold", "0")
    assert done.returncode == 1, done.stderr
    assert "s3://bucket/in/b.nii.gz could not be reached in 4 tries" in done.stderr
    assert (tmp_path / "masks" / "here.nii.gz").exists()


def test_a_bucket_that_is_not_there_is_told_before_any_work(bucket, scans, tiny_run):
    done = bucket.run("predict", "-m", tiny_run, "-i", scans, "-o", "s3://elsewhere/masks", "--fold", "0")
    assert done.returncode == 2, done.stderr
    assert "nothing can be written to s3://elsewhere/masks" in done.stderr
