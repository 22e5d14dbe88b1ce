"""What a scheduler and an engine tell each other: a task, one try of it, and how it ended.

A task is a case to segment or a fold to train. The scheduler (`attunet.cluster.scheduler`) decides what runs next; an
engine (Ray, or a simulation with a virtual clock) runs it on a worker of a node and reports how each try ended. Neither
knows what the work is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

__all__ = ["Attempt", "EventKind", "Lost", "Task", "TaskEngine", "TaskEvent", "TaskRecord", "Ticket"]

Lost = Literal["", "worker", "node"]
"""What died before a try ended: nothing, the process that worked on it, or the whole machine."""

EventKind = Literal["started", "doubled", "lost", "done", "failed", "stopped"]
"""See `TaskEvent`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One unit of work.

    Args:
        name: its name, unique in the run.
        size: its relative cost, above 0; the largest start first, and seconds per size tell which try is slow.
        memory: bytes that it needs on a worker; 0 when unknown.
    """

    name: str
    size: float = 1.0
    memory: int = 0


class Ticket(NamedTuple):
    """One running try of a task.

    Args:
        number: of the try, unique in the engine.
        node: name of the node that it runs on.
    """

    number: int
    node: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """How one try of a task ended.

    Args:
        task: name of the task.
        ticket: number of the try.
        node: name of the node.
        seconds: time from start to end.
        value: what the work returned.
        error: why the work refused the task, in a sentence; the work's own answer, so that it is not tried again. None
            when it did not.
        hint: what to do about the error.
        lost: what died instead of an answer; a lost worker counts as a try of this task, a lost node does not.
        reason: why it was lost, in a sentence (killed by signal 9, out of memory).
    """

    task: str
    ticket: int
    node: str
    seconds: float
    value: Any = None
    error: str | None = None
    hint: str = ""
    lost: Lost = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskEvent:
    """A change of a task, as the scheduler tells it; `done`, `failed` and `stopped` come once and last.

    Args:
        kind: started; doubled (started a second time, because the first try is slow); lost (it waits for another try,
            or its second try goes on); done; failed; or stopped (the run was cancelled before it ended).
        task: name of the task.
        node: name of the node; empty when it never ran.
        tries: tries that ended or run now.
        attempt: the try that ended; None for a start, a task that no node can hold, and one that never ran.
        reason: why it was lost, failed or stopped, in a sentence.
        hint: what to do about it.
    """

    kind: EventKind
    task: str
    node: str = ""
    tries: int = 0
    attempt: Attempt | None = None
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRecord:
    """How a task ended.

    Args:
        task: its name.
        state: done, failed, or stopped: the run was cancelled before it ended.
        tries: how often it was started.
        node: the node of the last try; empty when it never ran.
        seconds: time of the last try.
        value: what the work returned.
        reason: why it failed or was stopped, in a sentence.
        hint: what to do about it.
    """

    task: str
    state: Literal["done", "failed", "stopped"]
    tries: int
    node: str = ""
    seconds: float = 0.0
    value: Any = None
    reason: str = ""
    hint: str = ""


class TaskEngine(Protocol):
    """Runs tasks on the workers of some nodes; used by one thread."""

    def start(self, task: Task, avoid: frozenset[str]) -> Ticket | None:
        """Start a try of a task on a free worker with room for it, and return at once.

        Args:
            task: the task.
            avoid: nodes on which it must not run.
        Returns: the running try; None when no worker is free for it now.
        """

    def wait(self, timeout: float) -> list[Attempt]:
        """Wait until a try has ended or a worker became free, at most this long in seconds.

        Returns: the tries that ended since the last call, each once and without those that were cancelled; often none.
        """

    def cancel(self, ticket: int) -> None:
        """Stop a running try, whose end is not reported any more; nothing happens when it has ended."""

    def refusal(self, task: Task) -> str:
        """Why no node could ever hold this task, in a sentence; empty when one can."""

    def nodes(self) -> dict[str, int]:
        """The workers of each node that is alive, by its name."""

    def time(self) -> float:
        """The engine's clock in seconds, which only goes forward."""

    def close(self) -> None:
        """Stop all workers and leave nothing behind."""
