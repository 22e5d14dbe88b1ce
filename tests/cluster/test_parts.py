"""Parts of a prediction: how cases are divided, and how the records of parts become one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from attunet.cluster.ledger import LEDGER, Ledger, LedgerRow, read_ledger
from attunet.cluster.parts import RunPart, all_ended, divide_cases, has_parts, merge_ledgers, merging, read_ledgers
from attunet.data.cases import Case
from attunet.data.inputs import input_bytes
from attunet.errors import ConfigError
from attunet.locks import sharing
from attunet.storage import RemoteFile


def case(name, size):
    url = f"s3://bucket/{name}"
    return Case(name, (Path(url),), None, remote=(RemoteFile(url=url, size=size),))


def divided(cases, count):
    return divide_cases(cases, {each.id: input_bytes(each) for each in cases}, count)


def first_of(folder):
    def first(name, text):
        if not (folder / name).exists():
            (folder / name).write_text(text)
        return (folder / name).read_text()

    return first


def test_parts_are_balanced_stable_and_complete():
    cases = [case(f"c{number:03}", number**2 + 1) for number in range(100)]
    parts = divided(cases, 7)
    assert sorted(each.id for part in parts for each in part) == [each.id for each in cases]
    loads = [sum(each.remote[0].size for each in part) for part in parts]
    assert max(loads) < 1.01 * min(loads)
    assert all(list(part) == sorted(part, key=lambda each: each.id) for part in parts)
    shuffled = random.Random(0).sample(cases, len(cases))
    assert [set(part) for part in divided(shuffled, 7)] == [set(part) for part in parts]


def test_cases_of_unknown_size_are_divided_by_number():
    cases = [case(f"c{number}", 0) for number in range(9)]
    assert [len(part) for part in divided(cases, 4)] == [3, 2, 2, 2]
    mixed = [*cases[:4], case("large", 1000), case("small", 10)]
    assert sorted(len(part) for part in divided(mixed, 2)) == [3, 3]
    assert [len(part) for part in divided(cases[:2], 4)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("index", "count"), [(4, 4), (-1, 4), (0, 0)])
def test_a_part_is_one_of_its_number(index, count):
    with pytest.raises(ConfigError, match="parts count from 0"):
        RunPart(index=index, count=count)


def test_parts_of_other_cases_are_refused(tmp_path):
    cases = [case("a", 1), case("b", 2)]
    with RunPart(index=0, count=2).held(tmp_path, cases, first_of(tmp_path)) as mine:
        assert [each.id for each in mine] == ["b"]
    with RunPart(index=1, count=2).held(tmp_path, cases[::-1], first_of(tmp_path)) as mine:
        assert [each.id for each in mine] == ["a"]
    with (
        pytest.raises(ConfigError, match="divided other cases"),
        RunPart(index=1, count=2).held(tmp_path, [*cases, case("c", 1)], first_of(tmp_path)),
    ):
        pass


def write(folder, name, *rows):
    with Ledger(folder / name) as ledger:
        ledger.add(*rows)


def test_ledgers_of_parts_become_one(tmp_path):
    assert not has_parts(tmp_path)
    write(tmp_path, LEDGER, LedgerRow(case="a", state="failed", time="2026-01-01T00:00:00"))
    write(tmp_path, "ledger-0-of-2.jsonl", LedgerRow(case="a", state="done", time="2026-01-03T00:00:00"))
    write(
        tmp_path,
        "ledger-1-of-2.jsonl",
        LedgerRow(case="b", state="queued", time="2026-01-02T00:00:00"),
        LedgerRow(case="b", state="done", time="2026-01-04T00:00:00"),
    )
    with (tmp_path / "ledger-1-of-2.jsonl").open("a") as stream:
        stream.write('{"case": "c", "sta')
    (tmp_path / "parts-of-2.json").write_text("{}")
    before = read_ledgers(tmp_path)
    assert {name: row.state for name, row in before.items()} == {"a": "done", "b": "done"}
    merge_ledgers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [LEDGER]
    assert read_ledgers(tmp_path) == before == read_ledger(tmp_path / LEDGER)
    times = [json.loads(line)["time"] for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert times == sorted(times)
    assert len(times) == 4


def test_a_run_has_ended_when_every_case_is_done_or_failed(tmp_path):
    cases = [case(name, 1) for name in "abc"]
    write(tmp_path, "ledger-0-of-2.jsonl", LedgerRow(case="a", state="failed"), LedgerRow(case="b", state="queued"))
    assert not all_ended(cases, tmp_path, lambda each: each.id == "c")
    assert all_ended(cases, tmp_path, lambda each: each.id != "a")


def test_only_the_last_part_merges(tmp_path):
    with sharing(tmp_path, 0, 2), merging(tmp_path) as alone:
        assert alone  # within the same thread
    with merging(tmp_path) as alone:
        assert alone
