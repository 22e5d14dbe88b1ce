"""The store of preprocessed cases: compressed arrays on disk, keyed by a hash of their inputs so that none is stale."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.file_states import file_states
from attunet.data.preprocess import IGNORED, prepare, prepare_label
from attunet.data.restore import model_affine
from attunet.data.volume import Affine, Array
from attunet.errors import AttunetError, LabelError, TrainingError
from attunet.files import write_text
from attunet.training.processes import defer_interrupts

__all__ = ["Contents", "StoredCase", "store_cases"]

_FORMAT = 5  # raised when preprocessing or the readers of images change what they return
_POINTS_PER_CLASS = 4096


@dataclass(frozen=True)
class Contents:
    """The indices of a case's foreground classes, and a hash of its preprocessed image."""

    classes: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class StoredCase:
    """A preprocessed case on disk, read lazily.

    Args:
        id: id of the case.
        folder: its folder.
        annotated: the labels that were annotated, as in `Case`.
    """

    id: str
    folder: Path
    annotated: tuple[str, ...] | None = None

    def image(self) -> Array:
        """Float32 (C, I, J, K), read lazily: slice it."""
        return blosc2.open(str(self.folder / "image.b2nd"), mode="r")

    def label(self) -> Array:
        """Uint8 or int16 (I, J, K), indices into the plan's `file_classes` or IGNORED, read lazily: slice it."""
        return blosc2.open(str(self.folder / "label.b2nd"), mode="r")

    def points(self) -> dict[int, Array]:
        """Voxels (n, 3) of each foreground class by its index, a sample of at most 4096."""
        with np.load(self.folder / "points.npz", allow_pickle=False) as archive:
            return {int(name): archive[name] for name in archive.files}

    def contents(self) -> Contents:
        """Its classes and hash, without reading the arrays."""
        content = self._content()
        return Contents(tuple(content["classes"]), content["digest"])

    def affine(self) -> Affine:
        """4x4, from voxel indices of the arrays to RAS+ millimetres."""
        return np.array(self._content()["affine"], np.float64)

    def _content(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "contents.json").read_text(encoding="utf-8")))


def store_cases(
    cases: Sequence[Case],
    plan: Plan,
    folder: Path,
    *,
    geometry: GeometryPolicy = "fail",
    workers: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, StoredCase]:
    """Preprocess the cases that are not in the store yet, in parallel; can be interrupted at any point.

    Args:
        cases: the labelled cases.
        plan: the plan, for its preprocessing and labels.
        folder: the store.
        geometry: what to do when the grids of an image and its label differ.
        workers: number of processes.
        advance: called after every case.
    Returns: the stored cases by id.
    Raises: the errors of reading and preprocessing an unusable case, with its name.
    """
    stored = {case.id: StoredCase(case.id, folder / _key(case, plan, geometry), case.annotated) for case in cases}
    missing = [case for case in cases if not stored[case.id].folder.is_dir()]
    for _ in range(len(cases) - len(missing)):
        advance()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # whole scans; a folder that exists keeps its mode
    if len(missing) < 4 or workers < 2:
        for case in missing:
            _store(case, plan, geometry, stored[case.id].folder)
            advance()
        return stored
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        with defer_interrupts():
            jobs = [pool.submit(_store, case, plan, geometry, stored[case.id].folder) for case in missing]
        _gather(pool, jobs, advance)
    return stored


def _gather(pool: ProcessPoolExecutor, jobs: Sequence[Future[None]], advance: Callable[[], None]) -> None:
    try:
        for job in as_completed(jobs):
            job.result()
            advance()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a preprocessing process was killed by the system, probably because memory ran out",
            hint="free memory and try again: cases stored so far are reused; "
            'in your own script, call it under if __name__ == "__main__"',
        ) from error
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _key(case: Case, plan: Plan, geometry: GeometryPolicy) -> str:
    """A hash of the files (path, size, times) and of every preprocessing setting."""
    facts = {
        "format": _FORMAT,
        "files": [(str(file.resolve()), file_states([file])) for file in case.paths],
        **({"reading": reading} if (reading := case.reading) else {}),
        "preprocessing": plan.preprocessing.model_dump(mode="json"),
        "values": plan.file_classes,
        "ignore": plan.ignore_label,
        "geometry": geometry,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _store(case: Case, plan: Plan, geometry: GeometryPolicy, target: Path) -> None:
    try:
        image, classes, affine = _prepared(case, plan, geometry)
    except AttunetError as error:
        if case.id in error.message:
            raise
        raise type(error)(f"case {case.id}: {error.message}", hint=error.hint) from error
    temporary = Path(tempfile.mkdtemp(prefix=".storing-", dir=target.parent))
    try:
        _write(temporary / "image.b2nd", image, plan)
        _write(temporary / "label.b2nd", classes, plan)
        points = _points(classes, len(plan.file_classes))
        np.savez(temporary / "points.npz", allow_pickle=False, **points)
        contents = {
            "classes": [int(index) for index in points],
            "digest": hashlib.sha256(image.tobytes()).hexdigest(),
            "affine": affine.tolist(),
        }
        write_text(temporary / "contents.json", json.dumps(contents))
        temporary.replace(target)
    except OSError:
        if not target.is_dir():  # another process may have stored the same case meanwhile
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _prepared(case: Case, plan: Plan, geometry: GeometryPolicy) -> tuple[Array, Array, Affine]:
    """Image (C, I, J, K) and classes (I, J, K) on the model grid, and its affine."""
    image, label = read_case(case, geometry=geometry)
    if label is None:
        raise LabelError("there is no label", hint="add its mask, or leave the case out")
    prepared = prepare(image, plan.preprocessing)
    classes = prepare_label(label, prepared.record, plan.file_classes, plan.ignore_label)
    return prepared.array, classes, model_affine(prepared.record)


def _write(path: Path, array: Array, plan: Plan) -> None:
    """Write arrays in blocks of about half a patch, so that reading a patch decompresses little more than the patch."""
    edge = [max(1, -(-size // 2)) for size in plan.patch_size]
    blocks = [*([1] * (array.ndim - 3)), *edge]
    blocks = [min(block, size) for block, size in zip(blocks, array.shape, strict=True)]
    chunks = [min(size, block * 4) for block, size in zip(blocks, array.shape, strict=True)]
    settings = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1}
    blosc2.asarray(np.ascontiguousarray(array), urlpath=str(path), chunks=chunks, blocks=blocks, cparams=settings)


def _points(classes: Array, count: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    points = {}
    for index in sorted(set(range(1, count)) - {IGNORED}):
        voxels = np.flatnonzero(classes == index)
        if voxels.size:
            chosen = rng.choice(voxels, min(voxels.size, _POINTS_PER_CLASS), replace=False)
            points[str(index)] = np.stack(np.unravel_index(np.sort(chosen), classes.shape), axis=1).astype(np.int32)
    return points
