"""Ctrl-C at moments that must not be cut in two."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

__all__ = ["interrupts_wait"]


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C is answered when the block ends; processes begun within never hear it.

    A terminal sends it to every process of a command. Only the main one should answer: a process that is starting
    would die with a traceback of its own, and a pool that is cut while it starts cannot be closed.
    """
    if current_thread() is not main_thread():  # only the main thread is ever interrupted
        yield
        return
    heard: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    inherited = hasattr(signal, "pthread_sigmask")  # not on Windows
    if inherited:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if inherited:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)
    if heard:
        signal.raise_signal(signal.SIGINT)
