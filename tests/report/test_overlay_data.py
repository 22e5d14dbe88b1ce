import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.errors import GeometryError
from attunet.report.overlay_data import OverlayData, overlay_data
from attunet.report.views import PICTURE, PLANES

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])


def data(segmentation: np.ndarray, reference: np.ndarray | None = None) -> OverlayData:
    image = Volume(np.random.default_rng(0).normal(size=(1, *segmentation.shape)), LPS)
    return overlay_data(
        image,
        image.with_array(segmentation[None]),
        {"background": 0, "liver": 5, "spleen": 9},
        reference=None if reference is None else Volume(reference[None], LPS + 1e-4),
        attention={},
        modality="mr",
    )


def test_everything_is_turned_like_the_image() -> None:
    mask = np.zeros((4, 5, 6), dtype=int)
    mask[0, 0, 3] = 5
    composed = data(np.zeros_like(mask), mask)
    assert composed.image.orientation == "RAS"
    assert composed.reference is not None
    assert composed.reference[3, 4, 3] == 5
    assert dict(zip((plane.name for plane in PLANES), composed.slices.values(), strict=True)) == {
        "axial": 3,
        "coronal": 4,
        "sagittal": 3,
    }


def test_other_planes_cut_where_their_slices_are() -> None:
    mask = np.zeros((4, 5, 6), dtype=int)
    mask[3, 1, 2] = 5
    composed = data(mask)
    for plane in PLANES:
        (column,), (row,) = composed.crosshairs(plane)
        assert composed.cut(composed.segmentation, plane)[row, column] == 5
    assert composed.only(PLANES[0]).crosshairs(PLANES[0]) == ([], [])


def test_only_labels_in_the_slices_are_visible() -> None:
    mask = np.zeros((4, 5, 6), dtype=int)
    mask[1:3, 1:3, 1:3] = 9
    assert data(mask).visible() == {"spleen": 1}


def test_colour_pictures_keep_their_colours() -> None:
    image = Volume(np.stack([np.full((4, 6, 1), 250.0), np.zeros((4, 6, 1)), np.zeros((4, 6, 1))]), np.eye(4))
    image.array[:, 0, 0] = 1.0
    composed = overlay_data(
        image, image.with_array(np.zeros((1, 4, 6, 1))), {}, reference=None, attention={}, modality="image"
    )
    picture = composed.picture(PICTURE)
    assert picture.shape == (4, 6, 3)
    assert picture[2, 2].tolist() == [1.0, 0.0, 0.0]


def test_values_that_are_no_numbers_are_shown_dark() -> None:
    image = Volume.from_array(np.array([[0.0, 5.0], [np.nan, 9.0]]))
    empty = image.with_array(np.zeros((1, 2, 2, 1)))
    composed = overlay_data(image, empty, {}, reference=None, attention={}, modality="image")
    assert np.isfinite(composed.picture(PICTURE)).all()
    assert composed.picture(PICTURE)[1, 0, 0] == 0.0


def test_another_shape_is_refused_by_name() -> None:
    image = Volume.from_array(np.zeros((4, 5, 6)))
    with pytest.raises(GeometryError, match="level 2 has shape"):
        overlay_data(
            image,
            image,
            {},
            reference=None,
            attention={"level 2": Volume.from_array(np.zeros((2, 2, 2)))},
            modality="other",
        )
