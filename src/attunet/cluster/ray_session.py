"""A connection to Ray: to a cluster that runs already, or to one that lives and ends with this program.

One that is started here has a token of its own, because Ray listens on all addresses of a machine (it has no option for
loopback on Linux). Its files are in a private folder, and are removed with it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from attunet.data.slabs import available_cores
from attunet.errors import EngineError, first_line

__all__ = ["RayNode", "RaySession"]

_log = logging.getLogger(__name__)

_STORE = 128 * 2**20
"""Object store of a cluster that is started here: results go through the disk, and paths are small."""

_OWN = {
    "RAY_AUTH_MODE": "token",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_raylet_start_wait_time_s": "120",
}
"""Environment of the processes of a cluster that is started here."""


@dataclass(frozen=True, kw_only=True)
class RayNode:
    """A machine of a cluster.

    Args:
        id: how Ray names it.
        name: how people name it, unique in the cluster.
        cpus: its cores, as it offers them.
        gpus: its GPUs.
        memory: the bytes that it offers to workers.
    """

    id: str
    name: str
    cpus: float
    gpus: float
    memory: int


class RaySession:
    """Ray, connected.

    Args:
        address: of a running cluster ("auto", host:port, ray://host:port); None starts one on this machine.
    Attributes: ray, the package.
    Raises: EngineError when Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, address: str | None = None) -> None:
        self._stack = ExitStack()
        try:
            how = self._private() if address is None else {"address": address}
            self.ray = _import_ray()
            if not self.ray.is_initialized():
                self._stack.callback(self.ray.shutdown)  # the last callback runs first
                self.ray.init(**how, **_QUIET)
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception) or isinstance(error, EngineError):
                raise
            where = f"to the Ray cluster at {address}" if address else "to Ray on this machine"
            raise EngineError(
                f"cannot connect {where}: {first_line(error)}",
                hint="check --address, and that versions of Ray and Python are the same on all machines"
                if address
                else "check that /tmp and /dev/shm have room",
            ) from error

    def nodes(self) -> list[RayNode]:
        """The machines that are alive."""
        return [
            RayNode(
                id=row["NodeID"],
                name=f"{row['NodeManagerHostname']}-{row['NodeID'][:6]}",
                cpus=row["Resources"].get("CPU", 0.0),
                gpus=row["Resources"].get("GPU", 0.0),
                memory=int(row["Resources"].get("memory", 0)),
            )
            for row in self.ray.nodes()
            if row["Alive"]
        ]

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends, and leaves no process and no file."""
        self._stack.close()

    def _private(self) -> dict[str, Any]:
        """How a cluster is started that only this program uses."""
        home = _short_folder()
        _remove_abandoned_folders(home)
        folder = tempfile.mkdtemp(prefix=f"attunet-ray-{os.getpid()}-", dir=home)
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # Ray reads them when it is imported, and once: what a program has imported before keeps Ray's own settings.
        if "ray" not in sys.modules or _token.cache_info().currsize:
            for name, value in {**_OWN, "RAY_AUTH_TOKEN": _token()}.items():
                self._stack.callback(_restore, name, os.environ.get(name))
                os.environ[name] = value
        return {
            "_temp_dir": folder,
            "include_dashboard": False,
            "object_store_memory": _STORE,
            "num_cpus": len(available_cores()),
        }


_QUIET: dict[str, Any] = {
    "configure_logging": False,
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "namespace": "attunet",
}


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise EngineError("--engine ray needs Ray", hint='install it with: pip install "attunet[cluster]"') from error
    # Ray prints what its nodes report on standard output, where our results go, and has no option against it.
    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = _log_report
    return ray


def _log_report(data: dict[str, Any], *_how: Any, **_named: Any) -> None:
    for line in data.get("lines", ()):
        _log.info("%s", line)


@cache
def _token() -> str:
    """The token of every cluster that this process starts."""
    return os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)


def _short_folder() -> Path:
    """Sockets have short paths: /tmp, whatever TMPDIR is, where it can be written to."""
    folder = Path("/tmp")
    return folder if os.access(folder, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _remove_abandoned_folders(home: Path) -> None:
    """Remove the private folders of programs that were killed."""
    for folder in home.glob("attunet-ray-*-*"):
        process = folder.name.split("-")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
