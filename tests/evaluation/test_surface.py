from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from attunet.evaluation.surface import hausdorff_95, surface_distance, surface_scores

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


def ball(shape: tuple[int, ...], center: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(length) for length in shape)]
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, center, strict=True)) <= radius**2


def by_monai(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    first, second = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference))
    mean = metrics.compute_average_surface_distance(
        first, second, include_background=True, symmetric=True, spacing=list(spacing)
    )
    hd95 = metrics.compute_hausdorff_distance(
        first, second, include_background=True, percentile=95, spacing=list(spacing)
    )
    return float(mean), float(hd95)


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        (ball((24, 20, 16), (11, 10, 8), 6), ball((24, 20, 16), (13, 9, 7), 5)),
        (ball((24, 20, 16), (2, 2, 2), 4), ball((24, 20, 16), (20, 17, 13), 4)),
        (ball((9, 9, 9), (4, 4, 4), 20), ball((9, 9, 9), (4, 4, 4), 1)),
    ],
    ids=["overlapping", "apart and cut by the border", "whole image"],
)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.5, 3.0)])
def test_equals_monai(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, float, float]) -> None:
    mean, hd95 = by_monai(reference, prediction, spacing)
    scores = surface_scores(reference, prediction, spacing)
    assert scores.mean == pytest.approx(mean, rel=1e-5)
    assert scores.hd95 == pytest.approx(hd95, rel=1e-5)


def test_an_image_is_measured_in_its_plane() -> None:
    reference, prediction = ball((20, 18), (9, 9), 6), ball((20, 18), (10, 8), 4)
    expected = by_monai(reference, prediction, (2.0, 0.5))
    scores = surface_scores(reference[..., None], prediction[..., None], (2.0, 0.5, 7.0))
    assert tuple(scores) == pytest.approx(expected, rel=1e-5)


@given(pair=arrays(bool, (2, 5, 4, 3)), spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3))
@settings(max_examples=40, deadline=None)
def test_random_masks_equal_monai(pair: np.ndarray, spacing: tuple[float, float, float]) -> None:
    reference, prediction = pair
    scores = surface_scores(reference, prediction, spacing)
    if reference.any() and prediction.any():
        assert tuple(scores) == pytest.approx(by_monai(reference, prediction, spacing), rel=1e-4, abs=1e-5)
    assert tuple(scores) == pytest.approx(tuple(surface_scores(prediction, reference, spacing)), nan_ok=True)


def test_shifted_plane_is_as_far_as_its_shift() -> None:
    reference, prediction = np.zeros((10, 6, 6), dtype=bool), np.zeros((10, 6, 6), dtype=bool)
    reference[2], prediction[5] = True, True
    assert surface_distance(reference, prediction, (1.5, 1.0, 1.0)) == pytest.approx(4.5)
    assert hausdorff_95(reference, prediction, (1.5, 1.0, 1.0)) == pytest.approx(4.5)


def test_identical_masks_touch() -> None:
    mask = ball((12, 12, 12), (6, 6, 6), 4)
    assert tuple(surface_scores(mask, mask, (1.0, 2.0, 3.0))) == (0.0, 0.0)


def test_empty_masks_follow_the_rule() -> None:
    empty, full = np.zeros((4, 3, 5), dtype=bool), np.ones((4, 3, 5), dtype=bool)
    assert all(isnan(value) for value in surface_scores(empty, empty, (1.0, 1.0, 1.0)))
    diagonal = sqrt(4**2 + 6**2 + 15**2)
    assert tuple(surface_scores(full, empty, (1.0, 2.0, 3.0))) == pytest.approx((diagonal, diagonal))
    assert tuple(surface_scores(empty, full, (1.0, 2.0, 3.0))) == pytest.approx((diagonal, diagonal))
    flat = surface_scores(full[..., :1], empty[..., :1], (1.0, 2.0, 3.0))
    assert flat.mean == pytest.approx(sqrt(4**2 + 6**2))


def test_a_single_voxel_image_has_a_surface() -> None:
    voxel = np.ones((1, 1, 1), dtype=bool)
    assert tuple(surface_scores(voxel, voxel, (1.0, 1.0, 1.0))) == (0.0, 0.0)


def test_distances_on_a_sheared_grid_are_those_between_the_voxels_of_the_affine():
    edges = np.array([[1.0, 0, 0], [0, 1, 0.8], [0, 0, 2]])
    rng = np.random.default_rng(3)
    first, second = (ndimage.binary_opening(rng.random((12, 12, 12)) > 0.4) for _ in range(2))
    surfaces = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) @ edges.T for mask in (first, second)]
    apart = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    found = surface_scores(first, second, edges)
    assert found.mean == pytest.approx(np.concatenate([apart.min(1), apart.min(0)]).mean())
    assert found.hd95 == pytest.approx(max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95)))
    corners = np.array([[i, j, k] for i in (0, 12) for j in (0, 12) for k in (0, 12)]) @ edges.T
    diagonal = np.linalg.norm(corners[:, None] - corners[None], axis=-1).max()
    assert surface_scores(first, np.zeros_like(first), edges).mean == pytest.approx(diagonal)


def test_a_sheared_slice_is_measured_in_its_plane():
    edges = np.array([[1.0, 0.3, 0], [0, 1, 0], [0, 0, 9]])
    first, second = np.zeros((2, 5, 6, 1), bool)
    first[1, 1], second[1, 4] = True, True
    assert surface_scores(first, second, edges).mean == pytest.approx(3 * np.hypot(0.3, 1))
