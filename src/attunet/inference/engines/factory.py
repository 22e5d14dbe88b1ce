"""The table of engines, and the choice of an engine for a fold: OpenVINO, ONNX Runtime, torch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from attunet.bundle import Execution, FoldFiles
from attunet.bundle.execution import INT8_GRAPH
from attunet.config import Plan
from attunet.errors import ConfigError, EngineError
from attunet.inference.engines.onnx_engine import ONNXEngine
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.protocol import Engine, window_shape
from attunet.planning.hardware import cpu_precision

__all__ = [
    "CPU_ENGINES",
    "DEVICES",
    "AvailableEngine",
    "EngineKind",
    "available_devices",
    "available_engines",
    "cpu_engine",
    "cuda_available",
    "make_engine",
    "make_localizers",
]

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """A CPU engine.

    Args:
        build: creates the engine from the fold, its plan, the precision, the batch size and the seed for shuffled
            weights.
        file: the fold's file that it reads.
        package: the optional package that it needs; None when the runtime is enough.
        precisions: values of `Execution.precision` that may differ in speed.
        selectable: precisions that it can be told to compute in, besides auto.
    """

    build: Callable[[FoldFiles, Plan, str, int, int | None], Engine]
    file: Callable[[FoldFiles], Path]
    package: str | None = None
    precisions: tuple[str, ...] = ("fp32",)
    selectable: tuple[str, ...] = ("fp32",)


@dataclass(frozen=True)
class AvailableEngine:
    """An engine of this machine, and its entry in engine.json; None for a GPU, which is always preferred."""

    engine: Engine
    execution: Execution | None


def available_devices() -> dict[str, str]:
    """Each usable device and its description; torch devices only if torch is installed."""
    devices = {"cpu": f"openvino, {cpu_precision()}"}
    if cuda_available():
        import torch

        devices["cuda"] = f"torch, {torch.cuda.get_device_name(0)}"
    return devices


def make_engine(
    fold: FoldFiles,
    plan: Plan,
    device: str = "auto",
    *,
    batch: int = 2,
    shuffle: int | None = None,
    precision: str = "auto",
) -> Engine:
    """The engine for a fold on a device.

    Args:
        fold: a trained or exported fold.
        plan: its plan.
        device: "cpu", "cuda", or "auto": CUDA if there is a GPU and the fold has weights, else the CPU.
        batch: number of windows per call.
        shuffle: a seed to permute the weights within each layer, which gives an untrained null model
            (Adebayo et al. 2018, arXiv:1810.03292, test attention maps against it); None leaves them as they are.
        precision: as `choose_precision` returns it for all folds; auto is that of the fold's engine.json.
    Returns: the engine, ready to be called.
    Raises: EngineError when the device is not available or cannot run this fold; ConfigError for an unknown device.
    """
    if device not in DEVICES:
        raise ConfigError(f"device {device!r} is unknown", hint=f"choose one of {', '.join(DEVICES)}")
    if device == "cuda" and not cuda_available():
        raise EngineError(
            "no CUDA device can be used here",
            hint="use --device cpu, or install a CUDA build of torch with attunet[train]",
        )
    weighted = fold.has(fold.weights)
    if device == "cuda" and not weighted:
        raise EngineError(
            f"{fold.folder} was exported for {fold.execution.engine}, without weights for a GPU",
            hint="use --device cpu, or the trained run",
        )
    if weighted and device != "cpu" and precision != "int8" and cuda_available():
        from attunet.inference.engines.torch_engine import TorchEngine

        half = {"auto": True, "fp32": False}.get(precision)
        if half is None:
            raise EngineError(
                f"a GPU computes in fp16 or fp32, not in {precision}", hint="leave it out, or add --device cpu"
            )
        return TorchEngine(
            fold.weights, plan.network, device="cuda", batch=max(batch, 4), low_precision=half,
            shuffle=shuffle, read=fold.read,
        )  # fmt: skip
    asked = {} if precision == "auto" else {"precision": precision}
    return cpu_engine(fold, plan, fold.execution.model_copy(update=asked), batch=batch, shuffle=shuffle)


def make_localizers(
    folds: Sequence[FoldFiles],
    plan: Plan,
    device: str = "auto",
    *,
    shuffle: int | None = None,
    precision: str = "auto",
) -> tuple[tuple[Engine, ...], ...]:
    """The engines of the localizers of each fold.

    Args:
        folds: trained or exported folds.
        plan: the plan of the fine networks.
        device: see `make_engine`.
        shuffle: see `make_engine`.
        precision: of the folds; localizers have no 8-bit integers, and use the fastest floating point instead.
    Returns: for each fold, its localizers' engines; empty for a plan of one stage.
    Raises: as `make_engine`.
    """
    if plan.localizer is None:
        return ()
    coarse, chosen = plan.coarse, "auto" if precision == "int8" else precision
    return tuple(
        tuple(make_engine(files, coarse, device, shuffle=shuffle, precision=chosen) for files in fold.localizers)
        for fold in folds
    )


def cpu_engine(
    fold: FoldFiles, plan: Plan, execution: Execution, *, batch: int = 2, shuffle: int | None = None
) -> Engine:
    """The requested CPU engine for a fold, regardless of its engine.json.

    Args:
        fold: a trained or exported fold.
        plan: its plan.
        execution: engine and precision.
        batch: number of windows per call.
        shuffle: see `make_engine`.
    Returns: the engine, ready to be called.
    Raises: BundleError and EngineError as the engines do; EngineError when the engine cannot shuffle its weights, or
        compute in that precision.
    """
    kind = CPU_ENGINES[execution.engine]
    if execution.precision not in ("auto", *kind.selectable):
        raise EngineError(
            f"{execution.engine} computes in {' or '.join(kind.selectable)}, not in {execution.precision}",
            hint="leave --precision out, or choose one of these",
        )
    return kind.build(fold, plan, execution.precision, batch, shuffle)


def available_engines(fold: FoldFiles, plan: Plan, onnx: Path | None = None) -> dict[str, AvailableEngine]:
    """The engines that can run a fold on this machine, for a comparison.

    Args:
        fold: a trained or exported fold.
        plan: its plan.
        onnx: a folder with model.onnx if the fold has none; None leaves ONNX Runtime out in this case.
    Returns: engine name to engine, the reference first: torch in fp32, or the most similar engine if torch is missing.
    Raises: EngineError when no installed engine can run the fold, BundleError for a file that cannot be read.
    """
    engines: list[AvailableEngine] = []
    for name, kind in CPU_ENGINES.items():
        files = FoldFiles(onnx) if name == "onnxruntime" and onnx and not fold.has(fold.onnx) else fold
        if not files.has(kind.file(files)) or (kind.package and find_spec(kind.package) is None):
            continue
        for precision in _timed_precisions(kind, files):
            execution = Execution.model_validate({"engine": name, "precision": precision})
            engines.append(AvailableEngine(cpu_engine(files, plan, execution), execution))
    if fold.has(fold.weights) and cuda_available():
        engines.append(AvailableEngine(make_engine(fold, plan, "cuda"), None))
    if not engines:
        raise EngineError(
            f"no installed engine can run {fold.folder}", hint="install the engine that it was exported for"
        )
    return {available.engine.name: available for available in engines}


def _timed_precisions(kind: EngineKind, fold: FoldFiles) -> list[str]:
    """The precisions of an engine that differ on this machine; beside 8-bit integers, "auto" would not say which."""
    integers = "int8" in kind.precisions and fold.has(fold.folder / INT8_GRAPH)
    native = cpu_precision() == "bf16"
    usable = {"fp32": True, "auto": native and not integers, "bf16": native and integers, "int8": integers}
    return [precision for precision in kind.precisions if usable[precision]]


def cuda_available() -> bool:
    """Whether torch can use a GPU; torch is imported only if a driver is present."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/dxg").exists():
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _torch(fold: FoldFiles, plan: Plan, precision: str, batch: int, shuffle: int | None) -> Engine:
    _require_torch(fold, "choose another engine with `attunet benchmark --write`")
    from attunet.inference.engines.torch_engine import TorchEngine

    half = precision in ("auto", "bf16") and cpu_precision() == "bf16"
    return TorchEngine(
        fold.weights, plan.network, device="cpu", batch=batch, low_precision=half, shuffle=shuffle, read=fold.read
    )


def _program(fold: FoldFiles, plan: Plan, _precision: str, batch: int, shuffle: int | None) -> Engine:
    """The plan's network with the weights of the program, which is never run."""
    _require_torch(fold, "export the run with --format openvino")
    from attunet.inference.engines.torch_engine import TorchEngine
    from attunet.nn.network import AttentionUNet
    from attunet.nn.program import read_program
    from attunet.nn.weights import fit_weights

    network = AttentionUNet.from_config(plan.network)
    fit_weights(read_program(fold.read(fold.program), fold.program), network, fold.program)
    engine = TorchEngine(None, network, device="cpu", batch=batch, low_precision=False, shuffle=shuffle)
    engine.name = engine.name.replace("torch cpu", "torch program cpu")
    return engine


def _require_torch(fold: FoldFiles, otherwise: str) -> None:
    if find_spec("torch") is None:
        raise EngineError(f"{fold.folder} needs torch, which is not installed", hint=f"install it, or {otherwise}")


def _openvino(fold: FoldFiles, plan: Plan, precision: str, batch: int, shuffle: int | None) -> Engine:
    # The fastest precision also computes what a graph in 8-bit integers leaves to floating point, and a run whose
    # engine.json says bf16, on a CPU that does not have it.
    graph = fold.folder / INT8_GRAPH if precision == "int8" else fold.graph
    rest = "fp32" if precision == "fp32" else "auto"
    return OpenVINOEngine(graph, window_shape(plan), batch=batch, precision=rest, shuffle=shuffle, read=fold.read)


def _onnxruntime(fold: FoldFiles, plan: Plan, precision: str, batch: int, shuffle: int | None) -> Engine:
    if shuffle is None:
        return ONNXEngine(fold.onnx, window_shape(plan), batch=batch, read=fold.read)
    # ONNX Runtime cannot change a graph; OpenVINO reads the same file.
    return OpenVINOEngine(
        fold.onnx, window_shape(plan), batch=batch, precision=precision, shuffle=shuffle, read=fold.read
    )


CPU_ENGINES: Mapping[str, EngineKind] = {
    "torch": EngineKind(
        build=_torch,
        file=lambda fold: fold.weights,
        package="torch",
        precisions=("fp32", "auto"),
        selectable=("bf16", "fp32"),
    ),
    "torch program": EngineKind(build=_program, file=lambda fold: fold.program, package="torch"),
    "openvino": EngineKind(
        build=_openvino,
        file=lambda fold: fold.graph,
        precisions=("fp32", "auto", "bf16", "int8"),
        selectable=("bf16", "fp32", "int8"),
    ),
    "onnxruntime": EngineKind(build=_onnxruntime, file=lambda fold: fold.onnx, package="onnxruntime"),
}
"""The engines of `Execution.engine` by name; `available_engines` uses the first available one as the reference."""
