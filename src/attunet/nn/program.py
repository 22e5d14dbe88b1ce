"""The weights in a program of torch.export (model.pt2), read without running anything.

`torch.export.load` unpickles example inputs and constants, so that a program of a stranger runs their code. Its weights
are plain bytes, described by JSON; our own network, made from the plan, computes the same with them.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attunet.errors import BundleError

__all__ = ["read_program"]

_CONFIG = "data/weights/model_weights_config.json"
_STATE = "serialized_state_dict.pt"
"""The weights in programs of torch before 2.8."""

_TYPES = {5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64, 13: torch.bfloat16}
"""The numbers of torch's export schema."""

_MODULE = "network."
"""Name of the network in the exported module, see `NamedOutputs`."""


def read_program(content: bytes, path: Path) -> dict[str, Tensor]:
    """The weights of an exported network by their names in its state dict.

    Args: the bytes of model.pt2; the file, for messages.
    Raises: BundleError when it is not such a program, or its weights are not plain.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            weights = _weights(archive, len(content))
        return {name.removeprefix(_MODULE): tensor for name, tensor in weights.items()}
    except (
        *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, NotImplementedError, RecursionError),
        *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    ) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BundleError(
            f"the weights of {path} cannot be read: {reason}", hint="export it again from the trained run"
        ) from error


def _weights(archive: zipfile.ZipFile, size: int) -> dict[str, Tensor]:
    parts = {"/".join(name.split("/")[1:]) or name: name for name in archive.namelist()}
    if _CONFIG not in parts:
        return _earlier(_part(archive, _STATE, size))
    config: Mapping[str, Mapping[str, Any]] = json.loads(_part(archive, parts[_CONFIG], size))["config"]
    files = {name: parts[f"data/weights/{entry['path_name']}"] for name, entry in config.items()}
    if sum(archive.getinfo(file).file_size for file in files.values()) > size:
        raise ValueError("they are larger than the file")
    return {name: _tensor(entry, archive.read(files[name])) for name, entry in config.items()}


def _part(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """One file of the archive, which torch stores uncompressed."""
    if archive.getinfo(name).file_size > size:
        raise ValueError(f"{name} is larger than the file")
    return archive.read(name)


def _tensor(entry: Mapping[str, Any], content: bytes) -> Tensor:
    if entry["use_pickle"]:
        raise ValueError("they are pickled")
    meta = entry["tensor_meta"]
    shape, strides = ([int(axis["as_int"]) for axis in meta[key]] for key in ("sizes", "strides"))
    kind = _TYPES[meta["dtype"]]
    if min(shape, default=1) < 0 or math.prod(shape) * kind.itemsize > len(content):
        raise ValueError(f"{len(content)} bytes do not hold the shape {shape}")
    values = torch.frombuffer(bytearray(content), dtype=kind)
    return values.as_strided(shape, strides, int(meta["storage_offset"]["as_int"]))


def _earlier(content: bytes) -> dict[str, Tensor]:
    weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError("they are not named tensors")
    return weights
