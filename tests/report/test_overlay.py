from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from attunet.data.volume import Volume
from attunet.report.overlay import draw_overlay, overlay
from attunet.report.overlay_data import overlay_data
from attunet.report.theme import PALETTE, png

LABELS = {"background": 0, "liver": 5, "spleen": 9}


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(0).normal(0, 100, (1, 24, 20, 16)), np.diag([-2.0, -2.0, 3.0, 1.0]))


@pytest.fixture
def mask(volume: Volume) -> Volume:
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    array[0, 2:12, 4:14, 4:12] = 5
    array[0, 14:20, 4:14, 0:12] = 9
    return volume.with_array(array)


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for entry in figure.legends for text in entry.get_texts()]


def test_a_volume_is_shown_in_three_planes_on_one_scale(volume: Volume, mask: Volume) -> None:
    figure = overlay(volume, mask, LABELS, reference=mask, modality="ct", title="case")
    figure.canvas.draw()
    assert [title.split()[0] for title in titles(figure)] == ["axial", "coronal", "sagittal"]
    assert legend(figure) == ["liver", "spleen", "reference"]
    boxes = [axes.get_window_extent() for axes in figure.axes]
    scales = [
        (box.width / width, box.height / height)
        for box, (width, height) in zip(boxes, [(48, 40), (48, 48), (40, 48)], strict=True)
    ]
    assert np.ptp(scales) < 0.01 * np.mean(scales)


def test_colours_follow_the_order_of_labels(volume: Volume, mask: Volume) -> None:
    figure = overlay(volume, mask.with_array(np.where(mask.array == 9, 9, 0)), LABELS)
    assert legend(figure) == ["spleen"]
    (handle,) = figure.legends[0].legend_handles
    assert to_hex(handle.get_edgecolor()).upper() == PALETTE[1]


def test_attention_gets_a_column_each_and_one_scale(volume: Volume, mask: Volume) -> None:
    maps = {name: volume.with_array(np.full((1, 24, 20, 16), 0.5)) for name in ("level 2", "level 3")}
    figure = overlay(volume, mask, LABELS, attention=maps)
    assert len(figure.axes) == 3 * 3 + 1
    assert {"level 2", "level 3"} <= set(titles(figure))
    assert figure.axes[-1].get_ylim() == (0.0, 1.0)
    shown = figure.axes[1].images[0]
    assert shown.get_clim() == (0.0, 1.0)
    assert (np.asarray(shown.get_array()) == 0.5).all()


def test_a_gate_of_two_maps_gets_two_columns(volume: Volume, mask: Volume) -> None:
    maps = np.stack([np.full((24, 20, 16), 0.25), np.full((24, 20, 16), 0.75)])
    figure = overlay(volume, mask, LABELS, attention={"level3": volume.with_array(maps)})
    shown = {axes.get_title(): np.unique(axes.images[0].get_array()).tolist() for axes in figure.axes[1:3]}
    assert shown == {"level3.1": [0.25], "level3.2": [0.75]}


def test_the_columns_of_many_gates_become_smaller(volume: Volume, mask: Volume) -> None:
    names = [f"member {number}/level3" for number in range(9)]
    figure = overlay(volume, mask, LABELS, attention={name: volume.with_array(volume.array * 0) for name in names})
    assert figure.get_figwidth() < 20
    figure.canvas.draw()
    boxes = [axes.title.get_window_extent() for axes in figure.axes[1:10]]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_single_plane_can_be_drawn_alone(volume: Volume, mask: Volume) -> None:
    data = overlay_data(volume, mask, LABELS, reference=None, attention={}, modality="ct")
    axial = next(iter(data.slices))
    assert titles(draw_overlay(data.only(axial))) == [f"axial  {data.slices[axial] + 1}/16"]


def test_a_picture_is_one_panel() -> None:
    picture = Volume.from_array(np.arange(48.0).reshape(6, 8))
    figure = overlay(picture, picture.with_array((picture.array > 20).astype(np.uint8)), {"nucleus": 1})
    assert titles(figure) == ["image"]
    assert legend(figure) == ["nucleus"]
    assert figure.axes[0].get_ylim() == (5.5, -0.5)


def test_nothing_segmented_has_no_legend(volume: Volume, mask: Volume) -> None:
    figure = overlay(volume, mask.with_array(np.zeros_like(mask.array)), LABELS)
    assert not figure.legends
    assert png(figure, dpi=40).startswith(b"\x89PNG")


def test_very_many_labels_are_summed_up(volume: Volume) -> None:
    array = np.arange(volume.array.size).reshape(volume.array.shape) % 60
    figure = overlay(volume, volume.with_array(array), {str(value): value for value in range(60)})
    assert legend(figure)[-1] == "and 35 more"
