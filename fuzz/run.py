"""Change valid files in thousands of ways and read them: every input is read, or refused with an AttunetError.

Anything else is a finding: another exception, the end of the process, or more time or memory than children.py allows.
Inputs depend only on the seed, their target and their number, so that every finding can be repeated. With --keep, one
reduced input of each kind of finding goes into tests/corpus, which a test replays.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from children import READ, REFUSED, Child
from mutations import Files, mutate
from reduce import reduced
from targets import TARGETS, Target, seeds_of

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
MOST_OF_A_KIND = 3  # are reported


@dataclass
class Counts:
    """What became of the inputs of a target."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def main() -> int:
    """Run, print a table, and return 1 when there are findings."""
    options = _parsed()
    targets = [target for target in TARGETS if options.only in target.name]
    seeds = {target.name: seeds_of(target) for target in targets}
    inputs = list(_inputs(targets, options.inputs))
    random.Random(options.seed).shuffle(inputs)
    counts: dict[str, Counts] = defaultdict(Counts)
    until = time.monotonic() + options.seconds

    def work(share: int) -> None:
        child = Child()
        for target, number in inputs[share :: options.processes]:
            if time.monotonic() > until:
                break
            _one(target, number, seeds[target.name], child, counts[target.name], options)
        child.close()

    for target in targets:
        counts[target.name] = Counts()
    started = time.monotonic()
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(work, range(options.processes)))
    return _report(counts, time.monotonic() - started)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs of all targets together (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this time (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other inputs (%(default)s)")
    parser.add_argument("--only", default="", help="targets whose name contains this")
    parser.add_argument("--processes", type=int, default=min(4, len(os.sched_getaffinity(0))))
    parser.add_argument("--keep", action="store_true", help="store findings in tests/corpus")
    return parser.parse_args()


def _inputs(targets: list[Target], total: int) -> Iterator[tuple[Target, int]]:
    """Every input: its target and its number, by the targets' shares."""
    shares = sum(target.share for target in targets)
    for target in targets:
        for number in range(max(1, round(total * target.share / shares))):
            yield target, number


def _one(
    target: Target, number: int, seeds: list[Files], child: Child, counts: Counts, options: argparse.Namespace
) -> None:
    generator = random.Random(f"{options.seed} {target.name} {number}")
    valid = seeds[number % len(seeds)]
    changed = {name: valid[name] for name in target.changed or valid}
    files = valid if number < len(seeds) else {**valid, **mutate(changed, generator)}
    started = time.monotonic()
    outcome = child.read(target.name, files)
    counts.outcomes[outcome] += 1
    counts.seconds += time.monotonic() - started
    if number < len(seeds) and outcome != READ:
        print(f"{target.name}: a valid file ends in: {outcome}", flush=True)
    if outcome in (READ, REFUSED) or counts.outcomes[outcome] > MOST_OF_A_KIND:
        return
    print(f"{target.name} {number}: {outcome}", flush=True)
    if options.keep and counts.outcomes[outcome] == 1:
        kind = hashlib.sha256(outcome.encode()).hexdigest()[:8]
        smaller = reduced(files, valid, lambda candidate: child.read(target.name, candidate) == outcome)
        _store(smaller, CORPUS / f"{target.name}-{kind}")


def _store(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _report(counts: dict[str, Counts], seconds: float) -> int:
    """Print the table; 1 when there are findings, otherwise 0."""
    print(f"\n{'target':<22}{'inputs':>8}{'read':>8}{'refused':>9}{'findings':>10}{'seconds':>9}")
    rows = [(name, *_row(entry), entry.seconds) for name, entry in counts.items()]
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, 6))))
    for name, inputs, read, refused, findings, spent in rows:
        print(f"{name:<22}{inputs:>8}{read:>8}{refused:>9}{findings:>10}{spent:>9.1f}")
    kinds = Counter({f"{name}: {kind}": n for name, entry in counts.items() for kind, n in entry.outcomes.items()})
    for kind, number in kinds.most_common():
        if not kind.endswith((f": {READ}", f": {REFUSED}")):
            print(f"{number:>6} times  {kind}")
    print(f"{rows[-1][1]} inputs in {seconds:.0f} seconds, {rows[-1][4]} findings")
    return 1 if rows[-1][4] else 0


def _row(entry: Counts) -> tuple[int, int, int, int]:
    total, read, refused = sum(entry.outcomes.values()), entry.outcomes[READ], entry.outcomes[REFUSED]
    return total, read, refused, total - read - refused


if __name__ == "__main__":
    sys.exit(main())
