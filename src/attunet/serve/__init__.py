"""A server: scans come in over HTTP, are predicted by worker processes, and their results go out; with its client."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from attunet.errors import EngineError

if TYPE_CHECKING:
    from attunet.serve.client import Client
    from attunet.serve.server import serve
    from attunet.serve.settings import ServeSettings

__all__ = ["Client", "ServeSettings", "require_serve", "serve"]

_HOMES = {"Client": "client", "ServeSettings": "settings", "serve": "server"}
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "argon2", "prometheus_client", "httpx")


def require_serve(action: str) -> None:
    """Make sure that the extra is installed. Raises: EngineError that says how to install it."""
    absent = [name for name in _PACKAGES if find_spec(name) is None]
    if absent:
        raise EngineError(f"{action} needs {', '.join(absent)}", hint='install them with: pip install "attunet[serve]"')


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that the client needs no server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"attunet.serve.{_HOMES[name]}"), name)
