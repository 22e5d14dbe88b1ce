"""Who may enter: a token for all, or users with argon2 hashes; sessions, and a limit on failures."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.errors import AttunetError, ConfigError, FormatError
from attunet.files import write_text

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["Access", "DeniedError", "TooManyFailuresError", "add_user"]

SESSION_SECONDS = 12 * 3600
MOST_SESSIONS = 10_000
FAILURES, WINDOW = 10, 300.0
"""Failures of one address within so many seconds after which it has to wait."""
MOST_ADDRESSES = 10_000
ANYBODY = "anybody"
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class DeniedError(AttunetError):
    """A request without a valid password."""


class TooManyFailuresError(AttunetError):
    """An address that guesses passwords."""


class Access:
    """The passwords and sessions of a server.

    Args:
        token: the password of every client; None for none.
        users: file with a line NAME:HASH for each user; None for none.
        clock: seconds of a clock that never jumps.
    Raises: ConfigError for a file that holds something else.
    """

    def __init__(
        self, token: str | None = None, users: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = None if token is None else _digest(token)
        self._users = {} if users is None else _read_users(users)
        self._clock = clock
        self._sessions: dict[bytes, tuple[str, float]] = {}
        self._failures: dict[str, list[float]] = {}
        self._lock, self._hashing = threading.Lock(), threading.Semaphore(2)  # each hash takes 64 MB
        self._absent_user = "" if not self._users else _hasher().hash(secrets.token_hex())

    @property
    def closed(self) -> bool:
        """Whether anybody needs a password."""
        return self._token is not None or bool(self._users)

    def who(self, credential: str | None, address: str) -> str:
        """Who sent a token or the secret of a session.

        Args: what was sent; the address that it came from.
        Returns: the name of the user.
        Raises: DeniedError when it is not valid, TooManyFailuresError as `login`.
        """
        if not self.closed:
            return ANYBODY
        if credential is None:
            raise DeniedError("this needs a password", hint=_LOGIN)
        self._check_failures(address)
        digest = _digest(credential)
        if self._token is not None and hmac.compare_digest(digest, self._token):
            return "token"
        with self._lock:
            name, until = self._sessions.get(digest, ("", 0.0))
        if until > self._clock():
            return name
        self._failed(address)
        raise DeniedError("the token or session is not valid", hint=_LOGIN)

    def login(self, name: str, password: str, address: str) -> str:
        """Begin a session.

        Args:
            name: name of the user; any when there is a token for all.
            password: the password, or the token.
            address: where the request came from.
        Returns: the secret of the session.
        Raises: DeniedError when they do not fit, TooManyFailuresError when the address has failed too often.
        """
        self._check_failures(address)
        known = self._token is not None and hmac.compare_digest(_digest(password), self._token)
        if known:
            name = "token"
        elif self._users:
            known = self._verified(name, password)
        if not known and self.closed:
            self._failed(address)
            raise DeniedError("the name or the password is wrong", hint=_LOGIN)
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._sessions = {key: entry for key, entry in self._sessions.items() if entry[1] > now}
            while len(self._sessions) >= MOST_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[_digest(secret)] = name if self.closed else ANYBODY, now + SESSION_SECONDS
        return secret

    def logout(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(secret), None)

    def _verified(self, name: str, password: str) -> bool:
        """Whether a password is that of a user; an unknown user takes as long as a wrong password."""
        from argon2.exceptions import InvalidHashError, VerificationError

        stored = self._users.get(name)
        with self._hashing:
            try:
                return _hasher().verify(stored or self._absent_user, password) and stored is not None
            except (VerificationError, InvalidHashError):
                return False

    def _check_failures(self, address: str) -> None:
        with self._lock:
            recent = [moment for moment in self._failures.get(address, ()) if moment > self._clock() - WINDOW]
        if len(recent) >= FAILURES:
            raise TooManyFailuresError(
                f"{len(recent)} wrong passwords came from this address", hint=f"wait {WINDOW:.0f} seconds"
            )

    def _failed(self, address: str) -> None:
        with self._lock:
            now = self._clock()
            if len(self._failures) >= MOST_ADDRESSES:
                self._failures = {key: times for key, times in self._failures.items() if times[-1] > now - WINDOW}
            times = self._failures.setdefault(address, [])
            times[:] = [moment for moment in times if moment > now - WINDOW] + [now]


def add_user(file: Path, name: str, password: str) -> None:
    """Add a user to a file, or change a password.

    Args:
        file: the file, which is made if it is missing.
        name: the name.
        password: the password.
    Raises: ConfigError for a name or password that cannot be used.
    """
    if not _USER.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a user", hint="use letters, digits, points and hyphens")
    if len(password) < 8:
        raise ConfigError("the password has fewer than 8 characters", hint="choose a longer one")
    users = (_read_users(file) if file.exists() else {}) | {name: _hasher().hash(password)}
    write_text(file, "".join(f"{user}:{hashed}\n" for user, hashed in users.items()))
    file.chmod(0o600)


_LOGIN = "send Authorization: Bearer TOKEN, or log in"


def _read_users(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {file}", hint="check its permissions") from error
    users = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.strip().partition(":")
        if not _USER.fullmatch(name) or not hashed.startswith("$argon2"):
            raise ConfigError(
                f"{file}, line {number} is not NAME:HASH with a hash of argon2",
                hint="add users with: attunet serve --users FILE --add-user NAME",
            )
        users[name] = hashed
    if not users:
        raise ConfigError(f"{file} names no user", hint="add one with: attunet serve --users FILE --add-user NAME")
    return users


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


def _digest(text: str) -> bytes:
    """Secrets are compared and kept as hashes, so that their lengths tell nothing."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
