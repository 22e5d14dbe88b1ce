"""The ledger of a run: a line of JSON for every change of a case, which survives whatever dies.

The ledger tells what happened, to people and to other programs. What is done is decided by the results alone: a run
starts with the cases whose results are missing, whatever its ledger says.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from attunet.errors import FormatError
from attunet.inference.case_worker import CaseResult

__all__ = ["LEDGER", "Ledger", "LedgerRow", "read_ledger"]

LEDGER = "ledger.jsonl"
"""Name of the ledger in the folder of the results; the parts of a run write ledger-K-of-N.jsonl beside it."""

_AT_ONCE = 1000
"""Rows that are written together."""

State = Literal["queued", "running", "done", "failed", "lost"]


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A change of a case.

    Args:
        case: its name.
        state: queued, running, done, failed (it is not tried again in this run), or lost (its worker or node died).
        time: when, in UTC (ISO 8601).
        tries: how often it was started in this run.
        node: the machine that works on it, or did.
        seconds: time of its own steps.
        peak_bytes: peak memory of the process that predicted it; 0 when unknown.
        error: why it failed or was lost; None when it was not.
        hint: what to do about the error.
        warnings: see `CaseResult`.
        volumes_ml: see `CaseResult`.
        predicted_dice: see `CaseResult`.
        windows: see `CaseResult`.
        mask: see `CaseResult`.
    """

    case: str
    state: State
    time: str = ""
    tries: int = 0
    node: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str | None = None
    hint: str = ""
    warnings: tuple[str, ...] = ()
    volumes_ml: dict[str, float] = field(default_factory=dict)
    predicted_dice: float | None = None
    windows: int = 0
    mask: str | None = None

    @classmethod
    def of(cls, result: CaseResult, *, node: str = "", tries: int = 1, peak_bytes: int = 0) -> Self:
        """The row of a case that ended.

        Args:
            result: its result.
            node: the machine that predicted it.
            tries: how often it was started.
            peak_bytes: peak memory of the process.
        Returns: the row, done or failed.
        """
        return cls(
            case=result.case,
            state="failed" if result.error else "done",
            tries=tries,
            node=node,
            seconds=result.seconds,
            peak_bytes=peak_bytes,
            error=result.error,
            hint=result.hint,
            warnings=result.warnings,
            volumes_ml=result.volumes_ml,
            predicted_dice=result.predicted_dice,
            windows=result.windows,
            mask=result.mask,
        )


class Ledger:
    """Appends rows to a ledger, each on the disk's side of this process before the next is made.

    Args: its file, which is continued if it exists.
    Raises: FormatError when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab", buffering=0)
            if _is_cut_off(path):
                self._stream.write(b"\n")
        except OSError as error:
            raise _unwritable(path, error) from error

    def add(self, *rows: LedgerRow) -> None:
        """Append rows. Raises: FormatError when the disk refuses them."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            lines = [json.dumps({**asdict(row), "time": row.time or now}, ensure_ascii=False) + "\n" for row in some]
            try:
                self._stream.write("".join(lines).encode())
            except OSError as error:
                raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def read_ledger(path: Path) -> dict[str, LedgerRow]:
    """The last row of each case, in the order in which they were first named.

    A line that a kill has cut off is passed over, and so are keys of later versions.
    Raises: FormatError for a file that cannot be read, or that is no ledger.
    """
    rows: dict[str, LedgerRow] = {}
    damaged = 0
    try:
        with path.open("rb") as stream:
            for row in map(_parse, stream):
                damaged += row is None
                if row is not None:
                    rows[row.case] = row
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error
    if damaged and not rows:
        raise FormatError(f"{path} is no ledger of attunet", hint="a ledger has a JSON object on each line")
    return rows


def _parse(line: bytes) -> LedgerRow | None:
    """The row of a line; None for one that is damaged."""
    try:
        content: dict[str, Any] = json.loads(line)
        known = {name: content[name] for name in _NAMES if name in content}
        return LedgerRow(**{**known, "warnings": tuple(known.get("warnings", ()))})
    except (ValueError, TypeError, RecursionError):
        return None


_NAMES = tuple(each.name for each in fields(LedgerRow))


def _is_cut_off(path: Path) -> bool:
    """Whether the last line was cut off by a kill, so that the next one needs a line of its own."""
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def _unwritable(path: Path, error: OSError) -> FormatError:
    return FormatError(
        f"cannot write {path}: {error.strerror or error}", hint="free disk space, or choose another folder"
    )
