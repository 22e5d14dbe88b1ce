"""localizer.json: whether a fold may skip windows, and what its audit is worth."""

from __future__ import annotations

import pytest

from attunet.bundle import Skipping, largest_share, write_skipping
from attunet.bundle.skipping import all_skipping, load_skipping
from attunet.errors import BundleError


@pytest.fixture
def audited():
    return Skipping(
        used=True, threshold=0.2, margin=12.0, cases=40, lost=0, skipped=0.8, bound=largest_share(0, 40), reason="fine"
    )


@pytest.mark.parametrize(("events", "cases", "bound"), [(0, 40, 0.0722), (1, 40, 0.1132), (0, 0, 1.0), (3, 3, 1.0)])
def test_the_bound_is_that_of_clopper_and_pearson(events, cases, bound):
    assert largest_share(events, cases) == pytest.approx(bound, abs=1e-4)


def test_the_audit_is_told_in_a_sentence(audited):
    assert audited.worth == (
        "0 of 40 cases, which also chose the threshold, lost a voxel: at 95% confidence fewer than 7.2% of cases do"
    )
    off = audited.model_copy(update={"used": False, "reason": "3 voxels were lost at the widest margin"})
    assert off.worth == "off: 3 voxels were lost at the widest margin"


def test_what_is_written_is_read(audited, tmp_path):
    assert load_skipping(tmp_path) is None
    write_skipping(audited, tmp_path / "fold_0")
    with pytest.raises(BundleError, match="not a model folder"):
        load_skipping(tmp_path / "fold_0")
    with pytest.raises(BundleError, match="not in the manifest"):
        load_skipping(tmp_path / "fold_0", {})


def test_every_fold_must_allow_it(audited):
    off = audited.model_copy(update={"used": False})
    assert all_skipping([audited, audited]) == (audited, audited)
    assert all_skipping([audited, off]) == all_skipping([audited, None]) == ()
