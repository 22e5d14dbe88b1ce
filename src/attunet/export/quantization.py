"""OpenVINO graphs in 8-bit integers: calibrated on training patches, used only if held-out Dice hardly drops."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from attunet.bundle import FoldFiles, Quantization, fold_cases, fold_folder
from attunet.config import Plan
from attunet.data.cases import read_case
from attunet.data.coarse_map import CoarseMap
from attunet.data.folds import Split
from attunet.data.patches import cut_patch, patch_start
from attunet.data.preprocess import prepare, prepare_label
from attunet.data.volume import Array
from attunet.errors import DatasetError
from attunet.evaluation.bootstrap import interval
from attunet.evaluation.scores import nan_mean
from attunet.export.int8_graph import require_nncf, write_int8_graph
from attunet.failures import Failures
from attunet.inference.coarse_pass import coarse_map
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.protocol import window_shape
from attunet.inference.evaluation import EvaluatedCase, EvaluateOptions, evaluate_cases
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

__all__ = [
    "CALIBRATION_PATCHES",
    "LARGEST_LOSS",
    "calibration_patches",
    "fold_case_dice",
    "judge_quantization",
    "quantize",
]

Floats = npt.NDArray[np.float32]

LARGEST_LOSS = 0.002
"""Largest loss of the validation cases' mean Dice that is accepted for 8-bit integers."""

CALIBRATION_PATCHES = 64
"""Number of training patches per fold that set the ranges of the integers."""
_CASES = 32


def quantize(
    run: Path,
    folds: Sequence[FoldFiles],
    plan: Plan,
    stage: Path,
    *,
    advance: Callable[[], None] = lambda: None,
    failures: Failures | None = None,
) -> Quantization:
    """Replace the graphs of an exported folder with 8-bit ones if the mean Dice drops by less than `LARGEST_LOSS`.

    Args:
        run: the trained run.
        folds: its folds.
        plan: its plan.
        stage: the folder with their graphs.
        advance: called after every evaluated case.
        failures: receives the cases that cannot be used, which count nowhere.
    Returns: both scores and the decision.
    Raises: EngineError without nncf; DatasetError and FormatError when the data set is missing, or no validation case
        has a label.
    """
    require_nncf()
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    failures = Failures() if failures is None else failures
    with TemporaryDirectory() as folder:
        made = {stage / fold.name / "graph.xml": Path(folder) / fold.name / "graph.xml" for fold in folds}
        for source, target in made.items():
            index = int(source.parent.name.removeprefix("fold_"))
            write_int8_graph(source, calibration_patches(run, index, plan, CALIBRATION_PATCHES, failures), target)
            original, integers = (
                fold_case_dice(_segmenter(graph, run, index, plan), run, index, advance, failures)
                for graph in (source, target)
            )
            before |= {f"{source.parent.name}/{case}": dice for case, dice in original.items()}
            after |= {f"{source.parent.name}/{case}": dice for case, dice in integers.items()}
        failures.raise_if_all(len(before.keys() & after.keys()))
        judged = judge_quantization(before, after, CALIBRATION_PATCHES)
        for source, target in made.items() if judged.kept else ():
            for suffix in (".bin", ".xml"):
                shutil.copyfile(target.with_suffix(suffix), source.with_suffix(suffix))
    return judged


def judge_quantization(before: Mapping[str, float], after: Mapping[str, float], patches: int) -> Quantization:
    """Compare the Dice of cases before and after quantization; accepted below `LARGEST_LOSS` of the mean.

    Args:
        before: case to its mean Dice.
        after: the same of the graph in 8-bit integers; cases that only one of them has, or nan, do not count.
        patches: number of calibration patches.
    Returns: both means, the interval of the mean change, and the decision.
    Raises: DatasetError when no case counts.
    """
    shared = [case for case in after if case in before and not np.isnan(before[case] + after[case])]
    if not shared:
        raise DatasetError("no validation case has a label to evaluate 8-bit integers with")
    first, second = np.array([before[case] for case in shared]), np.array([after[case] for case in shared])
    low, high = _change_interval(second - first)
    score, quantized = float(first.mean()), float(second.mean())
    return Quantization(
        kept=score - quantized < LARGEST_LOSS,
        dice_before=score,
        dice_after=quantized,
        cases=len(shared),
        patches=patches,
        low=low,
        high=high,
    )


def _change_interval(changes: npt.NDArray[np.float64]) -> tuple[float | None, float | None]:
    """95% interval of the mean change: bootstrap or Student's t, whichever end is wider; of one case it is unknown.

    A bootstrap of few cases is too narrow, Student's t of many with a few outliers too symmetric.
    """
    if len(changes) < 2:
        return None, None
    from scipy.stats import t  # costs half a second

    reach = t.ppf(0.975, len(changes) - 1) * changes.std(ddof=1) / np.sqrt(len(changes))
    low, high = interval(changes)
    return max(-1.0, min(low, float(changes.mean() - reach))), min(1.0, max(high, float(changes.mean() + reach)))


def calibration_patches(
    run: Path, fold: int, plan: Plan, patches: int, failures: Failures | None = None
) -> list[Floats]:
    """Patches (1, C, *patch) of cases that a fold was trained on, every second one centred on a labelled voxel.

    Args:
        run: the trained run.
        fold: index of the fold.
        plan: its plan.
        patches: number of patches.
        failures: receives the cases that cannot be used; None for none of the caller's.
    Returns: the patches; the same on every call.
    Raises: DatasetError, FormatError as `fold_cases`; the first failure when no case can be used.
    """
    cases = fold_cases(run, fold, "train")
    chosen = cases[:: -(-len(cases) // _CASES)]
    geometry = Split.read(fold_folder(run, fold)).geometry
    localizers = _cascade(run, fold).localizers[0] if plan.context else ()
    random = np.random.default_rng(0)
    selected: list[Floats] = []
    failures = Failures() if failures is None else failures
    for index, case in enumerate(chosen):
        with failures.of(case.id):
            image, label = read_case(case, geometry=geometry)
            assert label is not None
            prepared = prepare(image, plan.preprocessing)
            classes = prepare_label(label, prepared.record, plan.file_classes)
            context = coarse_map(localizers, plan, image)
            for number in range(index, patches, len(chosen)):
                centre = _centre(classes, number % 2 == 1, random)
                selected.append(_patch(prepared.array, context, centre, plan))
    failures.raise_if_all(len(selected))
    return selected


def fold_case_dice(
    segmenter: Segmenter,
    run: Path,
    fold: int,
    advance: Callable[[], None] = lambda: None,
    failures: Failures | None = None,
) -> dict[str, float]:
    """The mean Dice of each case that a fold was validated on.

    Args:
        segmenter: segments the cases.
        run: the trained run.
        fold: index of the fold.
        advance: called after every case.
        failures: receives the cases that cannot be used, which have no value; None raises the first failure.
    Returns: a value for each case by its name; nan for a case without labels.
    """
    options = EvaluateOptions(geometry=Split.read(fold_folder(run, fold)).geometry)
    cases = fold_cases(run, fold)
    evaluated = evaluate_cases(segmenter, cases, options, progress=lambda *_: advance(), failures=failures)
    return dict(map(_mean_dice, evaluated))  # map keeps no case in memory while the next one is segmented


def _mean_dice(case: EvaluatedCase) -> tuple[str, float]:
    return case.name, nan_mean(case.dice.values())


def _segmenter(graph: Path, run: Path, fold: int, plan: Plan) -> Segmenter:
    """A model of one graph, after the localizers of the fold if it has some."""
    engine = OpenVINOEngine(graph, window_shape(plan))
    member = Member(graph.parent.name, plan, ()) if plan.localizer is None else _cascade(run, fold)
    return Segmenter((replace(member, engines=(engine,)),))


def _cascade(run: Path, fold: int) -> Member:
    return Segmenter.load(run, folds=[fold], device="cpu").members[0]


def _centre(classes: Array, labelled: bool, random: np.random.Generator) -> Array:
    voxels = np.argwhere((classes > 0) & (classes < 255)) if labelled else np.empty((0, 3), int)
    return voxels[random.integers(len(voxels))] if len(voxels) else random.integers(classes.shape)


def _patch(image: Floats, context: CoarseMap | None, centre: Array, plan: Plan) -> Floats:
    patch = cut_patch(image, centre, plan.patch_size)
    if context is not None:
        start = patch_start(image.shape[1:], centre, plan.patch_size)
        patch = np.concatenate([patch, context.window(start, plan.patch_size)])
    return np.ascontiguousarray(patch.reshape(1, *window_shape(plan)))
