"""A trained model as a folder for one runtime: the networks, the plan, calibration and post-processing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from attunet.bundle import (
    Bundle,
    Execution,
    FoldFiles,
    Quantization,
    load_bundle,
    load_model,
    save_ensemble,
    save_execution,
    save_plan,
)
from attunet.bundle.execution import AIR, INT8_FILES
from attunet.bundle.run import ENSEMBLE, has_postprocessing, write_postprocessing
from attunet.bundle.skipping import SKIPPING
from attunet.claims import claimed
from attunet.config import Plan
from attunet.errors import BundleError, ConfigError
from attunet.export.formats import FORMATS, Format
from attunet.export.int8_graph import require_nncf
from attunet.export.outputs import tensor_shapes
from attunet.export.program import supports_any_size
from attunet.export.quantization import LARGEST_LOSS, quantize
from attunet.failures import Failures
from attunet.files import refuse_existing, staged
from attunet.nn import AttentionUNet, load_weights

__all__ = ["Exported", "export_model", "export_run", "load_network", "select_engine"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported folder.

    Args:
        folder: its path.
        differences: by fold, and by localizer of a fold, the largest difference of its graph from torch in fp32.
        quantization: the result of quantizing to 8-bit integers; None when that was not requested.
        failed: cases that could not be used for it, and why.
    """

    folder: Path
    differences: dict[str, float]
    quantization: Quantization | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


def export_model(
    model: Path,
    output: Path,
    format: Format,
    *,
    folds: Sequence[int] | None = None,
    int8: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Exported]:
    """Export a run as `export_run` does, or every member of an ensemble, which stays an ensemble.

    Args:
        model: the folder of a run or an ensemble.
        output: the folder to write.
        format: see `FORMATS`.
        folds: indices of the folds; None for all finished ones.
        int8: whether to quantize to 8-bit integers.
        advance: as for `export_run`.
    Returns: the exported folders by member name; a single run has an empty name.
    Raises: as `export_run` and `load_model`.
    """
    if not (model / ENSEMBLE).is_file():
        return {"": export_run(model, output, format, folds=folds, int8=int8, advance=advance)}
    _check(output, format, int8)
    opened, made = load_model(model, folds), {}

    def put(run: Path, folder: Path) -> None:
        done = export_run(run, folder, format, folds=folds, int8=int8, advance=advance)
        made[folder.name] = replace(done, folder=output / folder.relative_to(folder.parents[1]))

    runs = {name: bundle.root for name, bundle in opened.members.items()}
    with claimed(output, "attunet export"):
        refuse_existing(output)
        save_ensemble(runs, opened.postprocessing, output, put=put)
    return made


def export_run(
    run: Path,
    output: Path,
    format: Format,
    *,
    folds: Sequence[int] | None = None,
    int8: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Exported:
    """Write a model folder for one runtime; it appears whole or not at all.

    Args:
        run: a trained run.
        output: the folder to write.
        format: see `FORMATS`.
        folds: indices of the folds; None for all finished ones.
        int8: whether to quantize the folds to 8-bit integers (openvino only); localizers keep floating point.
        advance: called after every fold, and with int8 after every evaluated case.
    Returns: the exported folder.
    Raises: BundleError when `run` is not a trained run; BusyError when another program writes it; ConfigError when
        the folder exists or int8 is combined with another format than openvino; EngineError for a missing package;
        TrainingError when a graph's outputs differ from its network's.
    """
    _check(output, format, int8)
    bundle = load_bundle(run, folds)
    differences, failures = {}, Failures()
    with claimed(output, "attunet export"), staged(output) as stage:
        refuse_existing(output)
        for fold in bundle.folds:
            for files, plan in _networks(fold, bundle.plan):
                place = files.folder.relative_to(bundle.root)
                path = stage / place / FORMATS[format].file
                differences[place.as_posix()] = FORMATS[format].write(load_network(files, plan), plan, path)
            for name in (AIR, SKIPPING, *(INT8_FILES if FORMATS[format].int8 and not int8 else ())):
                if fold.has(fold.folder / name):
                    shutil.copyfile(fold.folder / name, stage / fold.name / name)
            advance()
        quantization = None
        if int8:
            quantization = quantize(run, bundle.folds, bundle.plan, stage, advance=advance, failures=failures)
        save_plan(bundle.plan, stage)
        if has_postprocessing(bundle.root):
            write_postprocessing(bundle.postprocessing, stage)
        save_execution(_execution(bundle, format, differences, quantization), stage)
    return Exported(folder=output, differences=differences, quantization=quantization, failed=failures.messages)


def select_engine(run: Path, execution: Execution) -> None:
    """Select another engine for a model folder; writes that engine's file into folds that lack it.

    Raises: BundleError, EngineError and TrainingError as `export_run`.
    """
    bundle = load_bundle(run)
    for format in FORMATS.values():
        networks = chain(*(_networks(fold, bundle.plan) for fold in bundle.folds))
        for files, plan in networks if format.engine == execution.engine else ():
            if not files.has(file := files.folder / format.file):  # one that the manifest lacks is not trusted
                format.write(load_network(files, plan), plan, file)
    save_execution(execution, run)


def load_network(fold: FoldFiles, plan: Plan) -> AttentionUNet:
    """The trained network of a fold. Raises: BundleError when the folder has no weights, or weights that do not fit."""
    if not fold.has(fold.weights):
        raise BundleError(
            f"{fold.folder} contains no weights: it was exported itself", hint="export from the trained run instead"
        )
    network = AttentionUNet.from_config(plan.network)
    load_weights(fold.weights, network, read=fold.read)
    return network.eval()


def _networks(fold: FoldFiles, plan: Plan) -> list[tuple[FoldFiles, Plan]]:
    """The network of a fold and, of a cascade, those of its localizers, with their plans."""
    return [(fold, plan), *((localizer, plan.coarse) for localizer in fold.localizers if plan.localizer)]


def _check(output: Path, format: Format, int8: bool) -> None:
    """The checks that need no computation."""
    refuse_existing(output)
    if int8 and not FORMATS[format].int8:
        raise ConfigError(f"8-bit integers are available for openvino, not for {format}", hint="add --format openvino")
    FORMATS[format].require()
    if int8:
        require_nncf()


def _execution(
    bundle: Bundle, format: Format, differences: dict[str, float], quantization: Quantization | None
) -> Execution:
    reasons = {
        "engine": f"exported as {format} by attunet {version('attunet')} from {bundle.root.resolve().name}",
        "parity": "largest difference of logits and attention from torch in fp32, relative to their scale: "
        + ", ".join(f"{fold} {difference:.1g}" for fold, difference in differences.items()),
    }
    if quantization:
        decision = "used" if quantization.kept else "not used"
        before, after = quantization.dice_before, quantization.dice_after
        reasons["int8"] = (
            f"{decision}: mean Dice {before:.4f} before, {after:.4f} after, on {quantization.cases} validation cases; "
            f"a loss below {LARGEST_LOSS} is allowed"
            + ("; the localizers keep floating point" if bundle.plan.localizer else "")
        )
    if bundle.plan.context:
        names = ", ".join(bundle.plan.context)
        reasons["image"] = f"the last channels are context, the mean probabilities of the fold's localizers: {names}"
    free = FORMATS[format].any_size and supports_any_size(bundle.plan)
    return Execution(
        engine=FORMATS[format].engine,
        tensors=tensor_shapes(bundle.plan, free=free),
        quantization=quantization,
        reasons=reasons,
    )
