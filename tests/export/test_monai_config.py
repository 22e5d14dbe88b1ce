"""The plan in MONAI's transforms: the same numbers where they can express it."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from attunet.config import ComponentRules, Normalization, Postprocessing
from attunet.data.formats import read_volume
from attunet.data.preprocess import prepare
from attunet.export.monai_config import differences, inference_config, metadata

bundle = pytest.importorskip("monai.bundle")


def parsed(plan, part, postprocessing=None, **changes):
    """A part of the config as MONAI reads it."""
    parser = bundle.ConfigParser(json.loads(json.dumps(inference_config(plan, postprocessing or Postprocessing()))))
    parser.update(changes)
    for name in parser["imports"]:
        parser.get_parsed_content(f"imports#{parser['imports'].index(name)}")
    return parser.get_parsed_content(part)


@pytest.fixture
def scan(tmp_path):
    """A smooth volume with an air margin, its axes running left, front and down."""
    array = 100 * gaussian_filter(np.random.default_rng(0).normal(size=(30, 26, 20)), 2).astype(np.float32)
    array[:3] = array[..., -4:] = array.min()
    affine = np.diag([-1.0, 1.5, -2.0, 1.0])
    affine[:3, 3] = (50, -20, 10)
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize(
    "normalization",
    [{"kind": "zscore"}, {"kind": "ct", "lower": -10, "upper": 12, "mean": 3, "std": 7}, {"kind": "none"}],
)
@pytest.mark.parametrize(("slice_axis", "spacing"), [(2, (1.0, 1.5, 2.0)), (0, (1.5, 2.0, 1.0))])
def test_an_image_is_prepared_as_by_us(normalization, slice_axis, spacing, scan, make_plan_of):
    plan = make_plan_of(3, spacing=spacing)
    update = {"slice_axis": slice_axis, "normalization": (Normalization(**normalization),)}
    plan = plan.model_copy(update={"preprocessing": plan.preprocessing.model_copy(update=update)})
    theirs = parsed(plan, "preprocessing")({"image": str(scan)})["image"]
    np.testing.assert_allclose(theirs.numpy(), prepare(read_volume(scan), plan.preprocessing).array, atol=1e-4)


def test_another_spacing_has_the_same_grid_and_nearly_the_same_numbers(scan, make_plan_of):
    plan = make_plan_of(3, spacing=(0.9, 1.3, 1.7))
    theirs = parsed(plan, "preprocessing")({"image": str(scan)})["image"].numpy()
    ours = prepare(read_volume(scan), plan.preprocessing).array
    assert theirs.shape == ours.shape
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.99


def test_channels_are_joined_and_normalized_each_in_its_way(scan, tmp_path, make_plan_of):
    second = nibabel.load(scan)
    nibabel.save(nibabel.Nifti1Image(np.cbrt(second.get_fdata()), second.affine), tmp_path / "case_0001.nii.gz")
    scan.rename(tmp_path / "case_0000.nii.gz")
    plan = make_plan_of(3, in_channels=2, spacing=(1.0, 1.5, 2.0))
    both = (Normalization(kind="zscore"), Normalization(kind="ct", lower=-1, upper=1, mean=0.5, std=2))
    plan = plan.model_copy(update={"preprocessing": plan.preprocessing.model_copy(update={"normalization": both})})
    (files,) = parsed(plan, "datalist", dataset_dir=str(tmp_path))
    assert [name[-9:] for name in files] == ["00.nii.gz", "01.nii.gz"]
    theirs = parsed(plan, "preprocessing")({"image": files})["image"].numpy()
    volumes = [read_volume(tmp_path / f"case_000{index}.nii.gz") for index in (0, 1)]
    joined = volumes[0].with_array(np.concatenate([volume.array for volume in volumes]))
    np.testing.assert_allclose(theirs, prepare(joined, plan.preprocessing).array, atol=1e-4)


def test_labels_get_their_file_values_and_regions_are_painted(make_plan_of):
    torch = pytest.importorskip("torch")
    steps = inference_config(make_plan_of(3), Postprocessing())["postprocessing"]["transforms"]
    mapped = next(step for step in steps if step["_target_"] == "MapLabelValued")
    assert mapped["target_labels"] == [0, 1, 7]
    plan = make_plan_of(3, labels={"background": 0, "body": 1, "lesion": 7})
    plan = plan.model_copy(update={"regions": {"body": (1, 7), "lesion": (7,)}})
    at = [step["_target_"] for step in inference_config(plan, Postprocessing())["postprocessing"]["transforms"]]
    paint = parsed(plan, f"postprocessing#transforms#{at.index('Lambdad')}")
    likely = torch.tensor([[0.2, 0.9, 0.9], [0.1, 0.1, 0.8]]).view(2, 3, 1, 1)
    assert paint({"pred": likely})["pred"].flatten().tolist() == [0, 1, 7]


def test_what_is_not_expressed_is_reported(make_plan_of):
    plan = make_plan_of(3, mirror_axes=(0, 1))
    cleaning = {
        "body": ComponentRules(largest_component=True),
        "lesion": ComponentRules(fill_holes=True, minimum_ml=0.2),
    }
    postprocessing = Postprocessing(components=cleaning)
    texts = " ".join(differences(plan, postprocessing, folds=5))
    assert "--disable-tta" in texts
    assert "5 folds" in texts
    assert "lesion: fill holes; lesion: remove below 0.2 ml" in texts
    steps = inference_config(plan, postprocessing)["postprocessing"]["transforms"]
    kept = [step["applied_labels"] for step in steps if step["_target_"].startswith("KeepLargest")]
    assert kept == [[1]]
    assert len(differences(make_plan_of(3), Postprocessing(), folds=1)) == 2


@pytest.mark.parametrize("dims", [2, 3])
def test_metadata_describe_input_and_output(dims, make_plan_of):
    content = metadata(make_plan_of(dims, labels={"background": 0, "cell": 255}))
    formats = content["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == [16, 12, 8][:dims]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "cell"}
    assert {"version", "changelog", "monai_version", "pytorch_version", "numpy_version"} <= content.keys()
    inferer = inference_config(make_plan_of(dims), Postprocessing())["inferer"]
    assert inferer["_target_"] == ("SliceInferer" if dims == 2 else "SlidingWindowInferer")
