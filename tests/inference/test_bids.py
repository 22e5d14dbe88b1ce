"""Predictions as a BIDS derivative."""

import csv
import json
import re

import numpy as np
import pytest

from attunet.data.cases import Case, find_cases
from attunet.data.formats import read_label, read_volume, write_volume
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.batch import predict_cases
from attunet.inference.bids import bids_mask, bids_name
from attunet.inference.destination import Destination
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

NAMES = ["sub-01/anat/sub-01_T1w.nii.gz", "sub-02/ses-b/anat/sub-02_ses-b_acq-fast_run-2_T1w.nii.gz"]


@pytest.fixture(scope="module")
def segmenter(tiny_run):
    return Segmenter.load(tiny_run, folds=[0], device="cpu")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw set"
    for index, name in enumerate(NAMES):
        array = np.random.default_rng(index).normal(100, 30, (1, 20, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.diag([1.0, 1.0, 2.0, 1.0])), folder / name)
    return folder


def test_a_mask_has_the_entities_of_its_image(raw, tmp_path):
    cases = [Case("a", (raw / NAMES[0],), None), Case("b", (raw / NAMES[1],), None)]
    assert [bids_mask(case, tmp_path).relative_to(tmp_path).as_posix() for case in cases] == [
        "sub-01/anat/sub-01_desc-attunet_dseg.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_acq-fast_run-2_desc-attunet_dseg.nii.gz",
    ]
    assert bids_name(cases[1]).root == raw
    assert bids_name(cases[1]).source == NAMES[1]


@pytest.mark.parametrize(
    "name",
    [
        "scan1.nii.gz",
        "sub-01_T1w.nii.gz",  # not in its folders
        "sub-02/anat/sub-01_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_T1w.nii.gz",  # its session is not in its name
        "sub-01/anat/sub-0-1_T1w.nii.gz",
        "sub-01/anat/sub-01.nii.gz",
    ],
)
def test_other_names_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="not named as in BIDS"):
        bids_mask(Case("a", (tmp_path / name,), None), tmp_path)


def test_a_derivative_has_masks_tables_sidecars_and_a_description(segmenter, raw, tmp_path):
    cases, output = find_cases([raw], 1), tmp_path / "derivatives"
    results = predict_cases(
        segmenter, cases, output, PredictOptions(probabilities=True), destination=Destination(layout="bids")
    )
    assert not [result.error for result in results if result.error]
    for case, name in zip(cases, NAMES, strict=True):
        mask = bids_mask(case, output)
        image = read_volume(raw / name)
        np.testing.assert_array_equal(read_label(mask).array, segmenter.predict(case).segmentation.array)
        np.testing.assert_allclose(read_label(mask).affine, image.affine)
        sidecar = json.loads(mask.with_name(mask.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["Sources"] == [f"bids:raw:{name}"]
        with mask.with_name(mask.name.replace(".nii.gz", ".tsv")).open() as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        assert {row["name"]: int(row["index"]) for row in rows} == segmenter.plan.labels
        probabilities = mask.with_name(mask.name.replace("dseg", "probseg"))
        assert read_volume(probabilities).channels == len(segmenter.plan.outputs)
        labels = json.loads(probabilities.with_name(probabilities.name.replace(".nii.gz", ".json")).read_text())
        assert labels["LabelMap"] == list(segmenter.plan.outputs)
    description = json.loads((output / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "attunet"
    assert description["DatasetLinks"]["raw"].endswith("raw%20set")
    files = [path.name for path in output.rglob("sub-*") if path.is_file()]
    assert all(re.fullmatch(r"sub-\w+(_[a-z]+-\w+)*_(dseg|probseg)\.(nii\.gz|json|tsv)", file) for file in files)
    assert len(files) == 2 * 5
    again = predict_cases(segmenter, cases, output, destination=Destination(layout="bids"), skip_existing=True)
    assert not again


def test_two_images_of_one_name_and_folders_of_others_are_refused(segmenter, raw, tmp_path):
    second = raw / NAMES[0].replace("T1w", "T2w")
    second.write_bytes((raw / NAMES[0]).read_bytes())
    with pytest.raises(ConfigError, match=r"both be written as sub-01_desc-attunet_dseg\.nii\.gz"):
        predict_cases(segmenter, find_cases([raw], 1), tmp_path / "out", destination=Destination(layout="bids"))
    second.unlink()
    (raw / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.8.0"}')
    with pytest.raises(ConfigError, match="another BIDS data set"):
        predict_cases(segmenter, find_cases([raw], 1), raw, destination=Destination(layout="bids"))
