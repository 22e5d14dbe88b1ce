"""OpenVINO graphs with convolutions in 8-bit integers, made by NNCF in a process of its own.

NNCF opens further cores of OpenVINO. When one of them is destroyed, a later Ctrl-C may run on freed memory (see
`openvino_core`), so none of them exists in the process of a training or an export. A process can also be ended when its
time is over.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from attunet.errors import AttunetError, EngineError, first_line, last_line
from attunet.files import staged
from attunet.inference.engines.openvino_engine import read_graph

__all__ = ["has_nncf", "require_nncf", "write_int8_graph"]

Floats = npt.NDArray[np.float32]

INSTALL = 'pip install "attunet[int8]"'


def has_nncf() -> bool:
    """Whether the int8 extra is installed."""
    return find_spec("nncf") is not None


def require_nncf() -> None:
    """Raises: EngineError when the int8 extra is not installed."""
    if not has_nncf():
        raise EngineError("8-bit integers need nncf", hint=f"install it with: {INSTALL}")


def write_int8_graph(graph: Path, patches: Sequence[Floats], target: Path, *, seconds: float | None = None) -> None:
    """Write a graph with convolutions in 8-bit integers.

    The multiplications by the gates stay as they are: they cost little, and the attention can still be replaced.

    Args:
        graph: the graph to quantize.
        patches: (1, C, *patch), which set the ranges of the integers.
        target: the .xml to write; its weights are written next to it.
        seconds: time limit; None for none.
    Raises: EngineError without nncf, when it fails, or when the time is over; nothing is written then.
    """
    require_nncf()
    with TemporaryDirectory() as folder:
        saved = Path(folder) / "patches.npy"
        np.save(saved, np.stack(patches), allow_pickle=False)
        asked = json.dumps({"graph": str(graph.absolute()), "patches": str(saved), "target": str(target.absolute())})
        # -P: nothing is imported from the working directory, which may be that of the data
        command = [sys.executable, "-P", "-m", __name__, asked]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"quantization took longer than {seconds:.0f} s") from None
        except OSError as error:  # such as Python within another program, which has no executable
            raise EngineError(f"no process could be started to quantize the graph: {first_line(error)}") from error
    if done.returncode or not target.is_file():
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1][:300] if said else f"exit code {done.returncode}"
        for path in (graph.absolute(), target.absolute()):  # the message is kept with the model
            reason = reason.replace(str(path.parent), "…")
        raise EngineError(f"the graph cannot be quantized: {reason}")


def _quantize(graph: Path, patches: Path, target: Path) -> None:
    """The work of the process."""
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    samples = list(np.load(patches, allow_pickle=False))
    quantized = nncf.quantize(
        read_graph(graph),
        nncf.Dataset(samples),
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(types=["Multiply"], validate=False),
    )
    with staged(target) as path:
        ov.save_model(quantized, path, compress_to_fp16=False)


if __name__ == "__main__":
    try:
        _quantize(**{name: Path(path) for name, path in json.loads(sys.argv[1]).items()})
    except Exception as error:  # its last line becomes the message of the caller's error
        sys.exit(error.message if isinstance(error, AttunetError) else last_line(error))
