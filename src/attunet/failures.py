"""One case's failure is never the folder's: whatever a reader, a network or a disk raises, the other cases go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from attunet.errors import AttunetError, CancelledError, DataError, FormatError, first_line

__all__ = ["Failures", "as_attunet_error", "one_case"]

_log = logging.getLogger(__name__)

OnError = Callable[[str, AttunetError], None]


def as_attunet_error(error: Exception) -> AttunetError:
    """The error of attunet that tells a user what happened, for an exception of any library."""
    if isinstance(error, AttunetError):
        return error
    _log.debug("an unforeseen error", exc_info=error)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return FormatError(
            f"{error.strerror or first_line(error)}{where}", hint="check that the file exists and may be read"
        )
    for kind, (message, hint) in _KNOWN.items():
        if isinstance(error, kind):
            return DataError(message, hint=hint)
    return DataError(
        f"unforeseen {type(error).__name__}: {first_line(error)}",
        hint="check the files of this case; if they are sound, report this",
    )


_KNOWN: dict[type[Exception], tuple[str, str]] = {
    MemoryError: ("there is not enough memory for it", "set --max-memory, or free memory"),
    RecursionError: ("its description is nested too deeply", "check the files of this case"),
}


@contextmanager
def one_case(case: str = "") -> Iterator[None]:
    """Turn every exception of the block into an error of attunet, which the caller reports as that of one case.

    Args: the case, for a caller that stops with the error; the messages of attunet's own errors name it already.
    Raises: CancelledError as it is, and AttunetError for every other exception.
    """
    try:
        yield
    except AttunetError:
        raise
    except Exception as error:
        told = as_attunet_error(error)
        told.message = f"case {case}: {told.message}" if case else told.message
        raise told from error


class Failures:
    """The cases of a folder that failed, and why; a context for each case, within which it may fail.

    Args: `on_error`, called with each failed case and the reason, in the thread of the case; None for no call.
    """

    def __init__(self, on_error: OnError | None = None) -> None:
        self.errors: dict[str, AttunetError] = {}
        self._on_error = on_error

    @contextmanager
    def of(self, case: str) -> Iterator[None]:
        """A block that concerns one case: if it fails, the failure is kept, and the program goes on behind the block.

        Raises: CancelledError, which concerns all cases.
        """
        try:
            with one_case():
                yield
        except CancelledError:
            raise
        except AttunetError as error:
            kept = type(error)(error.message, hint=error.hint)  # without the frames, which hold the case's arrays
            self.errors[case] = kept
            if self._on_error is not None:
                self._on_error(case, kept)

    def add(self, errors: Mapping[str, AttunetError]) -> None:
        """Keep failures that happened elsewhere: the cases, and why each failed."""
        for case, error in errors.items():
            self.errors[case] = error
            if self._on_error is not None:
                self._on_error(case, error)

    def raise_if_all(self, done: int) -> None:
        """Raise the first failure when no case at all was done: then it rarely is the case's own."""
        if self.errors and not done:
            raise next(iter(self.errors.values()))

    @property
    def messages(self) -> dict[str, str]:
        """The failed cases in order of name, and why each failed."""
        return {case: str(self.errors[case]) for case in sorted(self.errors)}
