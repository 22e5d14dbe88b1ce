"""Which engine computes a model fastest on this machine, and the model folder that uses it from then on."""

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
from attunet.inference.engines.factory import available_engines

__all__ = ["ModelBenchmark", "benchmark_model", "use_fastest"]

_ONNX_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, kw_only=True)
class ModelBenchmark:
    """The engines of a model beside each other.

    Args:
        bundle: the model; its first fold was timed.
        windows: number of windows that every engine computed in each round.
        repeat: rounds.
        timings: of every engine; the first is the reference.
        fastest: the fastest engine whose masks agree and that a model folder can name.
        execution: engine and precision to name in the model folder.
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

    A graph for onnxruntime is made for the comparison where the packages for it are installed. Without torch the
    reference is OpenVINO in fp32.

    Args:
        model: a model folder; its first fold is timed.
        image: an image, or a folder that holds one.
        repeat: rounds; in each, every engine computes all windows once.
        on_start: called with the number of steps.
        advance: called after each step.
    Returns:
        The timings and the fastest engine that is exact enough.
    Raises:
        DataError: when `image` is not a single image.
    """
    bundle = load_bundle(model)
    windows = windows_of(_read(image, bundle), bundle.plan)
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
    """Let the fastest engine compute the model from now on; what an export wrote into the model folder stays.

    Returns: what was written.
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
    if execution.engine == "onnxruntime" and not all(fold.onnx.is_file() for fold in bundle.folds):
        from attunet.export.package import compute_with  # needs torch, which the other engines do not

        compute_with(bundle.root, execution)
    else:
        save_execution(execution, bundle.root)
    return execution


def _read(image: Path, bundle: Bundle) -> Volume:
    cases = find_cases([image], bundle.plan.network.in_channels)
    if len(cases) != 1:
        raise DataError(f"{image} holds {len(cases)} images, expected one", hint="name one of them")
    return read_case_image(cases[0])


def _export_onnx(bundle: Bundle, folder: Path) -> Path | None:
    """A folder with model.onnx, made for this comparison; None where the fold has one, or none can be made."""
    fold = bundle.folds[0]
    absent = any(importlib.util.find_spec(name) is None for name in _ONNX_PACKAGES)
    if absent or fold.onnx.is_file() or not fold.weights.is_file():
        return None
    from attunet.export.formats import export_onnx
    from attunet.export.package import load_network

    export_onnx(load_network(fold, bundle.plan), bundle.plan, folder / "model.onnx")
    return folder
