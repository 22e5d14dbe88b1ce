"""Cases are chosen by fold, spread evenly, and never overwritten."""

import pytest

from attunet.data.cases import Case
from attunet.errors import ConfigError, DatasetError
from attunet.explanation.cases import (
    ExplainCase,
    check_overwrites,
    find_labelled_cases,
    select_held_out,
    spread_evenly,
)


def test_held_out_cases_are_explained_by_their_own_fold(folded):
    selected, warnings = select_held_out(folded, None)
    assert {case.case.id: case.folds for case in selected}["case1"] == (1,)
    assert len(selected) == 6
    assert warnings == ()
    assert [case.case.id for case in select_held_out(folded, [0])[0]] == ["case0", "case2", "case4"]
    with pytest.raises(ConfigError, match="no held-out cases"):
        select_held_out(folded, [7])


def test_fewer_cases_are_spread_over_all():
    assert spread_evenly(list(range(10)), 3) == [0, 3, 6]
    assert spread_evenly([1, 2], 5) == spread_evenly([1, 2], None) == [1, 2]


def test_labels_are_found_by_name(folded):
    blobs = folded.parent / "blobs"
    cases = find_labelled_cases(folded, [blobs / "images"], blobs / "labels")
    assert [case.label.name for case in cases] == [case.images[0].name for case in cases]
    with pytest.raises(DatasetError, match="does not exist"):
        find_labelled_cases(folded, [blobs / "images"], blobs / "nothing")


def test_masks_never_replace_images(tmp_path):
    case = Case("a", (tmp_path / "a.nii.gz",), None)
    check_overwrites([ExplainCase(case)], tmp_path / "out")
    with pytest.raises(ConfigError, match="overwritten"):
        check_overwrites([ExplainCase(case)], tmp_path)
