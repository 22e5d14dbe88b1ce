"""A plan of other data is refused with names, and what may not be meant is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.config import Normalization
from attunet.data.cases import Dataset, read_dataset
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import ConfigError, LabelError
from attunet.planning.plan_fit import check_plan_fits

RANDOM = np.random.default_rng(0)


@pytest.fixture
def make_data(tmp_path):
    """`make_data(values=(1, 2), channels=1, spacing=(1, 1, 1), intensities=None, names=None)`: two cases."""

    def make(values=(1, 2), *, channels=1, spacing=(1.0, 1.0, 1.0), scale=1.0, **changes) -> Dataset:
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        for case in "ab":
            label = np.zeros((10, 8, 6), np.uint8)
            for index, value in enumerate(values):
                label[2 * index + 1, 2:5] = value
            image = scale * RANDOM.gamma(2, 100, (channels, *label.shape))
            write_volume(Volume.from_array(image.astype(np.float32), spacing), tmp_path / f"images/{case}.nii.gz")
            write_volume(Volume.from_array(label, spacing), tmp_path / f"labels/{case}.nii.gz")
        return replace(read_dataset(tmp_path), **changes)

    return make


@pytest.fixture
def plan(make_plan_of):
    made = make_plan_of(labels={"background": 0, "liver": 1, "spleen": 2})
    spacing = made.fingerprint.model_copy(update={"median_spacing": (1.0, 1.0, 1.0)})
    return made.model_copy(update={"fingerprint": spacing})


def with_channels(plan, *names, kind="zscore", **bounds):
    normalization = (Normalization(kind=kind, **bounds),) * len(names)
    preprocessing = plan.preprocessing.model_copy(update={"normalization": normalization})
    return plan.model_copy(update={"channel_names": names, "preprocessing": preprocessing})


def test_the_plan_of_the_data_set_fits(plan, make_data):
    read = []
    assert check_plan_fits(plan, make_data(), on_case=lambda: read.append(1)) == ()
    assert len(read) == 2


def test_labels_that_no_case_holds_are_refused(plan, make_data):
    with pytest.raises(LabelError, match=r"it knows liver \(1\), spleen \(2\), the label files hold 0, 5"):
        check_plan_fits(plan, make_data((5,)))


def test_a_name_with_another_value_is_refused(plan, make_data):
    with pytest.raises(LabelError, match="the plan has spleen as 2, the data set as 5"):
        check_plan_fits(plan, make_data((1, 5), label_names={"background": 0, "liver": 1, "spleen": 5}))


@pytest.mark.parametrize(
    ("values", "changes", "told"),
    [
        ((1,), {}, "no case holds spleen"),
        ((1, 2, 7), {}, "hold 7, which the plan does not know"),
        (
            (1, 2),
            {"label_names": {"background": 0, "liver": 1, "kidney": 2}},
            "calls spleen what the data set calls kidney",
        ),
        ((1, 2), {"channel_names": ("T2",)}, "the data set T2"),
    ],
)
def test_what_may_not_be_meant_is_said(values, changes, told, plan, make_data):
    (warning,) = check_plan_fits(with_channels(plan, "T1"), make_data(values, **changes))
    assert told in warning


def test_other_spacing_is_said(plan, make_data):
    (warning,) = check_plan_fits(plan, make_data(spacing=(1, 1, 5)))
    assert "1 x 1 x 1 mm, these have 1 x 1 x 5 mm" in warning


def test_another_modality_is_said(plan, make_data):
    for_ct = with_channels(plan, "x", kind="ct", upper=200).model_copy(update={"modality": "ct"})
    (warning,) = check_plan_fits(for_ct, make_data())
    assert "normalizes the channel x as CT, but the images do not look like it" in warning
    for_ct = with_channels(plan, "MR").model_copy(update={"modality": "ct"})
    (warning,) = check_plan_fits(for_ct, make_data(channel_names=("MR",)))
    assert warning == "the plan was made for ct, the images are mr: the channel is called MR"


@pytest.mark.parametrize(
    ("changed", "data", "message"),
    [
        (lambda plan: with_channels(plan, "CT", "PET"), {}, r"2 channels \(CT, PET\), the image of case a has 1"),
        (lambda plan: with_channels(plan, "A", "B"), {"channels": 2, "channel_names": ("B", "A")}, "channels A, B"),
        (lambda plan: with_channels(plan, "CT", kind="ct", upper=200), {"channel_names": ("MR",)}, "but it is mr"),
        (lambda plan: with_channels(plan, "x", kind="ct", lower=-9, upper=-5), {}, "every value lies outside"),
    ],
)
def test_other_channels_are_refused(changed, data, message, plan, make_data):
    with pytest.raises(ConfigError, match=message):
        check_plan_fits(changed(plan), make_data(**data))
