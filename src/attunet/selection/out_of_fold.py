"""What the folds of a run say of the cases that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from attunet.bundle import HeldOutCase, fold_folder, held_out_cases
from attunet.bundle.manifest import read_sums
from attunet.data.alignment import GeometryPolicy
from attunet.data.cases import Case, read_case_label
from attunet.data.formats import mask_suffix, suffix_of, write_volume
from attunet.data.preprocess import prepare, prepare_label
from attunet.inference.outputs import decide
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.selection.samples import Sample, draw_sample

__all__ = ["HeldOut", "out_of_fold_cases", "predict_held_out"]


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


def out_of_fold_cases(run: Path) -> tuple[tuple[HeldOut, ...], tuple[str, ...]]:
    """The unseen cases of a run and where what is said of them lies; what is to be said about the rest.

    Raises: as `unseen_cases`.
    """
    cases, notices = held_out_cases(run)
    return tuple(_held_out(run, unseen) for unseen in cases), notices


def predict_held_out(
    run: Path,
    cases: Sequence[HeldOut],
    *,
    device: str = "auto",
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Let each fold alone, without post-processing, segment the cases it has not seen; write their masks and samples.

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


def _held_out(run: Path, unseen: HeldOutCase) -> HeldOut:
    folder, case = run / "cross_validation", unseen.case
    suffix = mask_suffix(suffix_of(case.images[0]) or ".nii.gz")
    mask, sample = folder / "masks" / f"{case.id}{suffix}", folder / "samples" / f"{case.id}.npz"
    return HeldOut(case, unseen.fold, unseen.geometry, mask, sample)


def _is_done(held: HeldOut, origin: str) -> bool:
    sample = Sample.load(held.sample) if held.mask.is_file() else None
    return sample is not None and sample.origin == origin


def _predict(segmenter: Segmenter, held: HeldOut, origin: str) -> None:
    """All windows are run, and the probabilities stay at hand on the model grid, where they are small."""
    plan = segmenter.plan
    _, image = segmenter.read(held.case)
    label = read_case_label(held.case, image, geometry=held.geometry)
    (member,) = segmenter.members
    prepared = prepare(image, plan.preprocessing)
    probabilities = member.answer(prepared.array, PredictOptions()).logits
    mask = decide(probabilities, prepared.record, plan)
    truth = prepare_label(label, prepared.record, plan.file_values, plan.ignore_label)
    held.mask.parent.mkdir(parents=True, exist_ok=True)
    write_volume(image.with_array(mask[None]), held.mask)
    # last: its presence says that the case is done
    draw_sample(held.case.id, probabilities, truth, plan, origin).save(held.sample)
