"""The precision in which a model's networks compute on a CPU: what was asked for, or the fastest that was audited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from attunet.bundle import FoldFiles
from attunet.bundle.execution import INT8_GRAPH, Int8, load_int8
from attunet.errors import ConfigError, EngineError
from attunet.inference.engines.factory import cuda_available
from attunet.planning.hardware import cpu_int8, cpu_precision

__all__ = ["LEAST_SPEEDUP", "PRECISIONS", "Int8Choice", "choose_precision", "int8_choice"]

PRECISIONS = ("auto", "bf16", "fp32", "int8")

LEAST_SPEEDUP = 1.05
"""Graphs in 8-bit integers are used from this speed ratio on: less is within the noise of the measurement."""


@dataclass(frozen=True)
class Int8Choice:
    """Whether a run predicts in 8-bit integers on this machine unless another precision is requested, and why.

    Args:
        used: whether it does.
        reason: the reason in one line; empty for a run that was trained before 8-bit integers were tried.
    """

    used: bool
    reason: str


def int8_choice(folds: Sequence[FoldFiles]) -> Int8Choice:
    """Use 8-bit integers if all folds have them, they are faster, and this CPU computes them natively.

    Args:
        folds: all folds that predict together.
    Returns: the choice with its reason.
    Raises: BundleError when a manifest lacks its int8.json.
    """
    execution = folds[0].execution
    if execution.engine != "openvino" or (execution.quantization is not None and execution.quantization.kept):
        return Int8Choice(False, "")
    known = {fold.name: load_int8(fold.folder, fold.sums) for fold in folds}
    tried = {name: int8 for name, int8 in known.items() if int8 is not None}
    if not tried:
        return Int8Choice(False, "")
    if lacking := [name for name in known if name not in tried or not tried[name].kept]:
        first = tried.get(lacking[0])
        reason = "it was trained before they were tried" if first is None else first.reason
        return Int8Choice(False, f"not used: {lacking[0]}: {reason}")
    if execution.precision not in ("auto", "int8"):
        return Int8Choice(False, f"not used: engine.json selects {execution.precision}")
    worth = _worth(list(tried.values()))
    speedup = prod(int8.speedup or 0.0 for int8 in tried.values()) ** (1 / len(tried))
    if execution.precision == "auto" and speedup < LEAST_SPEEDUP:
        return Int8Choice(False, f"not used, because they are not faster: {worth}")
    if not cpu_int8():
        return Int8Choice(False, f"not used, because this CPU has neither VNNI nor AMX: {worth}")
    return Int8Choice(True, f"used: {worth}")


def choose_precision(folds: Sequence[FoldFiles], device: str = "auto", precision: str = "auto") -> str:
    """The precision for all folds of a run, for `make_engine`.

    Args:
        folds: all folds that predict together.
        device: "auto", "cpu" or "cuda".
        precision: one of `PRECISIONS`; auto is 8-bit integers as `int8_choice` decides, otherwise that of engine.json.
    Returns: "auto" for that of engine.json, or another one of `PRECISIONS`.
    Raises: ConfigError for an unknown precision; EngineError when the model or the CPU does not have it.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is unknown", hint=f"choose one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        on_gpu = device == "cuda" or (device == "auto" and folds[0].has(folds[0].weights) and cuda_available())
        if not on_gpu and int8_choice(folds).used:
            return "int8"
        # engine.json may select 8-bit integers that another fold, or this CPU, lacks.
        return "bf16" if not on_gpu and folds[0].execution.precision == "int8" else "auto"
    quantization = folds[0].execution.quantization
    if quantization is not None and quantization.kept:  # an exported folder, whose only graph is in 8-bit integers
        if precision != "int8":
            hint = "export the trained run again without --int8"
            raise EngineError(f"{folds[0].folder.parent} was exported in 8-bit integers, not in {precision}", hint=hint)
        return "auto"
    if precision == "int8":
        _require_int8(folds, device)
    if precision == "bf16" and cpu_precision() != "bf16":
        raise EngineError("this CPU does not compute in bf16", hint="leave --precision out, or choose fp32")
    return precision


def _require_int8(folds: Sequence[FoldFiles], device: str) -> None:
    if device == "cuda":
        raise EngineError("8-bit integers are computed on a CPU only", hint="leave out --device cuda")
    for fold in folds:
        if not fold.has(fold.folder / INT8_GRAPH):
            tried = load_int8(fold.folder, fold.sums)
            why = f": {tried.reason}" if tried is not None else ""
            raise EngineError(
                f"{fold.name} of {fold.folder.parent} has no graph in 8-bit integers{why}",
                hint="leave --precision out, or quantize an exported copy with attunet export --format openvino --int8",
            )


def _worth(tried: Sequence[Int8]) -> str:
    """Speed and Dice of the folds' graphs, in words."""
    speed = " and ".join(f"{int8.speedup:.2f}" for int8 in tried if int8.speedup is not None)
    audits = [int8.quantization for int8 in tried if int8.quantization is not None]
    cases = sum(audit.cases for audit in audits)
    before = sum(audit.dice_before * audit.cases for audit in audits) / max(1, cases)
    after = sum(audit.dice_after * audit.cases for audit in audits) / max(1, cases)
    return (
        f"{speed} times as fast as {tried[0].compared_with} where it was trained, "
        f"Dice {before:.4f} before, {after:.4f} after ({cases} held-out cases)"
    )
