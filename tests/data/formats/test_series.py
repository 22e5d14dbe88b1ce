"""Times and channels on the fourth axis."""

import nibabel
import numpy as np
import pytest

from attunet.data.cases import Case, DatasetOptions
from attunet.data.checks import inspect
from attunet.data.composition import with_choices
from attunet.data.dataset import Dataset
from attunet.data.formats import read_label, read_volume, series_of
from attunet.errors import DatasetError, FormatError
from attunet.planning.fingerprint import fingerprint


def save(path, frames=3, step=1.0, units=None):
    array = np.random.default_rng(0).normal(size=(8, 9, 5, frames)).astype(np.float32)
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.header.set_zooms((1, 1, 1, step))
    if units:
        image.header.set_xyzt_units(*units)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("frames", "step", "units", "found"),
    [
        (200, 2.0, ("mm", "sec"), "4-D, 200 frames, one every 2 s"),
        (8, 800.0, ("mm", "msec"), "4-D, 8 frames, one every 0.8 s"),
        (30, 1.0, None, "4-D, 30 frames"),
        (4, 1.0, ("mm", "sec"), None),  # as ITK writes channels
        (4, 0.0, ("mm", "sec"), None),
        (4, 2.5, None, None),  # without a unit
    ],
)
def test_the_header_tells_times_from_channels(frames, step, units, found, tmp_path):
    series = series_of(save(tmp_path / "a.nii.gz", frames, step, units))
    assert (series and str(series)) == found


def test_other_images_are_no_series(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5)), np.eye(4)), tmp_path / "a.nii")
    assert series_of(tmp_path / "a.nii") is None
    assert series_of(tmp_path / "missing.nii") is None
    assert series_of(tmp_path / "a.png") is None


@pytest.fixture
def bold(tmp_path):
    path = save(tmp_path / "bold.nii.gz", 20, 2.0, ("mm", "sec"))
    mask = np.zeros((8, 9, 5), np.uint8)
    mask[2:5, 2:5] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "mask.nii.gz")
    return Dataset(root=tmp_path, layout="plain", cases=(Case("bold", (path,), tmp_path / "mask.nii.gz"),))


def test_a_series_is_reported_and_not_learnt_as_channels(bold):
    (problem,) = [problem for problem in inspect(bold).problems if problem.kind == "time series"]
    assert problem.severity == "problem"
    assert "4-D, 20 frames" in problem.message
    assert "--frame, 0 to 19" in problem.remedy
    with pytest.raises(DatasetError, match="20 frames") as raised:
        fingerprint(bold)
    assert "--frame all" in raised.value.hint


def test_a_frame_or_all_of_them_may_be_chosen(bold):
    one = with_choices(bold, DatasetOptions(frame=4))
    assert len(fingerprint(one).channel_names) == 1
    assert not [problem for problem in inspect(one).problems if problem.kind == "time series"]
    every = with_choices(bold, DatasetOptions(frame="all"))
    assert len(fingerprint(every).channel_names) == 20


def test_declared_channels_are_no_times(bold):
    declared = Dataset(
        root=bold.root, layout="msd", cases=bold.cases, channel_names=tuple(f"b{index}" for index in range(20))
    )
    assert not [problem for problem in inspect(declared).problems if problem.kind == "time series"]
    assert len(fingerprint(declared).channel_names) == 20


def test_a_mask_without_times_is_that_of_every_frame(bold):
    (case,) = bold.cases
    assert read_label(case.label, frame=7).array.max() == 1
    with pytest.raises(FormatError, match="no frame 7: it contains one image"):
        read_volume(case.label, frame=7)
