"""Names of types of output, and what is written for them."""

import pytest

from attunet.dicom.objects.outputs import DICOM_TYPES
from attunet.dicom.output_types import DicomType, is_output_type, make_destination, split_output_types
from attunet.errors import ConfigError
from attunet.inference.segmenter import Segmenter


def test_every_type_can_be_written():
    assert set(DicomType.__args__) == set(DICOM_TYPES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["auto"], ("auto", ())),
        (["nifti,dicom-seg"], ("nifti", ("dicom-seg",))),
        (["dicom-sr", "dicom-seg", "dicom-sr"], (None, ("dicom-seg", "dicom-sr"))),
    ],
)
def test_words_name_several_types(words, expected):
    assert split_output_types(words) == expected


def test_a_misspelled_type_is_corrected():
    with pytest.raises(ConfigError, match="dicom-segg") as caught:
        split_output_types(["dicom-segg"])
    assert caught.value.hint == "did you mean dicom-seg?"


def test_two_formats_of_masks_contradict_each_other():
    with pytest.raises(ConfigError, match="both auto and nifti"):
        split_output_types(["auto,nifti"])


def test_words_are_told_from_paths():
    assert is_output_type("dicom-seg")
    assert is_output_type("nifti,dicom-sr")
    assert not is_output_type("scan.nii.gz")


def test_image_files_need_no_dicom(tiny_run):
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    destination, notices = make_destination(segmenter, "auto", ())
    assert (destination.images, destination.writer, notices) == ("auto", None, ())
    destination, notices = make_destination(segmenter, None, ("dicom-seg",))
    assert destination.writer.types == ("dicom-seg",)
    assert len(notices) == 1
