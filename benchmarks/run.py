"""`make bench`: runs every script here in turn, and rewrites its tables in docs/benchmarks.md.

    python benchmarks/run.py [--only window case] [--env ENV] [--quick]

Each script is a program of its own, so that none inherits the threads and the memory of another. After each one the
page and docs/benchmarks.json (raw times) are written, so that what was measured before an interruption is kept; the
tables of scripts that are not run stay as they are, with their date. A quick run writes neither.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness import Table
from page import insert
from results import merged, read_tables, write_tables

from attunet.files import write_text

SCRIPTS = ("window", "listing", "training_step", "case", "startup", "nifti_io", "ceiling", "scaling")
"""In the order of their tables."""
WITH_PEER = ("case", "startup")
"""Those that ask nnU-Net, too."""
HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def run(script: str, given: argparse.Namespace) -> tuple[bool, list[Table]]:
    """Whether a script came to its end, and its tables; its own output is passed on."""
    found = given.work / "results" / f"{script}.json"
    found.unlink(missing_ok=True)
    command = [sys.executable, HERE / f"{script}.py", "--work", given.work, "--json", found]
    command += ["--env", given.env] if script in WITH_PEER else []
    command += ["--quick"] if given.quick else []
    command += ["--rounds", given.rounds] if given.rounds else []
    started = time.monotonic()
    code = subprocess.run(list(map(str, command))).returncode
    print(f"{script}: {(time.monotonic() - started) / 60:.1f} minutes\n", flush=True)
    return code == 0, read_tables(found)


def ordered(tables: Sequence[Table]) -> list[Table]:
    """As the scripts are."""
    return sorted(tables, key=_place)


def _place(table: Table) -> int:
    script = re.findall(r"benchmarks/(\w+)\.py", table.command)
    return SCRIPTS.index(script[0]) if script and script[0] in SCRIPTS else len(SCRIPTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="SCRIPT", help=", ".join(SCRIPTS)
    )
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder of models and scans")
    parser.add_argument("--env", type=Path, default=Path("build/nnunet_env"), help="nnU-Net's own environment")
    parser.add_argument("--rounds", type=int, help="rounds that count, in place of each script's own number")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written into docs/")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    page, raw = DOCS / "benchmarks.md", DOCS / "benchmarks.json"
    failed = []
    for script in given.only:
        done, tables = run(script, given)
        failed += [] if done else [script]
        if not given.quick:
            everything = ordered(merged(read_tables(raw), tables))
            write_tables(everything, raw)
            write_text(page, insert(page.read_text(encoding="utf-8"), everything))
    if failed:
        raise SystemExit(f"not measured to the end: {', '.join(failed)}")


if __name__ == "__main__":
    main()
