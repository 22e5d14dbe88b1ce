"""Checks of a graph file before an engine reads it: it must not lead to other files, or to code.

ONNX lets every tensor name a file that holds its values, wherever it is; an engine would read it. An OpenVINO graph
may name operations of extensions, and places in graph.bin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

from attunet.errors import BundleError

__all__ = ["check_onnx", "check_openvino"]

_PARTS: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node", 11: "attribute"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "node": {5: "attribute"},
        "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
        "sparse": {1: "tensor", 2: "tensor"},
    }
)
"""The messages of onnx.proto that may contain tensors: field number to the kind of message."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""The fields of a tensor that place its values in another file."""

_STANDARD = re.compile(r"opset\d+")
_HINT = "do not use this model, or export it again from the trained run"


def check_onnx(content: bytes, path: Path) -> None:
    """Refuse an ONNX graph whose tensors are in other files.

    Args: the bytes of the file; its path, for the message.
    Raises: BundleError for such a graph, and for a file that is not ONNX.
    """
    view, waiting = memoryview(content), [("model", 0, len(content))]
    try:
        while waiting:
            kind, start, end = waiting.pop()
            for field, value in _fields(view, start, end):
                if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
                    raise BundleError(f"{path} keeps its weights in other files, expected one file", hint=_HINT)
                inner = _PARTS.get(kind, {}).get(field)
                if inner is not None:
                    if not isinstance(value, tuple):
                        raise ValueError(f"field {field} of a {kind} is not a message")
                    waiting.append((inner, *value))
    except (ValueError, IndexError) as error:
        raise BundleError(f"{path} is not a readable ONNX graph: {error}", hint="export it again") from error


def check_openvino(text: bytes, weights: int, path: Path) -> None:
    """Refuse an OpenVINO graph with operations of extensions, entities, or places outside of its weights.

    Args:
        text: the bytes of graph.xml.
        weights: size of graph.bin in bytes.
        path: the graph, for the message.
    Raises: BundleError for such a graph, and for a file that is not XML.
    """
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise BundleError(f"{path} declares entities, which no graph needs", hint=_HINT)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BundleError(f"{path} is not a readable OpenVINO graph: {error}", hint="export it again") from error
    for layer in root.iter("layer"):
        kind, origin = layer.get("type", ""), layer.get("version", "")
        if not _STANDARD.fullmatch(origin):
            raise BundleError(f"{path} uses {kind!r} of the extension {origin!r}, which is never loaded", hint=_HINT)
        for data in layer.findall("data"):
            start, size = (_size(data.get(key, "0")) for key in ("offset", "size"))
            if kind == "Const" and not 0 <= start <= start + size <= weights:
                raise BundleError(f"{path} has weights outside of its {weights} bytes", hint="export it again")


def _size(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """The fields of a protobuf message: number, and value, or start and end of its bytes."""
    while start < end:
        key, start = _varint(view, start)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, start = _varint(view, start)
            yield field, value
            continue
        if wire == 2:
            length, start = _varint(view, start)
        else:
            length = {1: 8, 5: 4}.get(wire, -1)
        if not 0 <= length <= end - start:
            raise ValueError(f"a field of {length} bytes at byte {start}")
        yield field, (start, start + length)
        start += length


def _varint(view: memoryview, start: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError(f"a number without end at byte {start}")
