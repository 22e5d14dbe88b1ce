"""A second graph for a network, in 8-bit integers: built, timed, and audited on held-out cases in limited time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from attunet.bundle.execution import INT8_GRAPH, Int8
from attunet.data.cases import Case, GeometryPolicy
from attunet.errors import AttunetError
from attunet.evaluation.scores import nan_mean
from attunet.export.int8_graph import write_int8_graph
from attunet.export.quantization import LARGEST_LOSS, judge_quantization
from attunet.failures import Failures
from attunet.inference.engines.benchmark import compare_engines
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.evaluation import EvaluateOptions, evaluate_cases
from attunet.inference.segmenter import Segmenter

__all__ = ["LOWEST_CHANGE", "HeldOutDice", "build_int8"]

Floats = npt.NDArray[np.float32]

LOWEST_CHANGE = -0.004
"""The 95% interval of the mean change of the Dice must lie above this: few or scattered cases are not enough."""

_TIMED_WINDOWS = 8
_ROUNDS = 5
_WHILE_QUANTIZING = 0.75
"""Largest share of the time that quantization may take; the rest is for the audit."""


@dataclass(frozen=True, kw_only=True)
class HeldOutDice:
    """The Dice of held-out cases with the graph that the fold has already.

    Args:
        cases: the cases.
        dice: case to its mean Dice; cases that are missing count nowhere.
        geometry: what to do where the grid of a label differs from its image's.
    """

    cases: Sequence[Case]
    dice: Mapping[str, float]
    geometry: GeometryPolicy = "fail"


def build_int8(
    segmenter: Segmenter,
    graph: Path,
    patches: Sequence[Floats],
    held_out: HeldOutDice,
    target: Path,
    *,
    seconds: float,
    advance: Callable[[], None] = lambda: None,
) -> Int8:
    """Build the graph in 8-bit integers of a fold, and keep it if the Dice of its held-out cases hardly changes.

    The cases are segmented in an order that spreads over all of them, until the time is over: what was not segmented
    by then is not needed if the interval of the others is narrow enough.

    Args:
        segmenter: the fold alone, on the CPU, in the precision that it has otherwise.
        graph: its graph.xml.
        patches: training patches (1, C, *patch), which set the ranges of the integers.
        held_out: the cases to audit with, and their Dice so far.
        target: folder for the graph; written only if it is kept.
        seconds: time limit.
        advance: called after every case.
    Returns: what was found; a graph that cannot be built is a reason, not an error.
    Raises: what `advance` raises; errors of reading a case count as that case's.
    """
    deadline = time.monotonic() + seconds
    with TemporaryDirectory() as folder:
        made = Path(folder) / INT8_GRAPH
        try:
            write_int8_graph(graph, patches, made, seconds=_WHILE_QUANTIZING * seconds)
            ((member, engine),) = ((member, member.engines[0]) for member in segmenter.members)
            quantized = OpenVINOEngine(made, patches[0].shape[1:])
        except AttunetError as error:
            return Int8(kept=False, reason=f"not built: {error.message}")
        windows = np.concatenate(patches[:_TIMED_WINDOWS])
        ours, theirs = compare_engines({"": engine, "int8": quantized}, windows, segmenter.plan, repeat=_ROUNDS)
        speedup, *_ = theirs.ratio_to(ours)
        model = replace(segmenter, members=(replace(member, engines=(quantized,)),))
        after = _audit(model, held_out, deadline, advance)
        int8 = _decide(held_out.dice, after, len(patches))
        if int8.kept:
            for file in (made.with_suffix(".bin"), made):
                shutil.copyfile(file, target / file.name)
    return int8.model_copy(update={"speedup": round(speedup, 3), "compared_with": engine.name})


def _audit(
    segmenter: Segmenter, held_out: HeldOutDice, deadline: float, advance: Callable[[], None]
) -> dict[str, float]:
    """The Dice of as many held-out cases as the time allows."""
    known = [case for case in held_out.cases if not np.isnan(held_out.dice.get(case.id, np.nan))]
    after: dict[str, float] = {}
    options, failures = EvaluateOptions(geometry=held_out.geometry), Failures()
    slowest = 0.0
    for index in np.random.default_rng(0).permutation(len(known)):
        started = time.monotonic()
        if started + slowest > deadline:
            break
        for evaluated in evaluate_cases(segmenter, [known[index]], options, failures=failures):
            after[evaluated.name] = nan_mean(evaluated.dice.values())
        slowest = max(slowest, time.monotonic() - started)
        advance()
    return after


def _decide(before: Mapping[str, float], after: Mapping[str, float], patches: int) -> Int8:
    """Keep the graph, or say why not."""
    if not after:
        return Int8(kept=False, reason="rejected: no held-out case could be audited in the time")
    try:
        judged = judge_quantization(before, after, patches)
    except AttunetError as error:
        return Int8(kept=False, reason=f"rejected: {error.message}")
    scores = f"Dice {judged.dice_before:.4f} before, {judged.dice_after:.4f} after ({judged.cases} held-out cases"
    if judged.low is None or judged.high is None:
        reason, kept = f"rejected: one case is too few: {scores})", False
    else:
        change = f"{scores}, 95% interval of the change {judged.low:+.4f} to {judged.high:+.4f})"
        kept = judged.kept and judged.low > LOWEST_CHANGE
        required = f"a loss below {LARGEST_LOSS} and an interval above {LOWEST_CHANGE} are required"
        reason = f"kept: {change}" if kept else f"rejected: {change}; {required}"
    return Int8(kept=kept, reason=reason, quantization=judged.model_copy(update={"kept": kept}))
