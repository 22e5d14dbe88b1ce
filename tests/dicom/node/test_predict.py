"""Prediction of a study with a real, tiny model: objects that open, and reasons instead of results."""

from threading import Event

import numpy as np
import pydicom
import pytest
from dicom_peers import SECRETS, answer, running, send_to, wait_until, write_study

from attunet.data.formats import read_volume
from attunet.dicom.network import read_identity
from attunet.dicom.node.predict import Predictor, check_models, predict_series
from attunet.dicom.node.state import read_state
from attunet.errors import BundleError, CancelledError, ConfigError, DataError, EngineError


@pytest.fixture(scope="module")
def model(make_model):
    """A model of one channel whose voxels are those of the studies."""
    return make_model(3, spacing=(1.0, 1.0, 2.0), modality="ct")


@pytest.fixture
def taken(queue, intake, tmp_path):
    """Study 1 of eight slices, taken from the queue for its prediction; its files."""
    files = write_study(tmp_path / "sources", slices=8, uid="1")[1]
    intake.take_files(files)
    queue.settle("1")
    assert queue.take() == "1"
    return files


@pytest.fixture
def reason(queue, storage, make_settings):
    """`reason(predict, **settings)`: predict study 1, and why it failed."""

    def run(predict, **changes):
        Predictor(make_settings(**changes), queue, storage, predict).run("1", Event())
        return read_state(storage.folder).failed[0].reason

    return run


def rules(model, *outputs):
    return [{"name": "organs", "model": str(model), "outputs": outputs}]


def test_a_series_becomes_objects(model, make_settings, storage, taken, tmp_path):
    settings = make_settings(rules=rules(model, "dicom-seg", "dicom-rtstruct", "nifti"))
    made = predict_series(storage.series("1", "1.1"), settings.rules[0], storage.work("1"), Event())
    assert sorted(made.values()) == ["dicom-rtstruct", "dicom-seg", "nifti"]
    kinds = {output: file for file, output in made.items()}
    seg, structure = pydicom.dcmread(kinds["dicom-seg"]), pydicom.dcmread(kinds["dicom-rtstruct"])
    assert (seg.Modality, structure.Modality) == ("SEG", "RTSTRUCT")
    assert seg.StudyInstanceUID == structure.StudyInstanceUID == "1"
    assert seg.PatientID == "4711"
    assert read_volume(kinds["nifti"]).spatial_shape == (16, 12, 8)


def test_a_node_with_a_model_answers_with_the_same_object_each_time(model, make_settings, tmp_path, make_pacs):
    uid, files = write_study(tmp_path / "sources", slices=8)
    pacs = make_pacs()
    received = []
    for number in (1, 2):
        settings = make_settings(
            state=tmp_path / f"state{number}",
            rules=rules(model, "dicom-seg", "nifti"),
            destinations=[
                {"name": "pacs", "address": pacs.address},
                {"name": "share", "address": str(tmp_path / f"share{number}")},
            ],
        )
        with running(settings, None):
            send_to(settings, files)
            wait_until(lambda state=settings.state: read_state(state).counts["answered"] == 1)
        received.append(pacs.received[-1])
        names = {file.name for file in (tmp_path / f"share{number}").iterdir()}
        assert names == {f"{received[-1]}.dcm", f"{uid}.1_organs.nii.gz"}
    assert received[0] == received[1]
    segmentation = pacs.read(received[0])
    assert segmentation.Modality == "SEG"
    assert {item.ReferencedSOPInstanceUID for item in segmentation.ReferencedSeriesSequence[0][0x0008114A]} <= {
        read_identity(file).uid for file in files
    }
    masks = [read_volume(tmp_path / f"share{number}" / f"{uid}.1_organs.nii.gz").array for number in (1, 2)]
    assert np.array_equal(*masks)


def test_a_series_that_cannot_be_predicted_is_told_without_the_patient(model, reason, queue, intake, storage, tmp_path):
    files = write_study(tmp_path / "sources", slices=3, uid="1", Rows=0)[1]
    intake.take_files(files)
    queue.settle("1")
    queue.take()
    told = reason(predict_series, rules=rules(model, "nifti"))
    assert told.startswith("series 1.1, organs: ")
    assert not any(secret in told for secret in SECRETS)


def test_an_unforeseen_fault_is_that_of_its_series(reason, taken):
    def broken(*_):
        raise KeyError("PixelData")

    assert "organs: unforeseen KeyError" in reason(broken)


def test_a_series_whose_files_are_gone_is_never_predicted_in_part(reason, taken, storage):
    next(storage.instances()).unlink()
    assert "only 7 of its 8 instances are still stored; send the study again" in reason(answer)


def test_a_series_without_any_file(reason, taken, storage):
    storage.remove_instances("1")
    assert "its instances were deleted" in reason(answer)


def test_a_model_that_cannot_be_used_is_not_the_fault_of_the_study(queue, storage, make_settings, taken, clock):
    for error in (BundleError("unfinished"), EngineError("no GPU"), ConfigError("too little memory")):

        def fails(*_, error=error):
            raise error

        Predictor(make_settings(), queue, storage, fails).run("1", Event())
        assert read_state(storage.folder).active[0].reason == f"rule organs: {error}"
        clock.now += 1
        assert queue.take() == "1"


def test_a_full_disk_is_not_the_fault_of_the_study(queue, storage, make_settings, taken, monkeypatch):
    def fails(*_):
        raise DataError("No space left on device")

    monkeypatch.setattr(storage, "has_room", lambda: False)
    Predictor(make_settings(), queue, storage, fails).run("1", Event())
    assert "least_free_mb" in read_state(storage.folder).active[0].reason


def test_a_stop_is_passed_on(queue, storage, make_settings, taken, model):
    stop = Event()
    stop.set()
    with pytest.raises(CancelledError):
        Predictor(make_settings(rules=rules(model, "nifti")), queue, storage, predict_series).run("1", stop)


def test_models_are_opened_at_the_start(make_settings, make_model, model, tmp_path):
    check_models(make_settings(rules=rules(model, "dicom-seg")))
    with pytest.raises(BundleError):
        check_models(make_settings(rules=rules(tmp_path, "dicom-seg")))
    two = make_model(3, in_channels=2)
    with pytest.raises(ConfigError, match="needs 2 channels"):
        check_models(make_settings(rules=rules(two, "dicom-seg")))
