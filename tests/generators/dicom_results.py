"""Results about small DICOM series, for tests of objects: three labels, one of them with a hole and an island."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dicom_series import make_enhanced, make_mosaic, make_picture, make_series, new_uid, save_series

from attunet.config import SegmentCode
from attunet.data.formats.dicom import DicomSeries, find_series
from attunet.data.volume import Volume
from attunet.dicom.objects.codes import code_of
from attunet.dicom.objects.identity import Algorithm
from attunet.dicom.objects.result import ObjectResult
from attunet.dicom.objects.source import SourceImages, read_source
from attunet.inference.prediction import Prediction

__all__ = [
    "ALGORITHM",
    "LABELS",
    "SHAPE",
    "STRAIGHT",
    "TILTED",
    "Scene",
    "enhanced",
    "mosaic",
    "picture",
    "stack",
    "three_labels",
]

SHAPE = (20, 16, 9)
LABELS = {"background": 0, "liver": 5, "kidney_left": 1, "blob": 7}
ALGORITHM = Algorithm("phantom", "0123456789abcdef" * 4, "0.1")


def _straight():
    left, _, right = np.linalg.svd([[0.7, 0.05, 0.0], [-0.05, 0.7, 0.3], [0.0, -0.2, 1.9]])
    affine = np.eye(4)
    affine[:3, :3] = left @ right @ np.diag([0.7, 0.8, 2.5])
    affine[:3, 3] = (-30, 12, 100)
    return affine


def _tilted():
    affine = np.diag([0.7, 0.7, 2.0, 1.0])
    affine[1, 2] = 2.0 * np.tan(np.radians(15))
    return affine


STRAIGHT = _straight()
"""An oblique affine whose axes are at right angles."""
TILTED = _tilted()
"""An affine whose slices are sheared by 15 degrees, as by a tilted gantry."""


def three_labels(shape=SHAPE):
    """A mask (I, J, K): a body with a hole and an island in it, a small body, and a voxel in the first slice."""
    mask = np.zeros(shape, np.int16)
    mask[3:14, 2:13, 2:7] = 5
    mask[6:11, 5:10, 2:6] = 0
    mask[8, 7, 3:5] = 5
    mask[15:18, 4:9, 5:8] = 1
    mask[0, 0, 0] = 7
    return mask


@dataclass
class Scene:
    """A series in files, the source read from it, and results about it."""

    folder: Path
    series: DicomSeries
    source: SourceImages

    def prediction(self, mask=None, *, labels=None, regions=None, probabilities=None, attention=None, **fields):
        image = Volume(np.zeros((1, *self.series.shape), np.int16), self.series.affine)
        mask = three_labels(self.series.shape) if mask is None else mask
        return Prediction(
            case="case",
            image=image,
            segmentation=image.with_array(mask[None]),
            labels=labels or LABELS,
            probabilities=None if probabilities is None else image.with_array(probabilities),
            attention={gate: image.with_array(array) for gate, array in (attention or {}).items()},
            engine="none",
            regions=regions or {},
            **fields,
        )

    def result(self, out, mask=None, *, source=None, **fields):
        prediction = self.prediction(mask, **fields)
        names = list(prediction.regions or prediction.labels)
        codes = {
            name: code_of(name) or SegmentCode(type=(name, "99TEST", name)) for name in names if name != "background"
        }
        codes = {
            name: code.model_copy(update={"color": ((250 - 40 * place) % 256, 60 * place % 256, 20)})
            for place, (name, code) in enumerate(codes.items())
        }
        return ObjectResult(prediction, source or self.source, ALGORITHM, codes, out)


def stack(folder, affine=None, shape=SHAPE, edit=None, **tags) -> Scene:
    """A series of single images; `edit` changes its data sets before they are written."""
    datasets = make_series(_stored(shape), affine, FrameOfReferenceUID=new_uid(), **tags)
    return _scene(save_series(edit(datasets) if edit else datasets, folder))


def enhanced(folder, affine=None, shape=SHAPE, **how) -> Scene:
    """A file of frames, in an order that says nothing about their places."""
    order = np.random.default_rng(5).permutation(shape[2])
    return _scene(save_series([make_enhanced(_stored(shape), affine, order=order, **how)], folder))


def mosaic(folder, shape=SHAPE) -> Scene:
    """One image of Siemens whose tiles are the slices."""
    return _scene(save_series([make_mosaic(_stored(shape), np.diag([-0.7, -0.8, 2.5, 1.0]))], folder))


def picture(folder, shape=(20, 16)) -> Scene:
    """An X-ray, which does not say where it is."""
    return _scene(save_series([make_picture(_stored((1, *shape[::-1])))], folder))


def _stored(shape):
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


def _scene(folder):
    (series,) = find_series(folder).series
    return Scene(folder, series, read_source(series))
