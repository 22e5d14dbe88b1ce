"""The OpenVINO engine: the network from its graph, on the CPU, without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import core_limit
from attunet.errors import BundleError, DataError, EngineError, last_line
from attunet.forks import PerProcess, forked
from attunet.inference.engines.graph import accept_attention, gate_outputs, input_names, shuffle_weights
from attunet.inference.engines.graph_files import check_onnx, check_openvino
from attunet.inference.engines.protocol import EngineOutput
from attunet.planning.hardware import cpu_precision, openvino_core

__all__ = ["OpenVINOEngine", "read_graph"]

Floats = npt.NDArray[np.float32]
Inputs = dict[int | str, npt.NDArray[Any]]


class OpenVINOEngine:
    """The network's OpenVINO graph on the CPU, in bf16 if the CPU has it; may be called from several threads.

    Args:
        graph: path of a fold's graph.xml, whose weights are in graph.bin, or model.onnx.
        shape: (C, *patch) of its input.
        batch: number of windows per call, each on its own share of the cores, so that they do not wait for each other.
        precision: "auto", "fp32" or "bf16"; "auto" is bf16 if the CPU has it.
        shuffle: a seed to shuffle the weights with; None leaves them as they are.
        read: reads the files; a model's files are read through `FoldFiles.read`, which checks them.
    Raises: BundleError when the graph cannot be read, or would read other files.
    """

    def __init__(
        self,
        graph: Path,
        shape: tuple[int, ...],
        *,
        batch: int = 2,
        precision: str = "auto",
        shuffle: int | None = None,
        read: Callable[[Path], bytes] = Path.read_bytes,
    ) -> None:
        self._model = read_graph(graph, read)
        _reshape(self._model, graph, shape)
        self.precision = cpu_precision() if precision == "auto" else precision
        self.name = f"openvino cpu {'int8' if _is_quantized(self._model) else self.precision}"
        if shuffle is not None:
            shuffle_weights(self._model, shuffle)
            self.name += f", weights shuffled with seed {shuffle}"
        self.batch = batch
        self._gates = {gate: tuple(port.get_shape())[1:] for gate, port in gate_outputs(self._model).items()}
        self._plain = PerProcess(lambda: _Compiled(self._model, self.precision, batch).started(shape))
        # Compiled on first use, because ordinary predictions do not need it.
        self._steered = PerProcess(lambda: _AttentionOverride(self._model.clone(), self.precision, batch))
        self._plain.get()

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """See `Engine`."""
        given = self._checked(attention or {}, len(patches))
        # Kept by name until the end: the requests read from them while they run.
        inputs: list[Inputs] = [{0: np.ascontiguousarray(patch[None])} for patch in patches]
        compiled = self._plain.get()
        if given:
            compiled = steered = self._steered.get()
            for index, window in enumerate(inputs):
                window |= steered.inputs({gate: alpha[index] for gate, alpha in given.items()})
        requests = compiled.run(inputs)
        alphas = {gate: given[gate] if gate in given else _gathered(requests, gate) for gate in self._gates}
        return EngineOutput(_gathered(requests, "logits"), alphas)

    def _checked(self, attention: Mapping[str, Floats], count: int) -> dict[str, Floats]:
        for gate, alpha in attention.items():
            if gate not in self._gates:
                known = ", ".join(sorted(self._gates)) or "none"
                raise DataError(f"attention was given for {gate!r}, the gates are: {known}", hint="use one of these")
            expected = (count, *self._gates[gate])
            if np.shape(alpha) != expected:
                raise DataError(f"attention of {gate} has shape {np.shape(alpha)}, expected {expected}")
        return {gate: np.asarray(alpha, np.float32) for gate, alpha in attention.items()}


class _Compiled:
    """A compiled graph, and for each thread its own inference requests, one per window of a call."""

    def __init__(self, model: Any, precision: str, batch: int) -> None:
        kind = {"bf16": "bf16", "fp32": "f32"}[precision]
        # Pinned threads would queue behind other programs on their core while another core is free.
        settings = {"INFERENCE_PRECISION_HINT": kind, "NUM_STREAMS": batch, "ENABLE_CPU_PINNING": False}
        if (limit := core_limit()) is not None:
            settings["INFERENCE_NUM_THREADS"] = limit
        try:
            self._compiled = openvino_core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot compile the graph: {last_line(error)[:300]}",
                hint="write it again with attunet export",
            ) from error
        self._batch = batch
        self._own = threading.local()

    def started(self, shape: tuple[int, ...]) -> Self:
        """This graph; in a forked process it has run once, which shows whether it answers."""
        if forked():
            self.run([{0: np.zeros((1, *shape), np.float32)}] * self._batch)
        return self

    def run(self, inputs: Sequence[Inputs]) -> list[Any]:
        """The requests with the outputs of these windows, valid until the thread's next call."""
        if not hasattr(self._own, "requests"):
            self._own.requests = [self._compiled.create_infer_request() for _ in range(self._batch)]
        requests = list(self._own.requests[: len(inputs)])
        try:
            for request, window in zip(requests, inputs, strict=True):
                request.start_async(window, share_inputs=True)
            for request in requests:
                request.wait()
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot run the graph: {last_line(error)[:300]}", hint="write it again with attunet export"
            ) from error
        return requests


class _AttentionOverride(_Compiled):
    """The graph with the coefficients of its gates as additional inputs."""

    def __init__(self, model: Any, precision: str, batch: int) -> None:
        self._grids = accept_attention(model)
        super().__init__(model, precision, batch)

    def inputs(self, given: Mapping[str, Floats]) -> Inputs:
        """The inputs for one window: the maps (maps, *level grid) of the given gates, and a switch for each gate."""
        inputs: Inputs = {}
        for gate, (maps, *grid) in self._grids.items():
            alpha = given.get(gate, np.zeros((maps, *(1 for _ in grid)), np.float32))
            # A padded patch has coefficients beyond its end, which are not returned.
            beyond = [(0, size - length) for size, length in zip(grid, alpha.shape[1:], strict=True)]
            grown = np.pad(alpha, [(0, 0), *beyond], mode="edge")
            condition, names = input_names(gate, maps)
            inputs[condition] = np.array([gate in given])
            inputs |= {
                name: np.ascontiguousarray(values[None, None]) for name, values in zip(names, grown, strict=True)
            }
        return inputs


def read_graph(graph: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> Any:
    """The model of graph.xml and its graph.bin, or of model.onnx, from memory.

    OpenVINO would map the weights otherwise: a file that shrinks meanwhile ends the process, and one that is
    overwritten changes the network.

    Args: the file; how it is read.
    Raises: BundleError when it cannot be read, or would read other files.
    """
    try:
        if graph.suffix == ".onnx":
            content = read(graph)
            check_onnx(content, graph)
            return openvino_core().read_model(content)
        text, weights = read(graph), read(graph.with_suffix(".bin"))
        check_openvino(text, len(weights), graph)
        return openvino_core().read_model(text, weights)
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{graph} cannot be read by OpenVINO: {last_line(error)}", hint="export it again") from error


def _reshape(model: Any, graph: Path, shape: tuple[int, ...]) -> None:
    """Fix the input to one window of that shape. Raises: BundleError."""
    try:
        model.reshape([1, *shape])
    except RuntimeError as error:
        raise BundleError(f"{graph} cannot be read by OpenVINO: {last_line(error)}", hint="export it again") from error


def _is_quantized(model: Any) -> bool:
    """Whether most of the graph computes in 8-bit integers; the rest uses the engine's precision."""
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def _gathered(requests: list[Any], output: str) -> Floats:
    """One output of all requests, copied because the next call overwrites it."""
    return np.concatenate([np.asarray(request.get_tensor(output).data, np.float32) for request in requests])
