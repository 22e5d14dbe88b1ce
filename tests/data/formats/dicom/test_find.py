"""Finding series in folders, discs, archives and files."""

import shutil
import zipfile

import numpy as np
import pytest
from dicom_series import make_picture, make_series, new_uid, sample, save_series
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from attunet.data.formats.dicom import find_series, read_series
from attunet.errors import FormatError


def other(sop_class, modality):
    """An object without pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, new_uid(), modality
    ds.StudyInstanceUID, ds.SeriesInstanceUID = new_uid(), new_uid()
    return ds


@pytest.fixture
def study(tmp_path):
    """Two series in nested folders, their files without suffix, and objects that are no images."""
    root = tmp_path / "disc"
    save_series(make_series(sample(seed=1), SeriesNumber=2), root / "A/B", suffix="")
    second = make_series(sample((12, 10, 8), seed=2), SeriesNumber=1)
    save_series(second[:4], root / "A/C", suffix="")
    save_series(second[4:], root / "A/D", suffix="")
    save_series([other("1.2.840.10008.5.1.4.1.1.88.67", "SR")], root / "A/E")
    localizer = make_series(sample((8, 8, 1)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save_series(localizer, root / "A/F")
    capture = make_picture(sample((1, 8, 8)), SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    save_series([capture], root / "A/G")
    (root / "readme.txt").write_text("read me")
    return root


def test_a_disc_is_searched_and_a_series_may_lie_in_several_folders(study):
    found = find_series(study)
    assert [(one.number, one.shape) for one in found.series] == [(1, (12, 10, 8)), (2, (12, 10, 6))]
    assert {left.what for left in found.left_out} == {"structured report", "localizer", "secondary capture"}
    np.testing.assert_array_equal(read_series(found.series[0]).array[0], sample((12, 10, 8), seed=2))


def test_an_archive_is_searched_like_the_folder(study, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "disc"), "zip", study)
    found = find_series(tmp_path / "disc.zip")
    assert archive.endswith(".zip")
    assert [one.uid for one in found.series] == [one.uid for one in find_series(study).series]
    folder = found.series[0].files[0].parents[1]
    np.testing.assert_array_equal(read_series(found.series[0]).array[0], sample((12, 10, 8), seed=2))
    assert folder.stat().st_mode & 0o077 == 0 or folder.parent.stat().st_mode & 0o077 == 0


def test_a_listing_is_kept_until_a_file_changes(study):
    found = find_series(study)
    assert find_series(study) is found
    next((study / "A/B").iterdir()).unlink()
    assert find_series(study) is not found


def test_an_archive_in_a_folder_is_told(study):
    shutil.make_archive(str(study / "more"), "zip", study / "A/B")
    (left,) = (left for left in find_series(study).left_out if left.what == "archive")
    assert [file.name for file in left.files] == ["more.zip"]
    assert "pass it by itself" in str(left)


def test_names_of_an_archive_lead_nowhere(tmp_path):
    save_series(make_series(sample()), tmp_path / "series")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index, file in enumerate(sorted((tmp_path / "series").iterdir())):
            archive.write(
                file, ("../../../escaped", "/absolute", "C:\\drive", "same/name", "same/./name", "con")[index]
            )
    found = find_series(tmp_path / "a.zip")
    (series,) = found.series
    folder = min((file.parent for file in series.files), key=lambda path: len(path.parts))
    assert all(file.is_relative_to(folder) for file in series.files)
    assert len(set(series.files)) == 6
    assert not (tmp_path.parent / "escaped").exists()


def test_an_archive_that_would_grow_too_large_is_refused(tmp_path):
    bomb = bytes(128) + b"DICM" + bytes(2**29)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bomb)
    with pytest.raises(FormatError, match="times its own size"):
        find_series(tmp_path / "a.zip")


def test_damaged_archives_are_one_error(tmp_path):
    save_series(make_series(sample()), tmp_path / "series")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "series")
    content = (tmp_path / "a.zip").read_bytes()
    for index, damaged in enumerate((content[:200], content[:-30], content[:400] + bytes(200) + content[600:])):
        path = tmp_path / f"damaged{index}.zip"
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"cannot read|contains no"):
            find_series(path)


def test_the_directory_of_a_disc_tells_what_is_missing(tmp_path):
    series = make_series(sample(), PatientSex="O", StudyID="1")
    files = FileSet()
    for ds in series:
        ds.StudyTime, ds.AccessionNumber = "120000", ""
        files.add(ds)
    files.write(tmp_path / "disc")
    images = sorted(file for file in (tmp_path / "disc").rglob("IM*") if file.is_file())
    assert not find_series(tmp_path / "disc" / "DICOMDIR").notices
    images[-1].unlink()
    found = find_series(tmp_path / "disc")
    assert "names 1 files that it lacks" in found.notices[0]
    assert len(found.series) == 1


def test_what_is_no_dicom_is_an_error(tmp_path):
    with pytest.raises(FormatError, match="contains no DICOM"):
        find_series(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(FormatError, match="contains no DICOM"):
        find_series(tmp_path / "x.txt")


def test_a_damaged_file_is_refused_and_the_others_are_read(study):
    (study / "A/broken").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff" + bytes(20))
    found = find_series(study)
    assert len(found.series) == 2


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_was_cut_off_is_told(zipped, tmp_path):
    save_series(make_series(sample()), tmp_path / "a", suffix="")
    (tmp_path / "a/9999").write_bytes(b"")
    (tmp_path / "a/readme.txt").write_text("read me")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.dcm").write_bytes(b"cut")
    if zipped:
        shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path)
    (left,) = find_series(tmp_path / "all.zip" if zipped else tmp_path).left_out
    assert "is called like the DICOM files beside it and is none" in str(left)
    assert {file.name for file in left.files} == {"9999", "x.dcm"}


@pytest.mark.parametrize("size", [300, 600])
def test_a_series_lacks_the_slice_of_a_file_that_was_cut_off(size, tmp_path):
    for index, ds in enumerate(make_series(sample())):
        ds.save_as(tmp_path / f"{index}.dcm", enforce_file_format=True)
    (tmp_path / "0.dcm").write_bytes((tmp_path / "0.dcm").read_bytes()[:size])
    found = find_series(tmp_path)
    assert found.series == ()
    assert "0.dcm holds no image, and may be cut off" in str(found.refused[0])


def test_a_series_lacks_the_slice_of_a_damaged_file_and_not_a_damaged_report(tmp_path):
    save_series(make_series(sample()), tmp_path, suffix="")
    report = other("1.2.840.10008.5.1.4.1.1.88.67", "SR")
    report.add_new(0x0040A730, "SQ", [Dataset()])
    report.save_as(tmp_path / "report", enforce_file_format=True)
    (tmp_path / "report").write_bytes((tmp_path / "report").read_bytes()[:-3])
    assert len(find_series(tmp_path).series) == 1
    (tmp_path / "broken").write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff" + bytes(20))
    found = find_series(tmp_path)
    assert found.series == ()
    assert "broken" in str(found.refused[0])


def test_a_series_says_that_an_empty_file_lies_beside_it(tmp_path):
    save_series(make_series(sample()), tmp_path / "a")
    save_series(make_series(sample()), tmp_path / "b")
    (tmp_path / "a/9999.dcm").write_bytes(b"")
    told = [any("9999.dcm" in notice for notice in one.notices) for one in find_series(tmp_path).series]
    assert sorted(told) == [False, True]


def test_files_without_preamble_and_without_class_are_read(tmp_path):
    array = sample()
    for index, ds in enumerate(make_series(array)):
        del ds.SOPClassUID
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        ds.save_as(tmp_path / f"{index}", enforce_file_format=False)
        content = (tmp_path / f"{index}").read_bytes()
        start = content.find(b"\x08\x00\x08\x00")
        (tmp_path / f"{index}").write_bytes(content[start:])
    (found,) = find_series(tmp_path).series
    np.testing.assert_array_equal(read_series(found).array[0], array)
