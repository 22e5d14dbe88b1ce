"""Studies and corrected labels: a data set that `attunet train` takes."""

import os
import time

import nibabel
import numpy as np
import pytest

from attunet.data.cases import read_dataset
from attunet.errors import ConfigError, DataError, DatasetError, FormatError, GeometryError
from attunet.serve.datastore import Datastore

pytestmark = pytest.mark.integration

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def write(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def store(tmp_path):
    return Datastore(tmp_path / "studies")


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(8, 7, 6)).astype(np.float32)


@pytest.fixture
def label(image):
    return (image > 0).astype(np.uint8)


def test_images_that_are_there_are_known_by_their_names(tmp_path, image):
    write(tmp_path / "studies" / "alpha.nii.gz", image)
    write(tmp_path / "studies" / "beta.nii", image)
    store = Datastore(tmp_path / "studies")
    assert sorted(store.images()) == ["alpha", "beta"]
    assert store.case("beta").images[0].name == "beta.nii"
    with pytest.raises(DatasetError):
        store.case("../studies/alpha")


def test_what_clients_send_gets_a_name_of_ours(store, tmp_path, image):
    assert store.add(write(tmp_path / "sent.nii.gz", image), "../../MARIA 1") == "../../MARIA 1"
    assert store.has("../../MARIA 1")
    (kept,) = (store.folder / "images").iterdir()
    assert kept.name.startswith("case-")
    assert "MARIA" not in str(kept)
    with pytest.raises(FormatError):
        store.add(tmp_path / "sent.txt", "x")


def test_final_labels_make_a_data_set(store, tmp_path, image, label):
    for number in range(2):
        store.add(write(tmp_path / "sent.nii.gz", image + number), f"case {number}")
        store.save_label(f"case {number}", "final", write(tmp_path / "label.nii.gz", label))
    store.save_label("case 0", "../draft", write(tmp_path / "label.nii.gz", 1 - label))
    assert store.labels("case 0").keys() == {"final", "../draft"}
    assert store.labels("none") == {}
    assert {path.relative_to(store.folder).parts[0] for path in store.folder.rglob("*.nii.gz")} == {
        "images",
        "labels",
        ".label-versions",
    }
    dataset = read_dataset(store.folder)
    assert len(dataset.cases) == 2
    assert np.array_equal(nibabel.load(dataset.cases[0].label).get_fdata(), label)


def test_images_stay_known_when_clients_send_more(tmp_path, image, label):
    for name in ("alpha", "beta", "gamma"):
        write(tmp_path / "studies" / f"{name}.nii.gz", image)
    store = Datastore(tmp_path / "studies")
    store.add(write(tmp_path / "sent.nii.gz", image), "sent")
    assert set(store.images()) == {"alpha", "beta", "gamma", "sent"}
    store.save_label("alpha", "final", write(tmp_path / "label.nii.gz", label))
    assert store.labels("alpha")["final"].name == "alpha.nii.gz"
    assert set(store.images()) == {"alpha", "beta", "gamma", "sent"}


def test_a_label_elsewhere_or_that_is_none_is_refused(store, tmp_path, image, label):
    store.add(write(tmp_path / "sent.nii.gz", image), "a")
    for wrong, error in (
        (write(tmp_path / "other.nii.gz", label[:5]), GeometryError),
        (write(tmp_path / "moved.nii.gz", label, np.diag([3.0, 1, 1, 1])), GeometryError),
    ):
        with pytest.raises(error, match="grid"):
            store.save_label("a", "final", wrong)
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(FormatError):
        store.save_label("a", "final", tmp_path / "broken.nii.gz")
    assert store.labels("a") == {}


def test_what_clients_sent_is_deleted_after_its_time(tmp_path, image, label):
    store = Datastore(tmp_path / "own", keep=100)
    store.add(write(tmp_path / "sent.nii.gz", image), "a")
    store.save_label("a", "final", write(tmp_path / "label.nii.gz", label))
    assert store.expire() == 0
    for path in (store.folder / "images").iterdir():
        os.utime(path, (0, time.time() - 200))
    assert store.expire() == 1
    assert not list(store.folder.rglob("*.nii.gz"))
    assert not store.has("a")
    assert Datastore(tmp_path / "studies").expire() == 0


TWO = ("t1", "flair")


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("a_0000", "a_0001"), "a"),
        (("imagesTr/a_0000", "imagesTr/a_0001"), "a"),
        (("sub-01/anat/sub-01_T1", "sub-01/anat/sub-01_FLAIR"), "sub-01"),
    ],
)
def test_an_image_of_several_files_has_all_channels_in_order(tmp_path, image, label, names, key):
    folder = tmp_path / "studies"
    for number, name in reversed(list(enumerate(names))):
        write(folder / f"{name}.nii.gz", image + number)
    store = Datastore(folder, inputs=[TWO])
    assert list(store.images()) == [key]
    assert [path.name for path in store.case(key, TWO).images] == [f"{name.split('/')[-1]}.nii.gz" for name in names]
    store.save_label(key, "final", write(tmp_path / "label.nii.gz", label))
    assert store.labels(key)["final"].name == f"{key}.nii.gz"
    assert list(store.images()) == [key]


def test_channels_that_do_not_fit_are_refused(tmp_path, image):
    for number in range(2):
        write(tmp_path / "studies" / f"a_000{number}.nii.gz", image)
    store = Datastore(tmp_path / "studies", inputs=[("ct",), TWO])
    assert sorted(store.images()) == ["a", "a_0000", "a_0001"]
    assert len(store.case("a", TWO).images) == 2
    assert len(store.case("a_0001", ("ct",)).images) == 1
    for channels in (("ct",), ("t1", "t2", "flair"), ("flair", "t1")):
        with pytest.raises(DataError, match=f"a has 2 files, expected those of {len(channels)}"):
            store.case("a", channels)


def test_other_orders_and_names_of_channels_are_never_mixed_up(tmp_path, image):
    for name in ("x_t1", "x_flair"):
        write(tmp_path / "studies" / f"{name}.nii.gz", image)
    store = Datastore(tmp_path / "studies", inputs=[TWO, TWO[::-1]])
    for channels in (TWO, TWO[::-1]):
        assert [path.name for path in store.case("x", channels).images] == [f"x_{name}.nii.gz" for name in channels]
    with pytest.raises(DataError):
        store.case("x", ("t1", "t2"))


def test_images_in_folders_stay_known_when_clients_send_more(tmp_path, image):
    for name in ("p1/scan", "p2/scan"):
        write(tmp_path / "studies" / f"{name}.nii.gz", image)
    before = Datastore(tmp_path / "studies").images()
    store = Datastore(tmp_path / "studies")
    store.add(write(tmp_path / "sent.nii.gz", image), "sent")
    assert len(before) == 2
    assert store.images().keys() == before.keys() | {"sent"}
    assert all(store.case(key).images == case.images for key, case in before.items())


def test_a_name_stands_for_the_image_that_was_sent_last_and_never_hides_another(tmp_path, image, label):
    write(tmp_path / "studies" / "alpha.nii.gz", image)
    store = Datastore(tmp_path / "studies")
    with pytest.raises(ConfigError, match="already an image"):
        store.add(write(tmp_path / "sent.nii.gz", image), "alpha")
    for number in range(4):
        store.add(write(tmp_path / "sent.nii.gz", image + number), "x")
        assert np.allclose(nibabel.load(store.case("x").images[0]).get_fdata(), image + number)
    assert len(store.images()) == 5
