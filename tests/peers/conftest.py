"""The peers: Orthanc for each test that needs it, and programs of dcmtk, dicom3tools, dcmqi and plastimatch."""

import shutil
import subprocess
from pathlib import Path

import browser
import nibabel
import orthanc
import pytest

from attunet.data.formats import write_volume
from attunet.data.phantom import make_phantom

BUILD = Path(__file__).parents[2] / "build" / "peers" / "bin"
PLACES = f"/usr/bin:/usr/sbin:/usr/local/bin:{BUILD}"
"""Not $PATH: pynetdicom has programs of its own that are called storescu and echoscu."""
SHAPE, SPACING = (40, 32, 20), (7.0, 7.0, 10.0)


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


@pytest.fixture(scope="session")
def chromium():
    """A browser."""
    if reason := browser.absent():
        pytest.skip(reason)
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="session")
def page_model(make_model):
    """A model of CT with gates."""
    return make_model(3, gate="grid", spacing=SPACING, modality="ct")


@pytest.fixture(scope="session")
def page_scan(tmp_path_factory):
    """A phantom, LPS as from a scanner."""
    path = tmp_path_factory.mktemp("scan") / "phantom.nii.gz"
    write_volume(make_phantom(0, shape=SHAPE, spacing=SPACING)[0], path)
    return path


@pytest.fixture(scope="session")
def page_studies(tmp_path_factory):
    """A folder of studies, one image of another orientation than the other."""
    folder = tmp_path_factory.mktemp("studies")
    image = make_phantom(1, shape=SHAPE, spacing=SPACING)[0]
    write_volume(image, folder / "straight.nii.gz")
    turned = nibabel.as_closest_canonical(nibabel.load(folder / "straight.nii.gz"))
    turned = turned.as_reoriented(nibabel.orientations.axcodes2ornt(("S", "P", "R")))
    nibabel.save(turned, folder / "turned.nii.gz")
    return folder


@pytest.fixture(scope="session")
def page_server(start_server, page_model, page_studies, make_model):
    """A server of a model of CT, and one of two channels, which keeps its port when it is started again."""
    models = {"organs": page_model, "pair": make_model(3, in_channels=2, spacing=SPACING)}
    (port,) = orthanc.free_ports(1)
    return start_server(models, "--studies", str(page_studies), "--port", str(port))


@pytest.fixture
def open_page(chromium, page_server):
    """`open_page(**how)`: the page; at its end, its console was silent and it asked nobody else."""
    opened = []

    def open_one(url=page_server.url, **how):
        opened.append(browser.WatchedPage(chromium, url, **how))
        return opened[-1]

    yield open_one
    for one in opened:
        one.context.close()
        assert one.console == []
        assert one.foreign == []


@pytest.fixture(scope="session")
def shown(chromium, page_server, page_scan):
    """The address of a job of the phantom."""
    page = browser.WatchedPage(chromium, page_server.url)
    page.ready()
    page.drop(page_scan)
    address = page.opened().page.url
    page.context.close()
    return address
