"""The errors of attunet; each says what was given, what was expected and what to do.

AttunetError
├── ConfigError      a setting, recipe or flag that cannot be used
├── DataError        a file or array whose content cannot be used
│   ├── FormatError      a file that cannot be read or written
│   ├── GeometryError    grids that do not belong together
│   └── LabelError       label values that make no sense
├── DatasetError     a folder in which no usable cases are found
├── BundleError      a model folder that is incomplete, unfinished or altered
├── BusyError        a folder that another program is using
├── EngineError      a device, an engine or an optional package that cannot be used
├── NetworkError     a peer that cannot be reached, or answers with a failure
│   └── RefusedError     a peer that will not take this, however often it is asked
├── TrainingError    training that cannot continue
└── CancelledError   a call that its caller cancelled
"""

__all__ = [
    "AttunetError",
    "BundleError",
    "BusyError",
    "CancelledError",
    "ConfigError",
    "DataError",
    "DatasetError",
    "EngineError",
    "FormatError",
    "GeometryError",
    "LabelError",
    "NetworkError",
    "RefusedError",
    "TrainingError",
    "first_line",
    "last_line",
]

LONGEST_MESSAGE = 2000


class AttunetError(Exception):
    """Base of every error a user can cause or repair.

    Args: the message (what was given and what was expected) and a hint (what to do about it).
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        # a name or value of a file may be of any length
        self.message = message if len(message) <= LONGEST_MESSAGE else message[:LONGEST_MESSAGE] + " …"
        self.hint = hint
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def _rebuild(kind: type[AttunetError], message: str, hint: str) -> AttunetError:
    return kind(message, hint=hint)


class ConfigError(AttunetError):
    """A setting, recipe or flag that cannot be used."""


class DataError(AttunetError):
    """A file or array whose content cannot be used."""


class FormatError(DataError):
    """A file that cannot be read or written."""


class GeometryError(DataError):
    """Grids that do not belong together."""


class LabelError(DataError):
    """Label values that make no sense."""


class DatasetError(AttunetError):
    """A folder in which no usable cases are found."""


class BundleError(AttunetError):
    """A model folder that is incomplete, unfinished or altered."""


class BusyError(AttunetError):
    """A folder that another program is using."""


class EngineError(AttunetError):
    """A device, an engine or an optional package that cannot be used."""


class NetworkError(AttunetError):
    """A peer that cannot be reached, or answers with a failure; asking again later may help."""


class RefusedError(NetworkError):
    """A peer that will not take this, however often it is asked."""


class TrainingError(AttunetError):
    """Training that cannot continue."""


class CancelledError(AttunetError):
    """A call that its caller cancelled."""


def first_line(error: BaseException) -> str:
    """First line of an error's message that is not blank; the name of its type when there is none."""
    return next(iter(_lines(error)), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Last line of an error's message that is not blank, which in C++ libraries follows the place in their source."""
    return next(reversed(_lines(error)), type(error).__name__)


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]
