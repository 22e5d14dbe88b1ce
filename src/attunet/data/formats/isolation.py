"""Readers of libraries that damaged files can crash or stop, run in a process of their own.

A crash or an endless loop costs this one file then. The process is started for each file, which takes half a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from attunet.data.formats.limits import fill
from attunet.data.formats.series import WHOLE, WhatToRead
from attunet.data.volume import Volume
from attunet.errors import AttunetError, FormatError, first_line

__all__ = ["in_own_process"]

SECONDS = 60
BYTES_PER_SECOND = 5e6
"""The processor time that a file may take: a minute, and a second for every five megabytes."""
PATIENCE = 10
"""Times as long a process may wait, as on a slow disk."""
HINT = "the file may be damaged: copy or export it again, or convert it to .nii.gz"


def in_own_process(read: Callable[[Path, WhatToRead], Volume]) -> Callable[..., Volume]:
    """The same reader of the same file or folder, run in a process of its own.

    Raises: FormatError when the process ends without an answer, or takes too long; what the reader raises.
    """

    def isolated(path: Path, part: WhatToRead = WHOLE) -> Volume:
        if not sys.executable:  # Python within another program
            return read(path, part)
        return _read(f"{read.__module__}:{read.__qualname__}", path, part)

    return isolated


def _read(reader: str, path: Path, part: WhatToRead) -> Volume:
    seconds = SECONDS + int(_size(path) / BYTES_PER_SECOND)
    asked = {"reader": reader, "path": str(path.absolute()), "part": asdict(part), "seconds": seconds}
    # -P: nothing is imported from the working directory, which may be that of the data
    command = [sys.executable, "-P", "-m", __name__, json.dumps(asked)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=pipe, stderr=nothing, env=environment) as process:
        watch = threading.Timer(PATIENCE * seconds, process.kill)
        watch.start()
        try:
            volume = _received(cast(BinaryIO, process.stdout), path)
        finally:
            watch.cancel()
            process.kill()
    if volume is None:
        code = process.returncode
        raise FormatError(f"the library that reads {path} ended without an answer ({_ending(code)})", hint=HINT)
    return volume


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _received(answer: BinaryIO, path: Path) -> Volume | None:
    """The volume or the error that a process sends; None when it sends neither."""
    first = answer.readline()
    if not first.endswith(b"\n"):
        return None
    said: dict[str, Any] = json.loads(first)
    if "message" in said:
        raise FormatError(said["message"], hint=said["hint"])
    array = np.empty(said["shape"], np.dtype(said["dtype"]))
    fill(array, answer, path)
    return Volume(array, np.array(said["affine"]), said["unit"], said["calibrated"])


def _serve(asked: dict[str, Any]) -> None:
    """Read the file that was asked for, and write the volume, or the error, to standard output."""
    with os.fdopen(os.dup(1), "wb") as answer, Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)  # libraries print
        _limit(asked["seconds"])
        path, part = Path(asked["path"]), WhatToRead(**asked["part"])
        module, _, name = asked["reader"].partition(":")
        try:
            volume = getattr(importlib.import_module(module), name)(path, part)
        except AttunetError as error:
            said = {"message": error.message, "hint": error.hint}
        except Exception as error:  # decoders raise any error on damaged bytes
            said = {"message": f"cannot read {path}: {first_line(error)[:300]}", "hint": HINT}
        else:
            facts = {"affine": volume.affine.tolist(), "unit": volume.unit, "calibrated": volume.calibrated}
            said = {"shape": volume.array.shape, "dtype": volume.array.dtype.str, **facts}
            answer.write(json.dumps(said).encode() + b"\n")
            for channel in volume.array:
                answer.write(np.ascontiguousarray(channel).reshape(-1).view(np.uint8).data)
            return
        answer.write(json.dumps(said).encode() + b"\n")


def _limit(seconds: int) -> None:
    """Let the system end this process when it has used this much processor time; where that is possible."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
