"""Where results go, and in which format."""

import numpy as np
import pytest

from attunet.data.cases import Case, find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.batch import predict_cases
from attunet.inference.destination import Destination
from attunet.inference.segmenter import Segmenter


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a.nii.gz", "a.nii.gz"), ("a.mha", "a.mha"), ("a.jpg", "a.png"), ("a.npz", "a.nii.gz"), ("a.zarr", "a.nii.gz")],
)
def test_a_mask_has_a_format_that_keeps_it(image, mask, tmp_path):
    assert Destination().mask(Case("a", (tmp_path / image,), None), tmp_path).name == mask


def test_images_are_never_overwritten(tmp_path):
    write_volume(Volume(np.zeros((1, 4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ConfigError, match="overwrite"):
        Destination().begin(find_cases([tmp_path], 1), tmp_path)


def test_the_mask_of_an_archive_is_written_as_nifti(tiny_run, tmp_path):
    array = np.random.default_rng(0).normal(100, 30, (20, 16, 10)).astype(np.float32)
    np.savez(tmp_path / "scan.npz", image=array)
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    (result,) = predict_cases(segmenter, find_cases([tmp_path / "scan.npz"], 1), tmp_path / "masks")
    assert "its mask is written as .nii.gz, because .npz files are only read" in result.warnings
    assert read_label(tmp_path / "masks" / "scan.nii.gz").spatial_shape == array.shape


def test_every_mask_is_nifti_where_that_is_requested(tiny_run, tmp_path):
    write_volume(Volume(np.random.default_rng(0).normal(0, 1, (1, 20, 16, 10)), np.eye(4)), tmp_path / "a.nrrd")
    cases, destination = find_cases([tmp_path / "a.nrrd"], 1), Destination(images="nifti")
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    (result,) = predict_cases(segmenter, cases, tmp_path / "masks", destination=destination)
    assert result.files == {"nifti": (str(tmp_path / "masks" / "a.nii.gz"),)}
    assert destination.done(cases[0], tmp_path / "masks")
    assert predict_cases(segmenter, cases, tmp_path / "masks", destination=destination, skip_existing=True) == []


def test_what_would_be_written_nowhere_is_refused():
    with pytest.raises(ConfigError, match="no type of output"):
        Destination(images=None)


class Notes:
    """A writer that records what it is given."""

    attention = True

    def __init__(self):
        self.begun, self.seen = [], []

    def begin(self, cases):
        self.begun += [case.id for case in cases]

    def check(self, case):
        assert not self.seen, "before the prediction"

    def done(self, case, exists):
        return exists(f"{case.id}.txt")

    def write(self, prediction, case, output):
        self.seen.append(sorted(prediction.attention))
        (output / f"{case.id}.txt").write_text("written")
        return {"notes": (output / f"{case.id}.txt",)}, ("a notice",)


def test_another_writer_gets_the_attention_that_no_image_file_holds(tiny_run, tmp_path):
    write_volume(Volume(np.random.default_rng(0).normal(0, 1, (1, 20, 16, 10)), np.eye(4)), tmp_path / "a.nii")
    cases, writer = find_cases([tmp_path / "a.nii"], 1), Notes()
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    (result,) = predict_cases(segmenter, cases, tmp_path / "out", destination=Destination(writer=writer))
    assert writer.begun == ["a"]
    assert writer.seen[0]
    assert not (tmp_path / "out" / "attention").exists()
    assert list(result.files) == ["notes", "auto"]
    assert result.mask == str(tmp_path / "out" / "a.nii")
    assert "a notice" in result.warnings
    only = Destination(images=None, writer=writer)
    assert only.done(cases[0], tmp_path / "out")
    assert not only.done(cases[0], tmp_path)


@pytest.mark.parametrize("layout", ["flat", "bids"])
def test_a_published_case_has_the_files_of_a_saved_one_and_is_never_replaced(layout, tiny_run, tmp_path):
    folder = tmp_path / "scans" / "sub-1" / "anat"
    write_volume(Volume(np.random.default_rng(0).normal(size=(1, 20, 16, 10)), np.eye(4)), folder / "sub-1_T1w.nii.gz")
    case = find_cases([folder], 1)[0]
    segmenter, destination = Segmenter.load(tiny_run, folds=[0], device="cpu"), Destination(layout=layout)
    prediction = segmenter.predict(case, attention=True, probabilities=True)
    saved = destination.save(prediction, case, tmp_path / "saved")[0]
    published = destination.publish(prediction, case, tmp_path / "published")[0]
    files = [
        sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())
        for root in (tmp_path / "saved", tmp_path / "published")
    ]
    assert files[0] == files[1]
    assert [str(file).replace("/saved/", "/published/") for file in saved["auto"]] == list(map(str, published["auto"]))
    mask = published["auto"][0]
    before = mask.stat()
    destination.publish(prediction, case, tmp_path / "published")
    assert mask.stat().st_mtime_ns == before.st_mtime_ns
    assert not list((tmp_path / "published").rglob(".attunet*"))
