"""Where the results of a batch go: image files, flat or as a BIDS derivative, and objects such as those of DICOM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Protocol

from attunet.data.cases import Case, output_suffix
from attunet.data.formats import format_of, mask_suffix
from attunet.errors import ConfigError
from attunet.files import publish, staging
from attunet.inference.bids import bids_mask, describe_derivative, save_bids
from attunet.inference.prediction import Prediction
from attunet.storage import Store

__all__ = ["CaseWriter", "Destination", "ImageType", "OutputLayout", "Written"]

OutputLayout = Literal["flat", "bids"]
"""A mask per case in one folder, or the folders and names of BIDS, with its sidecars."""

ImageType = Literal["auto", "nifti"]
"""The format of masks, probabilities and attention: that of each image, or NIfTI for all."""

Written = dict[str, tuple[Path, ...]]
"""The files of a case by the type of output, the one that is written last at the end."""


class CaseWriter(Protocol):
    """Writes types of output that are no image files, such as DICOM objects."""

    @property
    def attention(self) -> bool:
        """Whether it needs the attention of a prediction."""

    def begin(self, cases: Sequence[Case]) -> None:
        """Prepare for a batch. Raises: ConfigError when one of the cases cannot be written as one of the types."""

    def check(self, case: Case) -> None:
        """Before a case is predicted. Raises: DataError when one of the types cannot hold it, whatever the result."""

    def done(self, case: Case, exists: Callable[[str], bool]) -> bool:
        """Whether everything was written of a case already.

        Args: the case; whether the output has a file of a name, or of a pattern with *.
        """

    def write(self, prediction: Prediction, case: Case, output: Path) -> tuple[Written, tuple[str, ...]]:
        """Write a case.

        Args:
            prediction: its result.
            case: the case.
            output: the folder of the batch.
        Returns: its files, and in sentences what a reader of them should know.
        Raises: DataError when one of the types cannot hold the result.
        """


@dataclass(frozen=True, kw_only=True)
class Destination:
    """What is written of each case, and how it is named.

    Args:
        layout: names and folders of image files.
        images: their format; None to write no image files.
        writer: writes other types of output; None for none.
        store: the place at a URL into which the results go from the folder of the batch, which then is a private one;
            None when they stay in the folder.
    Raises: ConfigError when nothing would be written, or a BIDS derivative has no image files.
    """

    layout: OutputLayout = "flat"
    images: ImageType | None = "auto"
    writer: CaseWriter | None = None
    store: Store | None = None

    def __post_init__(self) -> None:
        if self.images is None and self.writer is None:
            raise ConfigError("no type of output is requested", hint="choose one with --output-type")
        if self.images is None and self.layout == "bids":
            raise ConfigError("a BIDS derivative consists of NIfTI files", hint="add nifti to --output-type")

    @property
    def attention(self) -> bool:
        """Whether a type of output needs the attention, beside what the options of a prediction ask for."""
        return self.writer is not None and self.writer.attention

    def begin(self, cases: Sequence[Case], output: Path) -> None:
        """Prepare the folder of a batch.

        Raises: ConfigError when a mask would overwrite an image, a BIDS derivative cannot hold the cases, or they
            cannot be written as one of the types, or there is no such store.
        """
        if self.store is not None:
            self.store.check()
        if self.writer is not None:
            self.writer.begin(cases)
        if self.images is None:
            return
        overwritten = [case.id for case in cases if self._overwrites(case, output)]
        if overwritten:
            raise ConfigError(
                f"the masks of {', '.join(overwritten[:5])} would overwrite their images", hint="choose another -o"
            )
        if self.store is None:
            _LAYOUTS[self.layout].begin(cases, output)
            return
        with staging(output / self.layout) as stage:
            _LAYOUTS[self.layout].begin(cases, stage)
            self._publish(stage)

    def check(self, case: Case) -> None:
        """Before a case is predicted. Raises: DataError when one of the types cannot hold it, whatever the result."""
        if self.writer is not None:
            self.writer.check(case)

    def mask(self, case: Case, output: Path) -> Path:
        """The path of a case's mask as an image file. Raises: ConfigError for a name that is not of BIDS, as there."""
        return _LAYOUTS[self.layout].mask(case, output, self._suffix(case))

    def done(self, case: Case, output: Path) -> bool:
        """Whether everything was written of a case already; attention and probabilities are not looked for."""
        if self.images is not None and not self._exists(str(self.mask(case, output).relative_to(output)), output):
            return False
        return self.writer is None or self.writer.done(case, lambda name: self._exists(name, output))

    def save(
        self, prediction: Prediction, case: Case, output: Path, *, attention: bool = True
    ) -> tuple[Written, tuple[str, ...]]:
        """Write the results of a case; the mask is last, and marks the case as done.

        Args:
            prediction: what to write.
            case: its case.
            output: the folder of the batch.
            attention: whether the attention is written as image files, and shown in pictures; types of output that
                consist of it hold it in any case.
        Returns: its files, and in sentences what a reader of them should know.
        Raises: FormatError when a file cannot be written, DataError when one of the types cannot hold the result.
        """
        written: Written = {}
        notices: tuple[str, ...] = ()
        shown = prediction if attention else replace(prediction, attention={})
        if self.writer is not None:
            whole = prediction if self.writer.attention else shown
            written, notices = self.writer.write(whole, case, output)
        if self.images is not None:
            mask = _LAYOUTS[self.layout].save(shown, case, output, self._suffix(case))
            return {**written, self.images: (mask,)}, (*notices, *self._other_format(case))
        return written, notices

    def publish(
        self, prediction: Prediction, case: Case, output: Path, *, attention: bool = True
    ) -> tuple[Written, tuple[str, ...]]:
        """Write the results of a case where several programs may do so at once: as `save`, but the first wins.

        Args:
            prediction: see `save`.
            case: see `save`.
            output: see `save`.
            attention: see `save`.
        Returns: as `save`; the files hold the result of whoever was first.
        Raises: as `save`, and NetworkError when the store cannot be reached.
        """
        with staging(output / case.id) as stage:
            staged, notices = self.save(prediction, case, stage, attention=attention)
            places = {name: tuple(file.relative_to(stage) for file in files) for name, files in staged.items()}
            mark = next(reversed(places.values()))[-1]
            if self.store is None:
                publish(stage, output, mark)
            else:
                self._publish(stage, mark)
        return {name: tuple(output / place for place in files) for name, files in places.items()}, notices

    def shown(self, file: Path, output: Path) -> str:
        """Where a file is for whoever reads the results: its path, or its URL."""
        return str(file) if self.store is None else self.store.path_of(file.relative_to(output).as_posix())

    def _publish(self, stage: Path, mark: Path | None = None) -> None:
        """Copy a stage into the store, the marking file last; what was there before this run is replaced."""
        assert self.store is not None
        files = [file.relative_to(stage) for file in stage.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: (file == mark, file)):
            name = file.as_posix()
            self.store.publish(stage / file, name, replace=name in self.store.existing)

    def _exists(self, pattern: str, output: Path) -> bool:
        """Whether the output has a file of a name, or of a pattern with *; in a store, when the run began."""
        if self.store is None:
            return (output / pattern).exists() if "*" not in pattern else any(output.glob(pattern))
        names = self.store.existing
        return pattern in names or ("*" in pattern and any(fnmatchcase(name, pattern) for name in names))

    def _overwrites(self, case: Case, output: Path) -> bool:
        mask = self.mask(case, output)
        if self.store is None or not case.remote:
            return mask.resolve() in map(Path.resolve, case.images)
        return self.shown(mask, output) in (remote.url for remote in case.remote)

    def _suffix(self, case: Case) -> str:
        return ".nii.gz" if self.images == "nifti" else output_suffix(case)

    def _other_format(self, case: Case) -> tuple[str, ...]:
        """Why the mask of a case has another format than its image, where that format is only read; in sentences."""
        suffix = self._suffix(case)
        if self.layout == "bids" or format_of(suffix).write is not None:
            return ()
        return (f"its mask is written as {mask_suffix(suffix)}, because {suffix} files are only read",)


@dataclass(frozen=True)
class _Naming:
    """The functions of a layout: the mask of a case, writing a prediction, preparing the folder."""

    mask: Callable[[Case, Path, str], Path]
    save: Callable[[Prediction, Case, Path, str], Path]
    begin: Callable[[Sequence[Case], Path], None]


_LAYOUTS: dict[str, _Naming] = {
    "flat": _Naming(
        lambda case, output, suffix: output / f"{case.id}{mask_suffix(suffix)}",
        lambda prediction, _case, output, suffix: prediction.save(output, suffix=suffix),
        lambda _cases, _output: None,
    ),
    "bids": _Naming(
        lambda case, output, _suffix: bids_mask(case, output),
        lambda prediction, case, output, _suffix: save_bids(prediction, case, output),
        describe_derivative,
    ),
}
"""Every layout of image files by its name."""
