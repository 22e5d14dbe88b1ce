import numpy as np
import pytest
from matplotlib.figure import Figure

from attunet.data.volume import Volume
from attunet.report.overlay_data import OverlayData, overlay_data
from attunet.report.panels import attention_scale, draw_attention, draw_image

LABELS = {"background": 0, "liver": 5}


@pytest.fixture
def data() -> OverlayData:
    image = Volume(np.random.default_rng(0).normal(size=(1, 12, 10, 8)), np.eye(4))
    mask = np.zeros((1, 12, 10, 8), np.uint8)
    mask[0, 2:5, 1:4, 5:7] = 5
    alpha = image.with_array(np.linspace(0.2, 0.4, 960).reshape(1, 12, 10, 8))
    return overlay_data(
        image,
        image.with_array(mask),
        LABELS,
        reference=image.with_array(mask),
        attention={"level2": alpha},
        modality="mr",
    )


def test_the_lines_cross_where_the_planes_meet_in_the_organ(data: OverlayData) -> None:
    for plane in data.slices:
        axes = Figure().subplots()
        draw_image(axes, data, plane)
        upright, level = axes.lines
        column, row = int(upright.get_xdata()[0]), int(level.get_ydata()[0])
        assert data.cut(data.segmentation, plane)[row, column] == 5


def test_label_and_reference_are_outlined_and_the_sides_named(data: OverlayData) -> None:
    axes = Figure().subplots()
    plane = next(iter(data.slices))
    draw_image(axes, data, plane)
    assert len(axes.collections) == 2
    assert {text.get_text() for text in axes.texts} == {"R", "A"}
    assert axes.get_title() == f"axial  {data.slices[plane] + 1}/8"


def test_coefficients_are_shown_as_they_are(data: OverlayData) -> None:
    axes = Figure().subplots()
    plane = next(iter(data.slices))
    draw_attention(axes, data, plane, data.attention["level2"])
    (shown,) = axes.images
    assert shown.get_clim() == (0.0, 1.0)
    np.testing.assert_allclose(shown.get_array(), data.cut(data.attention["level2"], plane))


def test_the_scale_goes_from_0_to_1() -> None:
    figure = Figure()
    axes = figure.subplots()
    attention_scale(figure, axes)
    assert axes.get_ylim() == (0.0, 1.0)
    assert axes.get_ylabel() == "attention coefficient"
