"""What the scripts have in common: their options, and their tables, printed and written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import Table
from machine import describe
from page import markdown

from attunet.files import write_text

__all__ = ["arguments", "merged", "publish", "read_tables", "write_tables"]


def arguments(doc: str | None, *, rounds: int = 7) -> argparse.ArgumentParser:
    """What all scripts understand."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds that count")
    parser.add_argument("--quick", action="store_true", help="tiny networks and images: does it run at all?")
    parser.add_argument("--json", type=Path, help="write what was found there, raw times included")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder of models and scans")
    return parser


def publish(tables: Sequence[Table], given: argparse.Namespace) -> None:
    """Print the tables, and add them to what is where --json says, in place of those of the same name."""
    command, date, machine = _command(given), datetime.now(UTC).date().isoformat(), describe()
    signed = [replace(table, command=command, date=date, machine=machine) for table in tables]
    for table in signed:
        print(markdown(table), flush=True)
    if given.json:
        write_tables(merged(read_tables(given.json), signed), given.json)


def merged(old: Sequence[Table], new: Sequence[Table]) -> list[Table]:
    """The old tables, renewed where there is a new one of the same name, and the others after them."""
    return list({table.name: table for table in (*old, *new)}.values())


def write_tables(tables: Sequence[Table], path: Path) -> None:
    """As JSON, raw times included."""
    write_text(path, json.dumps([asdict(table) for table in tables], indent=1) + "\n")


def read_tables(path: Path) -> list[Table]:
    """The tables in a file of `publish`, none when there is no such file."""
    if not path.exists():
        return []
    return [Table.from_json(content) for content in json.loads(path.read_text(encoding="utf-8"))]


def _command(given: argparse.Namespace) -> str:
    """What to type for the same table: the options but those that say where files lie."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    for name, value in vars(given).items():
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif isinstance(value, (int, float, str)) and value is not False:
            words += [f"--{name.replace('_', '-')}", str(value)]
        elif isinstance(value, (list, tuple)) and value:
            words += [f"--{name.replace('_', '-')}", *map(str, value)]
    return " ".join(words)
