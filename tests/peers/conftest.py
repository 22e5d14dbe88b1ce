"""The peers: Orthanc for each test that needs it, and programs of dcmtk, dicom3tools, dcmqi and plastimatch."""

import shutil
import subprocess
from pathlib import Path

import orthanc
import pytest

BUILD = Path(__file__).parents[2] / "build" / "peers" / "bin"
PLACES = f"/usr/bin:/usr/sbin:/usr/local/bin:{BUILD}"
"""Not $PATH: pynetdicom has programs of its own that are called storescu and echoscu."""


@pytest.fixture(scope="session")
def program():
    """`program(name)`: the path of a program; the test is skipped where it is not installed."""

    def find(name):
        found = shutil.which(name, path=PLACES)
        if found is None:
            pytest.skip(f"{name} is not installed: see tests/peers/install.sh")
        return found

    return find


@pytest.fixture(scope="session")
def call(program):
    """`call(name, *words, code=0)`: run a program to its end; what it printed, both streams."""

    def run(name, *words, code=0):
        done = subprocess.run([program(name), *map(str, words)], capture_output=True, text=True, timeout=120)
        assert code is None or done.returncode == code, f"{name}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def dicom_faults(call):
    """`dicom_faults(file)`: what dciodvfy calls an error in an object, line by line."""

    def check(file):
        return [line for line in call("dciodvfy", "-new", file, code=None).splitlines() if line.startswith("Error")]

    return check


@pytest.fixture
def make_orthanc(tmp_path):
    """`make_orthanc(**how)`: a running Orthanc."""
    if reason := orthanc.absent():
        pytest.skip(reason)
    made = []

    def make(**how):
        made.append(orthanc.Orthanc(tmp_path / f"orthanc{len(made)}", orthanc.free_ports(), **how).start())
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def real_pacs(make_orthanc):
    """A running Orthanc that everybody may use."""
    return make_orthanc()
