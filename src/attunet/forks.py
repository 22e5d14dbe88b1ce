"""Engines after a fork: they are started again in the child, or say what to do, and never wait for ever.

A fork copies no threads, but all that runtimes know of them: whatever waits for one of them waits for ever, with the
interpreter lock or without. So an engine belongs to the process that started it, and what starts one in a child of a
process that has used engines gets limited time. What a child has inherited is never freed, as that may wait, too.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from attunet.errors import EngineError

__all__ = ["PerProcess", "forked", "refuse_fork", "start_engine"]

T = TypeVar("T")

SECONDS = 45.0
"""Time that an engine may take to start in a forked process and to run its first windows."""


class _Shared:
    """What the engines of this process share, and its child inherits.

    Attributes: origin, the process that first used an engine; hopeless, the forked process in which one did not answer;
    refusing, the process that first used each runtime that works in no other; values, of all engines.
    """

    def __init__(self) -> None:
        self.origin: int | None = None
        self.hopeless: int | None = None
        self.refusing: dict[str, int] = {}
        self.values: WeakSet[PerProcess[Any]] = WeakSet()

    def keep_values(self) -> None:
        """In the child of a fork: what it inherited cannot be freed, as that would wait for threads of the parent."""
        for value in self.values:
            value.keep()


_shared = _Shared()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_shared.keep_values)


class PerProcess(Generic[T]):
    """A value that is made when it is first needed, once in each process.

    Args: `make`, which starts something of an engine.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[int, T] | None = None
        self._locks: dict[int, threading.RLock] = {}
        _shared.values.add(self)

    def keep(self) -> None:
        """Never free the value, not even at the exit."""
        if self._made is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._made))

    def get(self) -> T:
        """The value of this process. Raises: EngineError as `start_engine`."""
        process, made = os.getpid(), self._made
        if made is not None and made[0] == process:
            return made[1]
        with self._locks.setdefault(process, threading.RLock()):  # the parent's may be held by a thread left behind
            if self._made is None or self._made[0] != process:
                self._made = process, start_engine(self._make)
            return self._made[1]


def forked() -> bool:
    """Whether this process was forked from one that has used engines."""
    return _shared.origin is not None and _shared.origin != os.getpid()


def refuse_fork(runtime: str) -> None:
    """Keep a runtime in the process that first used it.

    Raises: EngineError in a process that was forked from that one.
    """
    if _shared.refusing.setdefault(runtime, os.getpid()) != os.getpid():
        raise _no_answer(f"{runtime} cannot be used")


def start_engine(make: Callable[[], T]) -> T:
    """Start an engine, within limited time if this process was forked from one that used engines.

    Args: `make`, which starts the engine and runs it once, with the threads that later runs need.
    Returns: what it returns.
    Raises: what `make` raises; EngineError when it does not answer in a forked process.
    """
    if _shared.origin is None:
        _shared.origin = os.getpid()
    if not forked():
        return make()
    if _shared.hopeless == os.getpid():
        raise _no_answer()
    answer: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(make())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if failure:
        raise failure[0]
    if not answer:
        _shared.hopeless = os.getpid()
        raise _no_answer()
    return answer[0]


def _no_answer(what: str = "the engine does not answer") -> EngineError:
    return EngineError(
        f"{what} in a process that was forked after its parent had used an engine",
        hint='start the processes before a model is used, or with multiprocessing.get_context("spawn")',
    )
