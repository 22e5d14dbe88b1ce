"""Areas compared with those of random blobs, and findings that claim no more than the intervals support."""

import json

import pytest

from attunet.explanation.interventions.faithfulness import CONTROL, Curve
from attunet.explanation.interventions.faithfulness_summary import CAVEAT, Faithfulness

SHARES = (0.0, 0.5, 1.0)
CASES = range(6)


def curves(gate, kind, middle, label="body"):
    """One curve a case, which differ a little; the middle moves the area by half as much."""
    ends = (1.0, 0.0) if kind == "deletion" else (0.0, 1.0)
    return [
        Curve(gate, f"case{index}", label, kind, SHARES, (ends[0], middle + 0.01 * (index % 3), ends[1]))
        for index in CASES
    ]


def found(deletion, insertion, gate="level2", control=CONTROL):
    return (
        curves(gate, "deletion", deletion)
        + curves(gate, "insertion", insertion)
        + curves(control, "deletion", 0.5)
        + curves(control, "insertion", 0.5)
    )


def test_areas_stand_beside_the_controls():
    areas = Faithfulness(tuple(found(0.2, 0.5))).areas("level2", "deletion")
    assert areas.area.mean == pytest.approx(0.355)
    assert areas.control.mean == pytest.approx(0.505)
    assert areas.difference.mean == pytest.approx(-0.15)
    assert areas.difference.cases == 6


@pytest.mark.parametrize(
    ("deletion", "insertion", "said"),
    [
        (0.2, 0.8, ("lowers the Dice sooner", "raises the Dice sooner")),
        (0.8, 0.2, ("lowers the Dice later", "raises the Dice later")),
        (0.5, 0.8, ("lowers the Dice neither", "raises the Dice sooner")),
    ],
)
def test_findings_follow_the_intervals(deletion, insertion, said):
    (sentence,) = Faithfulness(tuple(found(deletion, insertion))).findings
    assert all(part in sentence for part in said)
    assert sentence.startswith("level2: ")


def test_few_cases_claim_nothing():
    few = Faithfulness(tuple(curve for curve in found(0.2, 0.8) if curve.case == "case0"))
    assert few.findings[0].count("neither clearly sooner nor later") == 2


def test_mean_curves_for_the_figure():
    lesions = curves("level2", "deletion", 0.6, label="lesion")[:1]
    every = Faithfulness(tuple(found(0.2, 0.8) + lesions))
    drawn = every.figure("deletion")
    assert list(drawn) == ["level2", CONTROL]
    assert drawn["level2"] == ((0.0, 1.0), (0.5, pytest.approx((0.21 + 0.6) / 2)), (1.0, 0.0))
    assert every.mean_curve("level2", "deletion", label="lesion")[1] == (0.5, 0.6)
    assert list(every.figure("deletion", label="lesion")) == ["level2"]
    assert every.mean_curve("level9", "deletion") == ()


def test_members_have_controls_of_their_own():
    every = Faithfulness(tuple(found(0.2, 0.8) + found(0.2, 0.8, "a/level2", f"a/{CONTROL}")))
    assert every.gates == ("level2", "a/level2")
    assert every.areas("a/level2", "insertion").difference.cases == 6


def test_everything_as_json():
    values = json.loads(json.dumps(Faithfulness(tuple(found(0.2, 0.8))).to_json(), allow_nan=False))
    assert values["caveat"] == CAVEAT
    assert len(values["areas"]) == 2 * 2
    assert len(values["curves"]) == 24
    assert values["areas"][0]["conclusion"] == "sooner"
    empty = Faithfulness(())
    assert empty.findings == ()
    assert empty.to_json()["areas"] == []
