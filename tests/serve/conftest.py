"""A server in a process of its own, on loopback, with a model with gates; images to send."""

import os
import signal
import subprocess
import sys
import time

import httpx
import nibabel
import numpy as np
import pytest

from attunet.serve import Client

PATIENCE = 90


class RunningServer:
    """A server, and how to talk to it."""

    def __init__(self, folder, models, *words, environment=None):
        self.folder, self.data, self.models, self._words = folder, folder / "data", models, words
        self._environment = environment or {}
        self.process = None
        self.start()

    def start(self):
        self._log = (self.folder / "log").open("a")
        named = [word for name, path in self.models.items() for word in ("-m", f"{name}={path}")]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "attunet",
                "serve",
                *named,
                "--port",
                "0",
                "--data",
                self.data,
                *map(str, self._words),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | self._environment,
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on"), self.log()
        self.url = line.split()[-1]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, verify=False).status_code == 200:
                    return self
            except httpx.HTTPError:
                assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(self.log())

    def log(self):
        return (self.folder / "log").read_text()

    def client(self, token=None, **how):
        return Client(self.url, token, **how)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.stdout.close()
        code = self.process.wait(PATIENCE)
        self._log.close()
        return code


@pytest.fixture(scope="session")
def gated(make_model):
    """A model with gates; never write into it."""
    return make_model(3, gate="grid")


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """`start_server(models, *words)`: a running server, which is ended with the tests."""
    started = []

    def start(models, *words, **how):
        started.append(RunningServer(tmp_path_factory.mktemp("server"), models, *words, **how))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def running(start_server, gated):
    """A server that all tests of a session use."""
    return start_server({"organs": gated})


@pytest.fixture
def client(running):
    with running.client() as client:
        yield client


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory):
    """A NIfTI file."""
    path = tmp_path_factory.mktemp("scan") / "PATIENT_SECRET.nii.gz"
    image = np.random.default_rng(0).normal(size=(24, 20, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([-1.0, 1.0, 1.0, 1.0])), path)
    return path
