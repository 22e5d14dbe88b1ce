"""A worker on Ray: what is asked for it, what it does in its process, and what has died when it gives no answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attunet.cluster.ray_session import RayNode
from attunet.cluster.tasks import Lost
from attunet.errors import ConfigError
from attunet.failures import as_attunet_error

__all__ = ["RayActor", "RayWorkers", "ray_loss"]

Work = Callable[[Any], Any]
"""Does one task in a worker, given its payload; an exception is the answer for the task."""


@dataclass(frozen=True, kw_only=True)
class RayWorkers:
    """The workers of a run.

    Args:
        address: of a running cluster, see `RaySession`; None starts one on this machine.
        workers: how many at most; None for as many as there is room for.
        cpus: cores of each.
        gpus: GPUs of each.
        memory: bytes of each, asked of Ray so that no node is promised to more than it holds; 0 asks for none.
    Raises: ConfigError for numbers out of range.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    memory: int = 0

    def __post_init__(self) -> None:
        if (self.workers is not None and self.workers < 1) or self.cpus < 0 or self.gpus < 0:
            raise ConfigError(
                f"got {self.workers} workers of {self.cpus} cores and {self.gpus:g} GPUs",
                hint="give at least one worker, and no negative numbers",
            )
        if not self.cpus and not self.gpus:
            raise ConfigError("a worker needs a core or a GPU", hint="give --cpus-per-worker or --gpus-per-worker")

    def fitted(self, nodes: Sequence[RayNode]) -> RayWorkers:
        """The same workers, with no more memory than the largest node has: larger tasks are refused one by one."""
        anything = replace(self, memory=0)
        largest = max((node.memory for node in nodes if anything.slots(node)), default=0)
        return replace(self, memory=min(self.memory, largest)) if largest else self

    def slots(self, node: RayNode) -> int:
        """How many of these workers a node has room for."""
        rooms = [(node.cpus, self.cpus), (node.gpus, self.gpus), (node.memory, self.memory)]
        return int(min(room / need for room, need in rooms if need) + 1e-6)


class RayActor:
    """A worker, in a process of its own."""

    def __init__(self) -> None:
        self._work: Work | None = None

    def load(self, make: Callable[[], Work]) -> tuple[Any, str | None, str]:
        """Make what does the work; nothing, why that failed, and a hint."""
        try:
            self._work = make()
        except Exception as error:
            told = as_attunet_error(error)
            return None, told.message, told.hint
        return None, None, ""

    def answer(self) -> tuple[Any, str | None, str]:
        """Nothing, which shows that it lives."""
        return None, None, ""

    def do(self, payload: Any) -> tuple[Any, str | None, str]:
        """The answer to a payload, the error that is the answer, and a hint."""
        assert self._work is not None
        try:
            return self._work(payload), None, ""
        except Exception as error:
            told = as_attunet_error(error)
            return None, told.message, told.hint


def ray_loss(failure: Exception, node: str) -> tuple[Lost, str]:
    """What has died when a worker gives no answer, and why, in a sentence."""
    kind, text = type(failure).__name__, str(failure)
    if "node has died" in text or "Unschedulable" in kind:
        return "node", f"{node} has died"
    if kind == "OutOfMemoryError" or "OUT_OF_MEMORY" in text or "running low on memory" in text:
        return "worker", f"{node} was out of memory"
    return "worker", "its process was killed or crashed, perhaps because the system was out of memory"
