"""summary.json of a comparison contains no nan, even for unknown values."""

from __future__ import annotations

import json

import numpy as np

from attunet.evaluation.comparison import ModelComparison
from attunet.evaluation.comparison_file import comparison_to_json


def test_what_is_not_known_is_null(make_compared):
    models = tuple(make_compared(name, np.full((1, 1), value), ("a",)) for name, value in (("x", 0.5), ("y", 0.4)))
    content = json.loads(json.dumps(comparison_to_json(ModelComparison("one", (0,), models)), allow_nan=False))
    assert content["differences"][0]["ci95"] == [None, None]
    assert content["differences"][0]["p"] == 1
    absent = tuple(make_compared(name, np.full((2, 1), np.nan), ("a",)) for name in "xy")
    content = json.loads(json.dumps(comparison_to_json(ModelComparison("none", (0,), absent)), allow_nan=False))
    assert content["differences"][0]["mean"] is None
