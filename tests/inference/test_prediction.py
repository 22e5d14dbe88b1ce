"""The files of a prediction."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from attunet.config import QualityCalibration
from attunet.data.formats import read_label, read_volume
from attunet.data.volume import Volume
from attunet.inference.prediction import Prediction

LABELS = {"background": 0, "body": 1, "lesion": 7}


@pytest.fixture
def prediction():
    image = Volume(np.zeros((1, 4, 5, 3), np.float32), np.diag([2.0, 2.0, 5.0, 1.0]))
    mask = np.zeros((1, 4, 5, 3), np.uint8)
    mask[:, :2], mask[:, 3, 0, 0] = 1, 7
    return Prediction(
        case="case",
        image=image,
        segmentation=image.with_array(mask),
        labels=LABELS,
        probabilities=image.with_array(np.full((3, 4, 5, 3), 1 / 3, np.float32)),
        attention={"level2": image.with_array(np.full((1, 4, 5, 3), 0.5, np.float32))},
        engine="none",
    )


def test_volumes_are_in_millilitres(prediction):
    assert prediction.volumes_ml == pytest.approx({"body": 30 * 0.02, "lesion": 0.02})


def test_the_volume_of_a_region_holds_what_is_painted_over_it(prediction):
    regions = replace(prediction, regions={"body": (1, 7), "lesion": (7,)})
    assert regions.volumes_ml == pytest.approx({"body": 31 * 0.02, "lesion": 0.02})


def written(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".npy"])
def test_all_results_are_written_in_the_requested_format(suffix, prediction, tmp_path):
    path = prediction.save(tmp_path / "new", suffix=suffix)
    assert path == tmp_path / "new" / f"case{suffix}"
    names = {"case", "probabilities/case", "attention/case_level2"}
    assert written(path.parent) == {f"{name}{suffix}" for name in names}
    np.testing.assert_array_equal(read_label(path).array, prediction.segmentation.array)
    assert read_volume(path.parent / "probabilities" / f"case{suffix}").channels == 3
    if suffix != ".npy":
        np.testing.assert_allclose(read_volume(path).affine, prediction.image.affine)


@pytest.mark.parametrize(("suffix", "mask"), [(".png", "case.png"), (".jpg", "case.png"), (".tif", "case.tif")])
def test_numbers_that_a_picture_cannot_hold_go_into_nifti(suffix, mask, prediction, tmp_path):
    flat = {
        "segmentation": prediction.segmentation.with_array(prediction.segmentation.array[..., :1]),
        "probabilities": prediction.image.with_array(np.full((3, 4, 5, 1), 1 / 3, np.float32)),
        "attention": {"level2": prediction.image.with_array(np.full((1, 4, 5, 1), 0.5, np.float32))},
    }
    Prediction("case", prediction.image, labels=LABELS, engine="none", **flat).save(tmp_path, suffix=suffix)
    assert written(tmp_path) == {mask, "probabilities/case.nii.gz", "attention/case_level2.nii.gz"}


def test_only_what_was_requested_is_written(prediction, tmp_path):
    bare = Prediction("case", prediction.image, prediction.segmentation, LABELS, None, {}, "none")
    bare.save(str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["case.nii.gz"]


def test_gates_of_an_ensemble_are_written_under_their_members_names(prediction, tmp_path):
    alpha = prediction.attention["level2"]
    replace(prediction, probabilities=None, attention={"3d/level2": alpha}).save(tmp_path)
    assert written(tmp_path) == {"case.nii.gz", "attention/case_3d_level2.nii.gz"}


def test_the_predicted_dice_is_the_expected_one_as_experience_corrects_it(prediction):
    quality = QualityCalibration(cases=20, spearman=0.7, low=0.5, high=0.8, slope=0.5, intercept=0.3, error=0.02)
    expected = {"body": 0.9, "lesion": 0.7}
    assert prediction.predicted_dice is None
    assert replace(prediction, expected_dice=expected).predicted_dice is None
    known = replace(prediction, expected_dice=expected, quality=quality)
    assert known.predicted_dice == pytest.approx(0.5 * 0.8 + 0.3)
    assert replace(known, expected_dice={"body": 0.9, "lesion": None}).predicted_dice == pytest.approx(0.75)
    assert replace(known, expected_dice={"body": None, "lesion": None}).predicted_dice is None
    steep = quality.model_copy(update={"slope": 9.0})
    assert replace(known, quality=steep).predicted_dice == 1


def test_volumes_and_dice_have_intervals_where_they_were_measured(prediction, make_interval):
    assert prediction.volume_intervals_ml == {"body": None, "lesion": None}
    quality = QualityCalibration(cases=20, spearman=0.7, low=0.5, high=0.8, slope=1.0, intercept=0.0, error=0.02)
    dice = make_interval(power=0.0, bound=0.05, limit=1.0)
    assert replace(prediction, dice_calibration=dice).dice_interval is None  # no Dice is predicted
    measured = replace(
        prediction,
        expected_dice={"body": 0.98, "lesion": None},
        quality=quality,
        dice_calibration=dice,
        volume_calibrations={"body": make_interval()},
    )
    interval = measured.volume_intervals_ml["body"]
    assert (interval.low, interval.high, interval.level) == (pytest.approx(0.54), pytest.approx(0.66), 0.9)
    assert measured.volume_intervals_ml["lesion"] is None
    assert (measured.dice_interval.low, measured.dice_interval.high) == (pytest.approx(0.93), 1.0)


def test_a_label_that_is_not_predicted_has_no_interval(prediction, make_interval):
    empty = prediction.segmentation.with_array(np.zeros((1, 4, 5, 3), np.uint8))
    measured = replace(prediction, segmentation=empty, volume_calibrations={"body": make_interval()})
    assert measured.volumes_ml["body"] == 0
    assert measured.volume_intervals_ml["body"] is None


@pytest.mark.parametrize("maps", [1, 2])
def test_attention_opens_in_other_programs_on_the_images_grid(maps, prediction, tmp_path):
    affine = np.array([[0, -1.5, 0.2, 7], [-0.8, 0, 0, 8], [0, 0.3, 3, -9], [0, 0, 0, 1.0]])
    shape = (4, 5, 3)
    alpha = np.random.default_rng(0).uniform(size=(maps, *shape)).astype(np.float32)
    replace(prediction, attention={"level3": Volume(alpha, affine)}).save(tmp_path)
    image = nibabel.load(tmp_path / "attention" / "case_level3.nii.gz")
    assert image.shape == (shape if maps == 1 else (*shape, maps))
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    expected = alpha[0] if maps == 1 else np.moveaxis(alpha, 0, -1)
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), expected)
