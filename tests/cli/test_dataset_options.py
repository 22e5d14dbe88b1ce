"""Flags of reading a data set."""

import pytest

from attunet.cli.dataset_options import dataset_options, of_labels, parse_frame
from attunet.data.dataset import DatasetOptions
from attunet.errors import ConfigError


def test_flags_become_options():
    assert dataset_options() == DatasetOptions()
    assert dataset_options(frame="3", key="image", overlap="last") == DatasetOptions(
        frame=3, key="image", overlap="last"
    )


@pytest.mark.parametrize(("text", "frame"), [(None, None), ("0", 0), ("12", 12), ("all", "all"), ("ALL", "all")])
def test_frames(text, frame):
    assert parse_frame(text) == frame


@pytest.mark.parametrize("text", ["-1", "first", "1.5", "", "٣"])
def test_what_is_no_frame(text):
    with pytest.raises(ConfigError, match="--frame"):
        parse_frame(text)


@pytest.mark.parametrize(
    ("labels", "masks"),
    [(None, ()), ("", ()), ("liver=1", ()), ("liver", ("liver",)), ("liver, spleen", ("liver", "spleen"))],
)
def test_labels_without_values_choose_the_masks_to_read(labels, masks):
    assert of_labels(DatasetOptions(overlap="last"), labels) == DatasetOptions(overlap="last", masks=masks)
