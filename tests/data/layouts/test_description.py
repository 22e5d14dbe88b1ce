"""Labels and regions as dataset.json writes them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunet.data.layouts.description import label_codes, mask_values, read_declared_labels
from attunet.errors import DatasetError

PATH = Path("dataset.json")
NESTED = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def read(labels):
    return read_declared_labels({"labels": labels}, PATH)


def test_nothing_declared():
    assert read_declared_labels({}, PATH) == read({}) == read_declared_labels({"labels": None}, PATH)
    assert mask_values(read({}), {}, PATH) == {}


@pytest.mark.parametrize("labels", [{"0": "background", "1": "liver"}, {"background": 0, "liver": [1]}])
def test_one_value_per_label_needs_no_order(labels):
    declared = read(labels)
    assert (declared.names, declared.regions) == ({"background": 0, "liver": 1}, {})
    assert mask_values(declared, {}, PATH) == declared.names


def test_with_one_region_every_label_is_one():
    declared = read(NESTED | {"ignore": 4})
    assert (declared.names, declared.ignore) == ({"background": 0}, 4)
    assert list(declared.regions.items()) == [("whole", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,))]
    with pytest.raises(DatasetError, match="twice"):
        mask_values(declared, {"regions_class_order": [2, 3, 3]}, PATH)
    painted = mask_values(declared, {"regions_class_order": [1, 2, 3]}, PATH)
    assert list(painted.items()) == [("background", 0), ("whole", 1), ("core", 2), ("enhancing", 3)]


def test_the_background_comes_first_wherever_it_is_declared():
    declared = read({"core": [1, 2], "Background": [7], "rim": 1})
    assert list(mask_values(declared, {"regions_class_order": [2, 1]}, PATH)) == ["Background", "core", "rim"]
    assert read({"core": [1, 2]}).names == {"background": 0}


@pytest.mark.parametrize("order", [None, [1, 2], [1, 2, 3, 4], 1, [1, "x", 3], [True, 2, 3]])
def test_an_order_that_is_missing_or_short(order):
    with pytest.raises(DatasetError, match="expected 3 values, for whole, core, enhancing") as caught:
        mask_values(read(NESTED), {"regions_class_order": order}, PATH)
    assert "later ones cover earlier ones" in caught.value.hint


def test_a_region_is_painted_with_one_of_its_own_values():
    with pytest.raises(DatasetError, match="writes core as 1"):
        mask_values(read(NESTED), {"regions_class_order": [2, 1, 3]}, PATH)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "whole": [0, 1]}, "region whole"),
        ({"background": 0, "whole": [1, 2], "ignore": 2}, "region whole"),
        ({"background": 0, "whole": [1, 2], "none": []}, "region none"),
        ({"background": 0, "whole": [1, 2], "same": [1, 2]}, "twice"),
        ({"background": 0, "whole": [1, 2], "ignore": [3, 4]}, "ignore in"),
        ({"background": 0, "whole": [1, "x"]}, "whole numbers"),
        ({"background": 0, "whole": [[1], 2]}, "whole numbers"),
        ({"background": 0, "whole": True}, "whole numbers"),
    ],
)
def test_declarations_that_make_no_sense(labels, message):
    with pytest.raises(DatasetError, match=message):
        read(labels)


def codes_of(stated, labels=None):
    description = {"labels": labels or {"background": 0, "liver": 1}, "codes": stated}
    return label_codes(description, read_declared_labels(description, PATH), PATH)


def test_codes_are_read_beside_the_labels():
    liver = ["10200004", "SCT", "Liver"]
    codes = codes_of({"liver": {"type": liver, "color": [200, 100, 0]}})
    assert codes["liver"].type == tuple(liver)
    assert codes["liver"].category[2] == "Anatomical Structure"
    assert codes_of({"liver": liver})["liver"].type == tuple(liver)
    assert codes_of(None) == {}
    regions = {"background": 0, "whole": [1, 2], "core": [2]}
    assert list(codes_of({"whole": liver}, regions)) == ["whole"]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (["liver"], "codes in dataset.json is a list"),
        ({"spleen": ["78961009", "SCT", "Spleen"]}, "names spleen, which is none of background, liver"),
        ({"liver": {"type": ["10200004", "SCT"]}}, "codes of liver"),
        ({"liver": {"type": ["10200004", "SCT", "x" * 65]}}, "codes of liver"),
        ({"liver": {"kind": "organ"}}, "codes of liver"),
    ],
)
def test_codes_that_make_no_sense(stated, message):
    with pytest.raises(DatasetError, match=message):
        codes_of(stated)
