"""Weights in files: safetensors for our own, also PyTorch checkpoints for those of others, never pickled code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from attunet.documents import open_regular, reading
from attunet.errors import BundleError, FormatError
from attunet.files import staged
from attunet.nn.foreign import unwrap
from attunet.nn.network import AttentionUNet

__all__ = ["fit_weights", "load_weights", "read_weights", "save_weights"]

_SAFETENSORS = ".safetensors"
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl", ".pickle", ".th", ".model")
_DOWNLOAD = "download it again, from the link to the file itself"
_OTHERS = {
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself with: git lfs pull"),
    b"<!doctype html": ("a web page", _DOWNLOAD),
    b"<html": ("a web page", _DOWNLOAD),
    b"<?xml": ("an XML document, such as an error of a server", _DOWNLOAD),
    b"\x89hdf": ("an HDF5 file, such as weights of Keras", "give weights of PyTorch or safetensors"),
    b"\x1f\x8b": ("a gzip archive", "unpack it, and give the file of weights in it"),
}
"""The first bytes of files that are often taken for weights, what they are, and what to do."""
_AS_FLOAT = "save the state dict of the network in float32, before it is quantized, pruned or packed"
_LEARNED = ("weight", "bias", "running_mean", "running_var")
"""Names of tensors that are floating-point in every network."""
# our checkpoints contain the network twice; the averaged weights are used
_TRAINING = ("averaged.module.", "network.")


def save_weights(network: AttentionUNet, path: Path) -> None:
    """Write the network's parameters and statistics, under its state dict's names, atomically."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with staged(path) as temporary:
        save_file(tensors, temporary)


def load_weights(path: Path, network: AttentionUNet, *, read: Callable[[Path], bytes] = Path.read_bytes) -> None:
    """Load weights written by `save_weights` into a network with the same settings.

    Args:
        path: the file.
        network: receives the weights.
        read: reads the file; a model's files are read through `FoldFiles.read`, which checks them.
    Raises: FormatError for a file that cannot be read, BundleError when names or shapes differ.
    """
    fit_weights(_read_safetensors(path, read), network, path)


def fit_weights(weights: Mapping[str, Tensor], network: AttentionUNet, path: Path) -> None:
    """Put named weights into a network with the same settings.

    Args:
        weights: by the names of the network's state dict.
        network: receives the weights.
        path: their file, for the message.
    Raises: BundleError when names or shapes differ.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(
            f"{path} does not fit the network: {' '.join(str(error).split())[:400]}",
            hint="use the weights and the plan of one and the same model",
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Any network's weights from .safetensors or a PyTorch checkpoint, without its wrappers and prefixes.

    A checkpoint of our own training gives the averaged weights.
    Raises: FormatError for a missing, corrupted or unknown file, one that contains code, and weights that are not
        numbers.
    """
    if path.suffix.lower() not in (_SAFETENSORS, *_CHECKPOINTS):
        known = ", ".join((_SAFETENSORS, *_CHECKPOINTS))
        raise FormatError(f"cannot read weights from {path}", hint=f"expected a file ending in one of {known}")
    kind = _kind(path)
    checkpoint = _read_safetensors(path, Path.read_bytes) if kind == _SAFETENSORS else _read_checkpoint(path)
    if not isinstance(checkpoint, dict):
        raise FormatError(
            f"{path} contains {type(checkpoint).__name__}, expected named weights",
            hint="save model.state_dict() instead",
        )
    with reading(path, hint="save model.state_dict() instead"):
        weights = _of_training(unwrap(checkpoint))
        for key, value in weights.items():
            _check_numbers(key, value, path)
        return weights


def _check_numbers(key: str, value: Tensor, path: Path) -> None:
    """Check that a tensor holds numbers that a network can compute with: integers, copied, would be nonsense."""
    kind = str(value.dtype).removeprefix("torch.")
    if value.layout is not torch.strided or value.is_quantized or value.is_meta or value.is_complex():
        what = "no values" if value.is_meta else kind if value.is_complex() else "sparse or quantized values"
        raise FormatError(f"{key} in {path} holds {what}, expected a dense tensor of real numbers", hint=_AS_FLOAT)
    if not value.is_floating_point():
        if key.rpartition(".")[2] in _LEARNED:
            raise FormatError(f"{key} in {path} holds {kind}, expected floating-point numbers", hint=_AS_FLOAT)
    elif not value.float().isfinite().all():
        raise FormatError(
            f"{key} in {path} contains values that are not numbers: its training diverged",
            hint="use an earlier checkpoint of that training, or other weights",
        )
    elif key.endswith("running_var") and bool((value.float() < 0).any()):
        raise FormatError(f"{key} in {path} contains negative variances", hint="use an undamaged checkpoint")


def _kind(path: Path) -> str:
    """What a file holds, by its content: the suffix of a format, for files that hold weights.

    Raises: FormatError that says what it is, for the files that are often taken for weights.
    """
    with reading(path), open_regular(path) as stream:
        start = stream.read(512)
    for mark, (what, remedy) in _OTHERS.items():
        if start.lstrip()[: len(mark)].lower() == mark:
            raise FormatError(f"{path} is {what}, not weights", hint=remedy)
    if start[:2] == b"PK":
        with reading(path, hint="download or copy it again"):  # zipfile raises more than it says on damaged bytes
            _check_archive(path)
        return ".pth"
    length = int.from_bytes(start[:8], "little")
    is_safetensors = start[8:9] == b"{" and length > 0
    return _SAFETENSORS if is_safetensors or path.suffix.lower() == _SAFETENSORS else ".pth"


def _check_archive(path: Path) -> None:
    """Check that a zip archive is a checkpoint. Raises: FormatError for a truncated one, TorchScript and others."""
    if not zipfile.is_zipfile(path):
        raise FormatError(f"{path} is truncated or damaged: its end is missing", hint="download or copy it again")
    with zipfile.ZipFile(path) as archive:
        names = [name.split("/", 1)[-1] for name in archive.namelist()]
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        raise FormatError(
            f"{path} is a TorchScript program, whose code is never run; expected plain weights",
            hint="load it with torch.jit.load where you trust it, and save model.state_dict()",
        )
    if "data.pkl" not in names:
        raise FormatError(f"{path} is a zip archive, not weights", hint="unpack it, and give the file of weights in it")


def _of_training(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network in a training checkpoint; other weights unchanged."""
    for prefix in _TRAINING:
        if network := {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}:
            return network
    return weights


def _read_safetensors(path: Path, read: Callable[[Path], bytes]) -> dict[str, Tensor]:
    try:
        return load(read(path))  # not mapped: a file that shrinks meanwhile would end the process
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error
    except SafetensorError as error:
        raise FormatError(f"{path} is not a readable safetensors file: {error}", hint="copy the file again") from error


def _read_checkpoint(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error
    except pickle.UnpicklingError as error:
        if "truncated" in str(error) or path.stat().st_size == 0:
            raise FormatError(f"{path} is truncated or damaged", hint="download or copy it again") from error
        raise FormatError(
            f"{path} is damaged or contains pickled code, which is never run; expected plain weights",
            hint="download or copy it again, or load it where you trust it and save model.state_dict() instead",
        ) from error
    except Exception as error:  # torch raises any error on damaged bytes, assertions among them
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        message = f"{path} is not a readable PyTorch checkpoint: {reason}"
        raise FormatError(message, hint="copy the file again") from error
