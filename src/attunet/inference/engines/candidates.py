"""The engines that can compute a fold on this machine, for a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from attunet.bundle import Execution, FoldFiles
from attunet.config import Plan
from attunet.errors import EngineError
from attunet.inference.engines.engine import Engine, cpu_engine, cuda_available, make_engine
from attunet.inference.engines.openvino_engine import cpu_precision

__all__ = ["Candidate", "candidates_for"]


@dataclass(frozen=True)
class Candidate:
    """An engine, and how a model folder asks for it; None for a GPU, which is taken wherever there is one."""

    engine: Engine
    execution: Execution | None


def candidates_for(fold: FoldFiles, plan: Plan, onnx: Path | None = None) -> dict[str, Candidate]:
    """Engine name to engine, the reference first: torch in fp32, or without torch what comes closest to it.

    Args: a fold and its plan; a folder that holds model.onnx where the fold does not.
    Raises: EngineError when nothing here can compute the fold, BundleError for a file that cannot be read.
    """
    kinds: tuple[Literal["fp32", "auto"], ...] = ("fp32", "auto") if cpu_precision() == "bf16" else ("fp32",)
    asked: list[tuple[FoldFiles, Execution]] = []
    if find_spec("torch") is not None:
        if fold.weights.is_file():
            asked += [(fold, Execution(engine="torch", precision=kind)) for kind in kinds]
        if fold.program.is_file():
            asked.append((fold, Execution(engine="torch program", precision="fp32")))
    if fold.graph.is_file():
        asked += [(fold, Execution(engine="openvino", precision=kind)) for kind in kinds]
    graph = fold if fold.onnx.is_file() else FoldFiles(onnx) if onnx else None
    if graph and find_spec("onnxruntime") is not None:
        asked.append((graph, Execution(engine="onnxruntime", precision="fp32")))
    found = [Candidate(cpu_engine(files, plan, how), how) for files, how in asked]
    if fold.weights.is_file() and cuda_available():
        found.append(Candidate(make_engine(fold, plan, "cuda"), None))
    if not found:
        raise EngineError(f"nothing here can compute {fold.folder}", hint="install what it was exported for")
    return {candidate.engine.name: candidate for candidate in found}
