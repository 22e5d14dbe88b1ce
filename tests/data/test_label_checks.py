"""What does not look like classes is a problem with a remedy, and classes never are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from attunet.data import label_checks
from attunet.data.dataset import Dataset
from attunet.data.facts import count_labels
from attunet.data.label_checks import LabelContents, check_labels, has_soft_edges

RANDOM = np.random.default_rng(0)


def disc(size=64, radius=20, value=255.0):
    grid = np.indices((size, size)) - size * 0.47
    return np.where(np.hypot(*grid) < radius, value, 0.0)


def ball(size=32, radius=9, value=1):
    return np.where(np.sqrt(((np.indices((size,) * 3) - size / 2) ** 2).sum(0)) < radius, value, 0)


def compressed(label):
    """As a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(label.astype(np.uint8)).save(file, "jpeg", quality=75)
    return np.asarray(Image.open(file))


def soft(label):
    label = np.rint(label).astype(np.int32)
    label = label if label.ndim == 3 else label[..., None]
    return has_soft_edges(label, count_labels(label))


def found(*cases, declared=None, ignore=None):
    dataset = Dataset(root=Path(), layout="plain", cases=(), label_names=declared, ignore_label=ignore)
    contents = [LabelContents(f"c{index}", counts, soft) for index, (counts, soft) in enumerate(cases)]
    problems = check_labels(dataset, contents)
    assert all(problem.remedy and problem.message for problem in problems)
    return [problem.kind for problem in problems]


def counted(*values, background=900):
    return {0: background, **dict.fromkeys(values, 20)} if background else dict.fromkeys(values, 20), False


@pytest.mark.parametrize(
    "label",
    [
        gaussian_filter(disc(), 1.2),
        gaussian_filter(disc(radius=8), 1.0),
        gaussian_filter(np.pad(np.full((20, 24), 255.0), 10), 1.2),
        zoom(disc(40, 12), 2, order=1),
        zoom(disc(128, 41), 0.5, order=1, grid_mode=True, mode="nearest"),
        gaussian_filter(ball(value=255).astype(float), 1),
        gaussian_filter(ball(value=100).astype(float), 0.8),
        zoom(ball(radius=6, value=65535).astype(float), 1.5, order=1),
        gaussian_filter(disc(value=85) + disc(radius=14, value=85) + disc(radius=8, value=85), 0.8),
        compressed(disc()),
    ],
)
def test_soft_edges_are_seen(label):
    assert soft(label)


@pytest.mark.parametrize("repeats", [(1, 1, 100), (60, 60, 1)])
def test_large_labels_are_sampled(repeats, monkeypatch):
    monkeypatch.setattr(label_checks, "MOST_VOXELS", 60_000)
    edges = np.tile(np.rint(gaussian_filter(disc(40, 12), 1.2)).astype(np.uint8)[..., None], repeats)
    assert soft(edges)
    classes = np.tile(np.kron(np.arange(1, 17).reshape(4, 4), np.ones((10, 10), int))[..., None], repeats)
    assert not soft(classes)


def parcellation(count, size):
    """Areas of Voronoi cells inside a ball."""
    grid = np.stack(np.indices((size,) * 3), -1).reshape(-1, 3)
    seeds = RANDOM.uniform(0, size, (count, 3))
    nearest = ((grid[:, None] - seeds[None]) ** 2).sum(-1).argmin(1) + 1
    return np.where(ball(size, size * 0.45), nearest.reshape((size,) * 3), 0)


def vessels():
    label = np.zeros((64, 64), int)
    for value in range(1, 13):
        label[5 * value, 4:60] = value
    return label


@pytest.mark.parametrize(
    "label",
    [
        disc(),
        parcellation(30, 32),
        parcellation(120, 40),
        np.repeat(np.arange(1, 301), 3).reshape(30, 30),
        vessels(),
        np.kron(RANDOM.integers(0, 12, (8, 8)), np.ones((6, 6))),
        RANDOM.integers(0, 5, (20, 20, 5)),
        disc(value=1) + disc(radius=12, value=1) + disc(radius=6, value=1),
    ],
)
def test_classes_are_not_soft_edges(label):
    assert not soft(label)


def test_the_remedy_of_soft_edges_covers_all_masks():
    def remedy(*sharp):
        edges = LabelContents("soft", {0: 900, 1: 3, 64: 9, 128: 8, 191: 9, 254: 300}, soft=True)
        others = [LabelContents(f"sharp{value}", {0: 900, value: 40}) for value in sharp]
        dataset = Dataset(root=Path(), layout="plain", cases=())
        (problem,) = check_labels(dataset, [edges, *others])
        return problem.remedy

    assert '"NAME=127-254"' in remedy()
    assert '"NAME=128-255"' in remedy(255)
    assert "--labels" not in remedy(1)
    assert "the others hold 1" in remedy(1)
    counts = {0: 900, 42: 9, 85: 300, 120: 8, 150: 8, 170: 250, 200: 7, 254: 90, 255: 200}
    levels = LabelContents("soft", counts, soft=True)
    (problem,) = check_labels(Dataset(root=Path(), layout="plain", cases=()), [levels])
    assert "the classes seem to be 85, 170, 255" in problem.remedy


def test_soft_edges_are_a_problem_unless_declared():
    edges = {0: 900, 64: 9, 128: 8, 191: 9, 255: 300}
    assert found((edges, True), counted(255)) == ["soft edges"]
    assert found((edges, True), declared={"background": 0, "x": 255}) == ["soft edges"]
    assert found((edges, True), declared={f"l{value}": value for value in edges}) == []


@pytest.mark.parametrize(
    "cases",
    [
        [counted(1), counted(255), counted(255)],
        [counted(1, 2), counted(127, 255)],
        [counted(1), counted(65535), (counted()[0], False)],
        [counted(-1), counted(1)],
    ],
)
def test_one_mask_in_two_encodings(cases):
    assert "two encodings" in found(*cases)


@pytest.mark.parametrize(
    "cases",
    [
        [counted(1), counted(2)],
        [counted(255), counted(255)],
        [counted(1), counted(1, 255)],
        [counted(1, 2, 3), counted(3, 4), counted(5)],
        [counted(*range(1, 118)), counted(*range(1, 100)), counted(5, 70)],
        [counted(*range(1, 301))] * 4,
        [counted(*range(12, 24)), counted(*range(8, 20)), counted(*range(1, 9))],
    ],
)
def test_other_sets_of_classes_are_left_alone(cases):
    assert found(*cases) == []


def test_numbers_of_objects():
    assert found(*(counted(*range(1, count + 1)) for count in (31, 12, 57, 40))) == ["instance numbers"]
    assert found(*(counted(*range(first, first + 9)) for first in (1000, 2000, 3000))) == ["instance numbers"]
    named = {f"label_{value}": value for value in range(1, 58)}
    assert found(*(counted(*range(1, count + 1)) for count in (31, 12, 57)), declared=named) == []


def test_nothing_to_learn():
    assert found(counted(), counted()) == ["nothing to learn"]
    assert found(counted(), declared={"background": 0, "x": 1}) == ["nothing to learn"]
    assert found(counted(5), declared={"background": 0, "x": 1}) == ["nothing to learn"]
    assert found(counted(4), ignore=4) == ["nothing to learn"]
    assert found(counted(1, background=0), counted(1, background=0)) == ["nothing to learn"]
    assert found(counted(0, background=9)) == ["nothing to learn"]


def test_negative_values_and_labels_everywhere():
    assert found(counted(-1, 1), counted(1)) == ["negative label value"]
    assert found(counted(-1, 1, background=0)) == ["negative label value"]
    assert found(counted(-1, 1), counted(1), declared={"background": -1, "a": 0, "b": 1}) == []
    assert found(counted(1, 2, background=0), counted(2, 3, background=0)) == ["no background"]
    assert found(counted(1, 2), counted(1, background=0)) == ["no background"]
