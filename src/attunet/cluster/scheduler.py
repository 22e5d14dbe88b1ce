"""Run every task once on workers that may die: the largest first, tries bounded, slow ones doubled at the end.

The loop is small on purpose. Which task is next, when it is tried again and when it is given up are decided here alone;
an engine only starts, waits and cancels. So the same rules hold for a cluster and for the simulation that tests them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from threading import Event
from typing import Any, Literal

from attunet.cluster.tasks import Attempt, EventKind, Task, TaskEngine, TaskEvent, TaskRecord, Ticket
from attunet.errors import ConfigError

__all__ = ["SchedulerPolicy", "run_tasks"]

_FEWEST_TYPICAL, _MOST_TYPICAL = 3, 1001
"""How many done tasks, the last ones, tell the typical time for a size; with fewer none is called slow."""


@dataclass(frozen=True, kw_only=True)
class SchedulerPolicy:
    """When a task is tried again, doubled or given up.

    Args:
        tries: how often a task may lose its worker before it is reported as failed.
        node_tries: how often it may lose its whole node, which is rarely its own fault.
        slow_factor: when nothing waits any more and a worker is free, a try that takes this many times the typical time
            for its size is started a second time, and the first to end wins; None for work that must not run twice at
            once, such as a training.
        drain: whether the running tries end when the run is cancelled; otherwise they are stopped.
        patience: seconds for which tasks may wait while nothing runs, because no node or no room is left.
        poll: longest wait in seconds before a cancellation is seen.
    """

    tries: int = 3
    node_tries: int = 5
    slow_factor: float | None = 2.0
    drain: bool = True
    patience: float = 300.0
    poll: float = 0.2


_DEFAULTS = SchedulerPolicy()


def run_tasks(
    tasks: Iterable[Task],
    engine: TaskEngine,
    policy: SchedulerPolicy = _DEFAULTS,
    *,
    on_event: Callable[[TaskEvent], None] = lambda _: None,
    on_turn: Callable[[], None] = lambda: None,
    cancelled: Event | None = None,
) -> list[TaskRecord]:
    """Run tasks until each is done, failed or, after a cancellation, stopped; the engine is not closed.

    An exception, a second Ctrl-C among them, stops the running tries and is raised.

    Args:
        tasks: the tasks.
        engine: runs them.
        policy: when a task is tried again, doubled or given up.
        on_event: called with every change, in the calling thread.
        on_turn: called there at least as often as the policy polls.
        cancelled: an event after which nothing new starts.
    Returns: one record for each task, in the given order.
    Raises: ConfigError when two tasks have one name.
    """
    run = _Run(engine, policy, on_event, cancelled or Event())
    try:
        return run.all(tasks, on_turn)
    finally:
        run.stop_running()


@dataclass(slots=True)
class _State:
    """What is known of a task that has not ended."""

    task: Task
    tries: int = 0
    lost_workers: int = 0
    lost_nodes: int = 0
    avoid: frozenset[str] = frozenset()
    running: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Node and start of its running tries, by ticket: never more than two."""


class _Queue:
    """The waiting tasks, by the power of two of their memory; within each, the largest first, then as given."""

    def __init__(self) -> None:
        self._lanes: dict[int, list[tuple[float, int, str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def put(self, task: Task, order: int) -> None:
        heapq.heappush(self._lanes.setdefault(task.memory.bit_length(), []), (-task.size, order, task.name))

    def heads(self) -> list[tuple[int, str]]:
        """The largest task of each lane, the largest of all first: one without room does not stop smaller ones."""
        return [(lane, head[0][2]) for lane, head in sorted(self._lanes.items(), key=lambda each: each[1][0])]

    def take(self, lane: int) -> None:
        heapq.heappop(self._lanes[lane])
        if not self._lanes[lane]:
            del self._lanes[lane]

    def clear(self) -> None:
        self._lanes.clear()


class _Run:
    """One call of `run_tasks`."""

    def __init__(
        self, engine: TaskEngine, policy: SchedulerPolicy, on_event: Callable[[TaskEvent], None], cancelled: Event
    ) -> None:
        self._engine, self._policy, self._on_event, self._cancelled = engine, policy, on_event, cancelled
        self._open: dict[str, _State] = {}
        self._records: dict[str, TaskRecord] = {}
        self._tickets: dict[int, str] = {}
        self._queue = _Queue()
        self._again: list[_State] = []  # lost tasks, which wait for a worker of another node
        self._rates: deque[float] = deque(maxlen=_MOST_TYPICAL)  # seconds per size of done tasks

    def all(self, tasks: Iterable[Task], on_turn: Callable[[], None]) -> list[TaskRecord]:
        names = self._enter(tasks)
        idle_since = self._engine.time()
        while self._open:
            if self._cancelled.is_set():
                self._cancel()
                if not self._open:
                    break
            self._start_waiting()
            self._start_slow_again()
            for attempt in self._engine.wait(self._policy.poll):
                self._end(attempt)
            on_turn()
            if self._tickets:
                idle_since = self._engine.time()
            elif self._open and self._engine.time() - idle_since > self._policy.patience:
                self._give_up()
        return [self._records[name] for name in names]

    def stop_running(self) -> None:
        for ticket in self._tickets:
            self._engine.cancel(ticket)
        self._tickets.clear()

    def _enter(self, tasks: Iterable[Task]) -> list[str]:
        names = []
        for task in tasks:
            if task.name in self._open or task.name in self._records:
                raise ConfigError(f"two tasks are named {task.name!r}", hint="give each its own name")
            names.append(task.name)
            self._open[task.name] = state = _State(task)
            if reason := self._engine.refusal(task):
                self._close(state, "failed", reason=reason)
            else:
                self._queue.put(task, len(names))
        return names

    def _start_waiting(self) -> None:
        """Start waiting tasks until no free worker has room for one; those that were lost before come first."""
        self._again = [state for state in self._again if not self._start(state, "started")]
        started = True
        while started:
            started = False
            for lane, name in self._queue.heads():
                if self._start(self._open[name], "started"):
                    self._queue.take(lane)
                    started = True
                    break

    def _start_slow_again(self) -> None:
        """When nothing waits, start the slowest tries a second time on workers that would be idle."""
        factor = self._policy.slow_factor
        if factor is None or self._queue or self._again or len(self._rates) < _FEWEST_TYPICAL:
            return
        now, typical = self._engine.time(), median(self._rates)
        slowness = {}
        for state in self._open.values():
            if len(state.running) == 1 and not self._spent(state):
                ((_, start),) = state.running.values()
                slowness[state.task.name] = (now - start) / max(typical * state.task.size, 1e-9)
        for name in sorted(slowness, key=lambda name: -slowness[name]):
            if slowness[name] <= factor or not self._start(self._open[name], "doubled"):
                break

    def _start(self, state: _State, kind: Literal["started", "doubled"]) -> bool:
        ticket: Ticket | None
        if self._cancelled.is_set():
            return False
        avoid = state.avoid | {node for node, _ in state.running.values()}
        if avoid and (not self._tickets or not self._engine.nodes().keys() - avoid):  # there is no other choice
            avoid = frozenset()
        if (ticket := self._engine.start(state.task, avoid)) is None:
            return False
        state.running[ticket.number] = (ticket.node, self._engine.time())
        state.tries += 1
        self._tickets[ticket.number] = state.task.name
        self._tell(state, kind, node=ticket.node)
        return True

    def _end(self, attempt: Attempt) -> None:
        if self._tickets.pop(attempt.ticket, None) is None:  # cancelled while it ended
            return
        state = self._open[attempt.task]
        del state.running[attempt.ticket]
        if attempt.lost:
            self._lose(state, attempt)
        elif attempt.error is not None:
            self._close(state, "failed", attempt, attempt.error, attempt.hint)
        else:
            self._rates.append(attempt.seconds / max(state.task.size, 1e-9))
            self._close(state, "done", attempt)

    def _lose(self, state: _State, attempt: Attempt) -> None:
        """Count a lost try; the task waits again, unless another try of it runs or it was lost too often."""
        state.avoid |= {attempt.node}
        state.lost_workers += attempt.lost == "worker"
        state.lost_nodes += attempt.lost == "node"
        if self._spent(state) and not state.running:
            what = f"lost {_times(state.lost_workers, 'worker')} and {_times(state.lost_nodes, 'node')}"
            self._close(state, "failed", attempt, f"{what}; the last time: {attempt.reason or 'no reason is known'}")
            return
        self._tell(state, "lost", node=attempt.node, attempt=attempt, reason=attempt.reason)
        if not state.running:
            self._again.append(state)

    def _spent(self, state: _State) -> bool:
        return state.lost_workers >= self._policy.tries or state.lost_nodes >= self._policy.node_tries

    def _cancel(self) -> None:
        """After a cancellation, nothing waits any more; what runs ends by itself or is stopped, as the policy says."""
        self._queue.clear()
        self._again.clear()
        for state in list(self._open.values()):
            if not (state.running and self._policy.drain):
                self._close(state, "stopped", reason="the run was cancelled")

    def _give_up(self) -> None:
        """Nothing runs, and nothing could be started for as long as the policy waits."""
        nodes = self._engine.nodes()
        why = "no node has room for it" if nodes else "no node is left"
        self._queue.clear()
        self._again.clear()
        for state in list(self._open.values()):
            reason = f"{why}; waited {self._policy.patience:.0f} s"
            self._close(state, "failed", reason=reason, hint="start the same command again when nodes are free")

    def _close(
        self,
        state: _State,
        kind: Literal["done", "failed", "stopped"],
        attempt: Attempt | None = None,
        reason: str = "",
        hint: str = "",
    ) -> None:
        """End a task for good; its other try is cancelled."""
        for ticket in state.running:
            del self._tickets[ticket]
            self._engine.cancel(ticket)
        ended = {"node": attempt.node, "seconds": attempt.seconds, "value": attempt.value} if attempt else {}
        name, tries = state.task.name, state.tries
        self._records[name] = TaskRecord(task=name, state=kind, tries=tries, reason=reason, hint=hint, **ended)
        self._tell(state, kind, node=attempt.node if attempt else "", attempt=attempt, reason=reason, hint=hint)
        state.running.clear()
        del self._open[name]

    def _tell(self, state: _State, kind: EventKind, **told: Any) -> None:
        self._on_event(TaskEvent(kind=kind, task=state.task.name, tries=state.tries, **told))


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
