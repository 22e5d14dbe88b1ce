"""What another turn of a dial would plan."""

from __future__ import annotations

from attunet.planning.alternatives import alternatives
from attunet.planning.budget import Dials


def test_every_dial_that_changes_something(make_fingerprint):
    facts = make_fingerprint((512, 512, 300), (0.7, 0.7, 1.0))
    found = alternatives(facts, Dials(size="small"))
    assert list(found) == [
        "--size base",
        "--size large",
        "--spatial-dims 2",
        "--resolution full",
        "--resolution low",
    ]
    assert found["--size large"].size == "large"
    assert found["--spatial-dims 2"].network.spatial_dims == 2
    assert found["--resolution low"].resolution == "low"


def test_what_the_data_do_not_allow_is_left_out(make_fingerprint):
    pictures = make_fingerprint((64, 60, 1), modality="image")
    assert "--spatial-dims 3" not in alternatives(pictures, Dials())
    assert not {"--resolution low", "--resolution full"} & set(alternatives(pictures, Dials()))


def test_another_dial_stays_as_it_was_turned(make_fingerprint):
    found = alternatives(make_fingerprint(), Dials(size="small", gate="none", spatial_dims=2))
    assert {plan.network.gate for plan in found.values()} == {None}
    assert found["--size base"].network.spatial_dims == 2
