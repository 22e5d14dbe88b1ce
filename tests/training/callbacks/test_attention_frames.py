import json
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.cases import read_dataset
from attunet.data.formats import read_volume
from attunet.data.preprocess import IGNORED
from attunet.training.callbacks.attention_frames import (
    AttentionFrame,
    AttentionRecorder,
    frame_interval,
    thumbnail_shape,
    write_attention_frames,
)
from attunet.training.run_folder import FoldPaths, FoldTraining
from attunet.training.store import store_cases


@pytest.fixture
def make_recorder(stored, tiny_plan, tmp_path):
    """Makes recorders of the blobs, all of them for the same fold."""

    def make(cases=stored, plan=None):
        return AttentionRecorder(cases, plan or tiny_plan(), SimpleNamespace(elapsed=90.0), FoldPaths(tmp_path))

    return make


def a_trainer(epoch=0, last=False, rank_zero=True):
    return SimpleNamespace(current_epoch=epoch, global_step=epoch * 3 + 3, should_stop=last, is_global_zero=rank_zero)


def validate(recorder, epoch, value=None, **trainer):
    """End a validation in which every gate was open by this much."""
    for case in recorder.probes:
        recorder.add(case, {"level2": np.full((1, 24, 24, 16), (epoch if value is None else value) / 100, np.float32)})
    recorder.end_validation(a_trainer(epoch, **trainer), recorder.take_maps())


def epochs_of(folder):
    return [frame["epoch"] for frame in json.loads((folder / "attention_frames" / "frames.json").read_text())["frames"]]


def content(folder):
    return {file.name: file.read_bytes() for file in sorted((folder / "attention_frames").iterdir())}


def test_the_first_and_the_middle_case_are_watched(make_recorder, stored):
    assert make_recorder().probes == (stored[0], stored[2])
    assert make_recorder(stored[:1]).probes == (stored[0],)
    assert make_recorder(()).probes == ()


def test_without_gates_nothing_is_recorded(make_recorder, tiny_plan, tmp_path):
    plain = make_recorder(plan=tiny_plan(network=tiny_plan().network.model_copy(update={"gate": None})))
    plain.on_train_start(a_trainer(), None)
    validate(plain, 0, last=True)
    assert plain.probes == ()
    assert not list(tmp_path.iterdir())


def test_frames_of_earlier_are_removed_when_none_are_kept(make_recorder, tmp_path):
    validate(make_recorder(), 0)
    assert list(tmp_path.rglob("*.nii.gz"))
    make_recorder(()).on_train_start(a_trainer(), None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@given(st.integers(1, 400))
def test_at_most_sixteen_frames_evenly_spread_and_never_one_that_was_dropped(validations):
    frames = []
    for index in range(validations):
        interval = frame_interval(index)
        if index % interval == 0 or index == validations - 1:
            frames = [*(earlier for earlier in frames if earlier % interval == 0), index]
    assert len(frames) <= 16
    assert frames[0] == 0
    assert frames[-1] == validations - 1
    assert frames[:-1] == list(range(0, frames[-2] + 1, frame_interval(validations - 1))) if len(frames) > 1 else True
    assert validations < 16 or len(frames) >= 8


def test_frames_of_a_long_training(make_recorder, tmp_path, stored):
    watched = make_recorder(stored[:1])
    watched.on_train_start(a_trainer(), None)
    for epoch in range(36):
        validate(watched, epoch, last=epoch == 35)
    assert epochs_of(tmp_path) == [*range(0, 36, 4), 35]
    image = nibabel.load(tmp_path / "attention_frames" / "case0_level2.nii.gz")
    assert image.shape == (24, 24, 16, 10)
    np.testing.assert_allclose(image.get_fdata()[5, 5, 5], np.array(epochs_of(tmp_path)) / 100, atol=0.5 / 255)
    assert len(list(FoldPaths(tmp_path).recorded_frames.iterdir())) == 10


@pytest.mark.parametrize("killed_at", [1, 15, 16, 19])
def test_a_resumed_training_has_the_frames_of_an_uninterrupted_one(killed_at, make_recorder, tmp_path, stored):
    """The last checkpoint is older than what was recorded when the training was killed."""
    whole = make_recorder(stored[:1])
    whole.on_train_start(a_trainer(), None)
    for epoch in range(20):
        validate(whole, epoch, last=epoch == 19)
    expected = content(tmp_path)
    shutil.rmtree(tmp_path / "attention_frames")
    shutil.rmtree(FoldPaths(tmp_path).recorded_frames)
    killed = make_recorder(stored[:1])
    killed.on_train_start(a_trainer(), None)
    for epoch in range(killed_at + 1):
        state = killed.state_dict()
        validate(killed, epoch, last=epoch == 19)
    resumed = make_recorder(stored[:1])
    resumed.load_state_dict(state)
    resumed.on_train_start(a_trainer(), None)
    assert max(epochs_of(tmp_path)) < killed_at
    for epoch in range(killed_at, 20):
        validate(resumed, epoch, last=epoch == 19)
    assert content(tmp_path) == expected


def test_a_larger_budget_forgets_the_frame_that_was_the_last(make_recorder, tmp_path, stored):
    first = make_recorder(stored[:1])
    first.on_train_start(a_trainer(), None)
    for epoch in range(18):
        validate(first, epoch, last=epoch == 17)
    assert epochs_of(tmp_path) == [*range(0, 17, 2), 17]
    longer = make_recorder(stored[:1])
    longer.load_state_dict(first.state_dict())
    longer.on_train_start(a_trainer(), None)
    assert epochs_of(tmp_path)[-1] == 17
    validate(longer, 18)
    assert epochs_of(tmp_path) == list(range(0, 19, 2))


def test_a_training_of_an_earlier_version_continues_with_its_frames(make_recorder, tmp_path, stored):
    first = make_recorder(stored[:1])
    first.on_train_start(a_trainer(), None)
    for epoch in range(3):
        validate(first, epoch)
    paths = FoldPaths(tmp_path)
    paths.recorded_frames.rename(tmp_path / "checkpoints" / "film")
    (paths.attention_frames / "frames.json").rename(paths.attention_frames / "film.json")
    paths.attention_frames.rename(tmp_path / "film")
    resumed = make_recorder(stored[:1])
    assert resumed.state_key == "EpochFilm"
    resumed.load_state_dict({"validations": 3})
    resumed.on_train_start(a_trainer(), None)
    assert epochs_of(tmp_path) == [0, 1, 2]
    validate(resumed, 3, last=True)
    assert epochs_of(tmp_path) == [0, 1, 2, 3]
    assert not list(tmp_path.rglob("film*"))


def test_what_was_finished_is_left_as_it_is(make_recorder, tmp_path):
    done = make_recorder()
    done.on_train_start(a_trainer(), None)
    validate(done, 0, last=True)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    again = make_recorder()
    again.load_state_dict(done.state_dict())
    again.on_train_start(a_trainer(), None)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_new_training_drops_the_frames_of_an_earlier_one(make_recorder, tmp_path, stored):
    earlier = make_recorder()
    earlier.on_train_start(a_trainer(), None)
    validate(earlier, 0, value=7)
    make_recorder(stored[:1]).on_train_start(a_trainer(), None)
    assert not (tmp_path / "attention_frames").exists()
    assert not list(FoldPaths(tmp_path).recorded_frames.iterdir())


def test_frames_of_other_cases_are_not_mixed(make_recorder, tmp_path, stored):
    first = make_recorder(stored[:1])
    first.on_train_start(a_trainer(), None)
    validate(first, 0)
    other = make_recorder(stored[1:2])
    other.load_state_dict(first.state_dict())
    other.on_train_start(a_trainer(), None)
    validate(other, 1)
    assert epochs_of(tmp_path) == [1]
    assert [
        probe["case"] for probe in json.loads((tmp_path / "attention_frames/frames.json").read_text())["probes"]
    ] == ["case1"]


def test_only_the_first_process_writes_and_all_count(make_recorder, tmp_path):
    follower = make_recorder()
    follower.on_train_start(a_trainer(rank_zero=False), None)
    validate(follower, 0, rank_zero=False)
    assert follower.state_dict() == {"validations": 1}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_leaves_its_attention_frames(dims, stored, tiny_plan, tiny_config, tmp_path):
    from attunet.training.trainer import train_network

    paths = FoldPaths(tmp_path)
    fold = FoldTraining(
        train=stored[:2],
        validation=stored[2:],
        plan=tiny_plan(dims=dims),
        config=tiny_config(case_images=True),
        paths=paths,
    )
    train_network(fold)
    assert epochs_of(tmp_path) == [0, 1]
    for case in ("case2", "case3"):
        maps = nibabel.load(paths.attention_frames / f"{case}_level2.nii.gz")
        assert maps.shape == (24, 24, 16, 2)
        assert 0 < maps.get_fdata().min() <= maps.get_fdata().max() <= 1
        assert nibabel.load(paths.attention_frames / f"{case}_label.nii.gz").shape == (24, 24, 16)


sizes = st.integers(1, 700)


@given(st.tuples(sizes, sizes, sizes))
def test_a_small_grid_is_no_larger_than_the_case_and_never_longer_than_allowed(shape):
    small = thumbnail_shape(shape)
    assert all(1 <= length <= other for length, other in zip(small, shape, strict=True))
    assert max(small) <= (64 if shape[2] > 1 else 256)


def a_frame(case, shape, value, epoch=0):
    maps = {(case, gate): np.full(thumbnail_shape(shape), value, np.uint8) for gate in ("level2", "level3.1")}
    return AttentionFrame(epoch=epoch, step=50 * (epoch + 1), minutes=0.5 * epoch, maps=maps)


@pytest.fixture
def oblique(tmp_path, tiny_plan):
    """A case whose grid is turned, flipped, anisotropic and cut to its content, stored; its image's path."""

    def make(plan, shape=(30, 20, 100)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        turned = np.array([[0, -0.8, 0, 30], [0, 0, 0.4, -70], [-1.5, 0, 0, 12], [0, 0, 0, 1.0]])
        image = np.zeros(shape, np.float32)
        image[4:, 2:, 10:90] = np.random.default_rng(0).normal(50, 5, (shape[0] - 4, shape[1] - 2, 80))
        label = np.zeros(shape, np.uint8)
        label[10:20, 6:14, 40:60] = 1
        for kind, array in (("images", image), ("labels", label)):
            nibabel.save(nibabel.Nifti1Image(array, turned), tmp_path / "data" / kind / "a.nii")
        (stored,) = store_cases(read_dataset(tmp_path / "data").cases, plan, tmp_path / "store").values()
        return stored, tmp_path / "data" / "labels" / "a.nii"

    return make


def centre_of(volume, mask):
    middle = np.argwhere(mask).mean(axis=0)
    return (volume.affine @ [*middle, 1])[:3]


def test_everything_lies_where_the_case_does(oblique, tiny_plan, tmp_path):
    plan = tiny_plan(
        preprocessing=Preprocessing(spacing=(0.7, 0.45, 1.4), normalization=(Normalization(kind="zscore"),))
    )
    stored, label = oblique(plan)
    shape = stored.label().shape
    write_attention_frames(
        tmp_path / "frames", [stored], [a_frame("a", shape, 51), a_frame("a", shape, 255, epoch=4)], plan
    )
    original, small = read_volume(label), read_volume(tmp_path / "frames" / "a_label.nii.gz")
    assert max(shape) > 64 >= max(small.spatial_shape)
    away = centre_of(original, original.array[0] > 0) - centre_of(small, small.array[0] > 0)
    assert np.abs(away).max() < max(small.spacing) / 2
    for name in ("a_image.nii.gz", "a_level2.nii.gz", "a_level3.1.nii.gz"):
        other = read_volume(tmp_path / "frames" / name)
        assert other.spatial_shape == small.spatial_shape
        np.testing.assert_allclose(other.affine, small.affine, atol=1e-5)
    corners = stored.affine() @ [-0.5, -0.5, -0.5, 1], small.affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(*corners, atol=1e-4)


def test_maps_are_bytes_that_read_as_coefficients_frame_by_frame(oblique, tiny_plan, tmp_path):
    stored, _ = oblique(tiny_plan())
    shape = stored.label().shape
    write_attention_frames(
        tmp_path, [stored], [a_frame("a", shape, value, epoch) for epoch, value in enumerate((0, 51, 255))], tiny_plan()
    )
    image = nibabel.load(tmp_path / "a_level2.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert image.shape == (*thumbnail_shape(shape), 3)
    for frame, value in enumerate((0.0, 0.2, 1.0)):
        np.testing.assert_allclose(image.get_fdata()[..., frame], value, atol=1e-6)
    assert json.loads((tmp_path / "frames.json").read_text()) == {
        "frames": [{"epoch": epoch, "step": 50 * (epoch + 1), "minutes": 0.5 * epoch} for epoch in range(3)],
        "probes": [
            {"case": "a", "gates": ["level2", "level3.1"], "image": "a_image.nii.gz", "label": "a_label.nii.gz"}
        ],
    }


def test_labels_have_the_values_of_their_file(tmp_path, write_blobs, tiny_plan):
    folder = write_blobs(tmp_path / "data", cases=1, value=255, second=7, ignored=9)
    plan = tiny_plan(labels={"background": 0, "bright": 255, "dark": 7}, ignore_label=9)
    (stored,) = store_cases(read_dataset(folder).cases, plan, tmp_path / "store").values()
    write_attention_frames(tmp_path / "frames", [stored], [a_frame("case0", (24, 24, 16), 0)], plan)
    values, classes = read_volume(tmp_path / "frames" / "case0_label.nii.gz").array[0], stored.label()[:]
    for index, value in {0: 0, 1: 255, 2: 7, IGNORED: 9}.items():
        np.testing.assert_array_equal(values == value, classes == index)


def test_a_ct_is_shown_in_its_own_units(oblique, tiny_plan, tmp_path):
    normalization = Normalization(kind="ct", lower=-100, upper=1000, mean=80, std=40)
    plan = tiny_plan(preprocessing=Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(normalization,)))
    stored, _ = oblique(plan)
    write_attention_frames(tmp_path, [stored], [a_frame("a", stored.label().shape, 0)], plan)
    assert read_volume(tmp_path / "a_image.nii.gz").array.mean() == pytest.approx(50, abs=2)
