"""`attunet benchmark`: the fastest engine for a model on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, progress_bar, show
from attunet.errors import DataError

if TYPE_CHECKING:
    from attunet.bundle import Bundle
    from attunet.data.volume import Volume
    from attunet.inference.engines.benchmark import EngineTiming
    from attunet.inference.engines.factory import AvailableEngine

__all__ = ["benchmark"]


def benchmark(
    model: Annotated[Path, typer.Option("-m", "--model", metavar="RUN", help="Model folder; its first fold is timed.")],
    image: Annotated[Path, typer.Option("-i", "--input", metavar="IMAGE", help="Image whose windows are computed.")],
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; in each, every engine computes all windows once.")] = 5,
    write: Annotated[
        bool, typer.Option("--write", help="Use the fastest CPU engine for this model from now on.")
    ] = False,
) -> None:
    """Time every installed engine in turn, and compare its results with those of torch in fp32.

    Up to 8 windows of the image are computed, evenly spaced. Only an engine whose masks agree (Dice 0.999) is chosen.
    Without torch the reference is OpenVINO in fp32.
    """
    from attunet.bundle import load_bundle
    from attunet.cli.tables.models import engine_table
    from attunet.inference.engines.benchmark import compare_engines, fastest, windows_of
    from attunet.inference.engines.factory import available_engines

    bundle = load_bundle(model)
    windows = windows_of(_read(image, bundle), bundle.plan)
    with TemporaryDirectory() as folder:
        candidates = available_engines(bundle.folds[0], bundle.plan, _onnx(bundle, Path(folder)))
        with progress_bar() as progress:
            task = progress.add_task("benchmark", total=repeat * len(candidates))
            measured = compare_engines(
                {name: candidate.engine for name, candidate in candidates.items()},
                windows,
                bundle.plan,
                repeat=repeat,
                advance=lambda: progress.advance(task),
            )
    winner = fastest([one for one in measured if candidates[one.name].execution is not None])
    show(engine_table(measured, winner))
    told = f"{len(windows)} windows of {bundle.plan.patch_size} voxels, {repeat} rounds, fold {bundle.folds[0].name}"
    notes().print(told, markup=False, highlight=False, soft_wrap=True)
    if write:
        _write(bundle, candidates[winner.name], winner, measured[0])


def _read(image: Path, bundle: Bundle) -> Volume:
    from attunet.data.cases import find_cases, read_case_image

    cases = find_cases([image], bundle.plan.network.in_channels)
    if len(cases) != 1:
        raise DataError(f"{image} holds {len(cases)} images, expected one", hint="name one of them")
    return read_case_image(cases[0])


def _onnx(bundle: Bundle, folder: Path) -> Path | None:
    """A folder with model.onnx, made for this comparison; None where the fold has one, or none can be made."""
    from importlib.util import find_spec

    fold = bundle.folds[0]
    needed = ("torch", "onnx", "onnxruntime", "onnxscript")
    if fold.onnx.is_file() or not fold.weights.is_file() or any(find_spec(name) is None for name in needed):
        return None
    from attunet.export.formats import export_onnx
    from attunet.export.package import load_network

    notes().print("writing an ONNX graph to compare with", highlight=False)
    export_onnx(load_network(fold, bundle.plan), bundle.plan, folder / "model.onnx")
    return folder


def _write(bundle: Bundle, chosen: AvailableEngine, winner: EngineTiming, reference: EngineTiming) -> None:
    """Engine and precision change; what an export wrote beside them stays."""
    assert chosen.execution is not None
    ratio, low, high = winner.ratio_to(reference)
    reason = (
        f"{winner.name}: {ratio:.2f} times as fast as {reference.name} ({low:.2f} to {high:.2f} in "
        f"{len(winner.seconds)} rounds), Dice {winner.dice:.4f} with its masks"
    )
    execution = bundle.execution.model_copy(
        update={
            "engine": chosen.execution.engine,
            "precision": chosen.execution.precision,
            "reasons": {**bundle.execution.reasons, "benchmark": reason},
        }
    )
    if execution.engine == "onnxruntime" and not all(fold.onnx.is_file() for fold in bundle.folds):
        from attunet.export.package import compute_with

        compute_with(bundle.root, execution)
    else:
        from attunet.bundle import save_execution

        save_execution(execution, bundle.root)
    notes().print(f"{bundle.root} is computed by {winner.name} from now on", markup=False, soft_wrap=True)
