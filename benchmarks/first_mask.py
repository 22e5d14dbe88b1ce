"""Seconds from dropping a scan on the server's page to the first picture with its mask, in headless Chromium.

The first drop comes as soon as the page is ready after a start of the server, the others find the model loaded. Needs
the browser of `make test-peers`. Prints JSON.

usage: benchmarks/first_mask.py MODEL SCAN [--starts 3] [--drops 5] [--size 1440 960]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "tests" / "generators"))

import browser
from running_server import RunningServer

COLOURED, SHARE = 40, 0.01
"""Difference of red, green and blue from which a pixel has a colour; and the share of such pixels from which a mask is
seen: the cross-hairs are fewer."""


def main() -> int:
    """Measure, and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("scan", type=Path)
    options.add_argument("--starts", type=int, default=3)
    options.add_argument("--drops", type=int, default=5, help="after the first one")
    options.add_argument(
        "--size", type=int, nargs=2, default=(1440, 960), help="pixels of the window, which a CPU draws"
    )
    given = options.parse_args()
    if why := browser.absent():
        raise SystemExit(why)
    first, later = [], []
    with browser.chromium() as chromium:
        for _ in range(given.starts):
            with tempfile.TemporaryDirectory(prefix="first-mask-") as folder:
                server = RunningServer(Path(folder), {"model": given.model})
                try:
                    seconds = [_dropped(chromium, server.url, given.scan, given.size) for _ in range(1 + given.drops)]
                finally:
                    server.stop()
            first.append(seconds[0])
            later += seconds[1:]
    figures = {"first_drop_s": first, "median_first_s": statistics.median(first)}
    figures |= {"later_drops_s": later, "median_later_s": statistics.median(later)} if later else {}
    print(json.dumps(figures, indent=1))
    return 0


def _dropped(chromium: Any, url: str, scan: Path, size: tuple[int, int]) -> float:
    """Open the page anew, drop the scan, and wait until a mask is seen."""
    page = browser.WatchedPage(chromium, url, width=size[0], height=size[1]).ready()
    started = time.perf_counter()
    page.drop(scan)
    page.until("document.querySelector('main.opened') !== null")
    while not _seen(page.page.locator("#canvas").screenshot()):
        if time.perf_counter() - started > browser.PATIENCE / 1000:
            raise SystemExit("no mask is seen: does the model find anything in this scan?")
    seconds = time.perf_counter() - started
    page.context.close()
    return round(seconds, 3)


def _seen(picture: bytes) -> bool:
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    return bool(np.mean(np.ptp(pixels, axis=-1) > COLOURED) > SHARE)


if __name__ == "__main__":
    sys.exit(main())
