"""Fixtures for tests of DICOM objects."""

import dicom_results
import pytest

from attunet.config import IntervalCalibration, SegmentCode


@pytest.fixture
def straight_affine():
    """An oblique affine whose axes are at right angles."""
    return dicom_results.STRAIGHT


@pytest.fixture
def tilted_affine():
    """An affine whose slices are sheared by 15 degrees, as by a tilted gantry."""
    return dicom_results.TILTED


@pytest.fixture
def scene(tmp_path):
    """`scene(affine=None, shape=SHAPE, edit=None, **tags)`: a series of single images, see `dicom_results.stack`."""
    made = []

    def make(affine=None, **how):
        made.append(dicom_results.stack(tmp_path / f"series{len(made)}", affine, **how))
        return made[-1]

    return make


@pytest.fixture
def enhanced(tmp_path):
    """`enhanced(affine=None)`: a file of frames in any order."""
    return lambda affine=None, **how: dicom_results.enhanced(tmp_path / "enhanced", affine, **how)


@pytest.fixture
def mosaic(tmp_path):
    """A file whose tiles are the slices."""
    return dicom_results.mosaic(tmp_path / "mosaic")


@pytest.fixture
def unplaced(tmp_path):
    """An X-ray of 20 x 16 pixels, which does not say where it is."""
    return dicom_results.picture(tmp_path / "x-ray")


@pytest.fixture
def interval():
    """A calibration of volumes: ±10%."""
    return IntervalCalibration(
        level=0.9, cases=30, power=1, bound=0.1, typical=1.0, width=0.2, coverage=0.9, thirds=(0.9, 0.9, 0.9)
    )


@pytest.fixture
def label_codes():
    """The codes of one label."""
    return {"liver": SegmentCode(type=("10200004", "SCT", "Liver"), color=(200, 100, 0))}
