from types import SimpleNamespace

import pytest

from attunet.config import TrainingConfig
from attunet.training.callbacks.schedule import Schedule


class Clock:
    """Seconds that pass when the test sets them."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Run:
    """Drives a schedule as lightning does and records the learning rates."""

    def __init__(self, config, clock, *, first_step=0, state=None):
        self.schedule, self.clock, self.rates = Schedule(config, clock=clock), clock, []
        self.trainer = SimpleNamespace(
            global_step=first_step,
            should_stop=False,
            world_size=1,
            optimizers=[SimpleNamespace(param_groups=[{"lr": None}])],
        )
        if state is not None:
            self.schedule.load_state_dict(state)
        self.schedule.on_fit_start(self.trainer, None)
        self.schedule.on_train_start(self.trainer, None)

    def go(self, steps=10**6, seconds=0.0):
        while steps and not self.trainer.should_stop:
            self.schedule.on_train_batch_start(self.trainer, None, None, 0)
            self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            self.clock.now += seconds
            self.trainer.global_step += 1
            self.schedule.on_train_batch_end(self.trainer, None, None, None, 0)
            steps -= 1
        return self


def by_steps(**changes):
    return TrainingConfig(epochs=10, steps_per_epoch=20, warmup_steps=10, learning_rate=0.1, **changes)


def test_the_rate_rises_then_falls_to_almost_nothing(clock):
    run = Run(by_steps(), clock).go()
    assert len(run.rates) == 200
    assert run.rates[0] == pytest.approx(0.01)
    peak = run.rates.index(max(run.rates))
    assert peak == 9
    assert all(later < earlier for earlier, later in zip(run.rates[peak:], run.rates[peak + 1 :], strict=False))
    assert run.rates[-1] < 0.1 * 0.01
    assert run.schedule.progress == 1.0


def test_polynomial_decay(clock):
    run = Run(by_steps(schedule_power=2.0), clock).go(101)
    assert run.rates[100] == pytest.approx(0.1 * 0.5**2)


def test_a_time_budget_ends_the_training_and_the_rate(clock):
    run = Run(by_steps(max_time=600.0), clock).go(seconds=0.5)
    assert len(run.rates) == 1200  # epochs do not count
    assert run.schedule.elapsed == pytest.approx(600)
    assert run.rates[600] == pytest.approx(0.1 * 0.5**0.9)
    assert run.rates[-1] < 0.1 * 0.01


def test_time_continues_to_count_after_a_pause_that_does_not_count(clock):
    config = by_steps(max_time=600.0)
    first = Run(config, clock).go(steps=400, seconds=1.0)
    state = first.schedule.state_dict()
    clock.now += 86_400
    second = Run(config, clock, first_step=400, state=state)
    assert second.schedule.elapsed == pytest.approx(400)
    second.go(seconds=1.0)
    assert len(second.rates) == 200
    assert second.rates[0] < first.rates[-1]


def test_steps_continue_to_count(clock):
    whole = Run(by_steps(), clock).go()
    rest = Run(by_steps(), clock, first_step=120, state={"elapsed": 1.0, "scale": 1.0}).go()
    assert rest.rates == whole.rates[120:]


@pytest.mark.parametrize("config", [by_steps(), by_steps(max_time=5.0)])
def test_a_budget_that_is_used_up_trains_nothing(config, clock):
    run = Run(config, clock, first_step=200, state={"elapsed": 5.0, "scale": 1.0})
    assert run.trainer.should_stop
    assert run.schedule.progress == 1.0


def test_setting_up_takes_nothing_from_the_budget(clock):
    schedule = Schedule(by_steps(max_time=10.0), clock=clock)
    clock.now += 60
    schedule.on_fit_start(None, None)
    assert schedule.progress == 0


def test_a_reduced_rate_is_a_quarter_of_the_one_before(clock):
    config = TrainingConfig(epochs=1, steps_per_epoch=10, warmup_steps=0)
    schedule = Schedule(config, reduce_rate=True, clock=clock)
    trainer = Run(config, clock).trainer
    schedule.load_state_dict({"elapsed": 0.0, "scale": 1.0})
    assert not schedule.rate_reduced
    schedule.on_train_start(trainer, None)
    assert schedule.rate_reduced
    assert schedule.state_dict()["scale"] == 0.25
    schedule.on_train_batch_start(trainer, None, None, 0)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(config.learning_rate / 4)


def test_processes_follow_the_clock_of_the_first(clock):
    config = TrainingConfig(max_time=10.0, warmup_steps=0)
    run = Run(config, clock)
    run.trainer.world_size = 2
    run.trainer.strategy = SimpleNamespace(broadcast=lambda mine: 0.5)
    clock.now += 3
    run.schedule.on_train_batch_start(run.trainer, None, None, 0)
    assert run.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(config.learning_rate * 0.5**0.9)
