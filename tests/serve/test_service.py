"""What the routes ask for."""

import asyncio

import pytest

from attunet.errors import BusyError, ConfigError, DataError, DatasetError, FormatError
from attunet.serve.multipart import TooLargeError
from attunet.serve.service import Service
from attunet.serve.settings import ServeSettings
from attunet.serve.shapes import JobOptions
from attunet.serve.store import Upload


@pytest.fixture
def service(gated, tiny_slices, tmp_path):
    models = {"organs": gated, "plain": tiny_slices}
    made = Service(ServeSettings(models=models, data=tmp_path / "data", max_upload=1000, max_queue=2))
    yield made
    made._parts.close()


def receive(service, *contents, announced=None):
    async def pieces():
        for content in contents:
            yield content

    return asyncio.run(service.receive(pieces(), announced))


def upload(service, name="a.nii", content=b"x"):
    folder = service.store.receive()
    (folder / "0").write_bytes(content)
    return folder, [Upload(folder / "0", name, len(content))]


def test_models_are_checked_and_described_at_the_start(service):
    assert set(service.models) == {"organs", "plain"}
    assert service.models["plain"].spatial_dims == 2


def test_a_request_that_is_announced_as_too_large_is_not_read(service):
    with pytest.raises(TooLargeError):
        receive(service, announced="1001")
    with pytest.raises(TooLargeError):
        receive(service, b"--x\r\n" + b"x" * 2000)
    assert not list(service.store.incoming.iterdir())


def test_jobs_need_a_scan_and_a_model_and_what_it_has(service):
    scan = service.add_scan(*upload(service))
    job = service.submit(scan.id, "organs", JobOptions(outputs=["attention"]))
    assert service.queue.job(job.id).options["outputs"] == ["attention"]
    for key, model, outputs, error in (
        ("none", "organs", [], DatasetError),
        (scan.id, "none", [], DatasetError),
        ("1.2.3", "organs", [], DatasetError),
    ):
        with pytest.raises(error):
            service.submit(key, model, JobOptions(outputs=outputs))
    plain = next(name for name, model in service.models.items() if name == "plain")
    if not service.models[plain].gates:
        with pytest.raises(ConfigError, match="no gates"):
            service.submit(scan.id, plain, JobOptions(outputs=["attention"]))
    service.submit(scan.id, "organs", JobOptions())
    with pytest.raises(BusyError, match="2 jobs are waiting"):
        service.submit(scan.id, "organs", JobOptions())


def test_what_is_in_use_is_not_deleted(service):
    scan = service.add_scan(*upload(service))
    job = service.submit(scan.id, "organs", JobOptions())
    with pytest.raises(BusyError, match="jobs wait"):
        service.remove_scan(scan.id)
    with pytest.raises(BusyError, match="has not ended"):
        service.remove_job(job.id)
    service.cancel(job.id)
    service.remove_job(job.id)
    service.remove_scan(scan.id)
    assert not service.store.scan(scan).exists()
    with pytest.raises(DatasetError):
        service.scan(scan.id)


def test_images_and_labels_of_clients_are_single_files(service, scan_file):
    assert service.add_image(*upload(service, "x.nii.gz", scan_file.read_bytes()), "my image") == "my image"
    assert service.datastore.has("my image")
    with pytest.raises(DatasetError, match="no such image"):
        service.save_label("another", "final", *upload(service))
    with pytest.raises(FormatError):
        service.add_image(*upload(service, "x.txt"), "text")
    assert not list((service.settings.data / "scans").iterdir())


def test_errors_about_what_was_sent_name_no_path_of_the_server(service, scan_file):
    service.add_image(*upload(service, "x.nii.gz", scan_file.read_bytes()), "my image")
    with pytest.raises(DataError) as caught:
        service.save_label("my image", "final", *upload(service, "y.nii.gz", b"nothing"))
    assert "the label" in caught.value.message
    assert str(service.settings.data) not in str(caught.value)
