"""What the folds of a run say of the cases that they have not seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from attunet.bundle import fold_folder, load_bundle
from attunet.bundle.manifest import read_sums
from attunet.config import Plan, load_settings
from attunet.data.alignment import GeometryPolicy
from attunet.data.cases import Case, read_dataset, read_label_of
from attunet.data.folds import Split
from attunet.data.formats import mask_suffix, suffix_of, write_volume
from attunet.data.labels import rename_annotated
from attunet.data.preprocess import prepare_label
from attunet.errors import DatasetError
from attunet.inference.member import Pass, ask
from attunet.inference.outputs import decide
from attunet.inference.segmenter import Segmenter
from attunet.selection.samples import Sample, draw_sample

__all__ = ["HeldOut", "finished_folds", "fold_cases", "held_out_cases", "predict_held_out"]


@dataclass(frozen=True)
class HeldOut:
    """A case, the fold that has not seen it, and where that fold's answer lies.

    Args: the case; its fold; what to do where its label's grid differs; mask and sample (see `draw_sample`).
    """

    case: Case
    fold: int
    geometry: GeometryPolicy
    mask: Path
    sample: Path


def finished_folds(run: Path) -> tuple[int, ...]:
    """The folds of a model folder that are trained, in order.

    Raises: BundleError when it is no model, or has no finished fold.
    """
    return tuple(int(re.sub(r"\D", "", fold.name)) for fold in load_bundle(run).folds)


def fold_cases(run: Path, fold: int) -> tuple[Case, ...]:
    """The cases that a fold validated on, found again in its data set, in the order of split.yaml.

    Raises: FormatError when the fold does not tell its cases; DatasetError when the data set has moved or has lost
        one of them or its label.
    """
    split = Split.read(fold_folder(run, fold))
    if not split.dataset.exists():
        raise DatasetError(
            f"fold {fold} of {run} was validated on {split.dataset}, which is not there",
            hint=f"bring the data set back, or correct `dataset` in {fold_folder(run, fold) / 'split.yaml'}",
        )
    labels = load_settings(Plan, run / "plan.json").labels
    known = {case.id: case for case in rename_annotated(read_dataset(split.dataset), labels).labelled}
    if lost := [name for name in split.validation if name not in known]:
        raise DatasetError(
            f"{split.dataset} no longer holds {len(lost)} of the {len(split.validation)} labelled cases that fold "
            f"{fold} of {run} was validated on: {', '.join(lost[:5])}",
            hint="bring them back, or train the fold again",
        )
    return tuple(known[name] for name in split.validation)


def held_out_cases(run: Path) -> tuple[tuple[HeldOut, ...], tuple[str, ...]]:
    """The cases that a finished fold of the run has not seen, fold by fold, and what is to be said about the rest.

    Raises: BundleError, FormatError and DatasetError as `finished_folds` and `fold_cases`; DatasetError when every
        fold was validated on cases that it was trained on.
    """
    found: dict[str, HeldOut] = {}
    notices = []
    for fold in finished_folds(run):
        split = Split.read(fold_folder(run, fold))
        if not split.unseen:
            notices.append(f"fold {fold} is left out: it was validated on cases that it was trained on")
            continue
        for case in fold_cases(run, fold):
            found.setdefault(case.id, _held_out(run, case, fold, split.geometry))
    if not found:
        raise DatasetError(
            f"no fold of {run} was validated on cases that it had not seen, so there is nothing to learn from",
            hint="train with more cases, of more than one patient, and --fold all",
        )
    return tuple(found.values()), tuple(notices)


def predict_held_out(
    run: Path,
    cases: Sequence[HeldOut],
    *,
    device: str = "auto",
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Let each fold alone, without refinement, segment the cases it has not seen; write their masks and samples.

    A case that is there is passed over, unless its fold was trained further since.
    Args: called after every case.
    Raises: DataError and its kind for a case that cannot be read, EngineError when the device is not there.
    """
    sums = read_sums(run)
    for fold, group in groupby(cases, key=lambda held: held.fold):
        origin = sums[f"{fold_folder(run, fold).name}/weights.safetensors"]
        segmenter: Segmenter | None = None
        for held in group:
            if not _is_done(held, origin):
                segmenter = segmenter or Segmenter.load(run, folds=[fold], device=device, raw=True)
                _predict(segmenter, held, origin)
            advance()


def _held_out(run: Path, case: Case, fold: int, geometry: GeometryPolicy) -> HeldOut:
    folder = run / "cross_validation"
    suffix = mask_suffix(suffix_of(case.images[0]) or ".nii.gz")
    mask, sample = folder / "masks" / f"{case.id}{suffix}", folder / "samples" / f"{case.id}.npz"
    return HeldOut(case, fold, geometry, mask, sample)


def _is_done(held: HeldOut, origin: str) -> bool:
    sample = Sample.load(held.sample) if held.mask.is_file() else None
    return sample is not None and sample.origin == origin


def _predict(segmenter: Segmenter, held: HeldOut, origin: str) -> None:
    """As `Segmenter.predict` does it, but the probabilities stay at hand on the model grid, where they are small."""
    plan = segmenter.plan
    _, image = segmenter.read(held.case)
    label = read_label_of(held.case, image, geometry=held.geometry)
    answer = ask(segmenter.members, image, Pass(), lambda _done, _total: None)
    mask = decide(answer.probabilities, answer.trail, plan)
    truth = prepare_label(label, answer.trail, plan.file_values, plan.ignore_label)
    held.mask.parent.mkdir(parents=True, exist_ok=True)
    write_volume(image.with_array(mask[None]), held.mask)
    # last: its presence says that the case is done
    draw_sample(held.case.id, answer.probabilities, truth, plan, origin).save(held.sample)
