"""Names for label values."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunet.data.dataset import Case, Dataset
from attunet.data.labels import (
    annotated_values,
    background_value,
    declared_values,
    name_labels,
    rename_annotated,
    values_by_label,
)
from attunet.errors import LabelError


@pytest.mark.parametrize(
    ("declared", "present", "expected"),
    [
        (None, [255, 0], {"background": 0, "label_255": 255}),
        (None, [3, 1, 0], {"background": 0, "label_1": 1, "label_3": 3}),
        (None, [1, 2], {"background": 0, "label_1": 1, "label_2": 2}),
        ({"spleen": 2, "liver": 1}, [0, 1], {"background": 0, "liver": 1, "spleen": 2}),
        ({"liver": 1, "air": 0}, [0, 1], {"air": 0, "liver": 1}),
        ({"Background": 255, "a": 0}, [0, 255], {"Background": 255, "a": 0}),
    ],
)
def test_background_comes_first_then_by_value(declared, present, expected):
    assert list(name_labels(declared, present).items()) == list(expected.items())


def test_undeclared_values_are_refused():
    with pytest.raises(LabelError, match="undeclared values 2, 3; declared are 0, 1"):
        name_labels({"background": 0, "a": 1}, [0, 1, 2, 3])


def test_nothing_but_background_is_refused():
    with pytest.raises(LabelError, match="only the background"):
        name_labels(None, [0])


def test_the_background_is_zero_unless_named():
    assert background_value(None) == background_value({"liver": 1}) == 0
    assert background_value({"Background": 7, "x": 0}) == 7


def dataset(names, *, annotated=None, regions=None, ignore=None):
    case = Case("a", (Path("a.nii"),), Path("a_l.nii"), annotated=annotated)
    return Dataset(
        root=Path("x"), layout="csv", cases=(case,), label_names=names, ignore_label=ignore, regions=regions or {}
    )


BRATS = dataset({"background": 0, "whole": 1, "core": 3}, regions={"whole": (1, 2, 3), "core": (2, 3)}, ignore=9)


def test_regions_are_found_by_the_values_they_unite():
    assert values_by_label(BRATS) == {"background": (0,), "whole": (1, 2, 3), "core": (2, 3)}
    assert declared_values(BRATS) == {0, 1, 2, 3, 9}
    assert declared_values(dataset({"liver": 5})) == {0, 5}
    assert (values_by_label(dataset(None)), declared_values(dataset(None))) == ({}, None)


def test_regions_are_named_in_painting_order():
    named = name_labels({"core": 3, "whole": 1, "background": 0}, [0, 1, 2, 3], {"core": (2, 3), "whole": (1, 2, 3)})
    assert list(named.items()) == [("background", 0), ("core", 3), ("whole", 1)]
    with pytest.raises(LabelError, match="undeclared values 4; declared are 0, 1, 2, 3"):
        name_labels(BRATS.label_names, [1, 4], BRATS.regions)


@pytest.mark.parametrize(
    ("names", "annotated", "expected"),
    [
        (None, None, None),
        (None, ("label_5", "label_7"), {5, 7}),
        ({"background": 0, "liver": 5}, ("liver",), {5}),
    ],
)
def test_annotated_values(names, annotated, expected):
    data = dataset(names, annotated=annotated)
    assert annotated_values(data.cases[0], data) == expected


@pytest.mark.parametrize(
    ("names", "annotated", "expected"),
    [
        (None, ("label_5", "label_7"), ("Leber",)),
        ({"background": 0, "liver": 5, "spleen": 1}, ("spleen", "liver"), ("Milz", "Leber")),
        (None, ("label_7",), ()),
        (None, None, None),
    ],
)
def test_annotated_labels_take_the_names_of_the_plan(names, annotated, expected):
    renamed = rename_annotated(dataset(names, annotated=annotated), {"background": 0, "Leber": 5, "Milz": 1})
    assert renamed.cases[0].annotated == expected
    assert rename_annotated(BRATS, {"background": 0}) is BRATS
