"""A ledger survives kills, and is read by the last word about each case."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from attunet.cluster.ledger import Ledger, LedgerRow, read_ledger
from attunet.errors import FormatError
from attunet.inference.case_worker import CaseResult


def test_the_last_row_of_each_case_counts(tmp_path):
    with Ledger(tmp_path / "out" / "ledger.jsonl") as ledger:
        ledger.add(LedgerRow(case="b", state="queued"), LedgerRow(case="a", state="queued"))
        ledger.add(LedgerRow(case="a", state="running", tries=1, node="n1"))
        ledger.add(LedgerRow(case="a", state="lost", tries=1, node="n1", error="killed by signal 9"))
        ledger.add(LedgerRow(case="a", state="done", tries=2, node="n2", volumes_ml={"liver": 1.5}, warnings=("odd",)))
    rows = read_ledger(ledger.path)
    assert list(rows) == ["b", "a"]
    assert (rows["a"].state, rows["a"].tries, rows["a"].node, rows["a"].error) == ("done", 2, "n2", None)
    assert rows["a"].volumes_ml == {"liver": 1.5}
    assert rows["a"].warnings == ("odd",)
    assert rows["b"].state == "queued"
    assert rows["a"].time >= rows["b"].time


def test_a_row_tells_the_result_of_a_case():
    result = CaseResult(case="a", mask="out/a.nii.gz", seconds=2.5, volumes_ml={"liver": 3.0}, windows=8)
    row = LedgerRow.of(result, node="n1", tries=2, peak_bytes=10)
    assert (row.state, row.mask, row.seconds, row.windows, row.peak_bytes) == ("done", "out/a.nii.gz", 2.5, 8, 10)
    row = LedgerRow.of(CaseResult(case="a", error="no image", hint="look"))
    assert (row.state, row.error, row.hint) == ("failed", "no image", "look")


@pytest.mark.parametrize("cut", [b'{"case": "b", "sta', b'{"case": "b", "state": "done"}', b"\xff\xfe", b"[1]"])
def test_a_line_that_a_kill_cut_off_costs_only_itself(cut, tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.add(LedgerRow(case="a", state="done"))
    with path.open("ab") as stream:
        stream.write(cut)
    assert read_ledger(path)["a"].state == "done"
    with Ledger(path) as ledger:
        ledger.add(LedgerRow(case="c", state="done"))
    assert {"a", "c"} <= read_ledger(path).keys()
    assert len(path.read_bytes().splitlines()) == 3


def test_rows_are_there_when_the_program_is_killed(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from attunet.cluster.ledger import Ledger, LedgerRow; "
        "ledger = Ledger(Path(sys.argv[1])); "
        "[ledger.add(LedgerRow(case=str(index), state='done')) for index in range(50)]; "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ)
    assert ended.returncode == -signal.SIGKILL
    assert list(read_ledger(path)) == [str(index) for index in range(50)]


def test_rows_of_a_later_version_are_read(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps({"case": "a", "state": "done", "colour": "blue"}) + "\n")
    assert read_ledger(path) == {"a": LedgerRow(case="a", state="done")}


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n")
    with pytest.raises(FormatError, match="is no ledger"):
        read_ledger(path)
    with pytest.raises(FormatError, match="cannot read"):
        read_ledger(tmp_path / "missing.jsonl")
    with pytest.raises(FormatError, match="cannot write"):
        Ledger(path / "ledger.jsonl")
