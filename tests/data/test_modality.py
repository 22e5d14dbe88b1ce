"""The modality of each channel follows from names, headers, file names and values, and contradictions are reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import make_series, sample, save_series

from attunet.data.dataset import Case, Dataset
from attunet.data.modality import CaseChannels, case_channels, check_modalities, find_modalities
from attunet.data.volume import Volume

RANDOM = np.random.default_rng(0)
CT = np.rint(np.where(np.indices((12, 12, 8))[0] < 6, -1000, 40) + RANDOM.normal(0, 20, (12, 12, 8)))
MR = RANDOM.gamma(2, 100, (12, 12, 8))
SHIFTED = np.maximum(CT + 1024, 0)
SHIFTED[0, 0, 0] = 2000


def evidence(*channels, name="a", files=(), affine=None):
    volume = Volume(np.stack(channels).astype(np.float32), np.diag([2.0, 1, 1, 1]) if affine is None else affine)
    return case_channels(Case(name, tuple(files) or (Path(f"{name}.npy"),), None), volume)


def kinds(cases, names=()):
    return [(entry.kind, entry.certainty) for entry in find_modalities(names, cases)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("CT", "ct"), ("ct_portal", "ct"), ("CBCT scan", "ct"), ("PET", "pet"), ("SUV", "pet"), ("pt", "pet")),
        *(("MRI", "mr"), ("T1ce", "mr"), ("t2w", "mr"), ("FLAIR", "mr"), ("ADCmap", "mr"), ("DWI", "mr")),
    ],
)
def test_declared_names(name, kind):
    assert kinds([evidence(MR)], (name,)) == [(kind, "declared")]


@pytest.mark.parametrize("name", ["", "channel 0", "contrast", "PET/CT", "noNorm", "PETRA T1 CT"])
def test_names_that_say_nothing(name):
    assert kinds([evidence(MR)], (name,)) == [("other", "assumed")]
    assert kinds([evidence(CT)], (name,)) == [("ct", "recognised")]


def test_every_channel_has_a_modality_of_its_own():
    cases = [evidence(CT, MR, name=name) for name in "ab"]
    assert kinds(cases) == [("ct", "recognised"), ("other", "assumed")]
    assert kinds(cases, ("CT", "PET")) == [("ct", "declared"), ("pet", "declared")]
    assert kinds(cases, ("T1", "T2")) == [("mr", "declared")] * 2


def test_pictures():
    assert kinds([evidence(MR[..., :1], MR[..., :1], affine=np.eye(4))])[0] == ("image", "recognised")
    assert kinds([evidence(CT[..., :1], affine=np.eye(4))]) == [("ct", "recognised")]


def test_file_names():
    files = [(Path(f"{name}_ct.nii.gz"), Path(f"{name}_pet.nii.gz")) for name in "ab"]
    assert kinds([evidence(CT, MR, files=pair) for pair in files]) == [("ct", "recognised"), ("pet", "recognised")]
    found = find_modalities((), [evidence(MR, files=(Path("ct.nii.gz"),))])
    assert (found[0].kind, found[0].certainty) == ("other", "assumed")
    assert "although all files are named ct" in found[0].reason


def test_headers(tmp_path):
    image = nibabel.Nifti1Image(MR.astype(np.float32), np.diag([2.0, 1, 1, 1]))
    image.header["descrip"] = b"TE=4.6;Time=101500.000"
    nibabel.save(image, tmp_path / "a.nii.gz")
    (tmp_path / "b.nrrd").write_bytes(b"NRRD0004\ntype: short\nmodality:=PT\n\n" + bytes(range(256)))
    (tmp_path / "c.mha").write_bytes(b"ObjectType = Image\nModality = MET_MOD_CT\nElementDataFile = LOCAL\n")
    (tmp_path / "d.json").write_text(json.dumps({"Modality": "MR"}))
    (tmp_path / "e.nii.gz").write_bytes(b"damaged")
    names = ("a.nii.gz", "b.nrrd", "c.mha", "d.nii", "e.nii.gz", "none.nii")
    found = evidence(*([MR] * 6), files=[tmp_path / name for name in names])
    assert found.tags == ("mr", "pet", "ct", "mr", None, None)
    assert kinds([found])[0] == ("mr", "declared")


def check(*cases, names=()):
    dataset = Dataset(root=Path(), layout="plain", cases=(), channel_names=names)
    problems = check_modalities(dataset, cases)
    assert all(problem.remedy for problem in problems)
    return [(problem.kind, problem.severity) for problem in problems]


def test_contradictions_are_reported():
    cases = [evidence(CT, name="a"), evidence(CT, name="b"), evidence(MR, name="c")]
    assert check(*cases) == check(*cases, names=("CT",)) == [("contradictory modality", "problem")]
    assert check(*cases[:2], names=("T1",)) == [("contradictory modality", "problem")]
    assert check(*cases[:2]) == check(cases[2]) == check(cases[2], names=("MR",)) == []
    tagged = replace(cases[0], tags=("mr",))
    assert check(tagged, names=("CT",)) == [("contradictory modality", "problem")]


def test_shifted_values_are_said():
    shifted = evidence(SHIFTED, name="c")
    assert check(shifted) == [("shifted CT", "warning")]
    assert check(evidence(CT), evidence(CT), shifted) == [("contradictory modality", "problem")]
    assert check(evidence(MR), names=("CT",)) == [("no Hounsfield units", "warning")]


def test_cases_with_another_number_of_channels_are_left_to_another_check():
    assert check(evidence(CT), evidence(CT, CT), evidence(CT)) == []
    assert isinstance(evidence(CT), CaseChannels)


@pytest.mark.parametrize(("modality", "kind"), [("CT", "ct"), ("MR", "mr"), ("PT", "pet")])
def test_the_modality_of_dicom_is_declared(modality, kind, tmp_path):
    save_series(make_series(sample(), modality=modality), tmp_path / "a")
    assert kinds([evidence(MR, files=(tmp_path / "a",))]) == [(kind, "declared")]
