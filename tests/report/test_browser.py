"""A report as people see it: in headless Chromium, moved by a script that the test adds to a copy of the page."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.report import Animation, Picture, Table, write_report
from attunet.report.overlay import overlay
from attunet.report.theme import chart

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for found in map(shutil.which, NAMES) if found), "")

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium (.ci/run does it where it is root)"
)

DRIVER = """
<script>
addEventListener("load", () => {
  const found = {images: [...document.images].map(image => image.naturalWidth)};
  const animations = [...document.querySelectorAll(".animation")];
  const state = animation => ({
    shown: [...animation.querySelectorAll("img")].flatMap((image, at) => image.checkVisibility() ? [at] : []),
    label: animation.querySelector("output").textContent,
    spoken: animation.querySelector("input").getAttribute("aria-valuetext"),
  });
  found.start = animations.map(state);
  const slider = animations[0].querySelector("input");
  slider.value = 0;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  found.moved = animations.map(state);
  animations[0].querySelector("button").click();
  found.button = animations[0].querySelector("button").textContent;
  setTimeout(() => {
    found.played = animations.map(state);
    found.page = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
    found.background = getComputedStyle(document.body).backgroundColor;
    found.controls = animations.map(animation => animation.querySelector("input").checkVisibility());
    parent.postMessage(JSON.stringify(found), "*");
  }, 5000);
});
</script>
"""

# a window cannot be as narrow as a phone, a frame can
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark">
<iframe src="{page}" width="{width}" height="844" style="border: 0"></iframe>
<script>addEventListener("message", event => { document.body.dataset.found = event.data; });</script>
"""


def open_page(path, profile, *flags):
    """The DOM of a page after ten seconds of its own time, and what it wrote to the console."""
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}")
    ask = ("--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom", path.as_uri())
    done = subprocess.run([CHROMIUM, *quiet, *flags, *ask], capture_output=True, text=True, timeout=90, check=False)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with every kind of section, two animations among them, with the driver at its end."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    image = Volume(random.normal(size=(1, 24, 20, 16)), np.eye(4))
    mask = image.with_array((image.array > 1).astype(np.uint8))

    def frame(share):
        alpha = image.with_array(np.full(image.array.shape, share))
        return overlay(image, mask, {"background": 0, "organ": 1}, attention={"level2": alpha}, title=f"{share:.1f}")

    frames = [(f"epoch {number}", frame(number / 2)) for number in range(3)]
    write_report(
        folder / "report.html",
        title="A report <with everything>",
        facts={"Mean Dice": "0.900"},
        sections=[
            Table("Wide", ["Label", *(f"metric {number}" for number in range(9))], [["liver", *["0.900 ± 0.100"] * 9]]),
            Picture("Chart", chart(6.8, 3.0), "chart"),
            Picture("Case", frame(0.5), "case"),
            Animation("Three frames", "animation", frames),
            Animation("One frame", "still", frames[:1]),
        ],
        notes=["A note."],
    )
    content = (folder / "report.html").read_text(encoding="utf-8")
    (folder / "driven.html").write_text(content.replace("</body>", f"{DRIVER}</body>"), encoding="utf-8")
    return folder / "driven.html"


def findings(page, width, profile, *flags):
    """What the driver saw in a frame of this width, and the console."""
    frame = page.with_name(f"frame_{width}.html")
    frame.write_text(FRAME.replace("{page}", page.name).replace("{width}", str(width)), encoding="utf-8")
    dom, console = open_page(frame, profile, "--window-size=1300,900", *flags)
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found, f"the script did not come to its end; console: {console}"
    return json.loads(html.unescape(found[1])), console


def test_images_load_and_the_slider_moves_without_an_error(page, tmp_path):
    found, console = findings(page, 1200, tmp_path)
    assert console == []
    assert len(found["images"]) == 6
    assert min(found["images"]) > 100
    still = {"shown": [0], "label": "epoch 0", "spoken": "epoch 0"}
    assert found["start"] == [{"shown": [2], "label": "epoch 2", "spoken": "epoch 2"}, still]
    assert found["moved"] == [still, still]
    assert found["button"] == "Pause"
    assert found["played"] == found["start"]
    assert found["controls"] == [True, False]


@pytest.mark.parametrize(("scheme", "background"), [(0, "rgb(20, 24, 29)"), (1, "rgb(245, 246, 248)")])
def test_it_fits_a_phone_in_the_dark_and_in_the_light(scheme, background, page, tmp_path):
    found, console = findings(page, 390, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    assert console == []
    assert found["page"] == [390, 390]
    assert found["background"] == background


def test_an_error_on_a_page_would_be_seen(tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<script>nothing.at.all()</script>", encoding="utf-8")
    _, console = open_page(broken, tmp_path / "profile")
    assert len(console) == 1
    assert "nothing is not defined" in console[0]
