"""Checkpoints that appear whole or not at all, and say what is wrong with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from attunet.errors import TrainingError
from attunet.files import staged

__all__ = ["WholeCheckpoints"]


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's own writer stages in the system's temporary folder, from where a move to another disk can be cut."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write beside the target, then rename. Raises: FormatError when the disk is full."""
        with staged(Path(path)) as stage:
            torch.save(checkpoint, stage)

    def load_checkpoint(self, path: str | Path, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Tensors and plain values only, never pickled code. Raises: TrainingError for a damaged file."""
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"the checkpoint {path} cannot be read: {' '.join(str(error).split())[:160]}",
                hint="delete the fold's folder and train it again without --resume",
            ) from error
        return content
