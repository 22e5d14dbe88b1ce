import numpy as np
import pytest
import torch

from attunet.training.patches import intensity
from attunet.training.patches.intensity import IntensityChanges


def an_image(*size, channels=1):
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (channels, *size)).astype(np.float32))


@pytest.fixture
def counted(monkeypatch):
    """How often each change was made, by the name of its transform."""
    calls = {}

    def changed(self, step, channel, rng):
        result = original(self, step, channel, rng)
        if result is not channel:
            name = type(step.transform).__name__
            calls[name] = calls.get(name, 0) + 1
        return result

    original = IntensityChanges._changed
    monkeypatch.setattr(intensity.IntensityChanges, "_changed", changed)
    return calls


def test_changes_are_as_frequent_as_nnunets(counted):
    changes, image, rng = IntensityChanges(2, within_slices=False), an_image(4, 4), np.random.default_rng(0)
    for _ in range(2000):
        changes(image, rng)
    expected = {
        "RandGaussianNoise": 0.1,
        "RandGaussianSmooth": 0.2 * 0.5,
        "RandScaleIntensity": 0.15,
        "RandScaleIntensityFixedMean": 0.15,
        "RandSimulateLowResolution": 0.25 * 0.5,
        "RandAdjustContrast": 0.4,
    }
    assert {name: many / 2000 for name, many in counted.items()} == pytest.approx(expected, abs=0.025)


def test_channels_are_changed_each_in_its_own_way():
    changes, image = IntensityChanges(3, within_slices=False), an_image(6, 5, 4).expand(2, -1, -1, -1).clone()
    changed = [changes(image, np.random.default_rng(seed)) for seed in range(30)]
    assert any(not torch.equal(one[0], one[1]) for one in changed)


@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)])
def test_a_change_is_a_function_of_the_generator(size):
    changes, image = IntensityChanges(len(size), within_slices=False), an_image(*size, channels=2)
    first = [changes(image, np.random.default_rng(seed)) for seed in range(20)]
    again = [changes(image, np.random.default_rng(seed)) for seed in reversed(range(20))]
    assert all(torch.equal(*pair) for pair in zip(first, reversed(again), strict=True))
    assert torch.equal(image, an_image(*size, channels=2))


def test_thick_slices_are_not_blurred_into_each_other():
    empty_but_one = torch.zeros(1, 8, 8, 5)
    empty_but_one[..., 2] = an_image(8, 8)

    def leaks(within_slices):
        changes = IntensityChanges(3, within_slices=within_slices)
        blur = next(step for step in changes._steps if type(step.transform).__name__ == "RandGaussianSmooth")
        image = changes._changed(blur._replace(of_channels=1.0), empty_but_one, np.random.default_rng(0))
        return bool(image[..., 1].abs().max() > 0)

    assert leaks(False)
    assert not leaks(True)
