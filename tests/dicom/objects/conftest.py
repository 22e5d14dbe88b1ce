"""Sources and predictions for tests of DICOM objects: small series with three labels, one of them with a hole."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from dicom_series import make_series, save_series
from pydicom.uid import DigitalXRayImageStorageForPresentation

from attunet.config import IntervalCalibration, SegmentCode
from attunet.data.formats.dicom import DicomSeries, find_series
from attunet.data.formats.dicom.headers import read_header
from attunet.data.volume import Volume
from attunet.dicom.objects.codes import code_of
from attunet.dicom.objects.identity import Algorithm
from attunet.dicom.objects.result import ObjectResult
from attunet.dicom.objects.source import SourceImages, read_source
from attunet.inference.prediction import Prediction

SHAPE = (20, 16, 9)
LABELS = {"background": 0, "liver": 5, "kidney_left": 1, "blob": 7}
OBLIQUE = np.array([[0.7, 0.05, 0.0, -30.0], [-0.05, 0.7, 0.3, 12.0], [0.0, -0.2, 1.9, 100.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture
def straight_affine():
    """An oblique affine whose axes are at right angles."""
    left, _, right = np.linalg.svd(OBLIQUE[:3, :3])
    turned = np.eye(4)
    turned[:3, :3] = left @ right @ np.diag([0.7, 0.8, 2.5])
    turned[:3, 3] = OBLIQUE[:3, 3]
    return turned


@pytest.fixture
def tilted_affine():
    """An affine whose slices are sheared by 15 degrees, as by a tilted gantry."""
    affine = np.diag([0.7, 0.7, 2.0, 1.0])
    affine[1, 2] = 2.0 * np.tan(np.radians(15))
    return affine


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
            name: code.model_copy(update={"color": (250 - 40 * place, 60 * place, 20)})
            for place, (name, code) in enumerate(codes.items())
        }
        return ObjectResult(prediction, source or self.source, ALGORITHM, codes, out)


ALGORITHM = Algorithm("phantom", "0123456789abcdef" * 4, "0.1")


@pytest.fixture
def scene(tmp_path):
    """`scene(affine=None, shape=SHAPE, edit=None, **tags)`: a series; `edit` changes its data sets before they are
    written."""
    made = []

    def make(affine=None, shape=SHAPE, edit=None, **how):
        stored = np.random.default_rng(0).integers(-900, 900, shape).astype(np.int16)
        datasets = make_series(stored, affine, **how)
        folder = tmp_path / f"series{len(made)}"
        made.append(folder)
        save_series(edit(datasets) if edit else datasets, folder)
        (series,) = find_series(folder).series
        return Scene(folder, series, read_source(series))

    return make


@pytest.fixture
def interval():
    """A calibration of volumes: ±10%."""
    return IntervalCalibration(
        level=0.9, cases=30, power=1, bound=0.1, typical=1.0, width=0.2, coverage=0.9, thirds=(0.9, 0.9, 0.9)
    )


@pytest.fixture
def unplaced(tmp_path):
    """One picture that does not say where it is: an X-ray of 20 x 16 pixels."""
    (dataset,) = make_series(np.random.default_rng(0).integers(0, 900, (20, 16, 1)).astype(np.int16), Modality="DX")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SliceThickness"):
        del dataset[name]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    folder = save_series([dataset], tmp_path / "x-ray")
    header = read_header(folder / "0000.dcm")
    affine = np.diag([-0.5, -0.75, 1.0, 1.0])
    series = DicomSeries(
        header.series_uid,
        header.study_uid,
        "DX",
        "",
        3,
        (folder / "0000.dcm",),
        (20, 16, 1),
        affine,
        slices=header.slices,
    )
    return Scene(folder, series, read_source(series))


@pytest.fixture
def label_codes():
    """The codes of one label."""
    return {"liver": SegmentCode(type=("10200004", "SCT", "Liver"), color=(200, 100, 0))}
