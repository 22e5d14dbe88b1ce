"""The store of preprocessed cases: compressed arrays on disk, keyed by a hash of their inputs so that none is stale.

It holds images of patients, so that only its owner may read it: folders are 0700, files 0600.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from attunet.claims import claimed_in_turn
from attunet.config import Plan
from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.file_states import file_states
from attunet.data.preprocess import IGNORED, prepare, prepare_label
from attunet.data.restore import model_affine
from attunet.data.volume import Affine, Array
from attunet.errors import AttunetError, FormatError, LabelError, TrainingError, first_line
from attunet.files import staged
from attunet.training.processes import can_start_processes, defer_interrupts

__all__ = ["Contents", "StoredCase", "store_cases"]

_FORMAT = 6  # raised when preprocessing or the readers of images change what they return
_POINTS_PER_CLASS = 4096
_CONTENTS = "contents.json"
_FILES = 3
_PATIENCE = 600.0  # seconds to wait for another program that stores the same case
_WORTH_PROCESSES = 16 * 2**20  # bytes of files: processes take two seconds to start


@dataclass(frozen=True)
class Contents:
    """What a stored case holds.

    Args:
        classes: the indices of its foreground classes.
        digest: hash of its preprocessed image.
        label_digest: hash of its preprocessed label.
    """

    classes: tuple[int, ...]
    digest: str
    label_digest: str


@dataclass(frozen=True)
class StoredCase:
    """A preprocessed case on disk, read lazily.

    Args:
        id: id of the case.
        folder: its folder.
        annotated: the labels that were annotated, as in `Case`.
        context: file of the context from the localizers of a cascade, float32 (C, i, j, k); None without context.
    """

    id: str
    folder: Path
    annotated: tuple[str, ...] | None = None
    context: Path | None = None

    def image(self) -> Array:
        """Float32 (C, I, J, K), read lazily: slice it. Raises: TrainingError when it is damaged."""
        return self._open("image.b2nd")

    def label(self) -> Array:
        """Uint8 or int16 (I, J, K), indices into the plan's `file_classes` or IGNORED, read lazily: slice it.

        Raises: TrainingError when it is damaged.
        """
        return self._open("label.b2nd")

    def points(self) -> dict[int, Array]:
        """Voxels (n, 3) of each foreground class by its index, a sample of at most 4096."""
        with np.load(self.folder / "points.npz", allow_pickle=False) as archive:
            return {int(name): archive[name] for name in archive.files}

    def contents(self) -> Contents:
        """Its classes and hash, without reading the arrays."""
        content = self._content()
        return Contents(tuple(content["classes"]), content["digest"], content["label_digest"])

    def affine(self) -> Affine:
        """4x4, from voxel indices of the arrays to RAS+ millimetres."""
        return np.array(self._content()["affine"], np.float64)

    def _open(self, name: str) -> Array:
        try:
            return blosc2.open(str(self.folder / name), mode="r")
        except (OSError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"case {self.id} is damaged in the store of preprocessed cases ({first_line(error)})",
                hint="continue with --resume, which preprocesses it again",
            ) from error

    def _content(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / _CONTENTS).read_text(encoding="utf-8")))


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
    Returns: the stored cases by id; a damaged one is preprocessed again.
    Raises: FormatError when the store cannot be written; the errors of reading and preprocessing an unusable case, with
        its name; TrainingError when a process was killed.
    """
    stored = {case.id: StoredCase(case.id, folder / _key(case, plan, geometry), case.annotated) for case in cases}
    missing = []
    with _writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for case in cases:
            if _is_intact(stored[case.id].folder):
                advance()
                continue
            missing.append(case)
    alone = len(missing) < 2 or workers < 2 or not can_start_processes()
    if alone or sum(size for case in missing for _, size, *_ in file_states(case.paths)) < _WORTH_PROCESSES:
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
    """Preprocess a case, unless another program has stored it meanwhile: folds trained at once need the same cases."""
    with ExitStack() as stack:
        with _writing(target.parent):
            stack.enter_context(claimed_in_turn(target, "attunet train, which preprocesses", patience=_PATIENCE))
            if _is_intact(target):
                return
        try:
            image, classes, affine = _prepared(case, plan, geometry)
        except AttunetError as error:
            if case.id in error.message:
                raise
            raise type(error)(f"case {case.id}: {error.message}", hint=error.hint) from error
        points = _points(classes, len(plan.file_classes))
        contents = {
            "classes": [int(index) for index in points],
            "digest": hashlib.sha256(image.tobytes()).hexdigest(),
            "label_digest": hashlib.sha256(classes.tobytes()).hexdigest(),
            "affine": affine.tolist(),
        }
        shutil.rmtree(target, ignore_errors=True)  # damaged
        with _writing(target.parent), staged(target) as folder:
            folder.mkdir(mode=0o700)
            _write(folder / "image.b2nd", image, plan)
            _write(folder / "label.b2nd", classes, plan)
            np.savez(folder / "points.npz", allow_pickle=False, **points)
            files = {part.name: [*_size_and_time(part), _checksum(part)] for part in folder.iterdir()}
            (folder / _CONTENTS).write_text(_described(contents | {"files": files}), encoding="utf-8")
        for part in target.iterdir():
            part.chmod(0o600)


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    """Name the store, and the option to choose another one, in errors of writing to it."""
    try:
        yield
    except (OSError, FormatError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else error.message
        raise FormatError(
            f"the store of preprocessed cases, {store}, cannot be used: {reason}",
            hint="free space there, or choose another folder with --store DIR; cases stored so far are kept",
        ) from error


def _is_intact(folder: Path) -> bool:
    """Whether a stored case is complete and unchanged; the content of a file is read only if its time has changed.

    Raises: PermissionError when it belongs to somebody else.
    """
    try:
        content = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        if _described({key: value for key, value in content.items() if key != "check"}) != json.dumps(content):
            return False
        files = {folder / name: facts for name, facts in content["files"].items()}
        return len(files) == _FILES and all(
            _size_and_time(file) == (size, time) or (file.stat().st_size == size and _checksum(file) == checksum)
            for file, (size, time, checksum) in files.items()
        )
    except PermissionError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _described(contents: dict[str, Any]) -> str:
    """The text of contents.json, with a checksum of itself."""
    return json.dumps(contents | {"check": zlib.crc32(json.dumps(contents).encode())})


def _size_and_time(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _checksum(file: Path) -> int:
    return zlib.crc32(file.read_bytes())


def _prepared(case: Case, plan: Plan, geometry: GeometryPolicy) -> tuple[Array, Array, Affine]:
    """Image (C, I, J, K) and classes (I, J, K) on the model grid, and its affine."""
    image, label = read_case(case, geometry=geometry)
    if label is None:
        raise LabelError("there is no label", hint="add its mask, or leave the case out")
    prepared = prepare(image, plan.preprocessing)
    classes = prepare_label(label, prepared.record, plan.file_classes, plan.ignore_label)
    return prepared.array, classes, model_affine(prepared.record)


def _write(path: Path, array: Array, plan: Plan) -> None:
    """Write arrays in blocks of about half a patch, so that reading a patch decompresses little more than the patch.

    Raises: FormatError when the disk is full.
    """
    edge = [max(1, -(-size // 2)) for size in plan.patch_size]
    blocks = [*([1] * (array.ndim - 3)), *edge]
    blocks = [min(block, size) for block, size in zip(blocks, array.shape, strict=True)]
    chunks = [min(size, block * 4) for block, size in zip(blocks, array.shape, strict=True)]
    settings = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1}
    stored = blosc2.asarray(np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=settings)
    with staged(path) as file:
        file.write_bytes(stored.to_cframe())  # blosc2's own writer does not notice a full disk


def _points(classes: Array, count: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    points = {}
    for index in sorted(set(range(1, count)) - {IGNORED}):
        voxels = np.flatnonzero(classes == index)
        if voxels.size:
            chosen = rng.choice(voxels, min(voxels.size, _POINTS_PER_CLASS), replace=False)
            points[str(index)] = np.stack(np.unravel_index(np.sort(chosen), classes.shape), axis=1).astype(np.int32)
    return points
