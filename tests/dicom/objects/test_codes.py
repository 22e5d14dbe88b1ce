"""Coded names of labels: every code is one of DICOM's, and no name is given more than it says."""

import re
from collections import defaultdict

import pytest
from pydicom.sr._concepts_dict import concepts

from attunet.config import SegmentCode
from attunet.dicom.objects.codes import CATEGORIES, LOCAL_SCHEME, SIDES, code_of, segment_codes, structures

SINGLE = (
    *("spleen", "gallbladder", "liver", "stomach", "pancreas", "esophagus", "trachea", "thyroid_gland", "small_bowel"),
    *("duodenum", "colon", "urinary_bladder", "prostate", "sacrum", "heart", "aorta", "pulmonary_vein", "spinal_cord"),
    *("brachiocephalic_trunk", "superior_vena_cava", "inferior_vena_cava", "brain", "skull", "sternum"),
    *("costal_cartilages", "lung_middle_lobe_right", "atrial_appendage_left"),
    *(f"vertebrae_{level}" for level in ("L5", "L1", "T12", "T1", "C7", "C1")),
)
PAIRED = (
    *("kidney", "adrenal_gland", "lung_upper_lobe", "kidney_cyst", "subclavian_artery", "common_carotid_artery"),
    *("brachiocephalic_vein", "iliac_artery", "iliac_vena", "humerus", "scapula", "clavicula", "femur", "hip"),
)
TOTALSEGMENTATOR = (*SINGLE, *(f"{name}_{side}" for name in PAIRED for side in ("left", "right")), "rib_left_12")


@pytest.fixture(scope="module")
def dictionary():
    """Scheme and value to the meanings that DICOM gives them."""
    meanings = defaultdict(set)
    for scheme in ("SCT", "DCM"):
        for codes in concepts[scheme].values():
            for value, (meaning, _groups) in codes.items():
                meanings[scheme, value].add(meaning.lower())
    return meanings


def test_every_code_is_in_the_dictionary_of_dicom(dictionary):
    used = [*CATEGORIES.values(), *SIDES.values(), *(structure.code for structure in structures().values())]
    assert not [code for code in used if (code[1], code[0]) not in dictionary]


def test_every_meaning_is_one_that_the_dictionary_gives_the_code(dictionary):
    for value, scheme, meaning in {structure.code for structure in structures().values()}:
        known = " ".join(dictionary[scheme, value])
        assert set(meaning.lower().split()) - {"artery", "urinary"} <= set(re.findall(r"[\w/]+", known)) | {"limb"}, (
            known
        )


def test_the_table_holds_the_structures_that_people_segment():
    assert len({structure.code for structure in structures().values()}) >= 60
    assert not [name for name in TOTALSEGMENTATOR if code_of(name) is None]


@pytest.mark.parametrize(
    ("label", "value", "side"),
    [
        ("liver", "10200004", None),
        ("Kidney_Left", "64033007", "Left"),
        ("left kidney", "64033007", "Left"),
        ("kidney-r", "64033007", "Right"),
        ("vertebrae_L1", "66794005", None),
        ("rib_left_4", "113197003", "Left"),
        ("heart_atrium_left", "82471001", None),
        ("subclavian_artery_left", "36765005", "Left"),  # 29700009 would be the right one
    ],
)
def test_a_name_tells_structure_and_side(label, value, side):
    code = code_of(label)
    assert code.type[0] == value
    assert (code.modifier and code.modifier[2]) == side
    assert code.category == CATEGORIES["anatomy"]


@pytest.mark.parametrize("label", ["liver tumour", "liver_tumor"])
def test_a_lesion_has_the_organ_as_its_region(label):
    code = code_of(label)
    assert (code.category, code.type[2], code.region[2]) == (CATEGORIES["lesion"], "Tumor", "Liver")
    assert code.modifier is None


@pytest.mark.parametrize("label", ["kidney_cyst_left", "left kidney cyst", "kidney_left_cyst"])
def test_the_side_of_a_lesion_is_that_of_its_organ(label):
    code = code_of(label)
    assert (code.type[2], code.region[2], code.region_modifier[2]) == ("Cyst", "Kidney", "Left")


@pytest.mark.parametrize("label", ["blob", "liver left", "lv", "tumor core", "kidney left right", "", "liver spleen"])
def test_nothing_is_guessed(label):
    assert code_of(label) is None


def test_a_label_without_a_code_keeps_its_name_and_is_mentioned(tiny_plan):
    long = "a label with a name that is longer than a code may be"
    plan = tiny_plan(labels={"background": 0, "blob": 1, "liver": 2, long: 3})
    codes, (notice,) = segment_codes(plan)
    assert codes["blob"].type == ("blob", LOCAL_SCHEME, "blob")
    assert codes[long].type[1:] == (LOCAL_SCHEME, long)
    assert len(codes[long].type[0]) == 16
    assert codes["liver"].type == ("10200004", "SCT", "Liver")
    assert f"no standard code for blob, {long}" in notice


def test_the_codes_of_a_plan_come_first(tiny_plan):
    stated = SegmentCode(type=("1234", "99TEAM", "Our liver"), color=(1, 2, 3))
    codes, notices = segment_codes(tiny_plan(labels={"background": 0, "liver": 2}, codes={"liver": stated}))
    assert codes == {"liver": stated}
    assert notices == ()


def test_labels_without_a_colour_get_those_of_our_reports(tiny_plan):
    codes, _ = segment_codes(tiny_plan(labels={"background": 0, "liver": 1, "spleen": 2}))
    assert codes["liver"].color == (0xE6, 0x9F, 0x00)
    assert codes["spleen"].color != codes["liver"].color
