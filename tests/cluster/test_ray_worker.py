"""What a worker asks for, what it answers, and what has died when it does not."""

from __future__ import annotations

import pytest

from attunet.cluster.ray_session import RayNode
from attunet.cluster.ray_worker import RayActor, RayWorkers, ray_loss
from attunet.errors import BundleError, ConfigError, DataError

GB = 2**30


@pytest.mark.parametrize(
    ("workers", "slots"),
    [
        (RayWorkers(cpus=1), 8),
        (RayWorkers(cpus=3), 2),
        (RayWorkers(cpus=1, memory=6 * GB), 5),
        (RayWorkers(cpus=1, memory=33 * GB), 0),
        (RayWorkers(cpus=1, gpus=1), 2),
        (RayWorkers(cpus=1, gpus=0.5), 4),
        (RayWorkers(cpus=9), 0),
    ],
)
def test_a_node_has_room_for_what_it_holds(workers, slots):
    assert workers.slots(RayNode(id="a", name="a", cpus=8, gpus=2, memory=32 * GB)) == slots


def test_a_worker_has_at_most_the_memory_of_the_largest_node():
    nodes = [RayNode(id=name, name=name, cpus=cpus, gpus=0, memory=size * GB) for name, cpus, size in SIZES]
    assert RayWorkers(memory=100 * GB).fitted(nodes).memory == 32 * GB
    assert RayWorkers(memory=2 * GB).fitted(nodes).memory == 2 * GB
    assert RayWorkers(cpus=16, memory=100 * GB).fitted(nodes).memory == 100 * GB  # there is no room in any case


SIZES = [("small", 4, 8), ("large", 8, 32), ("without cores", 0, 64)]


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"cpus": -1}, {"gpus": -0.5}, {"cpus": 0}])
def test_workers_of_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        RayWorkers(**wrong)


def test_a_worker_loads_once_and_answers():
    made = []

    def make():
        made.append(1)
        return lambda payload: payload + 1

    actor = RayActor()
    assert actor.load(make) == (None, None, "")
    assert [actor.do(1), actor.do(2), actor.answer()] == [(2, None, ""), (3, None, ""), (None, None, "")]
    assert len(made) == 1


def test_errors_are_answers():
    def refuse(_payload):
        raise DataError("no image", hint="look at it")

    def fail(_payload):
        raise MemoryError

    def cannot():
        raise BundleError("no model", hint="train one")

    actor = RayActor()
    actor.load(lambda: refuse)
    assert actor.do(0) == (None, "no image", "look at it")
    actor.load(lambda: fail)
    assert actor.do(0)[1] == "there is not enough memory for it"
    assert actor.load(cannot) == (None, "no model", "train one")


class ActorDiedError(Exception):
    """As Ray's."""


class OutOfMemoryError(Exception):
    """As Ray's."""


class ActorUnschedulableError(Exception):
    """As Ray's."""


@pytest.mark.parametrize(
    ("failure", "lost", "reason"),
    [
        (ActorDiedError("The actor died because its node has died. Node Id: 83c5"), "node", "n1 has died"),
        (
            ActorUnschedulableError("The node specified via NodeAffinitySchedulingStrategy is gone"),
            "node",
            "n1 has died",
        ),
        (OutOfMemoryError("Task was killed"), "worker", "n1 was out of memory"),
        (ActorDiedError("Worker exit type: NODE_OUT_OF_MEMORY"), "worker", "n1 was out of memory"),
        (ActorDiedError("Worker exit type: SYSTEM_ERROR connection error code 2"), "worker", "killed or crashed"),
    ],
)
def test_a_loss_has_a_reason(failure, lost, reason):
    assert ray_loss(failure, "n1")[0] == lost
    assert reason in ray_loss(failure, "n1")[1]
