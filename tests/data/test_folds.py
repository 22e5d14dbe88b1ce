"""No leak between the sides of a fold, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.dataset import Case, Dataset
from attunet.data.folds import Split, make_folds
from attunet.errors import DatasetError, FormatError


def dataset(*cases: Case) -> Dataset:
    return Dataset(root=Path("set"), layout="plain", cases=cases)


def case(id: str, group: str | None = None, split: str | None = None, *, labelled: bool = True) -> Case:
    return Case(id, (Path(f"{id}.nii"),), Path(f"{id}.nii") if labelled else None, group, split)


@given(
    groups=st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=2, max_size=40),
    folds=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_groups_stay_together_and_every_case_validates_once(groups, folds, seed):
    cases = [case(f"{index:02}", group or None) for index, group in enumerate(groups)]
    made = make_folds(dataset(*cases), folds, seed)
    units = {entry.group or entry.id for entry in cases}
    assert len(made) == (1 if len(units) == 1 else min(folds, len(units)))
    group = {entry.id: entry.group or entry.id for entry in cases}
    assert sorted(id for fold in made for id in fold.validation) == sorted(group)
    for fold in made if len(units) > 1 else ():
        assert not {group[id] for id in fold.train} & {group[id] for id in fold.validation}
        assert sorted(fold.train + fold.validation) == sorted(group)


def test_folds_depend_on_the_seed_alone():
    cases = [case(f"{index:02}") for index in range(20)]
    made = make_folds(dataset(*cases), 5, 0)
    assert made == make_folds(dataset(*reversed(cases)), 5, 0)
    assert made != make_folds(dataset(*cases), 5, 1)
    assert {len(fold.validation) for fold in made} == {4}


def test_unlabelled_and_test_cases_are_left_out():
    made = make_folds(dataset(case("a"), case("b"), case("c", labelled=False)), 5, 0)
    assert {id for fold in made for id in fold.train} == {"a", "b"}
    made = make_folds(dataset(case("a", split="train"), case("b", split="val"), case("c", split="test")), 5, 0)
    assert [(fold.train, fold.validation) for fold in made] == [(("a",), ("b",))]


def test_a_split_without_validation_validates_on_its_training_cases():
    made = make_folds(dataset(case("a", split="train"), case("b", split="train")), 5, 0)
    assert [(fold.train, fold.validation) for fold in made] == [(("a", "b"), ("a", "b"))]


def test_a_single_group_validates_on_itself():
    made = make_folds(dataset(case("a", "P"), case("b", "P")), 5, 0)
    assert [(fold.train, fold.validation) for fold in made] == [(("a", "b"), ("a", "b"))]


def test_nothing_to_train_on_is_refused():
    for cases in ([case("a", labelled=False)], [case("a", split="val")], [case("a", split="test")]):
        with pytest.raises(DatasetError, match="no labelled training case"):
            make_folds(dataset(*cases), 5, 0)


@pytest.mark.parametrize("train", ["[[1]]", "[3]", "5", "[a, {b: c}]"])
def test_a_split_names_cases_and_nothing_else(train, tmp_path):
    (tmp_path / "split.yaml").write_text(f"dataset: x\ntrain: {train}\nvalidation: []\n")
    with pytest.raises(FormatError, match=r"split\.yaml") as refused:
        Split.read(tmp_path)
    assert refused.value.hint == "train the fold again"
