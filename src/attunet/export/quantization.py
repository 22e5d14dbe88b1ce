"""OpenVINO graphs in 8-bit integers: ranges from training patches, kept only if unseen cases lose nothing by it."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from attunet.bundle import FoldFiles, Quantization, fold_cases, fold_folder
from attunet.config import Plan
from attunet.data.cases import read_case
from attunet.data.folds import Split
from attunet.data.patches import cut_patch
from attunet.data.preprocess import prepare, prepare_label
from attunet.data.volume import Array
from attunet.errors import DatasetError, EngineError
from attunet.evaluation.scores import nan_mean
from attunet.export.formats import disable_telemetry
from attunet.files import staged
from attunet.inference.engines.openvino_engine import OpenVINOEngine, openvino_core
from attunet.inference.engines.protocol import window_shape
from attunet.inference.evaluation import EvaluateOptions, evaluate_cases
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

__all__ = ["LARGEST_LOSS", "calibration_patches", "mean_dice", "quantize", "require_int8", "write_quantized"]

Floats = npt.NDArray[np.float32]

LARGEST_LOSS = 0.002
"""Mean Dice of the validation cases that 8-bit integers may cost at most."""

_PATCHES = 64
_CASES = 32


def quantize(
    run: Path, folds: Sequence[FoldFiles], plan: Plan, stage: Path, *, advance: Callable[[], None] = lambda: None
) -> Quantization:
    """Turn the graphs of an exported folder into 8-bit ones, if that costs less than `LARGEST_LOSS` of mean Dice.

    Args: the trained run and its folds; the folder that holds their graphs already; called after every judged case.
    Returns: both Dice and what was decided; the graphs are changed only where it was kept.
    Raises: EngineError without nncf; DatasetError and FormatError when the data set is not there, or no validation
        case has a label.
    """
    require_int8()
    before: list[float] = []
    after: list[float] = []
    with TemporaryDirectory() as folder:
        made = {stage / fold.name / "graph.xml": Path(folder) / fold.name / "graph.xml" for fold in folds}
        for source, target in made.items():
            index = int(source.parent.name.removeprefix("fold_"))
            write_quantized(source, calibration_patches(run, index, plan), target)
            before += mean_dice(_segmenter(source, plan), run, index, advance)
            after += mean_dice(_segmenter(target, plan), run, index, advance)
        if np.isnan(before).all():
            raise DatasetError(f"no validation case of {run} has a label to judge 8-bit integers by")
        score, quantized = float(np.nanmean(before)), float(np.nanmean(after))
        kept = score - quantized < LARGEST_LOSS
        for source, target in made.items() if kept else ():
            for suffix in (".bin", ".xml"):
                shutil.copyfile(target.with_suffix(suffix), source.with_suffix(suffix))
    return Quantization(kept=kept, dice_before=score, dice_after=quantized, cases=len(before), patches=_PATCHES)


def require_int8() -> None:
    """Raises: EngineError when the int8 extra is not installed."""
    if find_spec("nncf") is None:
        raise EngineError("8-bit integers need nncf", hint='install it with: pip install "attunet[int8]"')


def write_quantized(graph: Path, patches: Sequence[Floats], target: Path) -> None:
    """Write a graph whose convolutions compute in 8-bit integers, with ranges that these patches (1, C, *patch) set.

    The products of gates with their skips stay as they are: they cost little, and can still be told their attention.
    """
    import nncf
    import openvino as ov

    disable_telemetry()
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        quantized = nncf.quantize(
            openvino_core().read_model(graph),
            nncf.Dataset(list(patches)),
            subset_size=len(patches),
            ignored_scope=nncf.IgnoredScope(types=["Multiply"], validate=False),
        )
    with staged(target) as path:
        ov.save_model(quantized, path, compress_to_fp16=False)


def calibration_patches(run: Path, fold: int, plan: Plan, patches: int = _PATCHES) -> list[Floats]:
    """Patches (1, C, *patch) of cases that a fold was trained on, every second one centred on a labelled voxel.

    Raises: DatasetError, FormatError as `fold_cases`.
    """
    cases = fold_cases(run, fold, "train")
    chosen = cases[:: -(-len(cases) // _CASES)]
    geometry = Split.read(fold_folder(run, fold)).geometry
    random = np.random.default_rng(0)
    found: list[Floats] = []
    for index, case in enumerate(chosen):
        image, label = read_case(case, geometry=geometry)
        assert label is not None
        prepared = prepare(image, plan.preprocessing)
        classes = prepare_label(label, prepared.record, plan.file_values)
        share = range(index, patches, len(chosen))
        found += [_patch(prepared.array, _centre(classes, number % 2 == 1, random), plan) for number in share]
    return found


def mean_dice(segmenter: Segmenter, run: Path, fold: int, advance: Callable[[], None] = lambda: None) -> list[float]:
    """Of each case that a fold was validated on, the mean Dice of its labels; nan for a case without any."""
    options = EvaluateOptions(geometry=Split.read(fold_folder(run, fold)).geometry)
    evaluated = evaluate_cases(segmenter, fold_cases(run, fold), options, progress=lambda *_: advance())
    return [nan_mean(dice.values()) for dice in map(attrgetter("dice"), evaluated)]


def _segmenter(graph: Path, plan: Plan) -> Segmenter:
    engine = OpenVINOEngine(graph, window_shape(plan))
    return Segmenter((Member(graph.parent.name, plan, (engine,)),))


def _centre(classes: Array, labelled: bool, random: np.random.Generator) -> Array:
    voxels = np.argwhere((classes > 0) & (classes < 255)) if labelled else np.empty((0, 3), int)
    return voxels[random.integers(len(voxels))] if len(voxels) else random.integers(classes.shape)


def _patch(image: Floats, centre: Array, plan: Plan) -> Floats:
    return np.ascontiguousarray(cut_patch(image, centre, plan.patch_size).reshape(1, *window_shape(plan)))
