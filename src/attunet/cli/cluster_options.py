"""Options of commands that can run on a cluster, and what they ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attunet.cli.console import notes
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.cluster.parts import RunPart
    from attunet.cluster.ray_worker import RayWorkers

__all__ = [
    "AddressOption",
    "CpusOption",
    "EngineOption",
    "GpusOption",
    "NumPartsOption",
    "PartOption",
    "SummaryOption",
    "WorkersOption",
    "draining",
    "parse_part",
    "parse_workers",
]

EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(help="ray: on the workers of a Ray cluster, each case once, whatever dies; local: in this process."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="With --engine ray: a running cluster, or auto. [default: one on this machine]"
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="With --engine ray: workers at most. [default: as many as the nodes have room for]"),
]
CpusOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="With --engine ray: cores of each worker. [default: 1; for folds trained on this machine, an equal share]",
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="N",
        help="With --engine ray: GPUs of each worker, such as 1 or 0.5. [default: 0; for folds trained on this machine "
        "1, if it has any]",
    ),
]
NumPartsOption = Annotated[
    int | None,
    typer.Option(
        "--num-parts",
        min=1,
        metavar="N",
        help="Divide the cases into N parts of about the same size, of which this program predicts one (as nnU-Net's "
        "-num_parts): N programs on any machines write into one -o at the same time.",
    ),
]
PartOption = Annotated[
    int | None,
    typer.Option(
        "--part", "--part-id", min=0, metavar="K", help="The part of this program, 0 to N-1 (as nnU-Net's -part_id)."
    ),
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write an HTML page about the run: counts, failures, times, nodes, volumes; keeps DIR/ledger.jsonl.",
    ),
]


def parse_part(part: int | None, num_parts: int | None, engine: str) -> RunPart | None:
    """The part that the options name; None for all cases.

    Raises: ConfigError for one option without the other, a part that is none of them, or parts on a cluster.
    """
    if part is None and num_parts is None:
        return None
    if part is None or num_parts is None:
        given, absent = ("--num-parts", "--part K") if part is None else ("--part", "--num-parts N")
        raise ConfigError(f"{given} needs {absent}", hint="give both, such as --num-parts 4 --part 0")
    if engine == "ray":
        raise ConfigError("--engine ray divides the cases itself", hint="leave out --num-parts and --part")
    from attunet.cluster.parts import RunPart

    return RunPart(index=part, count=num_parts)


def parse_workers(
    engine: str, address: str | None, workers: int | None, cpus: int | None, gpus: float | None
) -> RayWorkers | None:
    """The workers that the options ask for; None for this process.

    Raises: ConfigError for an option that means nothing without --engine ray.
    """
    given = {"--address": address, "--workers": workers, "--cpus-per-worker": cpus, "--gpus-per-worker": gpus}
    if engine != "ray":
        if alone := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"{alone[0]} is an option of a cluster", hint="add --engine ray, or leave it out")
        return None
    from attunet.cluster.ray_worker import RayWorkers

    return RayWorkers(address=address, workers=workers, cpus=1 if cpus is None else cpus, gpus=gpus or 0.0)


@contextmanager
def draining() -> Iterator[Event]:
    """An event that the first Ctrl-C of the block sets; the second one stops the program."""
    event = Event()

    def stop(_number: int, _frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        text = "stopping: what runs is finished, and nothing new is started; Ctrl-C again stops at once"
        notes().print(text, markup=False, soft_wrap=True)

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield event
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
