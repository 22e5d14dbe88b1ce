"""Several processes of one training, interrupts, and other programs on the same cores."""

import signal
import subprocess
import sys
import threading

import pytest

from attunet.training.processes import cpu_contention, defer_interrupts, is_rank_zero, used_cores, wait_until

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


@pytest.mark.parametrize("name", RANKS)
def test_only_the_first_process_has_rank_zero(name, monkeypatch):
    for other in RANKS:
        monkeypatch.delenv(other, raising=False)
    assert is_rank_zero()
    monkeypatch.setenv(name, "0")
    assert is_rank_zero()
    monkeypatch.setenv(name, "3")
    assert not is_rank_zero()


def test_the_others_wait(tmp_path):
    file = tmp_path / "plan.json"
    timer = threading.Timer(0.3, file.touch)
    timer.start()
    wait_until(file.exists)
    assert file.exists()
    timer.join()


def test_it_loads_no_torch():
    code = "import sys, attunet.training.processes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_handled_at_the_end():
    done, handler = [], signal.getsignal(signal.SIGINT)

    def work():
        with defer_interrupts():
            interrupt()
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_happens_without_an_interrupt():
    with defer_interrupts():
        pass
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_error_within_is_passed_on():
    with pytest.raises(ValueError, match="cause"), defer_interrupts():
        raise ValueError("cause")


def test_processes_started_within_ignore_it():
    code = "import signal; signal.raise_signal(signal.SIGINT); print('ignored')"
    with defer_interrupts():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "ignored\n"


def test_other_threads_may_defer_interrupts():
    done = []

    def work():
        with defer_interrupts():
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]


def test_a_busy_machine_is_reported_with_a_remedy():
    warning = cpu_contention(4, used=lambda _seconds: 1.2, cores=4)
    assert "use 1.2 cores" in warning
    assert "OMP_NUM_THREADS=3" in warning


@pytest.mark.parametrize(("threads", "used"), [(4, 0.2), (1, 3.0), (4, 4.1)])
def test_free_cores_and_single_threads_need_no_warning(threads, used):
    """Nor do folds that are trained beside, each on its share of eight cores."""
    assert cpu_contention(threads, used=lambda _seconds: used, cores=8) == ""


def test_at_least_one_thread_remains():
    assert "OMP_NUM_THREADS=1" in cpu_contention(2, used=lambda _seconds: 2.0, cores=2)


def test_a_running_program_is_measured():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        try:
            assert used_cores(0.5) > 0.4
        finally:
            program.kill()
