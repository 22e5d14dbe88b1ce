"""`make bench`: run every script in turn and update its tables in docs/benchmarks.md.

    python benchmarks/run.py [--only window case] [--env ENV] [--quick]

Each script runs in its own process, so that none inherits the threads and the memory of another. The page and
docs/benchmarks.json (raw times) are updated after each script, so that an interruption loses nothing. The tables of
scripts that do not run stay as they are, with their date. A quick run writes neither file.
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
"""In the order of their tables on the page."""
WITH_PEER = ("case", "startup")
"""Scripts that also measure nnU-Net."""
HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def run(script: str, options: argparse.Namespace) -> tuple[bool, list[Table]]:
    """Run one script, whose output is passed through. Returns: whether it succeeded, and its tables."""
    results = options.work / "results" / f"{script}.json"
    results.unlink(missing_ok=True)
    command = [sys.executable, HERE / f"{script}.py", "--work", options.work, "--json", results]
    command += ["--env", options.env] if script in WITH_PEER else []
    command += ["--quick"] if options.quick else []
    command += ["--rounds", options.rounds] if options.rounds else []
    started = time.monotonic()
    code = subprocess.run(list(map(str, command))).returncode
    print(f"{script}: {(time.monotonic() - started) / 60:.1f} minutes\n", flush=True)
    return code == 0, read_tables(results)


def ordered(tables: Sequence[Table]) -> list[Table]:
    """The tables in the order of the scripts."""
    return sorted(tables, key=_script_order)


def _script_order(table: Table) -> int:
    script = re.findall(r"benchmarks/(\w+)\.py", table.command)
    return SCRIPTS.index(script[0]) if script and script[0] in SCRIPTS else len(SCRIPTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="SCRIPT", help=", ".join(SCRIPTS)
    )
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder for models and scans")
    parser.add_argument("--env", type=Path, default=Path("build/nnunet_env"), help="virtual environment of nnU-Net")
    parser.add_argument("--rounds", type=int, help="rounds to measure, instead of each script's default")
    parser.add_argument("--quick", action="store_true", help="smoke test with tiny sizes; writes nothing into docs/")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    page, raw = DOCS / "benchmarks.md", DOCS / "benchmarks.json"
    failed = []
    for script in options.only:
        succeeded, tables = run(script, options)
        failed += [] if succeeded else [script]
        if not options.quick:
            updated = ordered(merged(read_tables(raw), tables))
            write_tables(updated, raw)
            write_text(page, insert(page.read_text(encoding="utf-8"), updated))
    if failed:
        raise SystemExit(f"these scripts failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
