"""A cluster without machines: nodes, workers and failures on a virtual clock, for tests and for planning on paper.

A million scans on a hundred nodes take a minute, and whatever happened happens again with the same description.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from attunet.cluster.tasks import Attempt, Lost, Task, Ticket

__all__ = ["SimulatedEngine", "SimulatedNode", "SimulatedTry", "Work"]


@dataclass(frozen=True, kw_only=True)
class SimulatedNode:
    """A machine of the simulation.

    Args:
        workers: tasks that it runs at once.
        memory: bytes that its workers share; 0 for no limit.
    """

    workers: int = 1
    memory: int = 0


class SimulatedTry(NamedTuple):
    """How a try of a task goes, unless its node fails before.

    Args:
        seconds: until it ends.
        lost: "worker" when its worker dies at that time, "node" when it takes its whole node with it.
        error: the answer when it refuses the task.
        value: the answer when it does not.
    """

    seconds: float
    lost: Lost = ""
    error: str | None = None
    value: Any = None


Work = Callable[[Task, str, float], SimulatedTry]
"""How a try of a task goes that starts on a node at a time."""


class SimulatedEngine:
    """See `TaskEngine`; time passes only in `wait`.

    Args:
        nodes: the machines by name.
        work: how each try goes.
        failures: (time, node, seconds until it is back; infinity for never), in order of time; may be endless.
        restart: seconds until a worker that was lost or stopped is back.
    """

    def __init__(
        self,
        nodes: Mapping[str, SimulatedNode],
        work: Work,
        *,
        failures: Iterable[tuple[float, str, float]] = (),
        restart: float = 0.0,
    ) -> None:
        self._nodes, self._work, self._restart = dict(nodes), work, restart
        self._failures = iter(failures)
        self._now, self._tickets, self._order = 0.0, count(1), count()
        self._free: dict[str, int] = {}  # workers without a task, of the nodes that are alive
        self._room: dict[str, int] = {}
        self._lives = dict.fromkeys(nodes, 0)  # how often a node came up: what was due before is void
        self._running: dict[int, tuple[Task, str, float]] = {}
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._ended: list[Attempt] = []
        self.closed = False
        for name in nodes:
            self._come_up(name)
        self._await_failure()

    def start(self, task: Task, avoid: frozenset[str]) -> Ticket | None:
        """See `TaskEngine`; the node with the most free workers, the first by name among equals."""
        able = [
            name
            for name, free in self._free.items()
            if free and name not in avoid and self._holds(name, task.memory, self._room[name])
        ]
        if not able:
            return None
        node = min(able, key=lambda name: (-self._free[name], name))
        ticket = Ticket(next(self._tickets), node)
        self._free[node] -= 1
        self._room[node] -= task.memory
        self._running[ticket.number] = (task, node, self._now)
        how = self._work(task, node, self._now)
        self._later(how.seconds, lambda: self._finish(ticket.number, how))
        return ticket

    def wait(self, timeout: float) -> list[Attempt]:
        """See `TaskEngine`; the clock jumps to whatever happens next."""
        until = self._now + timeout
        if self._coming and self._coming[0][0] <= until:
            until = self._coming[0][0]
        self._now = until
        while self._coming and self._coming[0][0] <= until:
            heapq.heappop(self._coming)[2]()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, ticket: int) -> None:
        """See `TaskEngine`."""
        if ticket in self._running:
            task, node, _ = self._running.pop(ticket)
            self._lose_worker(node, task)

    def refusal(self, task: Task) -> str:
        """See `TaskEngine`."""
        if any(self._holds(name, task.memory, node.memory) for name, node in self._nodes.items()):
            return ""
        return f"it needs {task.memory:,} bytes, more than any node has"

    def nodes(self) -> dict[str, int]:
        """See `TaskEngine`."""
        return {name: self._nodes[name].workers for name in self._free}

    def time(self) -> float:
        """See `TaskEngine`."""
        return self._now

    def close(self) -> None:
        """See `TaskEngine`."""
        self._running.clear()
        self.closed = True

    @property
    def running(self) -> list[str]:
        """The names of the tasks that run now, one for each try."""
        return [task.name for task, _, _ in self._running.values()]

    def _holds(self, node: str, memory: int, room: int) -> bool:
        return self._nodes[node].memory == 0 or memory <= room

    def _later(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (self._now + seconds, next(self._order), happens))

    def _finish(self, ticket: int, how: SimulatedTry) -> None:
        if ticket not in self._running:  # cancelled, or its node failed
            return
        if how.lost == "node":
            self._fail(self._running[ticket][1], self._restart)
            return
        task, node, _ = self._end(ticket, how)
        if how.lost:
            self._lose_worker(node, task)
        else:
            self._give_back(node, task)

    def _end(self, ticket: int, how: SimulatedTry) -> tuple[Task, str, float]:
        task, node, start = self._running.pop(ticket)
        self._ended.append(
            Attempt(
                task=task.name,
                ticket=ticket,
                node=node,
                seconds=self._now - start,
                value=how.value,
                error=how.error,
                lost=how.lost,
                reason=f"the {how.lost} died" if how.lost else "",
            )
        )
        return task, node, start

    def _give_back(self, node: str, task: Task) -> None:
        self._free[node] += 1
        self._room[node] += task.memory

    def _lose_worker(self, node: str, task: Task) -> None:
        """Its worker is back after a while, unless the node has failed by then."""
        life = self._lives[node]

        def back() -> None:
            if node in self._free and self._lives[node] == life:
                self._give_back(node, task)

        self._later(self._restart, back)

    def _come_up(self, node: str) -> None:
        self._lives[node] += 1
        self._free[node], self._room[node] = self._nodes[node].workers, self._nodes[node].memory

    def _await_failure(self) -> None:
        if (failure := next(self._failures, None)) is not None:
            time, node, seconds = failure

            def fails() -> None:
                self._fail(node, seconds)
                self._await_failure()

            self._later(max(0.0, time - self._now), fails)

    def _fail(self, node: str, seconds: float) -> None:
        """A node fails with all that it runs, and comes back after a while; nothing happens to one that is down."""
        if self._free.pop(node, None) is None:
            return
        for ticket in [number for number, (_, where, _) in self._running.items() if where == node]:
            self._end(ticket, SimulatedTry(0.0, "node"))
        if seconds != float("inf"):
            self._later(seconds, lambda: self._come_up(node))
