"""Changes to a network's OpenVINO graph in memory: gates whose attention can be replaced, shuffled weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from attunet.errors import EngineError
from attunet.gates import is_level_name

__all__ = ["accept_attention", "gate_outputs", "input_names", "shuffle_weights"]

_CROPS = ("Slice", "StridedSlice", "Convert")
_RESHAPES = ("Convert", "Reshape", "Unsqueeze")
_LAYERS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "BatchNormInference")
_ARITHMETIC = ("Add", "Multiply", "Subtract", "Divide")


def gate_outputs(model: Any) -> dict[str, Any]:
    """The outputs that carry attention, by gate ("level2", ...)."""
    return {name: port for port in model.outputs for name in port.get_names() if is_level_name(name)}


def input_names(gate: str, maps: int) -> tuple[str, list[str]]:
    """The names of the inputs of `accept_attention`: whether a gate's coefficients are given, and each of its maps."""
    return f"{gate}.given", [f"{gate}.{index}" for index in range(1, maps + 1)]


def accept_attention(model: Any) -> dict[str, tuple[int, ...]]:
    """Add inputs to a graph of fixed shape that replace the coefficients of each gate before they are used.

    For every gate there is a boolean, and an input (1, 1, *grid) for each of its maps; see `input_names`. By default
    the gate computes its coefficients.
    Returns: (maps, *grid) by gate. The grid is the one on which the skip is multiplied; it is larger than that of the
        gate's output if the patch was padded.
    Raises: EngineError when the multiplication by a gate's coefficients is not found.
    """
    from openvino import Type, opset13

    grids = {}
    for gate, port in gate_outputs(model).items():
        alphas = _maps(port.get_node().input_value(0))
        switch = opset13.parameter([1], Type.boolean)
        given = [_replaced(alpha, switch, gate) for alpha in alphas]
        condition, names = input_names(gate, len(alphas))
        for name, parameter in zip((condition, *names), (switch, *given), strict=True):
            parameter.output(0).get_tensor().set_names({name})
        model.add_parameters([switch, *given])
        grids[gate] = (len(alphas), *tuple(alphas[0].get_shape())[2:])
    model.validate_nodes_and_infer_types()
    return grids


def shuffle_weights(model: Any, seed: int) -> None:
    """Permute the values within each weight, bias and norm vector of a graph; deterministic for a given seed.

    The result is an untrained network with the same layers and weights of the same magnitude.
    """
    from openvino import opset13

    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant" and _is_weight(node)]
    for index, constant in enumerate(constants):
        values = np.array(constant.data)
        shuffled = np.random.default_rng([seed, index]).permutation(values.ravel()).reshape(values.shape)
        constant.output(0).replace(opset13.constant(shuffled).output(0))


def _maps(alpha: Any) -> list[Any]:
    """Trace an attention output back to the values that multiply the skip connection, one for each map."""
    node = alpha.get_node()
    if node.get_type_name() in _CROPS:
        return _maps(node.input_value(0))
    if node.get_type_name() == "Concat":
        return [source for value in node.input_values() for source in _maps(value)]
    return [alpha]


def _replaced(alpha: Any, switch: Any, gate: str) -> Any:
    """A new input that replaces alpha for all its consumers when the switch is on."""
    from openvino import opset13

    users = list(alpha.get_target_inputs())
    if not any(user.get_node().get_type_name() == "Multiply" for user in users):
        raise EngineError(
            f"the graph does not show where the attention of {gate} is used",
            hint="write the graph again with this version: train the fold or convert its weights again",
        )
    given = opset13.parameter(list(alpha.get_shape()), alpha.get_element_type())
    chosen = opset13.select(switch, given, alpha)
    for user in users:
        user.replace_source_output(chosen.output(0))
    return given


def _is_weight(constant: Any) -> bool:
    """Whether a constant has several real values that enter a layer, or arithmetic with features (B, C, *spatial)."""
    values = constant.data
    return values.dtype.kind == "f" and values.size > 1 and any(_computes(user) for user in _users(constant))


def _computes(node: Any) -> bool:
    kind = node.get_type_name()
    if kind in _RESHAPES:
        return any(_computes(user) for user in _users(node))
    return kind in _LAYERS or (kind in _ARITHMETIC and len(node.get_output_partial_shape(0)) >= 4)


def _users(node: Any) -> Iterator[Any]:
    return (target.get_node() for target in node.output(0).get_target_inputs())
