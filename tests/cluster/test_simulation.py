import itertools
import time

from attunet.cluster.scheduler import run_tasks
from attunet.cluster.simulation import SimulatedEngine, SimulatedNode, SimulatedTry
from attunet.cluster.tasks import Task

ONE = Task(name="one", memory=6)
TWO = Task(name="two", memory=6)


def work(task, node, now):
    return SimulatedTry(10.0, value=(node, now))


def test_time_passes_only_while_waiting():
    engine = SimulatedEngine({"a": SimulatedNode()}, work)
    ticket = engine.start(ONE, frozenset())
    assert (ticket.node, engine.time(), engine.running) == ("a", 0.0, ["one"])
    assert engine.wait(4.0) == []
    assert engine.time() == 4.0
    (ended,) = engine.wait(100.0)
    assert (ended.task, ended.ticket, ended.seconds, ended.value) == ("one", ticket.number, 10.0, ("a", 0.0))
    assert engine.time() == 10.0


def test_workers_and_memory_are_never_overcommitted():
    engine = SimulatedEngine({"a": SimulatedNode(workers=2, memory=10)}, work)
    assert engine.start(ONE, frozenset())
    assert engine.start(TWO, frozenset()) is None  # room for one only
    assert engine.start(Task(name="small", memory=4), frozenset())
    assert engine.start(Task(name="none"), frozenset()) is None  # no worker
    assert "11 bytes" in engine.refusal(Task(name="large", memory=11))


def test_nodes_to_avoid_are_not_used():
    engine = SimulatedEngine({"a": SimulatedNode(), "b": SimulatedNode()}, work)
    assert engine.start(ONE, frozenset({"a"})).node == "b"
    assert engine.start(TWO, frozenset({"a"})) is None
    assert engine.start(TWO, frozenset()).node == "a"


def test_a_node_fails_with_what_it_runs_and_comes_back():
    engine = SimulatedEngine({"a": SimulatedNode(workers=2)}, work, failures=[(3.0, "a", 5.0)])
    engine.start(ONE, frozenset())
    engine.start(TWO, frozenset())
    ended = engine.wait(100.0)
    assert [(each.task, each.lost, each.seconds) for each in ended] == [("one", "node", 3.0), ("two", "node", 3.0)]
    assert engine.nodes() == {}
    assert engine.start(ONE, frozenset()) is None
    assert engine.wait(100.0) == []
    assert (engine.time(), engine.nodes()) == (8.0, {"a": 2})
    assert engine.start(ONE, frozenset())
    assert engine.start(TWO, frozenset())


def test_a_stopped_try_is_not_reported_and_its_worker_returns_later():
    engine = SimulatedEngine({"a": SimulatedNode()}, work, restart=2.0)
    engine.cancel(engine.start(ONE, frozenset()).number)
    assert engine.start(TWO, frozenset()) is None
    assert engine.wait(5.0) == []
    assert engine.time() == 2.0
    assert engine.start(TWO, frozenset())
    assert [each.task for each in engine.wait(100.0) + engine.wait(100.0)] == ["two"]


def test_a_failed_node_does_not_get_the_workers_of_its_former_life():
    def dies(task, node, now):
        return SimulatedTry(1.0, "worker")

    engine = SimulatedEngine({"a": SimulatedNode()}, dies, failures=[(2.0, "a", 1.0)], restart=10.0)
    engine.start(ONE, frozenset())
    while engine.time() < 20.0:
        engine.wait(1.0)
    assert engine.start(ONE, frozenset())
    assert engine.start(TWO, frozenset()) is None


def test_ten_thousand_scans_on_a_hundred_nodes_that_fail_take_seconds():
    nodes = {f"n{index}": SimulatedNode(workers=2) for index in range(100)}
    failures = ((step * 20.0, f"n{step % 100}", 300.0) for step in itertools.count(1))
    engine = SimulatedEngine(nodes, work, failures=failures)
    start = time.perf_counter()
    records = run_tasks([Task(name=str(index)) for index in range(10_000)], engine)
    assert {record.state for record in records} == {"done"}
    assert time.perf_counter() - start < 5.0
