"""Settings beside a model are read where the manifest vouches for them, and nowhere else."""

from __future__ import annotations

import pytest

from attunet.bundle.sealed import read_sealed, write_unsealed
from attunet.config import Postprocessing
from attunet.errors import BundleError

TAUGHT = Postprocessing(temperature=1.5)


def read(root, sums):
    return read_sealed(Postprocessing, root, "taught.json", sums, remedy="teach it again")


def test_what_is_not_there_is_none(tmp_path):
    assert read(tmp_path, {}) is None


def test_what_the_manifest_names_is_read(tmp_path):
    write_unsealed(TAUGHT, tmp_path / "taught.json")
    assert read(tmp_path, {"taught.json": "a sum"}) == TAUGHT


def test_what_it_does_not_name_is_refused(tmp_path):
    write_unsealed(TAUGHT, tmp_path / "taught.json")
    with pytest.raises(BundleError, match=r"taught\.json is not in the manifest") as caught:
        read(tmp_path, {})
    assert caught.value.hint == "teach it again"
