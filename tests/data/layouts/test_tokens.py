"""File names as tokens."""

import pytest

from attunet.data.layouts.tokens import Role, fold, residue, subject, tokenize


def roles(part):
    return [(token.text, token.role) for token in tokenize(part)]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("BraTS20_001_t1ce", [("BraTS20", None), ("001", None), ("t1ce", Role.CHANNEL)]),
        ("img0001", [("img", Role.IMAGE), ("0001", None)]),
        ("21_manual1", [("21", None), ("manual", Role.LABEL), ("1", Role.RATER)]),
        ("label0001", [("label", Role.LABEL), ("0001", None)]),
        ("case1_seg_rater_A", [("case1", None), ("seg", Role.LABEL), ("rater", Role.RATER), ("A", Role.RATER)]),
        ("GroundTruth", [("GroundTruth", Role.LABEL)]),
        ("TrainMasks", [("Train", Role.SPLIT), ("Masks", Role.LABEL)]),
        (
            "sub-01_ses-2_label-GM_seg",
            [("sub-01", Role.PATIENT), ("ses-2", Role.SUBORDINATE), ("label-GM", Role.LABEL), ("seg", Role.LABEL)],
        ),
    ],
)
def test_words_have_roles(part, expected):
    assert roles(part) == expected


@pytest.mark.parametrize(
    ("part", "dropped", "rest"),
    [
        ("case_1_seg", {Role.LABEL}, "case_1"),
        ("21_training_mask", {Role.LABEL, Role.SPLIT}, "21"),
        ("case (1)_seg", {Role.LABEL}, "case (1)"),
        ("a.b c", {Role.LABEL}, "a.b c"),
        ("imaging", {Role.IMAGE}, ""),
    ],
)
def test_what_is_left_names_the_case(part, dropped, rest):
    assert residue(part, frozenset(dropped)) == rest


@pytest.mark.parametrize(
    ("id", "patient"),
    [
        ("patient001_frame01", "patient001"),
        ("patient_07_left_2", "patient_07"),
        ("p7_left", "p7"),
        ("Image_01L", "Image_01"),
        ("BraTS-GLI-00001-000", "BraTS-GLI-00001"),
        ("sub-01_ses-1_run-2", "sub-01"),
        ("X12_20190131", "X12"),
        ("patient_0001", None),
        ("frame_0001", None),
        ("case_12", None),
    ],
)
def test_the_patient_of_a_time_point_or_side(id, patient):
    assert subject(id) == patient


def test_unicode_forms_and_letter_case_are_folded():
    assert fold("LÄSION") == fold("la\u0308sion")
