"""DICOM by its first bytes."""

import zipfile

import pytest

from attunet.data.formats.dicom.recognise import dicom_files, holds_series, is_archive, is_dicom, looks_like_dicom


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (bytes(128) + b"DICM", True),
        (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", True),  # explicit, without preamble
        (b"\x08\x00\x08\x00\x1a\x00\x00\x00ORIGINAL", True),  # implicit
        (b"\x08\x00\x00\x00\x04\x00\x00\x00", True),
        (b"PK\x03\x04", False),
        (b"", False),
        (bytes(200), False),
        (b"\x08\x00rest of a text", False),
    ],
)
def test_first_bytes_tell(head, expected):
    assert looks_like_dicom(head) is expected


def test_hidden_files_and_links_in_circles_are_passed_over(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/1").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "a/.hidden").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "a/__MACOSX").mkdir()
    (tmp_path / "a/b/loop").symlink_to(tmp_path / "a", target_is_directory=True)
    assert [file.name for file in dicom_files(tmp_path)] == ["1"]
    assert holds_series(tmp_path)
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "none")


def test_an_archive_is_one_by_name_and_content(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "a")
    (tmp_path / "b.zip").write_text("text")
    assert [is_archive(tmp_path / name) for name in ("a.zip", "b.zip", "c.zip")] == [True, False, False]
