"""The held-out cases of a run: the cases that a fold was not trained on, used to evaluate and explain it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attunet.bundle.run import fold_folder, load_bundle
from attunet.config import Plan, load_settings
from attunet.data.alignment import GeometryPolicy
from attunet.data.cases import Case, read_dataset
from attunet.data.folds import Split
from attunet.data.labels import rename_annotated
from attunet.errors import DatasetError

__all__ = ["HeldOutCase", "finished_folds", "fold_cases", "held_out_cases"]


@dataclass(frozen=True)
class HeldOutCase:
    """A labelled case that a fold was not trained on.

    Args:
        case: with a label.
        fold: the fold.
        geometry: what to do where the label's grid differs from the image's.
    """

    case: Case
    fold: int
    geometry: GeometryPolicy


def finished_folds(run: Path) -> tuple[int, ...]:
    """The finished folds of a model folder, in order.

    Raises: BundleError when it is no model, or has no finished fold.
    """
    return tuple(int(re.sub(r"\D", "", fold.name)) for fold in load_bundle(run).folds)


def fold_cases(run: Path, fold: int, side: Literal["train", "validation"] = "validation") -> tuple[Case, ...]:
    """The cases that a fold validated on, or trained on, in its data set.

    Args:
        run: the model folder.
        fold: the fold.
        side: "validation" or "train".
    Returns: the cases, in the order of split.yaml.
    Raises: FormatError when the fold does not record its cases; DatasetError when the data set was moved, or one of the
        cases or its label is missing.
    """
    split = Split.read(fold_folder(run, fold))
    done, names = ("validated", split.validation) if side == "validation" else ("trained", split.train)
    if not split.dataset.exists():
        raise DatasetError(
            f"fold {fold} of {run} was {done} on {split.dataset}, which does not exist",
            hint=f"restore the data set, or correct `dataset` in {fold_folder(run, fold) / 'split.yaml'}",
        )
    labels = load_settings(Plan, run / "plan.json").labels
    known = {case.id: case for case in rename_annotated(read_dataset(split.dataset, split.options), labels).labelled}
    if lost := [name for name in names if name not in known]:
        raise DatasetError(
            f"{split.dataset} no longer contains {len(lost)} of the {len(names)} labelled cases that fold {fold} of "
            f"{run} "
            f"was {done} on: {', '.join(lost[:5])}",
            hint="restore them, or train the fold again",
        )
    return tuple(known[name] for name in names)


def held_out_cases(run: Path) -> tuple[tuple[HeldOutCase, ...], tuple[str, ...]]:
    """The cases that a finished fold of the run was not trained on, fold by fold, and warnings about the other folds.

    Raises: BundleError, FormatError and DatasetError as `finished_folds` and `fold_cases`; DatasetError when every
        fold was validated on cases that it was trained on.
    """
    cases: dict[str, HeldOutCase] = {}
    warnings = []
    for fold in finished_folds(run):
        split = Split.read(fold_folder(run, fold))
        if not split.held_out:
            warnings.append(f"fold {fold} is left out: it was validated on its own training cases")
            continue
        for case in fold_cases(run, fold):
            cases.setdefault(case.id, HeldOutCase(case, fold, split.geometry))
    if not cases:
        raise DatasetError(
            f"no fold of {run} was validated on held-out cases",
            hint="train with more cases, of more than one patient, and --fold all",
        )
    return tuple(cases.values()), tuple(warnings)
