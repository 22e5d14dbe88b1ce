"""Where results go, and in which format."""

import numpy as np
import pytest

from attunet.data.cases import Case, find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.batch import predict_cases
from attunet.inference.destination import begin_output, mask_path, written_as
from attunet.inference.segmenter import Segmenter


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a.nii.gz", "a.nii.gz"), ("a.mha", "a.mha"), ("a.jpg", "a.png"), ("a.npz", "a.nii.gz"), ("a.zarr", "a.nii.gz")],
)
def test_a_mask_has_a_format_that_keeps_it(image, mask, tmp_path):
    assert mask_path(Case("a", (tmp_path / image,), None), tmp_path).name == mask


def test_a_format_that_is_only_read_is_mentioned(tmp_path):
    (reason,) = written_as(Case("a", (tmp_path / "a.npz",), None))
    assert reason == "its mask is written as .nii.gz, because .npz files are only read"
    assert written_as(Case("a", (tmp_path / "a.nii.gz",), None)) == ()
    assert written_as(Case("a", (tmp_path / "a.npz",), None), "bids") == ()


def test_images_are_never_overwritten(tmp_path):
    write_volume(Volume(np.zeros((1, 4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ConfigError, match="overwrite"):
        begin_output(find_cases([tmp_path], 1), tmp_path)


def test_the_mask_of_an_archive_is_written_as_nifti(tiny_run, tmp_path):
    array = np.random.default_rng(0).normal(100, 30, (20, 16, 10)).astype(np.float32)
    np.savez(tmp_path / "scan.npz", image=array)
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    (result,) = predict_cases(segmenter, find_cases([tmp_path / "scan.npz"], 1), tmp_path / "masks")
    assert any("only read" in warning for warning in result.warnings)
    assert read_label(tmp_path / "masks" / "scan.nii.gz").spatial_shape == array.shape
