import signal
import subprocess
import sys
import threading

import pytest

from attunet.training.interrupts import interrupts_wait


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_answered_at_the_end():
    done, handler = [], signal.getsignal(signal.SIGINT)

    def work():
        with interrupts_wait():
            interrupt()
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_happens_without_one():
    with interrupts_wait():
        pass
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_error_within_is_passed_on():
    with pytest.raises(ValueError, match="cause"), interrupts_wait():
        raise ValueError("cause")


def test_processes_begun_within_do_not_hear_it():
    code = "import signal; signal.raise_signal(signal.SIGINT); print('deaf')"
    with interrupts_wait():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "deaf\n"


def test_other_threads_may_use_it():
    done = []

    def work():
        with interrupts_wait():
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]
