"""Masks before and after: the gates that the network needs are told from those that it does not."""

import json
from math import isnan

import numpy as np
import pytest

from attunet.errors import ConfigError, GeometryError
from attunet.explanation.interventions.ablation import ALL, METRICS, ablate_case
from attunet.inference.segmenter import Segmenter

MEANS = {"level2": 0.2, "level3": 0.8}


def test_rows_tell_what_each_gate_does(segmenter, bright_ball):
    steps = []
    image, reference = bright_ball
    rows = ablate_case(
        segmenter, image, reference, case="ball", means=MEANS, advance=lambda *counts: steps.append(counts)
    )
    dice = {(row.gate, row.replacement): row.after["Dice"] for row in rows if row.label == "body"}
    assert all(row.before["Dice"] == 1.0 and row.case == "ball" for row in rows if row.label == "body")
    assert len(dice) == 3 * 4
    assert [steps[0], steps[-1], len(steps)] == [(1, 13), (13, 13), 13]
    # level3 is above a half everywhere, and that is all the network asks of it
    assert dice["level3", "one"] == dice["level3", "mean"] == dice["level3", "shuffled"] == 1.0
    assert dice["level3", "zero"] == dice["level2", "zero"] == dice["level2", "mean"] == dice[ALL, "zero"] == 0.0
    # where everything passes everything bright enough is body
    assert 0 < dice["level2", "one"] < 0.5
    assert dice["level2", "shuffled"] < 0.5
    row = next(row for row in rows if (row.gate, row.replacement, row.label) == ("level2", "zero", "body"))
    assert row.delta() == -1.0
    assert row.delta("HD95") == pytest.approx(np.linalg.norm(image.spatial_shape))  # an empty mask: the diagonal


def test_a_label_that_is_nowhere_has_no_change(segmenter, bright_ball):
    image, reference = bright_ball
    rows = ablate_case(segmenter, image, reference, case="ball", replacements=["zero"])
    absent = [row for row in rows if row.label == "lesion"]
    assert absent
    assert all(isnan(row.delta()) for row in absent)
    told = json.loads(json.dumps(absent[0].to_json(), allow_nan=False))
    assert told["before"] == told["after"] == dict.fromkeys(METRICS)


def test_without_a_reference_its_own_mask_takes_the_place(segmenter, bright_ball):
    image, reference = bright_ball
    own, known = (
        ablate_case(segmenter, image, truth, case="ball", replacements=["one", "zero"]) for truth in (None, reference)
    )
    assert {row.against for row in own} == {"own mask"}
    assert {row.against for row in known} == {"reference"}
    alike = [(row.delta(), other.delta()) for row, other in zip(own, known, strict=True) if row.label == "body"]
    assert all(one == other for one, other in alike)  # its mask is right


def test_only_what_was_drawn_is_scored(segmenter, bright_ball):
    image, reference = bright_ball
    rows = ablate_case(segmenter, image, reference, case="ball", replacements=["one"], annotated=["lesion"])
    assert {row.label for row in rows} == {"lesion"}


def test_what_cannot_be_ablated_is_said_at_once(segmenter, bright_ball, make_plan_of, gated):
    image, reference = bright_ball
    with pytest.raises(ConfigError, match="no mean of gate level2"):
        ablate_case(segmenter, image, reference, case="ball")
    assert not gated.told  # nothing was predicted before
    ungated = Segmenter((segmenter.members[0].__class__("m", make_plan_of(gate=None), (gated,)),))
    with pytest.raises(ConfigError, match="no gates"):
        ablate_case(ungated, image, reference, case="ball")
    cut = reference.with_array(reference.array[:, 1:])
    with pytest.raises(GeometryError):
        ablate_case(segmenter, image, cut, case="ball", replacements=["one"])


@pytest.mark.parametrize(("dims", "gate"), [(3, "grid"), (3, "multi"), (2, "additive")])
def test_a_real_model_is_ablated(dims, gate, make_model):
    model = Segmenter.load(make_model(dims, gate=gate), device="cpu", raw=True)
    random = np.random.default_rng(0)
    _, image = model.read(random.normal(size=(18, 14, 9) if dims == 3 else (20, 17)).astype(np.float32))
    reference = model.predict(image, mirror=False).segmentation
    means = {"level2.1": 0.5, "level2.2": 0.5} if gate == "multi" else {"level2": 0.5}
    rows = ablate_case(model, image, reference, case="noise", means=means)
    assert {row.gate for row in rows} == {"level2"}  # one gate is all gates
    known = [row for row in rows if not isnan(row.before["Dice"])]
    assert known
    assert all(row.before["Dice"] == 1.0 for row in known)
    assert any(row.delta() < 0 for row in known)
