"""Shared by all scripts: command-line options, and printing and writing of tables."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import Table
from machine import describe
from page import insert, markdown

from attunet.files import write_text

__all__ = [
    "SCRIPTS",
    "argument_parser",
    "merged",
    "ordered",
    "publish",
    "read_tables",
    "update_page",
    "write_tables",
]

SCRIPTS = ("window", "listing", "training_step", "case", "startup", "nifti_io", "ceiling", "scaling", "crowded")
"""The scripts of `make bench`, in the order of their tables on the page."""
ORDER = ("accuracy", "trunk", *SCRIPTS, "serve_peer", "cluster_model")
DOCS = Path(__file__).parent.parent / "docs"


def argument_parser(doc: str | None, *, rounds: int = 7) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds to measure")
    parser.add_argument("--quick", action="store_true", help="smoke test with tiny networks and images")
    parser.add_argument("--json", type=Path, help="file to write the tables to, raw times included")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder for models and scans")
    return parser


def publish(tables: Sequence[Table], options: argparse.Namespace) -> list[Table]:
    """Print the tables, and write them to the file of --json, where they replace tables of the same name.

    Returns: the tables with command, date and machine.
    """
    command, date, machine = _command(options), datetime.now(UTC).date().isoformat(), describe()
    complete = [replace(table, command=command, date=date, machine=machine) for table in tables]
    for table in complete:
        print(markdown(table), flush=True)
    if options.json:
        write_tables(merged(read_tables(options.json), complete), options.json)
    return complete


def update_page(tables: Sequence[Table]) -> None:
    """Replace these tables in docs/benchmarks.json (raw times), and write the generated part of docs/benchmarks.md."""
    page, raw = DOCS / "benchmarks.md", DOCS / "benchmarks.json"
    updated = ordered(merged(read_tables(raw), tables))
    write_tables(updated, raw)
    write_text(page, insert(page.read_text(encoding="utf-8"), updated))


def ordered(tables: Sequence[Table]) -> list[Table]:
    """The tables in the order of the scripts."""
    return sorted(tables, key=_script_order)


def _script_order(table: Table) -> int:
    script = re.findall(r"benchmarks/(\w+)\.py", table.command)
    return ORDER.index(script[0]) if script and script[0] in ORDER else len(ORDER)


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
    """The command that reproduces the tables: all options except paths; only a recipe belongs to the project."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    words += [str(options.dataset)] if hasattr(options, "dataset") else []  # positional
    for name, value in vars(options).items():
        if name == "dataset" or value == "" or (name == "page" and value is True):
            continue
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
        elif isinstance(value, (int, float, str)) and value is not False:
            words += [f"--{name.replace('_', '-')}", str(value)]
        elif isinstance(value, Path) and name == "recipe":
            words += ["--recipe", value.as_posix()]
        elif isinstance(value, (list, tuple)) and value:
            words += [f"--{name.replace('_', '-')}", *map(str, value)]
    return " ".join(words)
