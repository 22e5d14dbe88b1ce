"""The files of a server."""

import pytest

from attunet.errors import BusyError, DatasetError, FormatError
from attunet.serve.store import FileStore, ResultFile, Upload

DICOM = b"\0" * 128 + b"DICM" + b"\0" * 20


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "data")


def keep(store, *files):
    folder = store.receive()
    uploads = []
    for number, (name, content) in enumerate(files):
        (folder / str(number)).write_bytes(content)
        uploads.append(Upload(folder / str(number), name, len(content)))
    return store.keep(folder, uploads)


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("../../PATIENT.NII.GZ", b"x", "scan.nii.gz"),
        ("C:\\scans\\a.nrrd", b"x", "scan.nrrd"),
        ("no suffix", DICOM, "scan.dcm"),
        ("a.nii", DICOM, "scan.dcm"),
        ("series.zip", b"PK\x03\x04x", "scan.zip"),
    ],
)
def test_a_file_gets_a_name_of_ours(store, name, content, kept):
    scan = keep(store, (name, content))
    assert store.scan(scan).name == kept
    assert store.scan(scan).read_bytes() == content
    assert "/" not in scan.name
    assert [path.name for path in store.scan(scan).parent.iterdir()] == [kept]
    assert not list(store.incoming.iterdir())


def test_several_files_are_a_series_or_channels(store):
    scan = keep(store, ("b", DICOM), ("a", DICOM))
    assert sorted(path.name for path in store.scan(scan).iterdir()) == ["0000.dcm", "0001.dcm"]
    scan = keep(store, ("x_0001.nii.gz", b"second"), ("x_0000.nii.gz", b"first"))
    assert (store.scan(scan) / "scan_0000.nii.gz").read_bytes() == b"first"
    scan = keep(store, ("t1.nii.gz", b"first"), ("flair.nii.gz", b"second"))
    assert (store.scan(scan) / "scan_0001.nii.gz").read_bytes() == b"second"


def test_years_are_no_numbers_of_channels(store):
    scan = keep(store, ("x_2021.nii", b"first"), ("x_2020.nii", b"second"))
    assert (store.scan(scan) / "scan_0000.nii").read_bytes() == b"first"


@pytest.mark.parametrize(
    "files",
    [
        [],
        [("x_0000.nii", b"x"), ("y_0000.nii", b"y")],
        [("x_0000.nii", b"x"), ("y_0001.nii", b"y")],
        [("x_0001.nii", b"x"), ("x_0002.nii", b"y")],
        [("empty.nii.gz", b"")],
        [("page.html", b"<script>")],
        [("header.mhd", b"ElementDataFile = /etc/passwd")],
        [("header.nhdr", b"data file: /etc/passwd")],
        [("a.zip", b"PK\x03\x04"), ("b", DICOM)],
        [("a.nii", b"x"), ("b.nrrd", b"x")],
        [(f"{number}.nii", b"x") for number in range(17)],
    ],
)
def test_what_is_no_scan_is_refused(store, files):
    with pytest.raises(FormatError) as raised:
        keep(store, *files)
    assert raised.value.hint


def test_results_are_found_by_their_names_only(store):
    work = store.work("job-1")
    (work / "scan.nii.gz").write_bytes(b"mask")
    mask = ResultFile(name="mask", title="Mask", file="scan.nii.gz", media_type="application/gzip")
    folder, size = store.publish(work, [mask])
    assert size == 4
    found, path = store.result(folder, "mask")
    assert (found.bytes, path.read_bytes()) == (4, b"mask")
    for name in ("../../queue.sqlite", "results.json", "", "scan.nii.gz"):
        with pytest.raises(DatasetError, match="no such result"):
            store.result(folder, name)
    store.remove_results(folder)
    assert store.results(folder) == {}


def test_after_a_kill_only_what_is_recorded_stays(store):
    kept, stray = keep(store, ("a.nii", b"x")), keep(store, ("b.nii", b"x"))
    store.receive()
    store.work("job")
    assert store.clear_unfinished({kept.id}, set()) == 3
    assert store.scan(kept).exists()
    assert not store.scan(stray).exists()


def test_only_the_user_may_enter(store):
    assert store.folder.stat().st_mode & 0o777 == 0o700


def test_a_full_store_takes_no_more(tmp_path):
    small = FileStore(tmp_path, most=100)
    small.check_room(50, 50)
    with pytest.raises(BusyError, match="no room"):
        small.check_room(50, 51)
    with pytest.raises(BusyError, match="no room"):
        FileStore(tmp_path, least_free=2**60).check_room(0)


def test_messages_name_what_people_sent(store):
    scan = keep(store, ("my scan.nii.gz", b"x"))
    path = store.scan(scan)
    told = store.in_words(f"cannot read {path} as NIfTI: scan.nii.gz is short; a scan.nii.gzip is not", path, scan.name)
    assert told == "cannot read my scan.nii.gz as NIfTI: my scan.nii.gz is short; a scan.nii.gzip is not"
    assert store.in_words(f"{path} is short", path, "") == "the scan is short"
    assert store.in_words(f"{path} is short", path, r"a\1") == r"a\1 is short"
    written = store.folder / "work" / "ab-12" / "mask.nii.gz"
    assert store.in_words(f"no space for {written}", path, "a") == "no space for mask.nii.gz"


def test_messages_name_a_file_of_several_by_its_number(store):
    scan = keep(store, ("t1.nii.gz", b"x"), ("t2.nii.gz", b"x"))
    path = store.scan(scan)
    told = store.in_words(f"cannot read {path}/scan_0001.nii.gz: short", path, scan.name)
    assert told == "cannot read file 2 of t1.nii.gz: short"
    series = keep(store, ("head/a", DICOM), ("head/b", DICOM))
    path = store.scan(series)
    assert (
        store.in_words(f"{path}/0000.dcm has no pixels, nor {path}", path, "head")
        == "file 1 of head has no pixels, nor head"
    )
    assert store.in_words("no dicom-seg", path, "head") == "no dicom-seg"
