"""Connections that end when a client does not finish the headers of a request, for which uvicorn would wait."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["limited_protocol"]


class _LimitedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time between requests, within which the headers of the next one have to come.

    An answer may take any time, and bodies are limited by whoever reads them; what is left of a body that nobody read
    counts as time between requests.
    """

    header_seconds = 20.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Start the time where no request is being answered, and stop it where one is."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._limit is None and not self.transport.is_closing():
            self._limit = self.loop.call_later(self.header_seconds, self.transport.close)

    def _stop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def limited_protocol(header_seconds: float) -> type[asyncio.Protocol]:
    """A protocol for uvicorn. Args: seconds within which the headers of a request have to come."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"header_seconds": header_seconds})
