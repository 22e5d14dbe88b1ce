"""Names for label values."""

from __future__ import annotations

import pytest

from attunet.data.labels import background_value, name_labels
from attunet.errors import LabelError


@pytest.mark.parametrize(
    ("declared", "found", "expected"),
    [
        (None, [255, 0], {"background": 0, "label_255": 255}),
        (None, [3, 1, 0], {"background": 0, "label_1": 1, "label_3": 3}),
        (None, [1, 2], {"background": 0, "label_1": 1, "label_2": 2}),
        ({"spleen": 2, "liver": 1}, [0, 1], {"background": 0, "liver": 1, "spleen": 2}),
        ({"liver": 1, "air": 0}, [0, 1], {"air": 0, "liver": 1}),
        ({"Background": 255, "a": 0}, [0, 255], {"Background": 255, "a": 0}),
    ],
)
def test_background_comes_first_then_by_value(declared, found, expected):
    assert list(name_labels(declared, found).items()) == list(expected.items())


def test_undeclared_values_are_refused():
    with pytest.raises(LabelError, match=r"hold 2, 3, declared are 0, 1"):
        name_labels({"background": 0, "a": 1}, [0, 1, 2, 3])


def test_nothing_but_background_is_refused():
    with pytest.raises(LabelError, match="nothing but"):
        name_labels(None, [0])


def test_the_background_is_zero_unless_named():
    assert background_value(None) == background_value({"liver": 1}) == 0
    assert background_value({"Background": 7, "x": 0}) == 7
