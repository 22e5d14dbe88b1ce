"""What a notebook shows: every value as a figure and as a small HTML page that is well formed and escaped."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser
from math import nan

import numpy as np
import pytest
from PIL import Image

from attunet.config import interval_text
from attunet.data.phantom import PHANTOM_LABELS, make_phantom
from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import Summary, summarize
from attunet.inference.prediction import Prediction
from attunet.report.notebook import draw, html_fragment, to_html

VOID = {"img", "br"}


class Fragment(HTMLParser):
    """Tags must match; collects text and images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.images: list[dict[str, str | None]] = []
        self.feed(html)
        assert not self.open
        assert "<script" not in html
        assert "color:" not in html.replace("rgba", "")  # the notebook's own colours, light or dark

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "

    @property
    def picture(self):
        """The only image, decoded."""
        (image,) = self.images
        kind, data = str(image["src"]).split(",")
        assert kind == "data:image/png;base64"
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(0)


@pytest.fixture(scope="module")
def prediction(phantom):
    image, label = phantom
    maps = image.with_array(np.full((1, *image.spatial_shape), 0.5, np.float32))
    labels = {"background": 0, **{name: value for name, value in PHANTOM_LABELS.items() if value}}
    dice = {"liver": 0.9, "pancreas": None}
    return Prediction(
        "case<1>", image, label, labels, None, {"level2": maps}, "test cpu", dice, warnings=("fast & short",)
    )


def axes_with_images(figure):
    return [axes for axes in figure.axes if axes.images]


def test_a_volume_shows_three_planes_and_a_picture_one(phantom):
    image, _ = phantom
    assert len(axes_with_images(image.show())) == 3
    assert len(axes_with_images(Volume.from_array(np.eye(8, dtype=np.float32)).show())) == 1
    page = Fragment(image._repr_html_())
    assert f"{image.spacing[0]:.2f}" in page.text
    assert image.orientation in page.text
    assert page.picture.std() > 10


def test_a_large_volume_is_drawn_from_some_of_its_voxels():
    large = Volume(np.broadcast_to(np.arange(2000, dtype=np.int16)[:, None, None], (1, 2000, 4, 3)), np.eye(4))
    page = Fragment(to_html(large))
    assert "2000 × 4 × 3" in page.text
    assert max(page.picture.shape) < 1200


def test_a_prediction_shows_mask_attention_and_volumes(prediction):
    figure = prediction.show()
    assert len(axes_with_images(figure)) == 6
    assert "level2" in [axes.get_title() for axes in figure.axes]
    page = Fragment(prediction._repr_html_())
    assert "case<1>" in page.text
    assert "fast & short" in page.text
    assert "0.900" in page.text
    assert len(base64.b64decode(str(page.images[0]["src"]).split(",")[1])) < 200_000


def test_a_volume_is_shown_with_its_interval(prediction, make_interval):
    ml = prediction.volumes_ml["liver"]
    page = Fragment(replace(prediction, volume_calibrations={"liver": make_interval()})._repr_html_())
    assert interval_text(ml, make_interval().around(ml), 2) in page.text
    assert "90%)" not in Fragment(prediction._repr_html_()).text


def test_a_plan_shows_its_patch_inside_the_median_image(make_plan_of):
    volume, flat = make_plan_of(), make_plan_of(2)
    assert len(volume.show().axes) == 3
    assert len(flat.show().axes) == 1
    page = Fragment(volume._repr_html_())
    assert all(name in page.text for name in volume.labels)
    assert page.picture.ndim == 3


def test_scores_show_a_row_for_each_label(phantom):
    _, label = phantom
    labels = {name: value for name, value in PHANTOM_LABELS.items() if value}
    scores = score_case(label.array[0], label.array[0], labels, label.spacing)
    summary = summarize([CaseScores("a", scores)], labels)
    page = Fragment(summary._repr_html_())
    assert all(name in page.text for name in labels)
    assert "1.000" in page.text
    assert summary.show().axes
    assert Fragment(Summary({}, ())._repr_html_()).images


def test_text_is_escaped_and_a_picture_is_optional():
    page = html_fragment("<b>", ("<i>", "n"), [["<a>", nan]], None, notes="x < y")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<a>" not in page
    assert Fragment(page).images == []


def test_other_types_have_no_view():
    for view in (draw, to_html):
        with pytest.raises(TypeError, match="int"):
            view(3)
