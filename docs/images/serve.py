"""Make docs/images/serve.png, the picture of the page: `.venv/bin/python docs/images/serve.py demo`.

`make demo test-peers` first. The argument is a folder of `attunet demo`, whose model segments the first test scan.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "tests" / "generators"))

import browser  # noqa: E402
from running_server import RunningServer  # noqa: E402

SIZE = {"width": 1440, "height": 960}


def main(demo: Path) -> None:
    """Serve the model, drop a scan, and take a picture of its mask and the attention of its last gate."""
    scan = sorted((demo / "data" / "imagesTs").iterdir())[0]
    with tempfile.TemporaryDirectory() as folder, browser.chromium() as chromium:
        server = RunningServer(Path(folder), {"abdomen": demo / "model"})
        try:
            page = browser.WatchedPage(chromium, server.url, **SIZE).ready()
            page.drop(scan)
            page.opened()
            page.page.locator('[name="map"][value^="Attention"]').last.check()
            page.pixels()
            page.page.evaluate("document.getElementById('readout').style.visibility = 'visible'")
            picture = Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")
        finally:
            server.stop()
    picture.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(HERE / "serve.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
