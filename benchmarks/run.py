"""`make bench`: run every script in turn and update its tables in docs/benchmarks.md.

    python benchmarks/run.py [--only window case] [--env ENV] [--quick]

Each script runs in its own process, so that none inherits the threads and the memory of another. The page and
docs/benchmarks.json (raw times) are updated after each script, so that an interruption loses nothing. The tables of
scripts that do not run stay as they are, with their date. A quick run writes neither file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from harness import Table
from results import SCRIPTS, read_tables, update_page

WITH_PEER = ("case", "startup")
"""Scripts that also measure nnU-Net."""
HERE = Path(__file__).parent


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
    failed = []
    for script in options.only:
        succeeded, tables = run(script, options)
        failed += [] if succeeded else [script]
        if not options.quick:
            update_page(tables)
    if failed:
        raise SystemExit(f"these scripts failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
