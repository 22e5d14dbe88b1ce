"""Headless Chromium, driven by Playwright, which lies in the environment of the peers; and axe-core beside it."""

import base64
import io
import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

PEERS = Path(__file__).parents[2] / "build" / "peers-browser"
AXE_CORE = PEERS / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
PATIENCE = 60_000
DROP = """files => {
  const dropped = new DataTransfer();
  for (const [name, text] of files) {
    dropped.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name));
  }
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
}"""
AXE = """async () => (await axe.run()).violations
  .filter(found => ["serious", "critical"].includes(found.impact))
  .map(found => [found.id, found.nodes.map(node => node.html + " " + node.failureSummary)])"""


def absent():
    """Why there is no browser; an empty text when there is one."""
    if not any(map(shutil.which, NAMES)):
        return "Chromium is not installed: see tests/peers/install.sh"
    if not any(PEERS.glob("lib/python*/site-packages/playwright")):
        return "Playwright is not installed: see tests/peers/install.sh"
    return ""


@contextmanager
def chromium():
    """A browser of Playwright's."""
    packages = next(PEERS.glob("lib/python*/site-packages/playwright")).parent
    if str(packages) not in sys.path:
        sys.path.append(str(packages))  # after our own
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class WatchedPage:
    """A page of a server, whose console and requests are kept.

    Attributes: page, that of Playwright; console, what it wrote, and errors; foreign, requests to other hosts.
    """

    def __init__(self, browser, url, *, width=1000, height=640, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 500
        )
        self.page, self.console, self.foreign = self.context.new_page(), [], []
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self._origin = "/".join(url.split("/")[:3])
        self.context.on("request", self._keep_foreign)
        self.page.goto(url)

    def _keep_foreign(self, request):
        if not request.url.startswith((self._origin, f"blob:{self._origin}", "data:")):
            self.foreign.append(request.url)

    def drop(self, *paths):
        """Drop files onto the page."""
        self.page.evaluate(DROP, [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths])

    def drop_from_disk(self, path):
        """Drop a file or a folder as somebody does who drags it from a file manager."""
        session = self.context.new_cdp_session(self.page)
        dragged = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": dragged})

    def stroke(self, *places):
        """Tap with a finger, or drag it from place to place, in pixels of the page."""
        session = self.context.new_cdp_session(self.page)
        for number, (x, y) in enumerate(places):
            touch = {"type": "touchMove" if number else "touchStart", "touchPoints": [{"x": x, "y": y}]}
            session.send("Input.dispatchTouchEvent", touch)
            self.page.wait_for_timeout(50)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def tab_to(self, element, key="Tab"):
        """Press a key until an element has the focus."""
        for _ in range(40):
            if self.page.evaluate("document.activeElement.id") == element:
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{key} never reaches {element}")

    def centre(self, selector="#canvas"):
        """The middle of an element, in pixels of the page, when the page has come to rest."""
        box, before = self.page.locator(selector).bounding_box(), None
        while box != before:
            self.page.wait_for_timeout(200)
            box, before = self.page.locator(selector).bounding_box(), box
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def place(self):
        """Where the cross-hairs are, in mm, RAS."""
        return [float(word) for word in self.page.text_content("#readout").split(" mm")[0].split(",")]

    def forgive(self, text):
        """Forget what Chromium itself wrote into the console about a request that failed as it should."""
        self.console[:] = [line for line in self.console if text not in line]

    def until(self, condition):
        """Wait until JavaScript is true. Playwright's own way needs `eval`, which the page's policy refuses."""
        for _ in range(PATIENCE // 50):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {condition}\n{self.page.inner_text('body')}")

    def announced(self, text):
        """Wait until the live region says this."""
        self.until(f"document.getElementById('announce').textContent === {json.dumps(text)}")

    def ready(self):
        """Wait until a scan can be sent."""
        self.page.wait_for_selector("#model option", state="attached")
        self.page.wait_for_selector("#jobs li")
        return self

    def opened(self):
        """Wait until a job is shown; what else the page says is an error."""
        shown = "document.querySelector('main.opened') !== null"
        told = "!document.getElementById('problem').hidden && !document.getElementById('problem').dataset.lost"
        self.until(f"{shown} || ({told})")
        assert self.page.evaluate(shown), self.page.inner_text("#problem")
        self.page.wait_for_selector("#working", state="hidden")
        self.page.wait_for_selector("#model-card:not([hidden])")
        return self

    def pixels(self):
        """The picture in the viewer (height, width, RGB), without the words in it, when it has come to rest."""
        self.page.evaluate("document.getElementById('readout').style.visibility = 'hidden'; scrollTo(0, 0)")
        box = self.page.locator("#canvas")
        before = None
        for _ in range(40):
            after = np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("RGB")).astype(int)
            if before is not None and np.array_equal(before, after):
                return after
            before = after
            self.page.wait_for_timeout(100)
        raise AssertionError("the picture never comes to rest")

    def slide(self, selector, value):
        """Move a slider."""
        move = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
        self.page.eval_on_selector(selector, move, value)

    def download(self, title, folder):
        """Download a result by its link."""
        with self.page.expect_download() as waiting:
            self.page.locator("#downloads a", has_text=title).first.click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def faults(self):
        """What axe-core calls serious or critical."""
        self.page.evaluate(f"() => {{ {AXE_CORE.read_text(encoding='utf-8')} }}")
        return self.page.evaluate(AXE)
