import random
from collections import Counter, defaultdict
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.cluster.scheduler import SchedulerPolicy, run_tasks
from attunet.cluster.simulation import SimulatedEngine, SimulatedNode, SimulatedTry
from attunet.cluster.tasks import Task
from attunet.errors import ConfigError

NEVER = float("inf")


def tasks(count, size=1.0):
    return [Task(name=f"scan{index}", size=size) for index in range(count)]


def constant(task, node, now):
    return SimulatedTry(10.0 * task.size)


def engine(work=constant, nodes=2, workers=2, **options):
    return SimulatedEngine({f"n{index}": SimulatedNode(workers=workers) for index in range(nodes)}, work, **options)


def by_name(records):
    return {record.task: record for record in records}


class Watch:
    """Checks at every event what must hold at all times."""

    def __init__(self, simulated):
        self.engine, self.events, self.most = simulated, [], 0

    def __call__(self, event):
        self.events.append(event)
        self.most = max([self.most, *Counter(self.engine.running).values()])

    def kinds(self, kind):
        return [event.task for event in self.events if event.kind == kind]


def test_all_are_done_once_in_the_given_order_the_largest_first():
    simulated = engine(nodes=1, workers=1)
    watch = Watch(simulated)
    given_tasks = [Task(name=name, size=size) for name, size in {"b": 2.0, "c": 3.0, "a": 1.0}.items()]
    records = run_tasks(given_tasks, simulated, on_event=watch)
    assert [record.task for record in records] == ["b", "c", "a"]
    assert {record.state for record in records} == {"done"}
    assert watch.kinds("started") == ["c", "b", "a"]
    assert simulated.time() == pytest.approx(60.0)


def test_all_workers_work():
    simulated = engine(nodes=3, workers=2)
    run_tasks(tasks(60), simulated)
    assert simulated.time() == pytest.approx(100.0)


def test_a_poison_task_is_given_up_after_three_tries_on_other_nodes_and_the_rest_is_done():
    places = []

    def work(task, node, now):
        if task.name == "scan3":
            places.append(node)
            return SimulatedTry(1.0, "worker")
        return SimulatedTry(10.0)

    simulated = engine(work, nodes=3, workers=1, restart=2.0)
    records = by_name(run_tasks(tasks(20), simulated))
    poison = records.pop("scan3")
    assert (poison.state, poison.tries) == ("failed", 3)
    assert "lost 3 workers and 0 nodes" in poison.reason
    assert "the worker died" in poison.reason
    assert {record.state for record in records.values()} == {"done"}
    assert len(set(places)) == 3


def test_on_a_single_node_a_lost_task_is_tried_there_again():
    tries = Counter()

    def work(task, node, now):
        tries[task.name] += 1
        return SimulatedTry(1.0, "worker" if task.name == "scan0" and tries["scan0"] < 3 else "")

    records = run_tasks(tasks(4), engine(work, nodes=1, workers=1))
    assert {record.state for record in records} == {"done"}


def test_a_task_that_only_its_lost_node_can_hold_is_tried_there_when_nothing_else_runs():
    tries = Counter()

    def work(task, node, now):
        tries[task.name] += 1
        return SimulatedTry(10.0, "worker" if task.name == "large" and tries["large"] == 1 else "")

    nodes = {"n0": SimulatedNode(memory=8), "n1": SimulatedNode(memory=2)}
    given_tasks = [Task(name="large", memory=8), *tasks(6)]
    records = run_tasks(given_tasks, SimulatedEngine(nodes, work))
    assert {record.state for record in records} == {"done"}
    assert tries["large"] == 2


def test_a_task_that_takes_its_whole_node_down_is_given_up_too():
    def work(task, node, now):
        return SimulatedTry(1.0, "node") if task.name == "scan0" else SimulatedTry(10.0)

    policy = SchedulerPolicy(node_tries=2)
    records = by_name(run_tasks(tasks(8), engine(work, nodes=4, workers=1, restart=5.0), policy))
    assert records.pop("scan0").tries == 2
    assert {record.state for record in records.values()} == {"done"}


def test_an_answer_is_not_asked_for_again():
    def work(task, node, now):
        return SimulatedTry(1.0, error="the header is damaged") if task.name == "scan0" else constant(task, node, now)

    failed = by_name(run_tasks(tasks(3), engine(work)))["scan0"]
    assert (failed.state, failed.tries, failed.reason) == ("failed", 1, "the header is damaged")


def test_a_lost_node_is_not_the_fault_of_its_tasks():
    simulated = engine(nodes=2, workers=2, failures=[(5.0, "n0", NEVER)])
    watch = Watch(simulated)
    records = run_tasks(tasks(8), simulated, SchedulerPolicy(tries=1), on_event=watch)
    assert {record.state for record in records} == {"done"}
    assert len(watch.kinds("lost")) == 2
    assert {record.node for record in records} == {"n1"}


def test_without_any_node_the_waiting_tasks_are_reported():
    simulated = engine(nodes=1, workers=1, failures=[(15.0, "n0", NEVER)])
    records = run_tasks(tasks(3), simulated, SchedulerPolicy(patience=60.0))
    assert Counter(record.state for record in records) == {"done": 1, "failed": 2}
    assert {record.reason for record in records if record.state == "failed"} == {"no node is left; waited 60 s"}


def test_a_node_that_comes_back_within_the_patience_goes_on():
    simulated = engine(nodes=1, workers=1, failures=[(15.0, "n0", 50.0)])
    records = run_tasks(tasks(3), simulated, SchedulerPolicy(patience=60.0))
    assert {record.state for record in records} == {"done"}


def test_a_task_that_fits_no_node_is_refused_at_once_and_a_large_one_lets_smaller_ones_pass():
    node = SimulatedNode(workers=4, memory=10)
    given_tasks = [
        Task(name="huge", size=9, memory=11),
        Task(name="large", size=5, memory=8),
        Task(name="second", size=4, memory=8),
        Task(name="small", size=1, memory=2),
    ]
    simulated = SimulatedEngine({"n0": node}, constant)
    watch = Watch(simulated)
    records = by_name(run_tasks(given_tasks, simulated, on_event=watch))
    assert watch.events[0].kind == "failed"
    assert records["huge"].tries == 0
    assert "11 bytes" in records["huge"].reason
    assert watch.kinds("started") == ["large", "small", "second"]
    assert {records[name].state for name in ("large", "second", "small")} == {"done"}


def test_a_slow_try_is_doubled_at_the_end_and_the_first_to_end_wins():
    seen = Counter()

    def work(task, node, now):
        seen[task.name] += 1
        return SimulatedTry(1000.0 if task.name == "scan0" and seen[task.name] == 1 else 10.0)

    simulated = engine(work, nodes=2, workers=2)
    watch = Watch(simulated)
    records = by_name(run_tasks(tasks(12), simulated, on_event=watch))
    assert watch.kinds("doubled") == ["scan0"]
    assert (records["scan0"].state, records["scan0"].tries) == ("done", 2)
    assert simulated.time() < 100.0
    assert watch.kinds("done").count("scan0") == 1
    assert simulated.running == []


def test_work_that_must_not_run_twice_is_not_doubled():
    def work(task, node, now):
        return SimulatedTry(1000.0 if task.name == "scan0" else 10.0)

    simulated = engine(work)
    watch = Watch(simulated)
    run_tasks(tasks(12), simulated, SchedulerPolicy(slow_factor=None), on_event=watch)
    assert simulated.time() == pytest.approx(1000.0)
    assert watch.kinds("doubled") == []


@pytest.mark.parametrize("drain", [True, False])
def test_cancelled_nothing_starts_any_more(drain):
    cancelled, simulated = Event(), engine(nodes=1, workers=2)
    watch = Watch(simulated)

    def on_event(event):
        watch(event)
        if event.kind == "done":
            cancelled.set()

    records = run_tasks(tasks(9), simulated, SchedulerPolicy(drain=drain), on_event=on_event, cancelled=cancelled)
    states = Counter(record.state for record in records)
    assert states == {"done": 2, "stopped": 7}
    assert len(watch.kinds("started")) == 2
    assert simulated.running == []


def test_a_drained_run_ends_what_it_began():
    cancelled = Event()

    def on_event(event):
        if event.kind == "started" and event.task == "scan1":
            cancelled.set()

    for drain, done in ((True, 2), (False, 0)):
        cancelled.clear()
        policy = SchedulerPolicy(drain=drain)
        records = run_tasks(tasks(6), engine(nodes=1), policy, on_event=on_event, cancelled=cancelled)
        assert sum(record.state == "done" for record in records) == done
        assert {record.reason for record in records if record.state == "stopped"} == {"the run was cancelled"}


def test_an_exception_stops_what_runs():
    simulated = engine()

    def on_event(event):
        if event.kind == "done":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks(9), simulated, on_event=on_event)
    assert simulated.running == []


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two tasks are named 'scan0'"):
        run_tasks([*tasks(1), *tasks(1)], engine())


def test_nothing_to_do():
    assert run_tasks([], engine()) == []


@st.composite
def clusters(draw):
    """A cluster in which anything fails at any time."""
    nodes = {
        f"n{index}": SimulatedNode(workers=draw(st.integers(1, 3)), memory=draw(st.sampled_from([0, 4, 16])))
        for index in range(draw(st.integers(1, 4)))
    }
    failures = sorted(
        draw(
            st.lists(
                st.tuples(st.floats(0, 200), st.sampled_from(sorted(nodes)), st.sampled_from([0.0, 5.0, 100.0, NEVER])),
                max_size=8,
            )
        )
    )
    count = draw(st.integers(0, 25))
    given_tasks = [
        Task(name=f"t{index}", size=draw(st.floats(0.1, 5)), memory=draw(st.sampled_from([0, 1, 4, 16, 32])))
        for index in range(count)
    ]
    return nodes, failures, given_tasks, draw(st.integers(0, 2**32)), draw(st.floats(0, 0.5))


@given(clusters(), st.booleans(), st.floats(0, 400))
@settings(max_examples=300, deadline=None)
def test_whatever_fails_every_task_ends_exactly_once(cluster, cancels, cancel_time):
    nodes, failures, given_tasks, seed, rate = cluster
    rng = random.Random(seed)
    poison = {
        task.name: rng.choice(["worker", "node", "error", ""]) if rng.random() < 0.2 else "" for task in given_tasks
    }
    overlaps = defaultdict(int)

    def work(task, node, now):
        seconds = task.size * rng.expovariate(0.1)
        if poison[task.name] == "error":
            return SimulatedTry(seconds, error="no")
        lost = poison[task.name] or (rng.choice(["worker", "worker", "node"]) if rng.random() < rate else "")
        return SimulatedTry(seconds, lost, value=None if lost else task.name)

    cancelled = Event()
    policy = SchedulerPolicy(patience=150.0, poll=5.0)
    simulated = SimulatedEngine(nodes, work, failures=failures, restart=rng.choice([0.0, 3.0]))
    ends = Counter()

    def on_event(event):
        running = Counter(simulated.running)
        for name, times in running.items():
            overlaps[name] = max(overlaps[name], times)
        ends[event.task] += event.kind in ("done", "failed", "stopped")
        assert event.kind != "started" or not cancelled.is_set()
        if cancels and simulated.time() > cancel_time:
            cancelled.set()

    records = run_tasks(given_tasks, simulated, policy, on_event=on_event, cancelled=cancelled)
    assert [record.task for record in records] == [task.name for task in given_tasks]
    assert ends == {task.name: 1 for task in given_tasks}
    assert max(overlaps.values(), default=0) <= 2
    assert all(record.tries <= policy.tries + policy.node_tries for record in records)
    assert simulated.running == []
    for record in records:
        assert (record.value == record.task) == (record.state == "done")
        assert record.state != "done" or not poison[record.task]
    lives = simulated.nodes()
    if lives and not cancelled.is_set() and rate == 0 and not failures and "node" not in poison.values():
        sound = [record for record in records if not poison[record.task]]
        fits = {task.name: not simulated.refusal(task) for task in given_tasks}
        assert all((record.state == "done") == fits[record.task] for record in sound)
