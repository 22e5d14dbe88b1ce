"""Models in memory: loaded when they are first needed, and given up, the least recently used first, within a limit."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from attunet.errors import ConfigError
from attunet.failures import as_attunet_error

if TYPE_CHECKING:
    from attunet.inference.segmenter import Segmenter

__all__ = ["ModelShelf"]

_ROOM = 0.5
"""Share of the limit that models may take, so that predictions have the rest."""


class ModelShelf:
    """The models of one worker.

    Args:
        models: model folders by name.
        device: as for `Segmenter.load`.
        limit: bytes of memory that the process may use; None for no limit.
        memory: gives the memory of the process in bytes.
        on_load: called with the name of each model that was loaded and "", or that could not be, and why.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        device: str = "auto",
        limit: int | None = None,
        memory: Callable[[], int] = lambda: int(psutil.Process().memory_info().rss),
        on_load: Callable[[str, str], None] = lambda _name, _fault: None,
    ) -> None:
        self._models, self._device, self._limit, self._memory = dict(models), device, limit, memory
        self._on_load = on_load
        self._loaded: OrderedDict[str, tuple[int, int, Segmenter]] = OrderedDict()
        self._coming: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._turns = {name: threading.Lock() for name in models}

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the models in memory, the least recently used first."""
        return tuple(self._loaded)

    def get(self, name: str) -> Segmenter:
        """A model, loaded again when its folder has changed.

        Raises: ConfigError for a name that is not served; BundleError or EngineError when it cannot be used.
        """
        if name not in self._models:
            raise ConfigError(f"there is no model {name}", hint=f"choose from {', '.join(self._models)}")
        folder = self._models[name]
        with self._turns[name]:  # who needs it meanwhile gets it, and who needs another model does not wait
            version, size = _version(folder), self._sizes.get(name) or _size(folder)
            with self._lock:
                if name in self._loaded and self._loaded[name][0] == version:
                    self._loaded.move_to_end(name)
                    return self._loaded[name][2]
                self._loaded.pop(name, None)
                self._make_room(size)
                self._coming[name] = size
            before = self._memory()
            try:
                segmenter = self._load(name, folder)
            finally:
                with self._lock:
                    del self._coming[name]
            with self._lock:
                self._sizes[name] = max(_size(folder), self._memory() - before)
                self._make_room(self._sizes[name])  # which is known only now
                self._loaded[name] = version, self._sizes[name], segmenter
                return segmenter

    def has_room(self, name: str) -> bool:
        """Whether the files of a model fit into the share of the limit that is that of models."""
        return self._limit is None or _size(self._models[name]) <= _ROOM * self._limit

    def _load(self, name: str, folder: Path) -> Segmenter:
        from attunet.inference.segmenter import Segmenter

        try:
            segmenter = Segmenter.load(folder, device=self._device)
        except Exception as error:
            self._on_load(name, as_attunet_error(error).message)
            raise
        self._on_load(name, "")
        return segmenter

    def _make_room(self, coming: int) -> None:
        """Give up models until another fits into the share of the limit that is theirs."""
        if self._limit is None:
            return
        coming += sum(self._coming.values())
        while self._loaded and sum(size for _, size, _ in self._loaded.values()) + coming > _ROOM * self._limit:
            self._loaded.popitem(last=False)
            gc.collect()


def _version(folder: Path) -> int:
    """The time at which a model was sealed; 0 where there is none, which loading it explains."""
    manifest = folder / "manifest.json"
    return manifest.stat().st_mtime_ns if manifest.exists() else 0


def _size(folder: Path) -> int:
    """The bytes of a model's files: memory that it needs at least."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
