"""Parts of a prediction: several programs on several machines write into one output, each its own share of the cases.

The shares follow from the cases and their sizes alone, so that every program finds the same ones by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from heapq import heapify, heapreplace
from pathlib import Path

from attunet.cluster.ledger import LEDGER, LedgerRow, read_ledger
from attunet.data.cases import Case
from attunet.data.inputs import input_bytes
from attunet.errors import BusyError, ConfigError, FormatError
from attunet.files import write_text
from attunet.inference.batch_record import parts_of
from attunet.locks import exclusive, sharing

__all__ = [
    "RunPart",
    "all_ended",
    "divide_cases",
    "has_parts",
    "merge_ledgers",
    "merging",
    "read_ledgers",
]

First = Callable[[str, str], str]
"""Writes a text under a name if there is no such file yet; returns the text that is there."""


@dataclass(frozen=True, kw_only=True)
class RunPart:
    """One of several shares of the cases.

    Args:
        index: its number, from 0.
        count: the number of all.
    Raises: ConfigError for a number that is none of them.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"--part is {self.index} of {self.count}, expected 0 to {self.count - 1}", hint="parts count from 0"
            )

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    @contextmanager
    def held(self, folder: Path, cases: Sequence[Case], first: First) -> Iterator[tuple[Case, ...]]:
        """Be the only program that predicts this part into a folder, while others predict theirs.

        Args:
            folder: the folder of all parts.
            cases: the cases of all parts.
            first: records the division beside the results, unless another part has.
        Yields: the cases of this part, in their order.
        Raises: BusyError as `sharing`; ConfigError when another part has divided other cases.
        """
        with sharing(folder, self.index, self.count, f"attunet predict, part {self.index} of {self.count}"):
            sizes = {case.id: input_bytes(case) for case in cases}
            ours = json.dumps(_split_record(sizes, self.count)) + "\n"
            theirs = first(_record_name(self.count), ours)
            if theirs != ours:
                raise ConfigError(
                    f"other parts divided other cases: {theirs.strip()}, here {ours.strip()}",
                    hint=f"give all parts the same -i; if all have ended, delete {_record_name(self.count)} there",
                )
            yield divide_cases(cases, sizes, self.count)[self.index]


def divide_cases(cases: Sequence[Case], sizes: Mapping[str, int], count: int) -> list[tuple[Case, ...]]:
    """Divide cases into parts of about the same size: the largest first, each to the part that has the least.

    Args:
        cases: the cases.
        sizes: their sizes by name; 0 where unknown.
        count: the number of parts.
    Returns: the cases of each part, in their order; the same for the same cases and sizes, whatever their order.
    """
    known = [size for size in sizes.values() if size]
    usual = sum(known) // len(known) if known else 1  # of cases whose size is unknown
    loads = [(0, 0, index) for index in range(count)]
    heapify(loads)
    part_of: dict[str, int] = {}
    for case in sorted(sizes, key=lambda case: (-(sizes[case] or usual), case)):
        load, number, index = loads[0]
        part_of[case] = index
        heapreplace(loads, (load + (sizes[case] or usual), number + 1, index))
    parts: list[list[Case]] = [[] for _ in range(count)]
    for each in cases:
        parts[part_of[each.id]].append(each)
    return list(map(tuple, parts))


def _split_record(sizes: Mapping[str, int], count: int) -> dict[str, object]:
    """What tells whether two programs divide the same cases: their number, and a hash of names and sizes."""
    lines = sorted(f"{name}\t{size}" for name, size in sizes.items())
    return {"parts": count, "cases": len(lines), "sha256": sha256("\n".join(lines).encode()).hexdigest()[:16]}


@contextmanager
def merging(folder: Path) -> Iterator[bool]:
    """Be the last part that leaves a folder, in order to merge the records: True if no other part is left there."""
    try:
        with exclusive(folder, "attunet predict"):
            yield True
    except BusyError:
        yield False


def has_parts(folder: Path) -> bool:
    """Whether parts have written into a folder since their records were merged."""
    return any(folder.glob(_record_name("*"))) or bool(parts_of(folder / LEDGER))


def all_ended(cases: Iterable[Case], folder: Path, done: Callable[[Case], bool]) -> bool:
    """Whether every case is done or has failed, in whatever part.

    Args:
        cases: the cases of all parts.
        folder: the folder of all parts.
        done: whether the results of a case are there.
    Returns: whether nothing is left to do, unless failed cases are tried again.
    """
    rows = read_ledgers(folder)
    return all(((row := rows.get(case.id)) and row.state in ("done", "failed")) or done(case) for case in cases)


def read_ledgers(folder: Path) -> dict[str, LedgerRow]:
    """The last row of each case in the ledgers of a folder: that of the whole run, and those of its parts.

    Raises: FormatError as `read_ledger`.
    """
    rows: dict[str, LedgerRow] = {}
    for path in (folder / LEDGER, *parts_of(folder / LEDGER)):
        if path.is_file() and path.stat().st_size:
            for case, row in read_ledger(path).items():
                if case not in rows or row.time >= rows[case].time:
                    rows[case] = row
    return rows


def merge_ledgers(folder: Path) -> None:
    """Put the ledgers of all parts into the one of the whole run, in the order of time, and remove them.

    Also removes the records of how cases were divided. Raises: FormatError when the ledger cannot be written.
    """
    parts = parts_of(folder / LEDGER)
    if parts:
        lines = [line for path in (folder / LEDGER, *parts) if path.is_file() for line in _lines(path)]
        write_text(folder / LEDGER, "".join(f"{line}\n" for line in sorted(lines, key=_time)))
    for path in (*parts, *folder.glob(_record_name("*"))):
        path.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    """The whole lines of a ledger, without one that a kill has cut off."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error
    return [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def _time(line: str) -> str:
    try:
        return str(json.loads(line).get("time", ""))
    except (ValueError, RecursionError):
        return ""


def _record_name(count: object) -> str:
    return f"parts-of-{count}.json"
