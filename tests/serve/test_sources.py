"""Where a job finds its image."""

import nibabel
import numpy as np
import pytest

from attunet.errors import DatasetError
from attunet.serve.jobs import JobQueue
from attunet.serve.sources import Sources
from attunet.serve.store import FileStore

SERIES = "1.2.826.0.1"


@pytest.fixture
def make_sources(tmp_path, monkeypatch):
    """`make_sources(pacs)`: the sources of a folder with one study, and the queue."""
    (tmp_path / "studies").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), tmp_path / "studies" / "a.nii.gz")
    store = FileStore(tmp_path / "data")
    queue = JobQueue(store.queue)
    monkeypatch.setattr("attunet.dicom.network.web.fetch_series", lambda _service, series, folder: folder / series)
    yield lambda pacs: (Sources(store, queue, str(tmp_path / "studies"), pacs, {"organs": ["ct"]}), queue)
    queue.close()


def test_series_come_from_the_pacs_and_studies_from_their_folder(make_sources, tmp_path):
    sources, queue = make_sources("http://127.0.0.1:9/dicom-web")
    series = sources.of(queue.submit(SERIES, "organs", {}), tmp_path / "work")
    assert series.path == tmp_path / "work" / SERIES
    assert series.case is None
    study = sources.of(queue.submit("a", "organs", {}), tmp_path / "other")
    assert study.path.name == "a.nii.gz"
    assert study.case.images == (study.path,)


def test_without_a_pacs_nothing_is_fetched(make_sources, tmp_path):
    sources, queue = make_sources(None)
    with pytest.raises(DatasetError):
        sources.of(queue.submit(SERIES, "organs", {}), tmp_path / "work")
