import json
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.training.callbacks.film import EpochFilm, _beat
from attunet.training.paths import FoldPaths


@pytest.fixture
def film(stored, tiny_plan, tmp_path):
    """Makes films of the blobs, all of them in the same folder."""

    def make(cases=stored, plan=None):
        return EpochFilm(cases, plan or tiny_plan(), SimpleNamespace(elapsed=90.0), FoldPaths(tmp_path))

    return make


def a_trainer(epoch=0, last=False, leads=True):
    return SimpleNamespace(current_epoch=epoch, global_step=epoch * 3 + 3, should_stop=last, is_global_zero=leads)


def validate(film, epoch, value=None, **trainer):
    """End a validation in which every gate was open by this much."""
    for case in film.probes:
        film.take(case, {"level2": np.full((1, 24, 24, 16), (epoch if value is None else value) / 100, np.float32)})
    film.record(a_trainer(epoch, **trainer), film.shots())


def epochs_of(folder):
    return [frame["epoch"] for frame in json.loads((folder / "film" / "film.json").read_text())["frames"]]


def content(folder):
    return {file.name: file.read_bytes() for file in sorted((folder / "film").iterdir())}


def test_the_first_and_the_middle_case_are_watched(film, stored):
    assert film().probes == (stored[0], stored[2])
    assert film(stored[:1]).probes == (stored[0],)
    assert film(()).probes == ()


def test_without_gates_there_is_no_film(film, tiny_plan, tmp_path):
    plain = film(plan=tiny_plan(network=tiny_plan().network.model_copy(update={"gate": None})))
    plain.on_train_start(a_trainer(), None)
    validate(plain, 0, last=True)
    assert plain.probes == ()
    assert not list(tmp_path.iterdir())


@given(st.integers(1, 400))
def test_at_most_sixteen_frames_evenly_spread_and_never_one_that_was_dropped(validations):
    kept = []
    for index in range(validations):
        beat = _beat(index)
        if index % beat == 0 or index == validations - 1:
            kept = [*(earlier for earlier in kept if earlier % beat == 0), index]
    assert len(kept) <= 16
    assert kept[0] == 0
    assert kept[-1] == validations - 1
    assert kept[:-1] == list(range(0, kept[-2] + 1, _beat(validations - 1))) if len(kept) > 1 else True
    assert validations < 16 or len(kept) >= 8


def test_frames_of_a_long_training(film, tmp_path, stored):
    watched = film(stored[:1])
    watched.on_train_start(a_trainer(), None)
    for epoch in range(36):
        validate(watched, epoch, last=epoch == 35)
    assert epochs_of(tmp_path) == [*range(0, 36, 4), 35]
    image = nibabel.load(tmp_path / "film" / "case0_level2.nii.gz")
    assert image.shape == (24, 24, 16, 10)
    np.testing.assert_allclose(image.get_fdata()[5, 5, 5], np.array(epochs_of(tmp_path)) / 100, atol=0.5 / 255)
    assert len(list(FoldPaths(tmp_path).frames.iterdir())) == 10


@pytest.mark.parametrize("killed_at", [1, 15, 16, 19])
def test_a_resumed_film_is_that_of_an_uninterrupted_training(killed_at, film, tmp_path, stored):
    """The last checkpoint is older than what was filmed when the training was killed."""
    whole = film(stored[:1])
    whole.on_train_start(a_trainer(), None)
    for epoch in range(20):
        validate(whole, epoch, last=epoch == 19)
    wanted = content(tmp_path)
    shutil.rmtree(tmp_path / "film")
    shutil.rmtree(FoldPaths(tmp_path).frames)
    killed = film(stored[:1])
    killed.on_train_start(a_trainer(), None)
    for epoch in range(killed_at + 1):
        state = killed.state_dict()
        validate(killed, epoch, last=epoch == 19)
    resumed = film(stored[:1])
    resumed.load_state_dict(state)
    resumed.on_train_start(a_trainer(), None)
    assert max(epochs_of(tmp_path)) < killed_at
    for epoch in range(killed_at, 20):
        validate(resumed, epoch, last=epoch == 19)
    assert content(tmp_path) == wanted


def test_a_larger_budget_forgets_the_frame_that_was_the_last(film, tmp_path, stored):
    first = film(stored[:1])
    first.on_train_start(a_trainer(), None)
    for epoch in range(18):
        validate(first, epoch, last=epoch == 17)
    assert epochs_of(tmp_path) == [*range(0, 17, 2), 17]
    longer = film(stored[:1])
    longer.load_state_dict(first.state_dict())
    longer.on_train_start(a_trainer(), None)
    assert epochs_of(tmp_path)[-1] == 17
    validate(longer, 18)
    assert epochs_of(tmp_path) == list(range(0, 19, 2))


def test_what_was_finished_is_left_as_it_is(film, tmp_path):
    done = film()
    done.on_train_start(a_trainer(), None)
    validate(done, 0, last=True)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    again = film()
    again.load_state_dict(done.state_dict())
    again.on_train_start(a_trainer(), None)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_new_training_forgets_the_film_of_an_earlier_one(film, tmp_path, stored):
    earlier = film()
    earlier.on_train_start(a_trainer(), None)
    validate(earlier, 0, value=7)
    film(stored[:1]).on_train_start(a_trainer(), None)
    assert not (tmp_path / "film").exists()
    assert not list(FoldPaths(tmp_path).frames.iterdir())


def test_frames_of_other_cases_are_not_mixed(film, tmp_path, stored):
    first = film(stored[:1])
    first.on_train_start(a_trainer(), None)
    validate(first, 0)
    other = film(stored[1:2])
    other.load_state_dict(first.state_dict())
    other.on_train_start(a_trainer(), None)
    validate(other, 1)
    assert epochs_of(tmp_path) == [1]
    assert [probe["case"] for probe in json.loads((tmp_path / "film/film.json").read_text())["probes"]] == ["case1"]


def test_only_the_first_process_writes_and_all_count(film, tmp_path):
    follower = film()
    follower.on_train_start(a_trainer(leads=False), None)
    validate(follower, 0, leads=False)
    assert follower.state_dict() == {"validations": 1}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_leaves_its_film(dims, stored, tiny_plan, tiny_config, tmp_path):
    from attunet.training.loop import train_network

    paths = FoldPaths(tmp_path)
    train_network(stored[:2], stored[2:], tiny_plan(dims=dims), tiny_config(), paths)
    assert epochs_of(tmp_path) == [0, 1]
    for case in ("case2", "case3"):
        maps = nibabel.load(paths.film / f"{case}_level2.nii.gz")
        assert maps.shape == (24, 24, 16, 2)
        assert 0 < maps.get_fdata().min() <= maps.get_fdata().max() <= 1
        assert nibabel.load(paths.film / f"{case}_label.nii.gz").shape == (24, 24, 16)
