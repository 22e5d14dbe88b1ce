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
def pacs(make_pacs):
    """A running PACS."""
    return make_pacs()
