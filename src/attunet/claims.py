"""Claims: one program at a time makes a file or folder, which does not exist before it is complete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from attunet.errors import BusyError, FormatError
from attunet.locks import exclusive

__all__ = ["claimed", "claimed_in_turn"]


@contextmanager
def claimed(output: Path, doing: str = "attunet") -> Iterator[None]:
    """Be the only program that makes a file or folder, which does not exist before it is complete.

    The lock is in a hidden folder beside it, which is removed at the end, and by the next program after a kill.
    Args: what is made; what the program does, which another one is told that would make the same.
    Raises: BusyError when another program makes it, FormatError when nobody may write there.
    """
    sign = output.with_name(f".{output.name}.attunet-claim")
    made = [] if output.parent.exists() else [output.parent]
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(sign, doing))
            except BusyError as error:
                raise BusyError(error.message.replace(str(sign), str(output), 1), hint=error.hint) from None
            except FormatError as error:
                message = error.message.replace(str(sign), str(output.parent), 1)
                raise FormatError(message, hint=error.hint) from None
            yield
    finally:
        for folder in (sign, *made):
            with suppress(OSError):
                folder.rmdir()  # only if it is empty


@contextmanager
def claimed_in_turn(output: Path, doing: str = "attunet", *, patience: float) -> Iterator[None]:
    """As `claimed`, after the programs that make the same have ended.

    Where nobody can tell whether a machine that died still holds it, it is made beside them after a while: only for
    what every program makes alike, and puts in place whole.

    Args:
        output: what is made.
        doing: what the program does.
        patience: seconds to wait at most.
    Yields: nothing, once it may be made.
    Raises: FormatError when nobody may write there.
    """
    last = time.monotonic() + patience
    with ExitStack() as stack:
        while time.monotonic() < last:
            try:
                stack.enter_context(claimed(output, doing))
                break
            except BusyError:
                time.sleep(0.1)
        yield
