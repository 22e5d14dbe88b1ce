"""Reading in a child process, where a crash, a hang or gigabytes of memory cost one input."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from mutations import Files

LONGEST_SECONDS = 20.0
LARGEST_MB = 1000
ADDRESS_SPACE = 24 << 30  # OpenVINO and torch reserve much that they do not use
READ, REFUSED = "read", "refused"
MEMORY = Path("/dev/shm")
PACKAGE = "attunet" + os.sep


class Child:
    """A process that reads inputs, started again when one ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._root = Path(tempfile.mkdtemp(prefix="attunet-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))

    def read(self, target: str, files: Files) -> str:
        """What becomes of an input: `READ`, `REFUSED`, or the kind of finding in a few words.

        Args:
            target: name of the target.
            files: name of each file, relative to its folder, to its content.
        Returns: what became of it.
        """
        folder = self._root / "input"
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        process = self._running()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(f"{target}\t{folder}\n".encode())
            process.stdin.flush()
        except OSError:
            return self._ended(process)
        if not select.select([process.stdout], [], [], LONGEST_SECONDS)[0]:
            self.close(keep=True)
            return f"more than {LONGEST_SECONDS:.0f} seconds"
        return process.stdout.readline().decode("utf-8", "replace").strip() or self._ended(process)

    def close(self, *, keep: bool = False) -> None:
        """End the process; `keep` only its folder."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if not keep:
            shutil.rmtree(self._root, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, __file__]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, cwd=self._root
            )
            assert self._process.stdout
            self._process.stdout.readline()  # everything is imported
        return self._process

    def _ended(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait()
        self._process = None
        return f"the process ended by signal {-code}" if code < 0 else f"the process ended with {code}"


def serve() -> None:
    """Read the inputs that are named on standard input, and say on standard output what became of each."""
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    from targets import TARGETS, Target

    from attunet.data.formats import isolation

    targets: dict[str, Target] = {target.name: target for target in TARGETS}
    isolation.SECONDS = 5
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name, folder = line.rstrip("\n").split("\t")
        print(_outcome(targets[name], Path(folder)), file=answers, flush=True)


def _outcome(target: object, folder: Path) -> str:
    from attunet.errors import AttunetError

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _megabytes("VmRSS")
    try:
        target.read(folder / target.main)  # type: ignore[attr-defined]
        outcome = READ
    except AttunetError as error:
        outcome = REFUSED
        if not isinstance(error.message, str) or len(str(error)) > 5000:
            outcome = f"a message of {len(str(error))} letters"
    except BaseException as error:
        outcome = f"{type(error).__name__} at {_place(error)}"
    taken = _megabytes("VmHWM") - before
    return f"{taken // 100 * 100} MB of memory" if taken > LARGEST_MB else outcome


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in frame.filename]
    return f"{frames[-1].filename.rpartition(PACKAGE)[2]}:{frames[-1].lineno}" if frames else "no line of ours"


def _megabytes(field: str) -> int:
    with contextlib.suppress(OSError):
        found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(found[1]) // 1024 if found else 0
    return 0


if __name__ == "__main__":
    serve()
