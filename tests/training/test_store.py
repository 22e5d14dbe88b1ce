import os
import shutil
import stat
import time
from collections import Counter
from dataclasses import replace
from threading import Thread

import nibabel
import numpy as np
import pytest

from attunet.config import Normalization, Plan, Preprocessing, load_settings
from attunet.data.cases import read_case, read_dataset
from attunet.data.preprocess import IGNORED, prepare
from attunet.data.restore import model_affine
from attunet.errors import DataError, FormatError, TrainingError
from attunet.training import store
from attunet.training.store import store_cases


@pytest.fixture
def folder(tmp_path, write_blobs):
    return write_blobs(tmp_path / "data", cases=3)


def cases_in(folder):
    return read_dataset(folder).cases


def written(folder):
    """Every file of a store and when it was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_stored_arrays_are_the_prepared_case(folder, tiny_plan, tmp_path):
    plan, case = tiny_plan(), cases_in(folder)[0]
    stored = store_cases([case], plan, tmp_path / "store")[case.id]
    image, label = read_case(case)
    np.testing.assert_array_equal(stored.image()[:], prepare(image, plan.preprocessing).array)
    np.testing.assert_array_equal(stored.label()[:], label.array[0])
    np.testing.assert_array_equal(stored.image()[:, 3:9, 5:7, 2:3], stored.image()[:][:, 3:9, 5:7, 2:3])
    np.testing.assert_allclose(stored.affine(), model_affine(prepare(image, plan.preprocessing).record))
    assert stored.image().dtype == np.float32
    assert stored.label().dtype == np.uint8


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_stored_scans_are_private_whatever_the_umask(folder, tiny_plan, tmp_path):
    before = os.umask(0)
    try:
        stored = store_cases(cases_in(folder)[:1], tiny_plan(), tmp_path / "new" / "store")
    finally:
        os.umask(before)
    folders = [tmp_path / "new" / "store", *(case.folder for case in stored.values())]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700, 0o700]


def test_points_lie_in_their_class_and_ignored_voxels_stay_ignored(tmp_path, write_blobs, tiny_plan):
    folder = write_blobs(tmp_path / "data", cases=1, value=255, second=7, ignored=9)
    plan = tiny_plan(labels={"background": 0, "bright": 255, "dark": 7}, ignore_label=9)
    (stored,) = store_cases(cases_in(folder), plan, tmp_path / "store").values()
    classes, points = stored.label()[:], stored.points()
    assert set(np.unique(classes)) == {0, 1, 2, IGNORED}
    assert (classes[:4] == IGNORED).all()
    assert set(points) == {1, 2}
    for index, voxels in points.items():
        assert len(voxels) == (classes == index).sum()
        assert (classes[tuple(voxels.T)] == index).all()


def test_nothing_is_stored_twice(folder, tiny_plan, tmp_path):
    cases, target, calls = cases_in(folder), tmp_path / "store", []
    first = store_cases(cases, tiny_plan(), target)
    before = written(target)
    other_network = tiny_plan(batch_size=7, patch_size=(8, 8, 8))
    assert store_cases(cases, other_network, target, advance=lambda: calls.append(1)) == first
    assert written(target) == before
    assert len(calls) == len(cases)


def test_a_changed_file_is_stored_anew_and_the_others_are_not(folder, tiny_plan, tmp_path):
    target = tmp_path / "store"
    first = store_cases(cases_in(folder), tiny_plan(), target)
    label = folder / "labels" / "case1.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((24, 24, 16), np.uint8), np.eye(4)), label)
    second = store_cases(cases_in(folder), tiny_plan(), target)
    assert {name for name in first if first[name].folder != second[name].folder} == {"case1"}
    assert second["case1"].label()[:].min() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"background": 0, "blob": 2}},
        {"ignore_label": 9},
        {"preprocessing": Preprocessing(spacing=(2.0, 1.0, 1.0), normalization=(Normalization(kind="zscore"),))},
        {"preprocessing": Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(Normalization(kind="none"),))},
    ],
)
def test_another_preparation_is_stored_anew(change, folder, tiny_plan, tmp_path):
    cases, target = cases_in(folder)[:1], tmp_path / "store"
    first = store_cases(cases, tiny_plan(), target)["case0"]
    second = store_cases(cases, tiny_plan(**change), target)["case0"]
    assert first.folder != second.folder
    assert second.folder.is_dir()


def test_what_the_images_are_like_changes_nothing_that_is_stored(folder, tiny_plan, ranged_run, tmp_path):
    plan, store = tiny_plan(), tmp_path / "store"
    store_cases(cases_in(folder), plan, store)
    before = written(store)
    ranges = load_settings(Plan, ranged_run / "plan.json").fingerprint.ranges
    known = plan.fingerprint.model_copy(update={"ranges": ranges})
    store_cases(cases_in(folder), plan.model_copy(update={"fingerprint": known}), store)
    assert written(store) == before


def test_the_geometry_policy_belongs_to_the_key(folder, tiny_plan, tmp_path):
    cases = cases_in(folder)[:1]
    kept = [
        store_cases(cases, tiny_plan(), tmp_path, geometry=policy)["case0"].folder for policy in ("fail", "resample")
    ]
    assert kept[0] != kept[1]


def test_what_is_cut_short_leaves_no_case(folder, tiny_plan, tmp_path, monkeypatch):
    cases, target = cases_in(folder)[:1], tmp_path / "store"

    def full_disk(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_points", full_disk)
        with pytest.raises(OSError, match="No space"):
            store_cases(cases, tiny_plan(), target)
    assert list(target.iterdir()) == []
    (target / ".storing-killed").mkdir()
    (target / ".storing-killed" / "image.b2nd").write_bytes(b"half")
    assert store_cases(cases, tiny_plan(), target)["case0"].label().shape == (24, 24, 16)


def make_unusable(folder, name):
    image = np.zeros((24, 24, 16), np.float32)
    image[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "images" / f"{name}.nii")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unusable_case_is_named_with_its_remedy(workers, tmp_path, write_blobs, tiny_plan, monkeypatch):
    monkeypatch.setattr(store, "_WORTH_PROCESSES", 0)
    folder = write_blobs(tmp_path / "data", cases=5)
    make_unusable(folder, "case3")
    with pytest.raises(DataError, match=r"^case case3: .*NaN") as caught:
        store_cases(cases_in(folder), tiny_plan(), tmp_path / "store", workers=workers)
    assert caught.value.hint.startswith("replace them")


def test_an_unreadable_file_is_named(folder, tiny_plan, tmp_path):
    (folder / "images" / "case2.nii").write_bytes(b"no scan")
    with pytest.raises(DataError, match="case2"):
        store_cases(cases_in(folder), tiny_plan(), tmp_path / "store")


def test_several_processes_store_what_one_stores(tmp_path, write_blobs, tiny_plan, monkeypatch):
    monkeypatch.setattr(store, "_WORTH_PROCESSES", 0)
    cases = cases_in(write_blobs(tmp_path / "data", cases=5))
    alone = store_cases(cases, tiny_plan(), tmp_path / "alone", workers=0)
    together = store_cases(cases, tiny_plan(), tmp_path / "together", workers=2)
    assert list(alone) == list(together) == [case.id for case in cases]
    for name, stored in alone.items():
        assert stored.folder.name == together[name].folder.name
        np.testing.assert_array_equal(stored.image()[:], together[name].image()[:])


class Deadly:
    """Ends the process that reads it."""

    def __reduce__(self):
        return os.abort, ()


def test_a_process_ended_by_the_system_is_reported(tmp_path, write_blobs, tiny_plan, monkeypatch):
    monkeypatch.setattr(store, "_WORTH_PROCESSES", 0)
    cases = [replace(case, group=Deadly()) for case in cases_in(write_blobs(tmp_path / "data", cases=4))]
    with pytest.raises(TrainingError, match="killed by the system") as caught:
        store_cases(cases, tiny_plan(), tmp_path / "store", workers=2)
    assert "stored so far are reused" in caught.value.hint


@pytest.mark.parametrize("name", ["image.b2nd", "label.b2nd", "points.npz", "contents.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: file.write_bytes(bytes(byte ^ (index == 90) for index, byte in enumerate(file.read_bytes()))),
    ],
    ids=["missing", "empty", "truncated", "one bit"],
)
def test_a_damaged_entry_costs_one_preparation(name, damage, folder, tiny_plan, tmp_path):
    cases, target = cases_in(folder), tmp_path / "store"
    first = store_cases(cases, tiny_plan(), target)
    before = {case.id: case.image()[:] for case in first.values()}
    damage(first[cases[0].id].folder / name)
    others = written(first[cases[1].id].folder)
    again = store_cases(cases, tiny_plan(), target)
    assert all(np.array_equal(again[case.id].image()[:], before[case.id]) for case in cases)
    assert again[cases[0].id].contents() == again[cases[0].id].contents()
    assert written(first[cases[1].id].folder) == others


def test_a_copied_store_is_still_good(folder, tiny_plan, tmp_path):
    store_cases(cases_in(folder), tiny_plan(), tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "copy", copy_function=shutil.copyfile)
    before = written(tmp_path / "copy")
    store_cases(cases_in(folder), tiny_plan(), tmp_path / "copy")
    assert written(tmp_path / "copy") == before


def test_what_is_damaged_during_training_is_one_error(folder, tiny_plan, tmp_path):
    (stored, *_) = store_cases(cases_in(folder), tiny_plan(), tmp_path / "store").values()
    (stored.folder / "image.b2nd").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="damaged") as error:
        stored.image()
    assert "--resume" in error.value.hint


def test_only_the_owner_reads_the_store(folder, tiny_plan, tmp_path):
    earlier = os.umask(0o022)
    try:
        store_cases(cases_in(folder), tiny_plan(), tmp_path / "store")
    finally:
        os.umask(earlier)
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_store_that_cannot_be_written_names_its_option(folder, tiny_plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="store of preprocessed cases") as error:
        store_cases(cases_in(folder), tiny_plan(), tmp_path / "file" / "store")
    assert "--store" in error.value.hint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process")
def test_a_full_disk_is_one_error_and_leaves_no_case(folder, tiny_plan, tmp_path, in_child):
    def store_it():
        resource = pytest.importorskip("resource")
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        with pytest.raises(FormatError, match="store of preprocessed cases") as error:
            store_cases(cases_in(folder), tiny_plan(), tmp_path / "store")
        assert "--store" in error.value.hint

    in_child(store_it)
    assert not list((tmp_path / "store").iterdir())


def test_a_daemonic_process_stores_by_itself(tmp_path, write_blobs, tiny_plan, monkeypatch):
    monkeypatch.setattr(store, "can_start_processes", lambda: False)
    monkeypatch.setattr(store, "ProcessPoolExecutor", None)
    folder = write_blobs(tmp_path / "data", cases=5)
    assert len(store_cases(cases_in(folder), tiny_plan(), tmp_path / "store")) == 5


def test_the_data_file_of_a_header_belongs_to_the_key(tmp_path, write_blobs, tiny_plan):
    folder = write_blobs(tmp_path / "data", cases=1)
    (case,) = cases_in(folder)
    header, raw = tmp_path / "data" / "scan.mhd", tmp_path / "data" / "scan.raw"
    header.write_text("ElementDataFile = scan.raw")
    keys = []
    for content in (b"1", b"22"):
        raw.write_bytes(content)
        keys.append(store._key(replace(case, images=(header,)), tiny_plan(), "fail"))
    assert keys[0] != keys[1]


@pytest.mark.parametrize("kind", ["structure set", "BINARY", "FRACTIONAL", "LABELMAP", "several files"])
def test_dicom_gives_the_store_of_the_same_voxels_in_nifti(tmp_path, tiny_plan, kind):
    pytest.importorskip("pydicom")
    from dicom_labels import make_segmentation, make_structure_set
    from dicom_series import make_series, sample, save_series

    random, shape = np.random.default_rng(0), (20, 18, 9)
    affine = np.array([[0, 0, 3.27, -7.1], [-0.976562, 0, 0, 59.570154], [0, -0.976562, 0, 3.3], [0, 0, 0, 1]])
    for name in ("a", "b"):
        stored, label = sample(shape, ord(name)), random.integers(0, 3, shape).astype(np.uint8)
        label[:, :, [0, 7]] = 0
        masks = [("blob", label == 1), ("lump", label == 2)]
        series = make_series(stored, affine, intercept=-1024)
        save_series(series, tmp_path / "dicom" / name / "ct")
        groups = [masks] if kind != "several files" else [[mask] for mask in masks]
        for number, group in enumerate(groups):
            made = (
                make_structure_set(series, group)
                if kind == "structure set"
                else make_segmentation(series, group, "BINARY" if kind == "several files" else kind, order=number)
            )
            made.save_as(tmp_path / "dicom" / name / f"label{number}", enforce_file_format=True)
        for folder, array in (("images", stored - 1024.0), ("labels", label)):
            (tmp_path / "nifti" / folder).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "nifti" / folder / f"{name}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array.astype(np.float32) if folder == "images" else array, affine), file)
    plan = tiny_plan(
        labels={"background": 0, "blob": 1, "lump": 2},
        preprocessing=Preprocessing(spacing=(0.6, 0.6, 1.8), normalization=(Normalization(kind="zscore"),)),
    )
    one, other = (
        store_cases(cases_in(tmp_path / folder), plan, tmp_path / "store" / folder) for folder in ("dicom", "nifti")
    )
    assert len(one) == len(other) == 2
    for first, second in zip(one.values(), other.values(), strict=True):
        assert first.contents() == second.contents()
        np.testing.assert_array_equal(first.affine(), second.affine())
        assert len(first.contents().classes) == 2


def test_two_folds_that_start_at_once_store_each_case_once(folder, tiny_plan, tmp_path, monkeypatch):
    """Neither removes what the other has just stored."""
    times = Counter()
    prepared = store._prepared

    def count(case, plan, geometry):
        times[case.id] += 1
        time.sleep(0.05)
        return prepared(case, plan, geometry)

    monkeypatch.setattr(store, "_prepared", count)
    results = []

    def begin():
        results.append(store_cases(cases_in(folder)[:3], tiny_plan(), tmp_path / "store"))

    threads = [Thread(target=begin) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert times == {"case0": 1, "case1": 1, "case2": 1}
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == sorted(
        case.folder.name for case in results[0].values()
    )
