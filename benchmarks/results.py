"""Shared by all scripts: command-line options, and printing and writing of tables."""

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

__all__ = ["argument_parser", "merged", "publish", "read_tables", "write_tables"]


def argument_parser(doc: str | None, *, rounds: int = 7) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds to measure")
    parser.add_argument("--quick", action="store_true", help="smoke test with tiny networks and images")
    parser.add_argument("--json", type=Path, help="file to write the tables to, raw times included")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder for models and scans")
    return parser


def publish(tables: Sequence[Table], options: argparse.Namespace) -> None:
    """Print the tables, and write them to the file of --json, where they replace tables of the same name."""
    command, date, machine = _command(options), datetime.now(UTC).date().isoformat(), describe()
    complete = [replace(table, command=command, date=date, machine=machine) for table in tables]
    for table in complete:
        print(markdown(table), flush=True)
    if options.json:
        write_tables(merged(read_tables(options.json), complete), options.json)


def merged(old: Sequence[Table], new: Sequence[Table]) -> list[Table]:
    """The old tables, replaced where a new one has the same name, followed by the other new ones."""
    return list({table.name: table for table in (*old, *new)}.values())


def write_tables(tables: Sequence[Table], path: Path) -> None:
    """Write tables as JSON, raw times included."""
    write_text(path, json.dumps([asdict(table) for table in tables], indent=1) + "\n")


def read_tables(path: Path) -> list[Table]:
    """The tables in a file written by `write_tables`; an empty list if it does not exist."""
    if not path.exists():
        return []
    return [Table.from_json(content) for content in json.loads(path.read_text(encoding="utf-8"))]


def _command(options: argparse.Namespace) -> str:
    """The command that reproduces the tables: all options except paths."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    for name, value in vars(options).items():
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif isinstance(value, (int, float, str)) and value is not False:
            words += [f"--{name.replace('_', '-')}", str(value)]
        elif isinstance(value, (list, tuple)) and value:
            words += [f"--{name.replace('_', '-')}", *map(str, value)]
    return " ".join(words)
