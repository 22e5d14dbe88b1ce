"""The spelling of labels, regions and missing numbers."""

import pytest

from attunet.evaluation.metrics import METRICS
from attunet.evaluation.overlap import Counts
from attunet.evaluation.scores import CaseScores, LabelScores
from attunet.evaluation.summary_file import case_from_json, case_to_json, key_of, plain, values_from_json


@pytest.mark.parametrize(
    ("value", "key"), [(3, "3"), ((3,), "3"), ((1, 2, 3), "(1, 2, 3)"), ((0,), "0"), ((2, 3), "(2, 3)")]
)
def test_keys_are_those_of_nnunet(value, key):
    assert key_of(value) == key


def test_values_come_back_from_json():
    assert (values_from_json(3), values_from_json([1, 2])) == (3, (1, 2))
    for foreign in ("liver", None, 1.5):
        with pytest.raises(TypeError):
            values_from_json(foreign)


def test_nan_is_null():
    assert (plain(float("nan")), plain(0.5)) == (None, 0.5)


def test_a_case_comes_back_with_the_labels_it_has():
    labels = {"whole": (1, 2), "core": 2}
    measured = {name: index / 8 for index, (name, spec) in enumerate(METRICS.items()) if spec.of_masks}
    scores = {"whole": LabelScores(Counts(4, 1, 2, 9), measured)}
    case = CaseScores("a", scores, "a.nii", None, missing=True)
    entry = case_to_json(case, labels)
    assert list(entry["metrics"]) == ["(1, 2)"]
    assert case_from_json(entry, labels) == case
