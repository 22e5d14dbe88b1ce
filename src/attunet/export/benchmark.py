"""Find the fastest engine for a model on this machine, and let its model folder use it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from attunet.bundle import Bundle, Execution, load_bundle, save_execution
from attunet.data.cases import find_cases, read_case_image
from attunet.data.volume import Volume
from attunet.errors import DataError
from attunet.inference.engines.benchmark import EngineTiming, compare_engines, fastest, windows_of
from attunet.inference.engines.factory import available_engines, make_localizers

__all__ = ["ModelBenchmark", "benchmark_model", "use_fastest"]

_ONNX_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, kw_only=True)
class ModelBenchmark:
    """The timings of a model's engines.

    Args:
        bundle: the model; its first fold was timed.
        windows: number of windows that every engine processed in each round.
        repeat: number of rounds.
        timings: timing of every engine; the first is the reference.
        fastest: the fastest engine whose masks agree and that a model folder can select.
        execution: engine and precision to write into the model folder.
    """

    bundle: Bundle
    windows: int
    repeat: int
    timings: tuple[EngineTiming, ...]
    fastest: EngineTiming
    execution: Execution


def benchmark_model(
    model: Path,
    image: Path,
    *,
    repeat: int = 5,
    on_start: Callable[[int], None] = lambda _steps: None,
    advance: Callable[[], None] = lambda: None,
) -> ModelBenchmark:
    """Time every installed engine in turn on up to 8 windows of an image, and compare it with torch in fp32.

    If its packages are installed, a graph for onnxruntime is exported for the comparison. Without torch the
    reference is OpenVINO in fp32.

    Args:
        model: a model folder; its first fold is timed.
        image: an image, or a folder with one.
        repeat: number of rounds; in each, every engine processes all windows once.
        on_start: called with the number of steps.
        advance: called after each step.
    Returns:
        The timings and the fastest engine that is accurate enough.
    Raises:
        DataError: when `image` is not a single image.
    """
    bundle = load_bundle(model)
    (localizers,) = make_localizers(bundle.folds[:1], bundle.plan, "cpu") or ((),)
    windows = windows_of(_read(image, bundle), bundle.plan, localizers=localizers)
    with TemporaryDirectory() as folder:
        engines = available_engines(bundle.folds[0], bundle.plan, _export_onnx(bundle, Path(folder)))
        on_start(repeat * len(engines))
        timings = compare_engines(
            {name: available.engine for name, available in engines.items()},
            windows,
            bundle.plan,
            repeat=repeat,
            advance=advance,
        )
    executions = {name: available.execution for name, available in engines.items()}
    winner = fastest([timing for timing in timings if executions[timing.name] is not None])
    execution = executions[winner.name]
    assert execution is not None
    return ModelBenchmark(
        bundle=bundle,
        windows=len(windows),
        repeat=repeat,
        timings=tuple(timings),
        fastest=winner,
        execution=execution,
    )


def use_fastest(benchmark: ModelBenchmark) -> Execution:
    """Write the fastest engine into the model folder, and keep the entries of an export.

    Returns: the new entries.
    """
    bundle, winner, reference = benchmark.bundle, benchmark.fastest, benchmark.timings[0]
    ratio, low, high = winner.ratio_to(reference)
    reason = (
        f"{winner.name}: {ratio:.2f} times as fast as {reference.name} ({low:.2f} to {high:.2f} in "
        f"{len(winner.seconds)} rounds), Dice {winner.dice:.4f} with its masks"
    )
    execution = bundle.execution.model_copy(
        update={
            "engine": benchmark.execution.engine,
            "precision": benchmark.execution.precision,
            "reasons": {**bundle.execution.reasons, "benchmark": reason},
        }
    )
    networks = [files for fold in bundle.folds for files in (fold, *fold.localizers)]
    if execution.engine == "onnxruntime" and not all(files.has(files.onnx) for files in networks):
        from attunet.export.package import select_engine  # needs torch, which the other engines do not

        select_engine(bundle.root, execution)
    else:
        save_execution(execution, bundle.root)
    return execution


def _read(image: Path, bundle: Bundle) -> Volume:
    cases = find_cases([image], len(bundle.plan.channel_names))
    if len(cases) != 1:
        raise DataError(f"{image} contains {len(cases)} images, expected one", hint="pass one of them")
    return read_case_image(cases[0])


def _export_onnx(bundle: Bundle, folder: Path) -> Path | None:
    """A temporary folder with model.onnx; None if the fold has one already, or none can be exported."""
    fold = bundle.folds[0]
    absent = any(importlib.util.find_spec(name) is None for name in _ONNX_PACKAGES)
    if absent or fold.has(fold.onnx) or not fold.has(fold.weights):
        return None
    from attunet.export.formats import export_onnx
    from attunet.export.package import load_network

    export_onnx(load_network(fold, bundle.plan), bundle.plan, folder / "model.onnx")
    return folder
