"""The ONNX Runtime engine: the network from model.onnx, on the CPU, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import core_limit
from attunet.errors import BundleError, DataError, EngineError, first_line
from attunet.forks import PerProcess, forked
from attunet.inference.engines.graph_files import check_onnx
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.protocol import EngineOutput

__all__ = ["ONNXEngine"]

Floats = npt.NDArray[np.float32]


class ONNXEngine:
    """The network's ONNX graph in ONNX Runtime, fp32 on the CPU; may be called from several threads.

    ONNX Runtime cannot change a graph: when coefficients are replaced, OpenVINO runs the same file.
    Args:
        graph: path of a fold's model.onnx.
        shape: (C, *patch) of its input.
        batch: number of windows per call.
        threads: number of threads; 0 for one per core that the process may use.
        read: reads the file; a model's files are read through `FoldFiles.read`, which checks them.
    Raises: EngineError when onnxruntime is not installed, BundleError when the graph cannot be read, or would read
        other files.
    """

    def __init__(
        self,
        graph: Path,
        shape: tuple[int, ...],
        *,
        batch: int = 2,
        threads: int = 0,
        read: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        self._shape = shape
        self._session = PerProcess(
            lambda: _started(_session(graph, threads or core_limit() or 0, read), (batch, *shape))
        )
        # Built on first use, because ordinary predictions do not need it.
        self._steered = PerProcess(lambda: OpenVINOEngine(graph, shape, batch=batch, precision="fp32", read=read))
        self._outputs = [output.name for output in self._session.get().get_outputs()]
        self.batch = batch
        self.name = "onnxruntime cpu fp32"

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """See `Engine`."""
        if attention:
            return self._steered.get()(patches, attention)
        if patches.shape[1:] != self._shape:
            raise DataError(f"patches have shape {patches.shape[1:]}, expected {self._shape}")
        image = np.ascontiguousarray(patches, np.float32)
        try:
            outputs = dict(zip(self._outputs, self._session.get().run(self._outputs, {"image": image}), strict=True))
            return EngineOutput(outputs.pop("logits"), outputs)
        except Exception as error:  # its errors share no base class; a graph of another program has other names
            raise EngineError(
                f"ONNX Runtime cannot run the graph: {first_line(error)[:300]}",
                hint="write it again with attunet export",
            ) from error


def _started(session: Any, shape: tuple[int, ...]) -> Any:
    """The session; in a forked process it has run once, which shows whether it answers."""
    if forked():
        session.run(None, {"image": np.zeros(shape, np.float32)})
    return session


def _session(graph: Path, threads: int, read: Callable[[Path], bytes]) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"{graph} needs onnxruntime, which is not installed", hint='install it with: pip install "attunet[onnx]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take the cores from the case that is read or written meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        content = read(graph)  # from memory: not a file that may change meanwhile, and no other file beside it
        check_onnx(content, graph)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except BundleError:
        raise
    except Exception as error:  # its errors share no base class
        raise BundleError(
            f"{graph} cannot be read by ONNX Runtime: {first_line(error)}", hint="export it again"
        ) from error
