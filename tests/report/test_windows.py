"""The windows that a cascade runs, drawn where they are: on planes of the model grid, in the patient's axes."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.bundle import Skipping
from attunet.data.volume import Volume
from attunet.inference.case import plan_case
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.report.theme import png
from attunet.report.windows import draw_windows, window_map

SPOT = slice(24, 30), slice(6, 12), slice(10, 16)


class Bright:
    """A network of any stage that finds what is bright."""

    name, batch = "bright", 2

    def __call__(self, patches, attention=None):
        logits = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
        logits[:, 1] = 9 * np.sign(patches[:, 0] - 2)
        logits[:, 2] = -9
        return EngineOutput(logits, {})


@pytest.fixture(scope="module")
def planned(make_plan_of, make_cascade):
    """A function that plans a scan with one bright spot, stored with these axes, for a cascade."""

    def plan(affine=None, *, slice_axis=2, all_windows=False, skipping=True):
        settings = make_plan_of()
        preprocessing = settings.preprocessing.model_copy(update={"slice_axis": slice_axis})
        settings = make_cascade(settings.model_copy(update={"preprocessing": preprocessing}))
        audit = Skipping(used=skipping, threshold=0.5, margin=0.0, cases=40, lost=0, skipped=0.5, bound=0.07)
        member = Member("one", settings, (Bright(),), localizers=((Bright(),),), skipping=(audit,))
        array = np.random.default_rng(0).normal(0, 0.1, (48, 36, 40)).astype(np.float32)
        array[SPOT] += 9
        image = Volume(array[None], np.eye(4) if affine is None else np.array(affine, float))
        return plan_case([member], image, PredictOptions(all_windows=all_windows)), image

    return plan


SAGITTAL_STORED = [[0, 0, 1, 0], [-1, 0, 0, 50], [0, 1, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("affine", [None, SAGITTAL_STORED])
@pytest.mark.parametrize("slice_axis", [0, 2])
def test_spot_region_and_windows_are_at_the_same_place_in_every_plane(affine, slice_axis, planned):
    plan, image = planned(affine, slice_axis=slice_axis)
    shown = window_map(plan, image)
    (case,) = plan.members
    assert (shown.run, shown.skipped) == (len(case.tiling), case.skipped_windows)
    assert 0 < shown.run < shown.skipped
    assert [panel.plane.name for panel in shown.panels] == ["axial", "coronal", "sagittal"]
    for panel in shown.panels:
        bright = panel.picture > 200
        assert bright.any()
        assert panel.region[bright].all()
        assert panel.region.mean() < 0.2
        covered = np.zeros(bright.shape, bool)
        for left, top, width, height in panel.windows:
            covered[top : top + height, left : left + width] = True
        assert covered[panel.region].all()
        assert not covered.all()


def test_patients_look_upright(planned):
    plan, image = planned()
    coronal = window_map(plan, image).panels[1]
    rows, columns = np.nonzero(coronal.picture > 200)
    assert rows.mean() > coronal.picture.shape[0] / 2  # the spot is low, and the feet are below
    assert columns.mean() < coronal.picture.shape[1] / 2  # on the patient's left would be right in the picture
    assert coronal.extent == (48.0, 40.0)


def test_without_skipping_every_window_is_shown(planned):
    for options in ({"all_windows": True}, {"skipping": False}):
        shown = window_map(*planned(**options))
        assert (shown.skipped, shown.share_skipped) == (0, 0.0)
        assert all(panel.region is None for panel in shown.panels)
        assert str(shown).endswith("windows run (0% skipped)")


def test_a_model_of_one_stage_has_no_such_map(planned, make_plan_of):
    _, image = planned()
    plan = plan_case([Member("one", make_plan_of(), (Bright(),))], image, PredictOptions())
    assert window_map(plan, image) is None


def test_the_figure_says_how_many_windows_were_run(planned):
    shown = window_map(*planned())
    figure = draw_windows(shown, "case 1")
    assert figure.get_suptitle() == f"case 1: {shown}"
    assert f"{shown.run} of {shown.run + shown.skipped} windows run" in str(shown)
    assert png(figure, 50).startswith(b"\x89PNG")
    assert shown.to_json()["share_skipped"] == pytest.approx(shown.share_skipped, abs=1e-4)
