"""Batches of `attunet predict`: parts in several processes, their records, and the page about the run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from attunet.cli.predict import predict
from attunet.cluster.ledger import read_ledger
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import BusyError, ConfigError
from attunet.locks import sharing


def write_scans(folder, count, shape=(20, 16, 10)):
    for seed in range(count):
        array = np.random.default_rng(seed).normal(100, 30, (1, *shape)).astype(np.int16)
        write_volume(Volume(array, np.diag([-1.0, -1.0, 2.0, 1.0])), folder / f"c{seed:02}.nii.gz")
    return folder


@pytest.fixture
def segment(tiny_run, tmp_path, invoke):
    def run(*words, output="masks"):
        fixed = ("-m", tiny_run, "-i", tmp_path / "scans", "-o", tmp_path / output, "--fold", "0", "--disable-tta")
        return invoke(predict, *fixed, *words)

    return run


def content(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*.nii.gz")}


def rows_of(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()]


@pytest.mark.slow
def test_four_parts_of_which_one_is_killed_are_one_run(segment, tiny_run, tmp_path):
    write_scans(tmp_path / "scans", 12, (40, 40, 20))
    output = tmp_path / "masks"
    common = ["predict", "-m", tiny_run, "-i", tmp_path / "scans", "-o", output, "--fold", "0", "--disable-tta"]
    common += [
        "--statistics",
        "--report",
        tmp_path / "run.json",
        "--summary",
        tmp_path / "run.html",
        "--num-parts",
        "4",
    ]

    def start(part, *more):
        words = [sys.executable, "-m", "attunet", *map(str, [*common, "--part", part, *more])]
        return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)

    parts = [start(part) for part in range(4)]
    ledger = output / "ledger-2-of-4.jsonl"
    while parts[2].poll() is None and not (ledger.exists() and '"done"' in ledger.read_text()):
        time.sleep(0.005)
    parts[2].kill()
    told = [part.communicate()[1] for part in parts]
    assert [part.returncode for part in parts] == [0, 0, -signal.SIGKILL, 0], told
    recorded = [set(json.loads(file.read_text())["cases"]) for file in output.glob("statistics-*-of-4.json")]
    kept = {case: (output / f"{case}.nii.gz").stat().st_ino for case in set.union(*recorded)}
    assert 9 < len(kept) < 12
    assert not (output / "statistics.json").exists()
    again = start(2, "--continue-prediction")
    told = again.communicate()[1]
    assert again.returncode == 0, told
    assert "the records of all parts are merged" in told
    assert segment(output="whole").exit_code == 0
    assert content(output) == content(tmp_path / "whole")
    assert {case: (output / f"{case}.nii.gz").stat().st_ino for case in kept} == kept
    assert sorted(file.name for file in output.iterdir() if file.suffix != ".gz") == ["ledger.jsonl", "statistics.json"]
    done = Counter(row["case"] for row in rows_of(output / "ledger.jsonl") if row["state"] == "done")
    assert done.keys() == {f"c{number:02}" for number in range(12)}
    assert all(done[case] == 1 for case in kept)
    assert json.loads((output / "statistics.json").read_text())["cases"].keys() == done.keys()
    assert sorted(case["case"] for case in json.loads((tmp_path / "run.json").read_text())["cases"]) == sorted(done)
    assert "12 of 12 cases are done" in (tmp_path / "run.html").read_text()


def test_a_run_without_parts_merges_what_parts_recorded(segment, tmp_path):
    write_scans(tmp_path / "scans", 4)
    (tmp_path / "scans" / "c03.nii.gz").write_bytes(b"no scan")
    records = ("--statistics", "--report", tmp_path / "run.json")
    assert segment(*records, "--num-parts", 2, "--part", 0).exit_code in (0, 1)
    output = tmp_path / "masks"
    assert sorted(file.name for file in output.glob("*.json*")) == [
        *("ledger-0-of-2.jsonl", "parts-of-2.json", "statistics-0-of-2.json")
    ]
    done = segment(*records, "--continue-prediction")
    assert done.exit_code == 1
    assert sorted(file.name for file in output.glob("*.json*")) == ["ledger.jsonl", "statistics.json"]
    cases = {case["case"]: case for case in json.loads((tmp_path / "run.json").read_text())["cases"]}
    assert cases.keys() == {"c00", "c01", "c02", "c03"}
    assert cases["c03"]["error"]
    assert not (tmp_path / "run-0-of-2.json").exists()


def test_parts_that_fail_a_scan_are_merged_with_its_reason(segment, tmp_path):
    write_scans(tmp_path / "scans", 3)
    (tmp_path / "scans" / "c01.nii.gz").write_bytes(b"no scan")
    codes = [segment("--statistics", "--num-parts", 2, "--part-id", part).exit_code for part in (0, 1)]
    assert sorted(codes) == [0, 1] or 2 in codes
    rows = read_ledger(tmp_path / "masks" / "ledger.jsonl")
    assert {case: row.state for case, row in rows.items()} == {"c00": "done", "c01": "failed", "c02": "done"}
    assert "c01.nii.gz" in rows["c01"].error


def test_parts_and_whole_runs_do_not_mix(segment, tmp_path):
    write_scans(tmp_path / "scans", 2)

    def busy(*words):
        from concurrent.futures import ThreadPoolExecutor

        with sharing(tmp_path / "masks", 0, 2, "attunet predict, part 0 of 2"), ThreadPoolExecutor(1) as another:
            return another.submit(segment, *words).result()

    for words in ((), ("--num-parts", 2, "--part", 0), ("--num-parts", 3, "--part", 0)):
        done = busy(*words)
        assert isinstance(done.exception, BusyError), words
        assert "part 0 of 2" in str(done.exception)
    assert busy("--num-parts", 2, "--part", 1).exit_code == 0


def test_more_parts_than_scans_leave_some_with_nothing_to_do(segment, tmp_path):
    write_scans(tmp_path / "scans", 1)
    done = [segment("--num-parts", 2, "--part", part) for part in (0, 1)]
    assert [each.exit_code for each in done] == [0, 0]
    assert "part 1 of 2: 0 of 1 cases" in done[1].stderr
    assert "the records of all parts are merged" in done[1].stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num-parts", 4), "needs --part K"),
        (("--part", 0), "needs --num-parts N"),
        (("--num-parts", 4, "--part", 4), "parts count from 0"),
        (("--num-parts", 4, "--part", 0, "--engine", "ray"), "divides the cases itself"),
    ],
)
def test_parts_that_make_no_sense_are_refused(words, said, segment, tmp_path):
    write_scans(tmp_path / "scans", 1)
    done = segment(*words)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_a_summary_keeps_a_ledger_and_tells_of_what_is_done(segment, tmp_path):
    write_scans(tmp_path / "scans", 2)
    page = tmp_path / "run.html"
    assert segment("--summary", page).exit_code == 0
    assert "2 of 2 cases are done" in page.read_text()
    (tmp_path / "masks" / "ledger.jsonl").unlink()
    assert segment("--summary", page, "--continue-prediction").exit_code == 0
    assert {row.state for row in read_ledger(tmp_path / "masks" / "ledger.jsonl").values()} == {"done"}
