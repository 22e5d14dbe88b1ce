"""From an image to its mask: in the image's own format, grid, orientation, in the training's label values."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from attunet.bundle import load_bundle, save_ensemble, save_manifest, save_plan, save_postprocessing
from attunet.config import ComponentRules, Postprocessing, PredictionChoice, QualityCalibration
from attunet.data.cases import Case, find_cases
from attunet.data.formats import read_label, read_volume, write_volume
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume
from attunet.errors import ConfigError, DataError, DatasetError, FormatError
from attunet.inference.batch import predict_cases
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

SHAPE = (21, 18, 13)


@pytest.fixture(scope="module")
def volumes(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


@pytest.fixture(scope="module")
def slices(tiny_slices):
    return Segmenter.load(tiny_slices, device="cpu")


def scan(affine=None, shape=SHAPE):
    noise = np.random.default_rng(1).normal(100, 30, shape).clip(1)
    return Volume(noise[None].astype(np.int16), np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine)


def picture(shape=(23, 18), channels=1):
    pixels = np.random.default_rng(1).integers(0, 256, (channels, *shape, 1), dtype=np.uint8)
    return Volume(pixels, np.eye(4))


def oblique():
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.2, 0.1]).as_matrix() * [0.9, 1.2, 2.0]
    affine[:3, 3] = 10, -20, 30
    return affine


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1.0, 2.0, 1.0]), oblique()])
def test_a_mask_lies_where_its_image_lies(suffix, affine, volumes, tmp_path):
    path = tmp_path / f"scan{suffix}"
    write_volume(scan(affine), path)
    mask = read_label(volumes.predict(path).save(tmp_path / "out", suffix=suffix))
    assert mask.spatial_shape == SHAPE
    assert mask.orientation == read_volume(path).orientation
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    assert set(np.unique(mask.array)) == {0, 1, 7}


def test_other_programs_see_image_and_mask_on_one_grid(volumes, tmp_path):
    write_volume(scan(oblique()), tmp_path / "scan.mha")
    volumes.predict(tmp_path / "scan.mha").save(tmp_path / "out", suffix=".mha")
    image, mask = (sitk.ReadImage(str(folder / "scan.mha")) for folder in (tmp_path, tmp_path / "out"))
    for fact in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(mask, fact)() == getattr(image, fact)()


@pytest.mark.parametrize("codes", ["LPS", "SAR", "AIL", "PLI"])
def test_the_mask_does_not_depend_on_how_the_axes_run(codes, volumes):
    image = nibabel.Nifti1Image(scan().array[0], np.diag([1.0, 1.0, 1.0, 1.0]))
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    result = volumes.predict(Volume(np.asarray(turned.dataobj)[None], turned.affine)).segmentation
    assert result.orientation == codes
    back = nibabel.Nifti1Image(result.array[0], result.affine)
    back = back.as_reoriented(ornt_transform(axcodes2ornt(codes), io_orientation(image.affine)))
    np.testing.assert_array_equal(np.asarray(back.dataobj), volumes.predict(scan()).segmentation.array[0])


@pytest.mark.parametrize("suffix", [".png", ".npy", ".tif"])
def test_pictures_get_the_training_files_255(suffix, slices, tmp_path):
    write_volume(picture(), tmp_path / f"cells{suffix}")
    path = slices.predict(tmp_path / f"cells{suffix}").save(tmp_path / "out", suffix=suffix)
    mask = read_label(path)
    assert mask.spatial_shape == (23, 18, 1)
    assert set(np.unique(mask.array)) == {0, 255}


@pytest.mark.parametrize(("suffix", "how"), [(".gif", {}), (".jp2", {}), (".webp", {"lossless": True})])
def test_masks_of_formats_that_are_only_read_are_png(suffix, how, slices, tmp_path):
    pixels = picture().array[0, ..., 0]
    Image.fromarray(pixels).save(tmp_path / f"cells{suffix}", **how)
    if suffix == ".webp":  # its pictures are always in colour
        with pytest.raises(DataError, match="has 3 channels"):
            slices.predict(tmp_path / f"cells{suffix}")
        return
    (result,) = predict_cases(slices, find_cases([tmp_path / f"cells{suffix}"], 1), tmp_path / "out")
    assert result.error is None
    expected = slices.predict(pixels).segmentation.array
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "cells.png").array, expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_model_of_an_earlier_version_gets_the_alpha_channel_that_it_was_trained_on(suffix, make_model, tmp_path):
    segmenter = Segmenter.load(make_model(2, in_channels=4), device="cpu")
    pixels = picture(channels=4).array
    Image.fromarray(np.moveaxis(pixels[..., 0], 0, -1)).save(tmp_path / f"cells{suffix}")
    _, volume = segmenter.read(tmp_path / f"cells{suffix}")
    np.testing.assert_array_equal(volume.array, pixels)
    with pytest.raises(DataError, match="has 3 channels, the model expects 2"):
        Segmenter.load(make_model(2, in_channels=2), device="cpu").read(tmp_path / f"cells{suffix}")


def test_what_the_reader_turned_is_a_warning_of_the_prediction(slices, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture().array[0, ..., 0]).save(tmp_path / "cells.png", exif=exif)
    result = slices.predict(tmp_path / "cells.png")
    assert result.segmentation.spatial_shape == (18, 23, 1)
    assert "turned by 90 degrees clockwise" in " ".join(result.warnings)


def test_a_mask_of_an_ome_file_has_its_spacing(slices, tmp_path):
    write_volume(Volume(picture().array, np.diag([0.5, 0.25, 1.0, 1.0]), "µm"), tmp_path / "cells.ome.tif")
    (result,) = predict_cases(slices, find_cases([tmp_path / "cells.ome.tif"], 1), tmp_path / "out")
    assert result.error is None
    mask = read_label(tmp_path / "out" / "cells.ome.tif")
    assert (mask.spacing[:2], mask.unit) == (pytest.approx((0.5, 0.25)), "µm")


def test_voxels_of_another_scale_than_in_the_training_are_refused(slices, tmp_path):
    tiny = Volume(picture().array, np.diag([5e-4, 5e-4, 1.0, 1.0]))
    with pytest.raises(DataError, match=r"voxels of 0\.0005 mm, the images of the training 1 mm") as refused:
        slices.predict(tiny)
    assert "without a spacing" in refused.value.hint
    assert slices.predict(Volume(tiny.array, np.diag([0.02, 0.02, 1.0, 1.0]))).segmentation.spatial_shape == (23, 18, 1)


def test_volumes_are_segmented_slice_by_slice_by_a_flat_model(slices):
    result = slices.predict(scan())
    assert result.segmentation.spatial_shape == SHAPE
    assert set(np.unique(result.segmentation.array)) == {0, 255}


def test_files_volumes_arrays_and_cases_give_the_same(volumes, tmp_path):
    image = scan(np.diag([1.5, 1.0, 2.0, 1.0]))
    path = tmp_path / "scan.nii.gz"
    write_volume(image, path)
    expected = volumes.predict(image)
    others = {
        "scan": volumes.predict(str(path)),
        "array": volumes.predict(image.array[0], spacing=(1.5, 1.0, 2.0)),
        "case": volumes.predict(Case("case", (path,), None)),
    }
    assert {name: result.case for name, result in others.items()} == {name: name for name in others}
    for result in others.values():
        np.testing.assert_array_equal(result.segmentation.array, expected.segmentation.array)
        assert result.segmentation.spacing == pytest.approx((1.5, 1.0, 2.0))


def test_a_picture_may_be_an_array_of_two_axes(slices):
    pixels = picture().array[0, ..., 0]
    assert slices.predict(pixels).segmentation.spatial_shape == (23, 18, 1)


def test_probabilities_sum_to_one_and_their_strongest_is_the_mask(volumes):
    padded = np.zeros((30, 28, 20), np.float32)
    padded[4:25, 5:23, 3:16] = scan().array[0]  # what lies outside is cropped away and comes back as background
    result = volumes.predict(padded, probabilities=True)
    likely = result.probabilities.array
    assert likely.shape == (3, *padded.shape)
    assert likely.min() >= 0
    np.testing.assert_allclose(likely.sum(axis=0), 1, atol=1e-5)
    assert likely[0, 0, 0, 0] == 1
    values = np.array(list(result.labels.values()))
    np.testing.assert_array_equal(values[likely.argmax(axis=0)], result.segmentation.array[0])
    assert volumes.predict(padded).probabilities is None


def test_attention_lies_on_the_images_grid(volumes):
    image = scan(oblique())
    result = volumes.predict(image, attention=True)
    assert result.attention.keys() == {"level2"}
    alpha = result.attention["level2"]
    assert alpha.array.shape == (1, *SHAPE)
    np.testing.assert_array_equal(alpha.affine, image.affine)
    assert 0 <= alpha.array.min() < alpha.array.max() <= 1
    assert volumes.predict(image).attention == {}


@pytest.mark.parametrize(("gate", "maps"), [("multi", 2), ("additive", 1), (None, 0)])
def test_every_gate_shows_its_maps(gate, maps, make_model):
    segmenter = Segmenter.load(make_model(2, gate=gate), device="cpu")
    attention = segmenter.predict(picture(), attention=True).attention
    assert {alpha.channels for alpha in attention.values()} == ({maps} if maps else set())
    assert all(0 <= alpha.array.min() <= alpha.array.max() <= 1 for alpha in attention.values())


def test_folds_are_averaged(tiny_run):
    def likely(folds):
        segmenter = Segmenter.load(tiny_run, folds=folds, device="cpu")
        return segmenter.predict(scan(), probabilities=True).probabilities.array

    both, first, second = likely(None), likely([0]), likely([1])
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-5)


def test_both_engines_give_the_same_mask(tiny_run, volumes):
    bundle = load_bundle(tiny_run, [0])
    fold, plan = bundle.folds[0], bundle.plan
    engines = (
        OpenVINOEngine(fold.graph, (1, *plan.patch_size), precision="fp32"),
        TorchEngine(fold.weights, plan.network, device="cpu"),
    )
    ours, theirs = (
        Segmenter((Member("one", plan, (engine,)),)).predict(scan(), probabilities=True) for engine in engines
    )
    np.testing.assert_allclose(ours.probabilities.array, theirs.probabilities.array, atol=1e-3)
    for value in plan.labels.values():
        assert dice(ours, theirs, value) >= 0.999
        assert dice(volumes.predict(scan()), theirs, value) >= 0.95  # in bf16 where the CPU has it


def dice(one, other, value):
    masks = one.segmentation.array == value, other.segmentation.array == value
    return 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())


def test_mirroring_averages_over_the_axes_of_the_plan(slices):
    image = picture()
    plain = slices.predict(image, mirror=False, probabilities=True).probabilities.array
    mirrored = slices.predict(image, probabilities=True).probabilities.array
    assert np.abs(plain - mirrored).max() > 0.01
    turned = slices.predict(image.with_array(image.array[:, ::-1]), probabilities=True).probabilities.array
    np.testing.assert_allclose(turned[:, ::-1], mirrored, atol=0.03)


def test_progress_ends_at_the_total(tiny_run):
    seen = []
    segmenter = Segmenter.load(tiny_run, device="cpu")
    segmenter.predict(scan(), step_size=0.7, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {16}
    assert seen[-1] == (16, 16)


@pytest.mark.parametrize("step", [0, -0.5, 1.01, float("nan")])
def test_a_step_out_of_range_is_refused(step, volumes):
    with pytest.raises(ConfigError, match="step"):
        volumes.predict(scan(), step_size=step)


def test_images_the_model_cannot_take_are_refused(volumes, slices):
    with pytest.raises(DataError, match="has 3 channels, the model expects 1: channel 0"):
        slices.predict(picture(channels=3))
    with pytest.raises(DataError, match="2-D image") as refused:
        volumes.predict(picture())
    assert "--spatial-dims 2" in refused.value.hint
    with pytest.raises(DataError, match="NaN"):
        volumes.predict(np.full(SHAPE, np.nan))
    with pytest.raises(DataError, match="shape"):
        volumes.predict(np.zeros(5))


def test_files_that_cannot_be_read_are_refused(volumes, tmp_path):
    with pytest.raises(DatasetError, match="no file or folder"):
        volumes.predict(tmp_path / "none.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    with pytest.raises(FormatError, match=r"broken\.nii\.gz"):
        volumes.predict(tmp_path / "broken.nii.gz")
    for name in ("a", "b"):
        write_volume(scan(), tmp_path / "folder" / f"{name}.nii.gz")
    with pytest.raises(DataError, match="contains 2 images, expected one"):
        volumes.predict(tmp_path / "folder")


def test_the_callers_volume_is_left_as_it_was(volumes):
    image = scan()
    before = image.array.copy()
    volumes.predict(image, probabilities=True)
    np.testing.assert_array_equal(image.array, before)
    assert prepare(image, volumes.plan.preprocessing).array.dtype == np.float32


@pytest.fixture(scope="module")
def ensemble(tiny_run, make_model, tmp_path_factory):
    """A 3-D and a 2-D model of the same labels."""
    root = tmp_path_factory.mktemp("ensemble") / "both"
    save_ensemble({"deep": tiny_run, "flat": make_model(2)}, Postprocessing(), root)
    return root


def test_an_ensemble_averages_its_members_on_the_images_grid(ensemble):
    image, both = scan(oblique()), Segmenter.load(ensemble, device="cpu")
    alone = [Segmenter((member,)) for member in both.members]
    likely = [one.predict(image, probabilities=True).probabilities.array for one in (both, *alone)]
    np.testing.assert_allclose(likely[0], (likely[1] + likely[2]) / 2, atol=1e-5)
    result = both.predict(image, attention=True)
    np.testing.assert_array_equal(result.segmentation.array[0], np.array([0, 1, 7])[likely[0].argmax(0)])
    assert result.attention.keys() == {"deep/level2", "flat/level2"}
    with pytest.raises(DataError, match="2-D image"):
        both.predict(picture())


def test_members_of_different_tasks_are_refused(volumes, slices):
    with pytest.raises(ConfigError, match="differ in their labels"):
        Segmenter((*volumes.members, *slices.members))


def test_postprocessing_is_applied_unless_raw(tiny_run, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    quality = QualityCalibration(cases=9, spearman=0.7, low=0.4, high=0.9, slope=0.0, intercept=0.8, error=0.02)
    cleaning = {"body": ComponentRules(largest_component=True), "lesion": ComponentRules(minimum_ml=1000)}
    save_postprocessing(Postprocessing(components=cleaning, temperature=3.0, quality=quality), model)
    raw, refined = (Segmenter.load(model, device="cpu", raw=raw).predict(scan(), probabilities=True) for raw in (1, 0))
    assert {7} == set(np.unique(raw.segmentation.array)) - set(np.unique(refined.segmentation.array))
    assert ndimage.label(refined.segmentation.array[0] == 1, np.ones((3, 3, 3)))[1] == 1
    assert refined.probabilities.array.max() < raw.probabilities.array.max()
    assert (raw.predicted_dice, refined.predicted_dice) == (None, 0.8)
    assert refined.expected_dice["body"] < raw.expected_dice["body"]


def test_regions_are_painted_and_keep_a_channel_each(make_network, make_plan_of):
    plan = make_plan_of(labels={"background": 0, "whole": 1, "core": 2})
    fields = plan.model_dump() | {"regions": {"whole": (1, 2), "core": (2,)}}
    fields["network"]["out_channels"] = 2
    plan = plan.model_validate(fields)
    segmenter = Segmenter((Member("one", plan, (TorchEngine(None, make_network(plan), device="cpu"),)),))
    result = segmenter.predict(scan(oblique()), probabilities=True)
    whole, core = result.probabilities.array > 0.5
    np.testing.assert_array_equal(result.segmentation.array[0], np.where(core, 2, whole))
    assert result.expected_dice.keys() == {"whole", "core"}


def test_shuffled_networks_are_raw_and_look_elsewhere(tiny_run, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    save_postprocessing(Postprocessing(temperature=3.0), model)
    loaded = [Segmenter.load(model, device="cpu", shuffle=seed) for seed in (None, 5)]
    assert [one.members[0].temperature for one in loaded] == [3.0, 1.0]
    trained, shuffled = (one.predict(scan(), attention=True).attention["level2"] for one in loaded)
    assert np.abs(trained.array - shuffled.array).max() > 0.05


@pytest.fixture
def mirroring_run(tiny_run, tmp_path):
    """A model of two folds whose plan mirrors two axes."""
    model = shutil.copytree(tiny_run, tmp_path / "mirrors")
    save_plan(load_bundle(model).plan.model_copy(update={"mirror_axes": (0, 1)}), model)
    save_manifest(model)
    return model


@pytest.mark.parametrize("decided", [None, True, False])
def test_the_model_decides_about_mirroring_unless_told_otherwise(decided, mirroring_run):
    plain, mirrored = (
        Segmenter.load(mirroring_run, device="cpu").predict(scan(), mirror=mirror, probabilities=True).probabilities
        for mirror in (False, True)
    )
    assert not np.array_equal(plain.array, mirrored.array)
    save_postprocessing(Postprocessing(prediction=PredictionChoice(mirror=decided)), mirroring_run)
    segmenter = Segmenter.load(mirroring_run, device="cpu")
    for mirror, expected in ((None, plain if decided is False else mirrored), (True, mirrored), (False, plain)):
        result = segmenter.predict(scan(), mirror=mirror, probabilities=True).probabilities
        np.testing.assert_array_equal(result.array, expected.array)
    raw = Segmenter.load(mirroring_run, device="cpu", raw=True).predict(scan(), probabilities=True)
    np.testing.assert_array_equal(raw.probabilities.array, mirrored.array)


def test_the_model_decides_about_folds_unless_told_otherwise(mirroring_run):
    def folds(**how):
        return len(Segmenter.load(mirroring_run, device="cpu", **how).engines)

    assert folds() == 2
    save_postprocessing(Postprocessing(prediction=PredictionChoice(folds=(1,))), mirroring_run)
    assert [folds(), folds(folds="all"), folds(folds=[0, 1]), folds(raw=True)] == [1, 2, 2, 2]
    own, chosen = (Segmenter.load(mirroring_run, device="cpu", **how).predict(scan()) for how in ({"folds": [1]}, {}))
    np.testing.assert_array_equal(own.segmentation.array, chosen.segmentation.array)
    save_postprocessing(Postprocessing(prediction=PredictionChoice(folds=(1, 4))), mirroring_run)
    assert folds() == 2  # a copy without one of the chosen folds uses what it has
