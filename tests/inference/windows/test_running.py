"""How windows are mirrored, exchanged and batched."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.windows.running import Windows, gaussian, windows_to_fill
from attunet.inference.windows.sliding_window import sliding_window


def test_every_combination_of_axes_is_a_copy_the_plain_one_first():
    assert Windows((0, 2)).copies == [(), (0,), (2,), (0, 2)]


def test_channels_change_places_only_where_left_becomes_right():
    how = Windows((0, 1), {0: [0, 2, 1]})
    assert [how.order(copy, 3) for copy in how.copies] == [[0, 1, 2], [0, 2, 1], [0, 1, 2], [0, 2, 1]]


@pytest.mark.parametrize(("batches", "mirror", "windows"), [(4, (), 8), (4, (0, 1), 2), (1, (0, 1, 2), 1)])
def test_copies_fill_batches_too(batches, mirror, windows):
    engine = type("Pair", (), {"batch": 2})()
    assert windows_to_fill([engine], Windows(mirror), batches) == windows


def test_beyond_the_image_its_edge_is_repeated():
    seen = []

    class Eye:
        name, batch = "eye", 1

        def __call__(self, patches):
            seen.append(patches.copy())
            return EngineOutput(patches, {})

    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    sliding_window(image, Eye(), (6, 2, 2), classes=1, mirror_axes=(0,))
    expected = image[0, [0, 0, 1, 2, 2, 2]]
    np.testing.assert_array_equal(seen[0][0, 0], expected)
    np.testing.assert_array_equal(seen[1][0, 0], expected[::-1])


def test_weights_are_made_once():
    assert gaussian((8, 8, 4)) is gaussian((8, 8, 4))
