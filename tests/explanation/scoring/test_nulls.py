"""The maps of others: who lends to whom, and that what they score is told apart from a case's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.explanation.scoring.nulls import CaseMaps, lenders_of, other_case_scores
from attunet.explanation.scoring.organs import Organs
from attunet.explanation.scoring.scores import METRICS, score_map
from attunet.explanation.scoring.summary import OTHER_CASES


def looked(name, array, organ, *, flip=False, folder=None):
    """A case with one gate, whose map is `array` (C, I, J, K); stored from left to right or the other way."""
    affine = np.diag([-1.0 if flip else 1.0, 1.0, 1.0, 1.0])
    volume = Volume(array[:, ::-1] if flip else array, affine)
    masks = {"blob": organ[::-1] if flip else organ, "absent": np.zeros_like(organ)}
    source = lambda: volume  # noqa: E731
    if folder:
        source = folder / f"{name}_level2.nii.gz"
        write_volume(volume, source)
    everything = tuple(slice(0, size) for size in organ.shape)
    place = volume.affine, volume.spatial_shape, everything
    return CaseMaps(name, place, {"level2": source}, lambda: Organs.of(masks, (1, 1, 1)))


def blob(shape, start):
    mask = np.zeros(shape, bool)
    mask[start : start + 2, 1:3] = True
    return mask


@given(st.integers(1, 40), st.integers(1, 5))
def test_everybody_lends_as_often_as_they_borrow_and_never_to_themselves(cases, count):
    lent = [lenders_of(index, cases, count) for index in range(cases)]
    for index, others in enumerate(lent):
        assert index not in others
        assert len(set(others)) == len(others) <= count
        assert all(0 <= other < cases for other in others)
    assert len(lent[0]) == min(count, cases - 1)
    assert set(np.bincount([other for others in lent for other in others], minlength=cases)) <= {len(lent[0])}


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_case_is_scored_by_the_maps_of_others(tmp_path, on_disk):
    shape, folder = (10, 6, 4), tmp_path if on_disk else None
    masks = [blob(shape, start) for start in (0, 5, 8)]
    # The third is stored from right to left; in the patient its map lies where the others' do.
    cases = [
        looked(name, mask[None].astype(np.float32), mask, flip=name == "c", folder=folder)
        for name, mask in zip("abc", masks, strict=True)
    ]
    rows = {(row.case, row.label): row for row in other_case_scores(cases)}
    assert {(row.source, row.gate) for row in rows.values()} == {(OTHER_CASES, "level2")}
    assert set(rows) == {(case, label) for case in "abc" for label in ("blob", "absent")}
    for index, case in enumerate("abc"):
        lent = [score_map(masks[other], masks[index], (1, 1, 1)) for other in range(3) if other != index]
        expected = {metric: np.mean([scores[metric] for scores in lent]) for metric in METRICS}
        assert rows[case, "blob"].values == pytest.approx(expected)
        assert rows[case, "blob"].values["lift"] == 0
    assert all(np.isnan(value) for value in rows["a", "absent"].values.values())


def test_maps_of_other_shapes_and_two_maps_fit():
    random = np.random.default_rng(0)
    shapes = [(10, 6, 1), (7, 9, 1), (20, 12, 1)]
    cases = [
        looked(str(index), random.random((2, *shape), dtype=np.float32), blob(shape, 2))
        for index, shape in enumerate(shapes)
    ]
    rows = list(other_case_scores(cases, count=2))
    assert {row.gate for row in rows} == {"level2.1", "level2.2"}
    known = [row.values["lift"] for row in rows if row.label == "blob"]
    assert len(known) == 6
    assert all(0.2 < lift < 2 for lift in known)


def test_a_single_case_or_one_without_organs_has_no_others():
    shape = (6, 6, 2)
    case = looked("a", np.ones((1, *shape), np.float32), blob(shape, 1))
    assert not list(other_case_scores([case]))
    bare = CaseMaps("b", case.place, case.maps, lambda: None)
    empty = looked("c", np.ones((1, *shape), np.float32), np.zeros(shape, bool))
    assert {row.case for row in other_case_scores([case, bare, empty])} == {"a"}
