"""Fixtures for DICOM peers on this machine: studies in files, and a PACS in this process."""

import dicom_peers
import pytest


@pytest.fixture
def study(tmp_path):
    """`study(slices=3, series=1, uid=None, **tags)`: a study in files; its UID, and the files."""

    def make(**how):
        return dicom_peers.write_study(tmp_path / "sources", **how)

    return make


@pytest.fixture
def make_pacs():
    """`make_pacs(title="PACS")`: a running PACS."""
    made = []

    def make(**how):
        made.append(dicom_peers.Pacs(dicom_peers.free_port(), **how).start())
        return made[-1]

    yield make
    for pacs in made:
        pacs.stop()


@pytest.fixture
def pacs(make_pacs):
    """A running PACS."""
    return make_pacs()
