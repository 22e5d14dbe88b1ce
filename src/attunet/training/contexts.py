"""The context of each case of a fold: the probabilities of those localizers that have not been trained on it.

checkpoints/context/  KEY.npy for each case, made.json: the localizers' weights and the budget that they have used.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attunet.data.coarse_map import context_channels
from attunet.files import staged, write_text
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.localizer import locate
from attunet.report.training import read_history
from attunet.training.run_folder import FoldPaths, FoldTraining
from attunet.training.store import StoredCase

__all__ = ["Contexts", "find_contexts", "make_contexts"]

Seen = Sequence[Sequence[str]]
"""The ids of the cases that each localizer was trained on."""

_MADE = "made.json"


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """The contexts of a fold's cases.

    Args:
        epochs: of all localizers together.
        seconds: training time of all localizers, and of computing the contexts.
        files: the context of each case by id; empty when the plan's network takes none.
    """

    epochs: int
    seconds: float
    files: Mapping[str, Path] = field(default_factory=dict)


def find_contexts(fold: FoldTraining, coarse: Mapping[str, StoredCase], seen: Seen) -> Contexts | None:
    """The contexts that were made with the present localizers for all cases of the fold.

    Args:
        fold: the fold, whose plan has a localizer.
        coarse: its cases on the coarse grid, by id.
        seen: see `Seen`.
    Returns: the contexts; None when some are missing.
    """
    paths = fold.paths
    try:
        made = json.loads((paths.context / _MADE).read_text(encoding="utf-8"))
        weights = _weights(paths, len(seen))
        complete = made["weights"] == weights
        found = Contexts(
            epochs=int(made["epochs"]), seconds=float(made["seconds"]), files=_files(fold, coarse, seen, weights)
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if complete and all(file.is_file() for file in found.files.values()) else None


def make_contexts(
    fold: FoldTraining,
    coarse: Mapping[str, StoredCase],
    seen: Seen,
    *,
    accelerator: str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Compute and write the context of every case of a fold that has none yet; can be interrupted at any point.

    A case that localizers were trained without gets the mean of their probabilities; others the mean of all.

    Args:
        fold: the fold, whose plan has a localizer.
        coarse: its cases on the coarse grid, by id.
        seen: see `Seen`.
        accelerator: cpu or cuda.
        advance: called after each case.
    Raises: FormatError when the disk is full.
    """
    started = time.monotonic()
    paths, plan = fold.paths, fold.plan
    weights = _weights(paths, len(seen))
    engines = [_engine(paths.localizer(member), fold, accelerator) for member in range(len(seen))]
    files = _files(fold, coarse, seen, weights)
    for name, file in files.items():
        if not file.is_file():
            members = [member for member, names in enumerate(seen) if name not in names] or range(len(seen))
            probabilities = locate([engines[member] for member in members], plan, coarse[name].image()[:])
            with staged(file) as stage, stage.open("wb") as stream:
                np.save(stream, np.ascontiguousarray(context_channels(plan, probabilities)), allow_pickle=False)
            file.chmod(0o600)  # as private as the case itself
        advance()
    logs = [read_history(paths.localizer(member).log)[-1] for member in range(len(seen))]
    trained = sum(60 * row["minutes"] for row in logs)
    made = {
        "weights": weights,
        "epochs": sum(int(row["epoch"]) + 1 for row in logs),
        "seconds": trained + time.monotonic() - started,
    }
    write_text(paths.context / _MADE, json.dumps(made) + "\n")
    for file in set(paths.context.glob("*.npy")) - set(files.values()):
        file.unlink()


def _weights(paths: FoldPaths, members: int) -> list[str]:
    bests = (paths.localizer(member).best for member in range(members))
    return [hashlib.sha256(best.read_bytes()).hexdigest() for best in bests]


def _files(fold: FoldTraining, coarse: Mapping[str, StoredCase], seen: Seen, weights: Sequence[str]) -> dict[str, Path]:
    """The file of each case, whose name depends on everything that its content depends on."""
    if not fold.plan.context:
        return {}
    files = {}
    for name in sorted({case.id for case in (*fold.train, *fold.validation)}):
        facts = [name, coarse[name].contents().digest, weights, [name in names for names in seen], fold.plan.context]
        files[name] = fold.paths.context / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.npy"
    return files


def _engine(paths: FoldPaths, fold: FoldTraining, accelerator: str) -> TorchEngine:
    half = fold.config.precision == "bf16"
    return TorchEngine(paths.best, fold.plan.coarse.network, device=accelerator, batch=1, low_precision=half)
