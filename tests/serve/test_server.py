"""A server from its start to its end: passwords, kills, a graceful stop, memory and time limits."""

import shutil
import signal
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import nibabel
import numpy as np
import psutil
import pytest

from attunet.bundle import save_manifest
from attunet.errors import BusyError, DataError, NetworkError, RefusedError
from attunet.serve.access import add_user
from attunet.serve.service import Service
from attunet.serve.settings import ServeSettings

pytestmark = pytest.mark.integration

TOKEN = "a token of sufficient length"


@pytest.fixture(scope="module")
def large_scan(tmp_path_factory):
    """A scan of many windows, which takes a second or more."""
    path = tmp_path_factory.mktemp("large") / "large.nii.gz"
    image = np.random.default_rng(1).normal(size=(64, 64, 32)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def killable(start_server, gated):
    return start_server({"organs": gated}, "--max-queue", 4)


def workers(server):
    return psutil.Process(server.process.pid).children()


def test_a_killed_worker_costs_a_try_and_a_killed_server_nothing(killable, large_scan, scan_file):
    with killable.client() as client:
        job = client.submit(client.upload(large_scan).id, "organs", step_size=0.3)
        next(event for event in client.events(job.id) if event.state == "running")
        (worker,) = workers(killable)
        worker.kill()
        waiting = client.submit(client.upload(scan_file).id, "organs")
    killable.stop(signal.SIGKILL)
    killable.start()
    with killable.client() as client:
        assert client.wait(job.id, 120).state == "done"
        assert client.wait(waiting.id, 120).state == "done"
        assert [one.id for one in client.jobs()] == [waiting.id, job.id]
    assert worker.pid not in [one.pid for one in workers(killable)]


def test_workers_end_with_their_server(killable):
    (worker,) = workers(killable)
    killable.stop(signal.SIGKILL)
    until = time.monotonic() + 10
    while worker.is_running() and time.monotonic() < until:
        time.sleep(0.05)
    assert not worker.is_running()
    killable.start()


def test_a_stop_in_order_keeps_what_waits(killable, large_scan):
    with killable.client() as client:
        scan = client.upload(large_scan)
        jobs = [client.submit(scan.id, "organs", step_size=0.3).id for _ in range(3)]
    assert killable.stop() in (0, 143)
    killable.start()
    with killable.client() as client:
        assert {client.wait(job, 120).state for job in jobs} == {"done"}


def test_running_and_waiting_jobs_are_cancelled(killable, large_scan):
    with killable.client() as client:
        scan = client.upload(large_scan)
        jobs = [client.submit(scan.id, "organs", step_size=0.1).id for _ in range(4)]
        next(event for event in client.events(jobs[0]) if event.state == "running")
        for job in jobs:
            client.cancel(job)
        for job in jobs:
            assert [event.state for event in client.events(job)][-1] == "cancelled"
        with pytest.raises(RefusedError, match="cancelled"):
            client.results(jobs[0])


def test_a_full_queue_says_when_to_come_back(killable, large_scan):
    with killable.client() as client:
        scan = client.upload(large_scan)
        jobs = []
        try:
            for _ in range(50):
                try:
                    jobs.append(client.submit(scan.id, "organs", step_size=0.05).id)
                except BusyError:
                    break
            assert 4 <= len(jobs) < 50
            answers = []
            while not answers or answers[-1].status_code == 202:  # a job may have ended meanwhile
                ask = {"scan": scan.id, "model": "organs", "step_size": 0.05}
                answers.append(httpx.post(f"{killable.url}/api/v1/jobs", json=ask))
            jobs += [answer.json()["id"] for answer in answers[:-1]]
            assert answers[-1].status_code == 429
            assert int(answers[-1].headers["retry-after"]) > 0
        finally:
            for job in jobs:
                client.cancel(job)


def test_uploads_have_limits(start_server, gated, tmp_path):
    server = start_server({"organs": gated}, "--max-upload", "1MB", "--max-data", "3MB")
    (tmp_path / "large.nii").write_bytes(bytes(2 * 2**20))
    (tmp_path / "small.nii").write_bytes(bytes(900 * 2**10))
    with server.client() as client:
        with pytest.raises(RefusedError, match="more than 1048576 bytes"):
            client.upload(tmp_path / "large.nii")

        def chunks():
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n'
            for _ in range(100):
                yield bytes(2**16)

        answer = httpx.post(f"{server.url}/api/v1/scans", content=chunks())
        assert answer.status_code == 413
        for _ in range(3):
            client.upload(tmp_path / "small.nii")
        with pytest.raises(BusyError, match="no room"):
            client.upload(tmp_path / "small.nii")
    assert not list((server.data / "incoming").iterdir())
    server.stop()


def test_a_server_for_others_has_a_password_and_https(start_server, gated, tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*command, *names], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not installed")
    users = tmp_path / "users"
    add_user(users, "maria", "a good password")
    words = ("--users", users, "--certfile", certificate, "--keyfile", key)
    server = start_server({"organs": gated}, *words, environment={"ATTUNET_TOKEN": TOKEN})
    assert server.url.startswith("https://")
    trusted = ssl.create_default_context(cafile=str(certificate))
    assert httpx.get(f"{server.url}/healthz", verify=trusted).status_code == 200
    assert httpx.get(f"{server.url}/api/v1/models", verify=trusted).status_code == 401
    with server.client(TOKEN, verify=certificate) as client:
        assert client.models()
    with server.client("a good password", user="maria", verify=certificate) as client:
        assert client.models()
    with pytest.raises(RefusedError, match="wrong"):
        server.client("another password", user="maria", verify=certificate)
    with pytest.raises(NetworkError), server.client(TOKEN) as client:
        client.models()
    answer = httpx.post(f"{server.url}/api/v1/session", json={"password": TOKEN}, verify=trusted)
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "secure", "samesite=strict"))
    assert TOKEN not in server.log()
    assert "good password" not in server.log()
    server.stop()


def test_old_uploads_and_results_are_deleted(start_server, gated, scan_file):
    server = start_server({"organs": gated}, "--keep", "2s")
    with server.client() as client:
        job = client.wait(client.submit(client.upload(scan_file).id, "organs").id, 60)
    server.stop()
    time.sleep(2)
    server.start()  # it looks at its start, and then each minute
    until = time.monotonic() + 20
    while list((server.data / "results").iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not list((server.data / "results").iterdir())
    assert not list((server.data / "scans").iterdir())
    with server.client() as client, pytest.raises(RefusedError, match="no such job"):
        client.job(job.id)
    server.stop()


def test_models_share_the_memory_of_a_worker(start_server, gated, tiny_run, scan_file):
    server = start_server({"gated": gated, "tiny": tiny_run}, "--max-memory", "2GB")
    with server.client() as client:
        scan = client.upload(scan_file)
        jobs = [client.submit(scan.id, name).id for name in ("gated", "tiny", "gated")]
        assert [client.wait(job, 120).state for job in jobs] == ["done"] * 3
    server.stop()


def test_a_model_that_cannot_be_loaded_is_told_before_and_with_a_job(start_server, gated, tmp_path, scan_file):
    broken = shutil.copytree(gated, tmp_path / "model")
    next(broken.rglob("graph.xml")).write_text("no graph")
    save_manifest(broken)
    server = start_server({"organs": broken})
    until = time.monotonic() + 60
    while not (told := httpx.get(f"{server.url}/readyz").json())["unusable_models"] and time.monotonic() < until:
        time.sleep(0.1)
    assert told == {"status": "ok", "unusable_models": 1}
    with server.client() as client:
        assert "graph.xml" in client.models()[0].warnings[0]
        job = client.submit(client.upload(scan_file).id, "organs")
        with pytest.raises(DataError, match=r"^organs/fold_0/graph\.xml is not a readable") as failed:
            client.wait(job.id, 60)
    assert server.log().count("cannot be used") == 1
    assert str(tmp_path) not in str(failed.value)
    server.stop()


@pytest.mark.slow
def test_24_large_uploads_at_once_stay_out_of_memory(start_server, gated, tmp_path):
    server = start_server({"organs": gated})
    content = np.random.default_rng(0).bytes(120 * 2**20)
    (tmp_path / "large.nii").write_bytes(content)
    process, most = psutil.Process(server.process.pid), 0

    def upload(_):
        with server.client(timeout=300) as client:
            return client.upload(tmp_path / "large.nii").id

    with ThreadPoolExecutor(24) as pool:
        running = [pool.submit(upload, number) for number in range(24)]
        while not all(one.done() for one in running):
            most = max(most, process.memory_info().rss)
            time.sleep(0.05)
    for one in running:
        kept = server.data / "scans" / one.result() / "scan.nii"
        assert kept.read_bytes() == content
    print(f"24 uploads of 120 MB: {most / 2**20:.0f} MB resident")
    assert most < 400 * 2**20
    server.stop()


def test_two_servers_never_share_a_folder(killable, gated):
    settings = ServeSettings(models={"organs": gated}, data=killable.data)
    with pytest.raises(BusyError, match="in use by attunet serve"):
        Service(settings)
