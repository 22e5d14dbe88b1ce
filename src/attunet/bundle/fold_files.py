"""`FoldFiles`: the files of one trained fold, or of one of its localizers, read through the manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attunet.bundle.execution import Air, Execution, load_air
from attunet.bundle.manifest import read_checked
from attunet.bundle.skipping import Skipping, load_skipping

__all__ = ["FoldFiles", "localizer_folder"]

_LOCALIZER = re.compile(r"localizer_(\d{1,4})")


@dataclass(frozen=True)
class FoldFiles:
    """The files of a trained fold in `folder`, and its engine (`execution`).

    Args:
        folder: its folder.
        execution: its engine.
        sums: the manifest of its run; None for files that this program has written itself.
        root: the folder of its run; None for the one above its own.
    """

    folder: Path
    execution: Execution = field(default_factory=Execution)
    sums: Mapping[str, str] | None = field(default=None, repr=False, compare=False)
    root: Path | None = field(default=None, repr=False)

    def has(self, file: Path) -> bool:
        """Whether a file of the fold is there and belongs to the model."""
        return file.is_file() and (self.sums is None or self._name(file) in self.sums)

    def read(self, file: Path) -> bytes:
        """Read a file of the fold. Raises: BundleError when it is not the one that the manifest lists."""
        if self.sums is None:
            return file.read_bytes()
        return read_checked(self._run, self._name(file), self.sums)

    @property
    def _run(self) -> Path:
        return self.root or self.folder.parent

    def _name(self, file: Path) -> str:
        return file.relative_to(self._run).as_posix()

    @property
    def air(self) -> Air | None:
        """Which windows of this fold contain only air. Raises: BundleError when the manifest lacks air.json."""
        return load_air(self.folder, self.sums)

    @property
    def localizers(self) -> tuple[FoldFiles, ...]:
        """The localizers of a cascade, in order, each with files like a fold's; empty for a model of one stage."""
        prefix = self._name(self.folder) + "/"
        if self.sums is None:
            names = {path.name for path in self.folder.glob("localizer_*") if path.is_dir()}
        else:
            names = {name.removeprefix(prefix).split("/")[0] for name in self.sums if name.startswith(prefix)}
        numbers = sorted(int(found[1]) for name in names if (found := _LOCALIZER.fullmatch(name)))
        own = self.execution
        if own.precision == "int8":  # which localizers do not have
            own = own.model_copy(update={"precision": "auto"})
        folders = (localizer_folder(self.folder, number) for number in numbers)
        return tuple(FoldFiles(folder, own, self.sums, self._run) for folder in folders)

    @property
    def skipping(self) -> Skipping | None:
        """Where a cascade looks; None when it was not audited. Raises: BundleError when the manifest lacks the file."""
        return load_skipping(self.folder, self.sums)

    @property
    def name(self) -> str:
        """fold_0, fold_1, ..."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """The weights of the finished fold."""
        return self.folder / "weights.safetensors"

    @property
    def graph(self) -> Path:
        """The same network for OpenVINO; graph.bin is next to it."""
        return self.folder / "graph.xml"

    @property
    def onnx(self) -> Path:
        """The same network for ONNX Runtime, if it was exported."""
        return self.folder / "model.onnx"

    @property
    def program(self) -> Path:
        """The same network as a program of torch.export, in an exported folder; only its weights are read."""
        return self.folder / "model.pt2"

    @property
    def metrics(self) -> Path:
        """Scores of the finished fold on its validation cases; the last file to appear."""
        return self.folder / "metrics.json"


def localizer_folder(fold: Path, index: int) -> Path:
    """The folder of one of a fold's localizers."""
    return fold / f"localizer_{index}"
