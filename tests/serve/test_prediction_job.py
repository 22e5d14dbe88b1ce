"""What a job computes."""

from threading import Event

import nibabel
import numpy as np
import pytest

from attunet.data.formats import read_label, read_volume
from attunet.errors import CancelledError, ConfigError, DataError
from attunet.inference.segmenter import Segmenter
from attunet.serve.prediction_job import JobRun
from attunet.serve.shapes import JobOptions, Statistics


@pytest.fixture(scope="module")
def segmenter(gated):
    return Segmenter.load(gated)


@pytest.fixture
def run(segmenter, gated, scan_file, tmp_path):
    """`run(outputs, **changes)`: the results of a job by name, and its folder."""

    def start(*outputs, **changes):
        output = tmp_path / "work"
        output.mkdir()
        job = JobRun(
            **{
                "model": "organs",
                "folder": gated,
                "segmenter": segmenter,
                "scan": scan_file,
                "options": JobOptions(outputs=list(outputs)),
                "output": output,
                "max_memory": None,
                "progress": lambda done, total: None,
                "cancelled": Event(),
                **changes,
            }
        )
        return {one.name: one for one in job.run()}, output

    return start


def test_a_mask_and_its_statistics_are_always_there(run, segmenter, scan_file):
    files, output = run()
    assert files.keys() == {"mask", "statistics"}
    expected = segmenter.predict(scan_file)
    assert np.array_equal(read_label(output / files["mask"].file).array, expected.segmentation.array)
    found = Statistics.model_validate_json((output / files["statistics"].file).read_text())
    for name, volume in expected.volumes_ml.items():
        assert found.labels[name].volume_ml == pytest.approx(volume, rel=1e-3, abs=1e-3)
    assert found.windows == expected.windows
    assert found.engine == expected.engine


def test_everything_else_is_there_when_it_is_asked_for(run, segmenter, scan_file):
    files, output = run("image", "probabilities", "attention", "preview", "explanation")
    expected = segmenter.predict(scan_file, probabilities=True, attention=True)
    assert np.allclose(read_volume(output / files["image"].file).array, expected.image.array)
    assert np.allclose(read_volume(output / files["probabilities"].file).array, expected.probabilities.array, atol=1e-3)
    assert [files[f"attention-{number}"].title for number in range(len(expected.attention))] == list(expected.attention)
    assert (output / files["preview"].file).read_bytes().startswith(b"\x89PNG")
    assert "<html" in (output / files["explanation"].file).read_text()[:200]


def test_progress_ends_at_the_last_window(run):
    seen = []
    run(progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert seen[-1][0] == seen[-1][1]


def test_a_cancelled_job_stops(run):
    cancelled = Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        run(cancelled=cancelled)


def test_several_images_are_refused(run, scan_file, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (folder / name).write_bytes(scan_file.read_bytes())
    with pytest.raises(DataError, match="holds 2 images, expected one"):
        run(scan=folder)


def test_masks_of_dicom_are_for_dicom(run):
    with pytest.raises(ConfigError, match="need DICOM images"):
        run("dicom-seg")


def test_a_model_without_gates_has_no_attention(run, make_model):
    plain = make_model(3, gate=None)
    with pytest.raises(ConfigError, match="no gates"):
        run("attention", segmenter=Segmenter.load(plain), folder=plain)


def test_warnings_are_in_the_words_of_people(run, tmp_path):
    image = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([9.0, 9.0, 9.0, 1.0])), tmp_path / "far.nii.gz")
    files, output = run(scan=tmp_path / "far.nii.gz", in_words=lambda text: f"in words: {text}")
    found = Statistics.model_validate_json((output / files["statistics"].file).read_text())
    assert found.warnings
    assert all(warning.startswith("in words: ") for warning in found.warnings)


def test_a_scan_unlike_those_of_the_training_is_told_with_the_statistics(run, ranged_run, tmp_path):
    array = np.random.default_rng(0).normal(500, 100, (24, 20, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "thick.nii.gz")
    files, output = run(scan=tmp_path / "thick.nii.gz", segmenter=Segmenter.load(ranged_run), folder=ranged_run)
    found = Statistics.model_validate_json((output / files["statistics"].file).read_text())
    assert any("2 mm from foot to head (usually 0.8 to 1.2 mm)" in warning for warning in found.warnings)
