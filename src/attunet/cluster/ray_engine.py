"""The engine on Ray: an actor for each worker, without restarts, which makes what it needs once and does task by task.

The engine places its workers itself, so that it knows on which node each is. A worker that dies is told and replaced; a
node that cannot make workers is left out. Ray's own actor pool and its retries are not used: they wait for ever, or try
for ever (decision 29).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from attunet.cluster.ray_session import RayNode, RaySession
from attunet.cluster.ray_worker import RayActor, RayWorkers, Work, ray_loss
from attunet.cluster.tasks import Attempt, Lost, Task, Ticket
from attunet.errors import EngineError

__all__ = ["RayEngine"]

_LOOK = 2.0
"""Seconds after which the nodes are asked for again."""
_FAILED_STARTS = 3
"""Workers in a row that may end on a node before one is ready, after which the node gets none."""
_DOUBT, _AGAIN = 60.0, 0.2
"""Seconds for which a worker that cannot be reached is asked for an answer, and between the questions."""
_BROKEN = "the connection to {} broke"


@dataclass(slots=True, eq=False)
class _Worker:
    """An actor, and what it does now."""

    node: RayNode
    actor: Any
    reference: Any
    """Of what it does: loading at first; None while it is free."""
    task: str = ""
    ticket: int = 0
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    doubted: float | None = None
    """When its connection broke; None while it has not."""


class RayEngine:
    """Runs tasks on the workers of a Ray cluster; see `attunet.cluster.tasks.TaskEngine`.

    Args:
        make: makes, in each worker, what does the work; it is pickled, and so are payloads and answers.
        payload: the payload of a task by its name.
        workers: how many workers, and what each gets.
        on_notice: called with what a user should know, such as a node that is left out.
    Raises: EngineError when Ray is not installed or does not answer, or no node has room for a worker.
    """

    def __init__(
        self,
        make: Callable[[], Work],
        payload: Callable[[str], Any],
        workers: RayWorkers,
        *,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._payload, self._on_notice = payload, on_notice
        self._workers: list[_Worker] = []
        self._tickets, self._ended = count(1), deque[Attempt]()
        self._failed_starts: Counter[str] = Counter()
        self._left_out: dict[str, str] = {}
        self._seen: list[RayNode] = []
        self._looked = float("-inf")
        self._session = RaySession(workers.address)
        try:
            self._ray = self._session.ray
            self._settings = workers.fitted(self._session.nodes())
            self._make = self._ray.put(make)
            self._grow()
            if not self._workers:
                raise EngineError(f"no node has room for a worker: {self._room()}", hint="ask for less, or add nodes")
        except BaseException:
            self.close()
            raise

    def start(self, task: Task, avoid: frozenset[str]) -> Ticket | None:
        """See `TaskEngine`."""
        free = [worker for worker in self._workers if worker.ready and worker.reference is None]
        worker = next((worker for worker in free if worker.node.name not in avoid), None)
        if worker is None:
            return None
        worker.task, worker.ticket, worker.started = task.name, next(self._tickets), time.monotonic()
        worker.reference = worker.actor.do.remote(self._payload(task.name))
        return Ticket(worker.ticket, worker.node.name)

    def wait(self, timeout: float) -> list[Attempt]:
        """See `TaskEngine`. Raises: EngineError when no node can make a worker."""
        self._grow()
        busy = {worker.reference: worker for worker in self._workers if worker.reference is not None}
        if busy:
            ended, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout, fetch_local=False)
            if ended:
                ended, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0, fetch_local=False)
            for reference in ended:
                self._end(busy[reference], reference)
        else:
            time.sleep(timeout)
        attempts = list(self._ended)
        self._ended.clear()
        return attempts

    def cancel(self, ticket: int) -> None:
        """See `TaskEngine`."""
        for worker in [worker for worker in self._workers if worker.ticket == ticket and worker.reference is not None]:
            self._remove(worker)

    def refusal(self, task: Task) -> str:
        """See `TaskEngine`."""
        most = self._settings.memory
        if not most or task.memory <= most:
            return ""
        return (
            f"it needs about {task.memory / 2**30:.1f} GB, and no node has a worker of more than {most / 2**30:.1f} GB"
        )

    def nodes(self) -> dict[str, int]:
        """See `TaskEngine`."""
        alive = Counter({node.name: 0 for node in self._seen if node.name not in self._left_out})
        alive.update(worker.node.name for worker in self._workers)
        return dict(alive)

    def time(self) -> float:
        """See `TaskEngine`."""
        return time.monotonic()

    def close(self) -> None:
        """See `TaskEngine`."""
        for worker in list(self._workers):
            self._remove(worker)
        self._session.close()

    def _grow(self) -> None:
        """Start workers where there is room, those of new nodes and of lost workers included."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._seen, self._looked = self._session.nodes(), time.monotonic()
        alive = {node.id for node in self._seen}
        for worker in [each for each in self._workers if each.reference is None and each.node.id not in alive]:
            self._remove(worker)
        used = Counter(worker.node.id for worker in self._workers)
        free = {
            node: self._settings.slots(node) - used[node.id] for node in self._seen if node.name not in self._left_out
        }
        limit = self._settings.workers or sum(map(self._settings.slots, self._seen))
        while free and sum(worker.node.id in alive for worker in self._workers) < limit:
            node = max(free, key=lambda node: free[node])
            if free[node] < 1:
                break
            free[node] -= 1
            self._workers.append(self._started(node))
        if not self._workers and self._left_out:
            raise EngineError(
                "; ".join(f"{node}: {reason}" for node, reason in self._left_out.items()),
                hint="no node can run a worker; see the first error",
            )

    def _started(self, node: RayNode) -> _Worker:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        settings = self._settings
        actor = self._ray.remote(RayActor).options(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            memory=settings.memory or None,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        handle = actor.remote()
        return _Worker(node, handle, handle.load.remote(self._make))

    def _end(self, worker: _Worker, reference: Any) -> None:
        """What a worker did has ended: with an answer, or with the worker."""
        seconds = time.monotonic() - worker.started
        try:
            value, error, hint = self._ray.get(reference)
        except self._ray.exceptions.ActorUnavailableError:
            self._doubt(worker)
            return
        except self._ray.exceptions.RayError as failure:
            self._lose(worker, *ray_loss(failure, worker.node.name))
            return
        worker.reference = None
        if worker.doubted is not None:
            self._lose(worker, "node", _BROKEN.format(worker.node.name))
        elif worker.ready:
            self._tell(worker, seconds, value=value, error=error, hint=hint)
        elif error is not None:
            self._remove(worker)
            self._leave_out(worker.node.name, f"{error}; {hint}" if hint else error)
        else:
            worker.ready = True
            self._failed_starts[worker.node.name] = 0

    def _doubt(self, worker: _Worker) -> None:
        """A connection broke: until the cluster knows whether the worker or its node has died, it is asked again."""
        now = time.monotonic()
        worker.doubted = worker.doubted or now
        if now - worker.doubted > _DOUBT:
            self._lose(worker, "node", _BROKEN.format(worker.node.name))
        else:
            time.sleep(_AGAIN)
            worker.reference = worker.actor.answer.remote()

    def _lose(self, worker: _Worker, lost: Lost, reason: str) -> None:
        """A worker has died: that is told of its task, or counted if it had not begun."""
        self._remove(worker)
        if worker.ready:
            self._tell(worker, time.monotonic() - worker.started, lost=lost, reason=reason)
        elif lost == "worker":
            self._failed_starts[worker.node.name] += 1
            if self._failed_starts[worker.node.name] >= _FAILED_STARTS:
                self._leave_out(worker.node.name, f"its workers end before they are ready: {reason}")

    def _tell(self, worker: _Worker, seconds: float, **ended: Any) -> None:
        attempt = Attempt(task=worker.task, ticket=worker.ticket, node=worker.node.name, seconds=seconds, **ended)
        self._ended.append(attempt)

    def _leave_out(self, node: str, reason: str) -> None:
        if node not in self._left_out:
            self._left_out[node] = reason
            self._on_notice(f"{node} is left out: {reason}")

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._looked = float("-inf")
        try:
            self._ray.kill(worker.actor)
        except Exception:  # it has ended, or the whole cluster has
            return

    def _room(self) -> str:
        """What the nodes have, in words."""
        rooms = [
            f"{node.name} has {node.cpus:g} cores, {node.gpus:g} GPUs and {node.memory / 2**30:.1f} GB"
            for node in self._seen
        ]
        return "; ".join(rooms) or "there are no nodes"
