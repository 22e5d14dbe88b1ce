"""Accuracy of attunet, MONAI's AttentionUnet and nnU-Net: the same training cases, minutes, threads and unseen cases.

    python benchmarks/accuracy.py hippocampus --split shifted --minutes 15 --env ENV [--programs attunet monai-best]

Trains each program on each share of a data set, predicts the unseen cases, scores all masks with attunet's evaluation
and prints one table with paired intervals. A program on one share is one step: its result is kept in --work, and a
repeated call continues after the last one. DATASET is a known name (protocol/sources.py) or a folder in any layout that
attunet reads. nnU-Net is installed into ENV on the first call. --few 6 tries everything out on a few cases.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

from nnunet.peer import VERSION, install
from protocol.entrants import ENTRANTS, OURS, Settings
from protocol.scores import Result, accuracy_table, score
from protocol.shares import Share, make_shares
from protocol.sources import SOURCES, canonical
from results import publish, update_page

from attunet.files import write_text

PROGRAMS = ("attunet", "monai", "monai-best", "nnunet", "nnunet-no-mirroring")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> None:
    options = _options()
    work = options.work / re.sub(r"\W+", "_", Path(options.dataset).name)
    os.environ |= dict.fromkeys(THREADS, str(options.threads))
    if options.env:
        options.env.mkdir(parents=True, exist_ok=True)
        install(options.env.resolve())
    few = f"_few{options.few}" if options.few else ""
    split = work / f"{options.split}{few}"
    dataset = canonical(options.dataset, options.data, work)
    shares = make_shares(dataset, options.split, split / "shares", few=options.few)
    selected = [share for share in shares if options.only is None or share.name in options.only]
    if not selected:
        raise SystemExit(f"--only names none of the shares {', '.join(share.name for share in shares)}")
    settings = Settings(
        options.minutes,
        options.threads,
        options.cores,
        options.seed,
        options.env.resolve() if options.env else None,
        work.resolve(),
        options.recipe,
        tuple(options.train_flags.split()),
    )
    results = [_run(program, selected, split / _conditions(options), settings, options) for program in options.programs]
    if not options.run_only:
        _publish(results, selected, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help=f"{', '.join(SOURCES)}, or a folder")
    parser.add_argument(
        "--split", default="5", help="shifted: the first 70%% of the cases by name; N folds; groups: leave one out"
    )
    parser.add_argument("--minutes", type=float, default=15, help="minutes of training on each share")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each program")
    parser.add_argument("--cores", default="", help="cores to pin all programs to, such as 0,1")
    parser.add_argument(
        "--programs", nargs="+", choices=ENTRANTS, default=PROGRAMS, metavar="PROGRAM", help=", ".join(ENTRANTS)
    )
    parser.add_argument("--only", nargs="+", metavar="SHARE", help="only these shares, such as fold0 fold1")
    parser.add_argument("--few", type=int, help="only that many training and unseen cases, to try it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", type=Path, help="recipe for attunet train; kept apart from results without it")
    parser.add_argument("--train-flags", default="", help="more flags of attunet train, in one word; kept apart, too")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the known data sets")
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"), help="folder for all files")
    parser.add_argument("--env", type=Path, help="virtual environment of nnU-Net, created if missing")
    parser.add_argument("--again", action="store_true", help="repeat completed steps of the programs, too")
    parser.add_argument("--run-only", action="store_true", help="train and predict, but print no table")
    parser.add_argument("--json", type=Path, help="file to write the table to")
    parser.add_argument("--page", action="store_true", help="renew the table in docs/benchmarks.md and .json")
    return parser.parse_args()


def _conditions(options: argparse.Namespace) -> str:
    """The folder of the results under these conditions."""
    cores = f"_cores{options.cores.replace(',', '-')}" if options.cores else ""
    return f"{options.minutes:g}min_{options.threads}threads{cores}_seed{options.seed}"


def _variant(program: str, options: argparse.Namespace) -> str:
    """The program, and what was changed about it."""
    if not program.startswith(OURS):
        return program
    recipe, flags = options.recipe, re.sub(r"\W+", "_", options.train_flags).strip("_")
    content = f"{recipe.stem}-{zlib.crc32(recipe.read_bytes()):08x}" if recipe else ""
    return "+".join(word for word in (program, content, flags) if word)


def _run(
    program: str, shares: Sequence[Share], folder: Path, settings: Settings, options: argparse.Namespace
) -> Result:
    """Run a program on all shares, except those that it has completed, and score it."""
    folders = []
    variant = _variant(program, options)
    for share in shares:
        step = folder / share.name / variant
        if options.again or not (step / "record.json").exists():
            print(f"{share.name}: {variant}, {settings.minutes:g} minutes on {len(share.train)} cases", flush=True)
            shutil.rmtree(step, ignore_errors=True)
            step.mkdir(parents=True)
            write_text(step / "record.json", json.dumps(ENTRANTS[program].run(share, step, settings)))
        folders.append(step)
    changes = [f"recipe {options.recipe.stem}"] if options.recipe and program.startswith(OURS) else []
    changes += [options.train_flags] if options.train_flags and program.startswith(OURS) else []
    return score(", ".join([ENTRANTS[program].title, *changes]), shares, folders)


def _publish(results: Sequence[Result], shares: Sequence[Share], options: argparse.Namespace) -> None:
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    counts = " or ".join(sorted({str(len(share.train)) for share in shares}))
    unseen = sum(len(share.unseen) for share in shares)
    name = Path(options.dataset).name
    notes = (
        f"{len(shares)} {'share' if len(shares) == 1 else 'shares'}, {counts} training cases in each, {unseen} unseen "
        f"cases; {options.minutes:g} minutes of training for each share, {threads}, "
        f"seed {options.seed}.",
        f"nnU-Net {VERSION} and MONAI train on all training cases. attunet keeps a fifth of them for validation, which "
        "its minutes include, unless its row says otherwise.",
        "Predictions are whole programs from file to file, those of MONAI without its start-up.",
    )
    title = f"Accuracy: {name}, {options.minutes:g} minutes, the same cases for all programs"
    table = accuracy_table(f"accuracy_{name}_{options.split}_{options.minutes:g}", title, results, notes)
    complete = publish([table], options)
    if options.page:
        if options.few:
            raise SystemExit("--few is a trial: it is not written to the page")
        update_page(complete)


if __name__ == "__main__":
    main()
