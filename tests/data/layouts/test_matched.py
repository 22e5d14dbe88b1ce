"""Folders as people download them: which cases are found from names alone, and what is said about the rest."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from attunet.data.checks import inspect
from attunet.data.dataset import DatasetOptions, LabelFiles
from attunet.data.formats import write_volume
from attunet.data.layouts import read_dataset
from attunet.data.layouts.table import write_table
from attunet.data.volume import Volume
from attunet.errors import DatasetError


def each(count, *names):
    """Names for the numbers from 1, with {i} in five forms: {i}, {i2} to {i7} with zeros."""
    numbers = [{"i": i, **{f"i{width}": f"{i:0{width}d}" for width in (2, 3, 4, 5, 7)}} for i in range(1, count + 1)]
    return [name.format(**number) for number in numbers for name in names]


def build(root: Path, names) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@dataclass(frozen=True)
class Expected:
    """What `read_dataset` finds.

    Args: the files; number of cases; channel names; the first case's id, its label (a file, or names of parts) and
    group; the reasons for files left out; the rule's patterns.
    """

    files: list[str]
    cases: int
    id: str
    label: str | tuple[str, ...]
    channels: tuple[str, ...] = ()
    images: int = 1
    group: str | None = None
    left_out: tuple[str, ...] = ()
    rule: str = ""


def names(template, words):
    """A name for each word, in place of @."""
    return [template.replace("@", word) for word in words.split()]


ISLES = "sub-strokecase{i4}/ses-0001/@/sub-strokecase{i4}_ses-0001_"
BIDS = "sub-{i2}/ses-@/anat/sub-{i2}_ses-@"
CHANNELS = ("flair", "t1", "t1ce", "t2")

LAYOUTS = {
    "brats 2020": Expected(
        [*each(3, *names("B20_Training_{i3}/B20_Training_{i3}_@.nii.gz", "flair t1 t1ce t2 seg")), "name_mapping.csv"],
        3,
        "B20_Training_001",
        "B20_Training_001/B20_Training_001_seg.nii.gz",
        CHANNELS,
        4,
        rule="case = {id}/{id}_{channel}.nii.gz, channels flair, t1, t1ce, t2, label = {id}/{id}_seg.nii.gz",
    ),
    "brats 2018, two folders": Expected(
        [
            *each(3, *names("HGG/B18_A_{i}/B18_A_{i}_@.nii", "flair t1 t1ce t2 seg")),
            *each(3, *names("LGG/B18_B_{i}/B18_B_{i}_@.nii", "flair t1 t1ce t2 seg")),
        ],
        6,
        "B18_A_1",
        "HGG/B18_A_1/B18_A_1_seg.nii",
        CHANNELS,
        4,
    ),
    "brats 2023, two time points": Expected(
        [
            *each(3, *names("BraTS-GLI-{i5}-000/BraTS-GLI-{i5}-000-@.nii.gz", "t1n t1c t2w t2f seg")),
            *each(3, *names("BraTS-GLI-{i5}-001/BraTS-GLI-{i5}-001-@.nii.gz", "t1n t1c t2w t2f seg")),
        ],
        6,
        "BraTS-GLI-00001-000",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg.nii.gz",
        ("t1c", "t1n", "t2f", "t2w"),
        4,
        "BraTS-GLI-00001",
    ),
    "kits": Expected(
        each(3, "case_{i5}/imaging.nii.gz", "case_{i5}/segmentation.nii.gz"),
        3,
        "case_00001",
        "case_00001/segmentation.nii.gz",
        rule="case = {id}/imaging.nii.gz, label = {id}/segmentation.nii.gz",
    ),
    "kits 2023, with the masks of each annotator": Expected(
        each(
            2,
            *names(
                "case_{i5}/@.nii.gz", "imaging segmentation instances/kidney_annotation-1 instances/kidney_annotation-2"
            ),
        ),
        2,
        "case_00001",
        "case_00001/segmentation.nii.gz",
        left_out=("besides the label",),
    ),
    "lits": Expected(
        each(4, "volume-{i}.nii", "segmentation-{i}.nii"),
        4,
        "1",
        "segmentation-1.nii",
        rule="case = volume-{id}.nii, label = segmentation-{id}.nii",
    ),
    "lits, in batches": Expected(
        [f"Training Batch {1 + i // 3}/{kind}-{i}.nii" for i in range(5) for kind in ("volume", "segmentation")],
        5,
        "0",
        "Training Batch 1/segmentation-0.nii",
    ),
    "btcv": Expected(
        each(3, "img/img{i4}.nii.gz", "label/label{i4}.nii.gz"),
        3,
        "0001",
        "label/label0001.nii.gz",
        rule="case = img/img{id}.nii.gz, label = label/label{id}.nii.gz",
    ),
    "btcv, with test images": Expected(
        each(3, *names("RawData/@{i4}.nii.gz", "Training/img/img Training/label/label Testing/img/img1")),
        3,
        "0001",
        "RawData/Training/label/label0001.nii.gz",
        left_out=("test images without a label",),
    ),
    "totalsegmentator": Expected(
        [
            *each(3, "s{i4}/ct.nii.gz", *names("s{i4}/segmentations/@.nii.gz", "spleen liver vertebrae_L1")),
            "meta.csv",
        ],
        3,
        "s0001",
        ("liver", "spleen", "vertebrae_L1"),
        ("ct",),
        rule="case = {id}/ct.nii.gz, channel ct, label = {id}/segmentations/{label}.nii.gz",
    ),
    "drive": Expected(
        each(3, "images/2{i}_training.tif", "1st_manual/2{i}_manual1.png", "mask/2{i}_training_mask.png"),
        3,
        "21",
        "1st_manual/21_manual1.png",
        left_out=("field of view",),
    ),
    "chase: two eyes and two raters": Expected(
        each(3, *names("Image_{i2}@", "L.jpg L_1stHO.png L_2ndHO.png R.jpg R_1stHO.png R_2ndHO.png")),
        6,
        "Image_01L",
        "Image_01L_1stHO.png",
        group="Image_01",
        left_out=("other raters",),
    ),
    "isic": Expected(
        each(
            3,
            "ISIC2018_Task1-2_Training_Input/ISIC_{i7}.jpg",
            "ISIC2018_Task1_Training_GroundTruth/ISIC_{i7}_segmentation.png",
            "ISIC2018_Task1-2_Test_Input/ISIC_9{i7}.jpg",
        ),
        3,
        "ISIC_0000001",
        "ISIC2018_Task1_Training_GroundTruth/ISIC_0000001_segmentation.png",
        left_out=("test images",),
    ),
    "bids, two sessions": Expected(
        each(
            3,
            *names(f"{BIDS}_T1w.nii.gz", "1 2"),
            *names(f"derivatives/manual/{BIDS}_dseg.nii.gz", "1 2"),
            *names("sub-{i2}/ses-@/dwi/sub-{i2}_ses-@_dwi.nii.gz", "1 2"),
        ),
        6,
        "sub-01_ses-1",
        "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz",
        ("T1w",),
        group="sub-01",
        left_out=("outside of anat",),
    ),
    "bids, channels and an entity": Expected(
        each(
            3,
            *names("sub-{i2}/anat/sub-{i2}_@.nii.gz", "T1w FLAIR"),
            "derivatives/l/sub-{i2}/anat/sub-{i2}_space-orig_label-lesion_mask.nii.gz",
        ),
        3,
        "sub-01",
        "derivatives/l/sub-01/anat/sub-01_space-orig_label-lesion_mask.nii.gz",
        ("FLAIR", "T1w"),
        2,
    ),
    "bids, a file per label": Expected(
        each(
            3,
            "sub-{i2}/anat/sub-{i2}_T1w.nii.gz",
            *names("derivatives/m/sub-{i2}/anat/sub-{i2}_label-@_seg.nii.gz", "GM WM"),
        ),
        3,
        "sub-01",
        ("GM", "WM"),
        ("T1w",),
    ),
    "fmriprep": Expected(
        each(
            3,
            "sub-{i2}/anat/sub-{i2}_T1w.nii.gz",
            *names(
                "derivatives/fmriprep/sub-{i2}/anat/sub-{i2}_@.nii.gz",
                "desc-preproc_T1w desc-brain_mask dseg label-GM_probseg",
            ),
        ),
        3,
        "sub-01",
        "derivatives/fmriprep/sub-01/anat/sub-01_dseg.nii.gz",
        ("T1w",),
        left_out=("field of view", "probability maps", "without labels"),
    ),
    "isles": Expected(
        each(
            3,
            *names(f"{ISLES}dwi.nii.gz", "dwi"),
            *names(f"{ISLES}adc.nii.gz", "dwi"),
            *names(f"{ISLES}flair.nii.gz", "anat"),
            "derivatives/sub-strokecase{i4}/ses-0001/sub-strokecase{i4}_ses-0001_msk.nii.gz",
        ),
        3,
        "sub-strokecase0001_ses-0001",
        "derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz",
        ("adc", "dwi", "flair"),
        3,
    ),
    "atlas": Expected(
        each(
            3,
            *names(
                "Training/R001/sub-r001s{i3}/ses-1/anat/sub-r001s{i3}_ses-1_space-MNI_@.nii.gz",
                "T1w label-L_desc-T1lesion_mask",
            ),
        ),
        3,
        "sub-r001s001_ses-1",
        "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI_label-L_desc-T1lesion_mask.nii.gz",
        ("T1w",),
    ),
    "amos": Expected(
        each(2, "imagesTr/amos_{i4}.nii.gz", "labelsTr/amos_{i4}.nii.gz", "imagesTs/amos_1{i3}.nii.gz"),
        2,
        "amos_0001",
        "labelsTr/amos_0001.nii.gz",
        left_out=("test images",),
    ),
    "kvasir, a folder above": Expected(
        [*each(3, "Kvasir-SEG/images/cju0qk{i}.jpg", "Kvasir-SEG/masks/cju0qk{i}.jpg"), "Kvasir-SEG/boxes.json"],
        3,
        "cju0qk1",
        "Kvasir-SEG/masks/cju0qk1.jpg",
    ),
    "acdc": Expected(
        each(3, *names("patient{i3}/patient{i3}_@.nii.gz", "4d frame01 frame01_gt frame12 frame12_gt")),
        6,
        "patient001_frame01",
        "patient001/patient001_frame01_gt.nii.gz",
        group="patient001",
        left_out=("series over time",),
    ),
    "dsb: a file per object": Expected(
        [f"train/{h}/{p}.png" for h in ("0a7d", "1b2c") for p in (f"images/{h}", f"masks/aa{h}9", f"masks/bb{h}8")],
        2,
        "0a7d",
        ("object", "object"),
    ),
    "masks in a folder per label": Expected(
        each(3, "CXR_png/M_{i4}.png", "ManualMask/leftMask/M_{i4}.png", "ManualMask/rightMask/M_{i4}.png"),
        3,
        "M_0001",
        ("left", "right"),
    ),
    "numbered channels": Expected(
        each(3, "imagesTr/c_{i3}_0000.nii.gz", "imagesTr/c_{i3}_0001.nii.gz", "labelsTr/c_{i3}.nii.gz"),
        3,
        "c_001",
        "labelsTr/c_001.nii.gz",
        images=2,
    ),
    "numbers of patients": Expected(
        each(3, "images/patient_{i4}.nii.gz", "labels/patient_{i4}_seg.nii.gz"),
        3,
        "patient_0001",
        "labels/patient_0001_seg.nii.gz",
    ),
    "channels that no table lists": Expected(
        each(3, *names("p{i2}/@.nii.gz", "foo bar seg")), 3, "p01", "p01/seg.nii.gz", ("bar", "foo"), 2
    ),
    "patients with several scans": Expected(
        [f"P{p:02d}/scan{s}/{kind}.nii.gz" for p in (1, 2, 3) for s in (1, 2) for kind in ("image", "label")],
        6,
        "P01_1",
        "P01/scan1/label.nii.gz",
        group="P01",
        rule="case = {group}/scan{id}/image.nii.gz, label = {group}/scan{id}/label.nii.gz, patient = the folder",
    ),
    "slices in folders of patients": Expected(
        [f"TCGA_CS_{p}/TCGA_CS_{p}_{s}{m}.tif" for p in (4941, 4942) for s in (1, 2) for m in ("", "_mask")],
        4,
        "TCGA_CS_4941_1",
        "TCGA_CS_4941/TCGA_CS_4941_1_mask.tif",
        group="TCGA_CS_4941",
    ),
    "overlays": Expected(
        each(3, *names("@/{i}.png", "images masks overlay")), 3, "1", "masks/1.png", left_out=("without labels",)
    ),
    "wmh": Expected(
        each(3, *names("Utrecht/{i}/@.nii.gz", "orig/FLAIR orig/T1 pre/FLAIR pre/T1 wmh")),
        3,
        "1",
        "Utrecht/1/wmh.nii.gz",
        ("FLAIR", "T1"),
        2,
        left_out=("without labels",),
    ),
    "lesions of several visits, two raters": Expected(
        [
            f"training/training0{p}/{name}.nii"
            for p in (1, 2)
            for v in (1, 2)
            for name in (
                *names(f"preprocessed/training0{p}_0{v}_@_pp", "flair mprage pd t2"),
                *names(f"masks/training0{p}_0{v}_@", "mask1 mask2"),
            )
        ],
        4,
        "training01_01",
        "training/training01/masks/training01_01_mask1.nii",
        ("flair", "mprage", "pd", "t2"),
        4,
        left_out=("other raters",),
    ),
    "seven raters and a mask of the brain": Expected(
        each(
            2,
            *names("Patient_{i2}/Raw_Data/@.nii.gz", "DP FLAIR GADO"),
            *names("Patient_{i2}/Masks/@.nii.gz", "ManualSegmentation_1 ManualSegmentation_2 Consensus Brain_Mask"),
        ),
        2,
        "Patient_01",
        "Patient_01/Masks/ManualSegmentation_1.nii.gz",
        ("DP", "FLAIR", "GADO"),
        3,
        left_out=("of the brain", "other raters"),
    ),
    "a folder that is called after lesions": Expected(
        each(2, *names("PET-CT-Lesions/P_{i5}/@.nii.gz", "CT PET SEG")),
        2,
        "P_00001",
        "PET-CT-Lesions/P_00001/SEG.nii.gz",
        ("CT", "PET"),
        2,
    ),
    "images in a folder that is called after segmentation": Expected(
        each(2, "COVID-CT-Seg_20/c_{i3}.nii", *names("@_Mask/c_{i3}.nii", "Lung Infection")),
        2,
        "c_001",
        ("Infection", "Lung"),
    ),
    "masks of a program besides those of people": Expected(
        each(3, "images/{i5}_t2w.mha", *names("labels/@/{i5}.nii.gz", "human_expert/resampled AI/model")),
        3,
        "00001",
        "labels/human_expert/resampled/00001.nii.gz",
        ("t2w",),
        left_out=("by a program",),
    ),
    "labels with derived copies": Expected(
        each(3, *names("@/c{i}.nii.gz", "images labels"), "labels/c{i}_resampled.nii.gz"),
        3,
        "c1",
        "labels/c1.nii.gz",
        left_out=("besides the label",),
    ),
    "a file per label, one of which is the lesion": Expected(
        each(3, "Images/P-{i4}_t2.nii.gz", *names("Masks/P-{i4}_@.nii.gz", "zones lesion")),
        3,
        "P-0001",
        ("lesion", "zones"),
        ("t2",),
    ),
    "numbered masks besides the first": Expected(
        [*each(3, "benign/benign ({i}).png", "benign/benign ({i})_mask.png"), "benign/benign (2)_mask_1.png"],
        3,
        "benign (1)",
        ("object",),
    ),
    "numbers after words of labels that are no raters": Expected(
        each(3, "liver-orig{i3}.mhd", "liver-seg{i3}.mhd"), 3, "liver_001", "liver-seg001.mhd"
    ),
    "masks of the brain as labels": Expected(
        each(3, "imgs/brain_{i}.png", "masks/brain_mask_{i}.png"), 3, "brain_1", "masks/brain_mask_1.png"
    ),
    "folders of folds are no patients": Expected(
        [f"fold{k}/{d}/{i}.png" for k in (1, 2) for i in (1, 2) for d in ("images", "masks")],
        4,
        "fold1_1",
        "fold1/masks/1.png",
    ),
    "one case": Expected(["image.nii.gz", "label.nii.gz"], 1, "data", "label.nii.gz"),
}


def label_of(case, root):
    if isinstance(case.label, LabelFiles):
        return tuple(part.name for part in case.label.parts)
    return None if case.label is None else case.label.relative_to(root).as_posix()


@pytest.mark.parametrize("name", LAYOUTS)
def test_public_layouts(name, tmp_path):
    expected, root = LAYOUTS[name], tmp_path / "data"
    dataset = read_dataset(build(root, expected.files))
    first = dataset.cases[0]
    assert (dataset.layout, len(dataset.cases), len(dataset.labelled)) == ("plain", expected.cases, expected.cases)
    assert (first.id, label_of(first, root), first.group) == (expected.id, expected.label, expected.group)
    assert (dataset.channel_names, len(first.images)) == (expected.channels, expected.images)
    assert all(problem.severity == "warning" for problem in dataset.problems)
    assert str(dataset.rule) == expected.rule or not expected.rule
    reasons = [left.reason for left in dataset.rule.left_out]
    assert len(reasons) == len(expected.left_out)
    assert all(any(text in reason for reason in reasons) for text in expected.left_out)
    images = {file for file in expected.files if not file.endswith((".csv", ".json"))}
    used = {path.relative_to(root).as_posix() for case in dataset.cases for path in case.paths}
    assert used | {file for left in dataset.rule.left_out for file in left.files} == images


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_csv_file_of_a_data_set_reads_as_the_same_cases(name, tmp_path):
    dataset = read_dataset(build(tmp_path / "data", LAYOUTS[name].files))
    write_table(dataset, tmp_path / "cases.csv")
    again = read_dataset(tmp_path / "cases.csv")
    assert (again.channel_names, again.label_names) == (dataset.channel_names, dataset.label_names)
    assert list(map(resolved, again.cases)) == list(map(resolved, dataset.cases))


def test_a_case_that_lacks_a_channel_keeps_the_others_in_their_columns(tmp_path):
    files = [name for name in LAYOUTS["brats 2020"].files if "002_t1ce" not in name]
    write_table(read_dataset(build(tmp_path / "data", files)), tmp_path / "cases.csv")
    header, _, second, _ = (tmp_path / "cases.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), second.split(","), strict=True))
    assert cells["image_t2"].endswith("002_t2.nii.gz")
    assert (cells["image_t1ce"], "image_0" in cells) == ("", False)


def test_names_that_a_spreadsheet_would_run_are_written_as_text_and_read_back(tmp_path):
    files = [f"{folder}/{case}.nii.gz" for folder in ("images", "labels") for case in ("=1+1", "@SUM(A1)", "-2")]
    dataset = replace(read_dataset(build(tmp_path / "data", files)), label_names={"background": 0, "@cmd": 1})
    write_table(dataset, tmp_path / "cases.csv")
    cells = [cell for line in (tmp_path / "cases.csv").read_text().splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@"))]
    again = read_dataset(tmp_path / "cases.csv")
    assert list(map(resolved, again.cases)) == list(map(resolved, dataset.cases))


def resolved(case):
    label = case.label
    if isinstance(label, LabelFiles):
        label = replace(label, parts=tuple(part._replace(path=part.path.resolve()) for part in label.parts))
    elif label is not None:
        label = label.resolve()
    raters = tuple((name, path.resolve()) for name, path in case.raters)
    return replace(case, images=tuple(path.resolve() for path in case.images), label=label, raters=raters)


SCANNED = ("brats 2020", "brats 2023, two time points", "kits", "lits", "btcv", "totalsegmentator", "drive", "isic")
SCANNED += ("bids, two sessions", "acdc", "numbers of patients", "numbered channels")


@pytest.mark.parametrize("name", SCANNED)
def test_small_scans_in_public_layouts_are_read(name, tmp_path):
    files = [file for file in LAYOUTS[name].files if not file.endswith(".csv")]
    for number, file in enumerate(files):
        write_volume(scan(number, is_label=bool(LABELLING.search(file)), file=file), tmp_path / file)
    result = inspect(read_dataset(tmp_path))
    assert not [problem for problem in result.problems if problem.severity == "problem"]
    assert len(result.facts) == LAYOUTS[name].cases
    assert {facts.channels for facts in result.facts} == {3 if name == "isic" else LAYOUTS[name].images}
    assert all(facts.labels and len(facts.labels) > 1 for facts in result.facts)


LABELLING = re.compile("seg|label|manual|mask|truth|_gt", re.IGNORECASE)


def scan(number, *, is_label, file):
    """A scan of a few voxels; a label has one block, in another place for each organ."""
    random = np.random.default_rng(number)
    flat = file.endswith((".png", ".jpg", ".tif"))
    shape = (3 if file.endswith(".jpg") else 1, 12, 10, 1 if flat else 6)
    array = random.integers(0, 200, shape).astype(np.uint8)
    if is_label:
        row = 3 * next((index for index, organ in enumerate(("liver", "spleen", "vertebrae")) if organ in file), 0)
        array = np.zeros(shape, np.uint8)
        array[:, row : row + 3, 2:6] = 1
    return Volume(array, np.eye(4))


def test_a_rater_is_chosen_by_name(tmp_path):
    root = build(tmp_path, LAYOUTS["chase: two eyes and two raters"].files)
    dataset = read_dataset(root, DatasetOptions(rater="2ndho"))
    assert (dataset.cases[0].label, dataset.rule.rater) == (root / "Image_01L_2ndHO.png", "2ndHO")
    assert [problem.kind for problem in dataset.problems] == ["several raters", "left out"]
    with pytest.raises(DatasetError, match="1stHO, 2ndHO"):
        read_dataset(root, DatasetOptions(rater="third"))


@pytest.mark.parametrize(
    ("masks", "rater"),
    [
        (names("@/{i}.png", "expert1 expert2"), "expert2"),
        (names("annotator_@/{i}.png", "A B"), "annotator_b"),
        (names("masks/{i}_reader@.png", "1 2"), "reader2"),
    ],
)
def test_raters_with_a_number_or_letter_are_told_apart(masks, rater, tmp_path):
    root = build(tmp_path, each(3, "images/{i}.png", *masks))
    first, second = (read_dataset(root, DatasetOptions(rater=name)).labelled for name in (None, rater))
    assert [case.label for case in (first[0], second[0])] == [root / mask.format(i=1) for mask in masks]


def test_folders_of_splits_are_kept_and_said(tmp_path):
    files = [f"{s}/{kind}/{n}.png" for s in ("train", "test") for kind in ("images", "masks") for n in range(3)]
    dataset = read_dataset(build(tmp_path, files))
    assert {case.id: case.split for case in dataset.cases} == {
        f"{s}_{n}": "test" if s == "test" else None for s in ("train", "test") for n in range(3)
    }
    assert [problem.kind for problem in dataset.problems] == ["split by folder"]


def test_names_match_in_any_unicode_form_and_letter_case(tmp_path):
    decomposed = unicodedata.normalize("NFD", "läsion 1 (a)")
    build(tmp_path, [f"Images/{decomposed}.png", "Images/X [2].PNG", "labels/läsion 1 (a).png", "labels/x [2].png"])
    dataset = read_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["X [2]", "läsion 1 (a)"]
    assert len(dataset.labelled) == 2


def test_two_readings_are_refused_with_the_flag_that_chooses_each(tmp_path):
    root = build(tmp_path, each(3, "images/{i}.png", "seg/{i}.png", "contours/{i}.png"))
    with pytest.raises(DatasetError, match="could be either") as caught:
        read_dataset(root)
    assert '--label-pattern "contours/{id}.png" or --label-pattern "seg/{id}.png"' in caught.value.hint
    dataset = read_dataset(root, DatasetOptions(label_pattern="seg/{id}.png"))
    assert [case.label.parent.name for case in dataset.cases] == ["seg"] * 3
    assert [left.files for left in dataset.rule.left_out] == [tuple(each(3, "contours/{i}.png"))]


def test_a_pattern_of_channels_makes_no_mask_a_channel(tmp_path):
    root = build(tmp_path, each(2, *names("{i}/@.nii", "flair t1 brainmask ground_truth ground_truth_expert1")))
    stated = DatasetOptions(pattern="{id}/{channel}.nii", label_pattern="{id}/ground_truth.nii")
    dataset = read_dataset(root, stated)
    assert dataset.channel_names == ("flair", "t1")
    assert len(dataset.rule.left_out[0].files) == 4


def test_names_without_any_word_for_labels_are_refused_with_the_flags(tmp_path):
    root = build(tmp_path, each(3, "A/{i}.png", "B/{i}.png"))
    with pytest.raises(DatasetError, match="several readings") as caught:
        read_dataset(root)
    assert '--label-pattern "B/{id}.png"' in caught.value.hint
    assert read_dataset(root, DatasetOptions(label_pattern="B/{id}.png")).cases[0].images == (root / "A/1.png",)


def test_names_of_images_and_labels_that_differ_are_refused_with_patterns_that_read_them(tmp_path):
    root = build(tmp_path, each(3, "CT/PANCREAS_{i4}.nii.gz", "labels-2017/label{i4}.nii.gz"))
    with pytest.raises(DatasetError, match="no label has the name of an image") as caught:
        read_dataset(root)
    assert '--pattern "CT/PANCREAS_{id}.nii.gz" --label-pattern "labels-*/label{id}.nii.gz"' in caught.value.hint
    stated = DatasetOptions(pattern="CT/PANCREAS_{id}.nii.gz", label_pattern="labels-*/label{id}.nii.gz")
    assert [case.id for case in read_dataset(root, stated).labelled] == ["0001", "0002", "0003"]


def test_names_that_tell_no_label_are_listed_as_patterns(tmp_path):
    with pytest.raises(DatasetError, match="no image is named like a label") as caught:
        read_dataset(build(tmp_path, each(3, "stack1/membranes/{i}.png", "stack1/raw/{i}.tif")))
    assert '--label-pattern "stack*/membranes/{id}.png"' in caught.value.hint


def test_a_folder_of_foreign_formats_names_those_that_are_read(tmp_path):
    with pytest.raises(DatasetError, match=r"format that is not read: images/1\.heic") as caught:
        read_dataset(build(tmp_path, each(1, "images/{i}.heic", "labels/{i}.heic")))
    assert ".nii.gz" in caught.value.hint


def test_a_file_that_holds_an_image_and_its_label_is_both_with_the_keys_of_each(tmp_path):
    root = build(tmp_path, each(2, "data/c{i}.npz"))
    cases = read_dataset(root, DatasetOptions(key="image", label_key="mask")).cases
    assert [(case.id, case.images, case.label) for case in cases] == [
        (f"c{i}", (root / f"data/c{i}.npz",), root / f"data/c{i}.npz") for i in (1, 2)
    ]


def test_a_missing_channel_and_a_lost_label_are_problems(tmp_path):
    files = [name for name in LAYOUTS["brats 2020"].files if name != "B20_Training_002/B20_Training_002_t1ce.nii.gz"]
    problems = read_dataset(build(tmp_path, [*files, "B20_Training_009/B20_Training_009_seg.nii.gz"])).problems
    assert {(problem.case, problem.kind) for problem in problems} == {
        ("B20_Training_002", "channel missing"),
        ("B20_Training_009_seg", "label without image"),
    }


def test_links_to_nothing_and_foreign_formats_are_said(tmp_path):
    build(tmp_path, ["images/a.png", "labels/a.png", "images/c.heic", "images/.b.png", "images/notes.txt"])
    (tmp_path / "images/b.png").symlink_to("/nowhere/b.png")
    problems = read_dataset(tmp_path).problems
    assert [(problem.kind, problem.severity) for problem in problems] == [
        ("broken link", "problem"),
        ("unreadable format", "warning"),
    ]
    assert "images/b.png" in problems[0].message
    assert "c.heic" in problems[1].message


def test_a_folder_of_several_data_sets_is_refused(tmp_path):
    build(tmp_path, ["A/dataset.json", "A/imagesTr/a_0000.nii", "A/labelsTr/a.nii", "B/dataset.json"])
    with pytest.raises(DatasetError, match="2 data sets"):
        read_dataset(tmp_path)


def test_paths_of_a_table_may_have_the_separators_of_windows(tmp_path):
    root = build(tmp_path, ["images/a.png", "masks/a.png"])
    (root / "cases.csv").write_text("image,label\nimages\\a.png,masks\\a.png\n")
    (case,) = read_dataset(root / "cases.csv").cases
    assert (case.id, case.images, case.label) == ("a", (root / "images/a.png",), root / "masks/a.png")


def test_a_csv_file_that_was_edited_is_kept(tmp_path):
    dataset = read_dataset(build(tmp_path / "data", LAYOUTS["brats 2020"].files))
    table = tmp_path / "cases.csv"
    write_table(dataset, table)
    write_table(dataset, table)
    table.write_text(table.read_text() + "\n# edited")
    with pytest.raises(DatasetError, match="exists already, with other contents"):
        write_table(dataset, table)
