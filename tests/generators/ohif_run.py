"""OHIF's panel of MONAI Label in a headless browser: connect, press Run, and print what the viewer then holds.

usage: python ohif_run.py URL STUDY CHROMIUM PICTURE

Runs in an environment that has Playwright. Prints JSON: the mask in the viewer, its grid, and what was asked elsewhere.
"""

import json
import sys

from playwright.sync_api import sync_playwright

LIGHT = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
SEGMENTATIONS = "() => window.services.segmentationService.getSegmentations().length"
MASK = """() => {
  const [segmentation] = window.services.segmentationService.getSegmentations();
  const id = segmentation.representationData.Labelmap.volumeId || segmentation.segmentationId;
  const volume = window.cornerstone.cache.getVolume(id);
  return {
    dimensions: Array.from(volume.dimensions), direction: Array.from(volume.direction),
    origin: Array.from(volume.origin), spacing: Array.from(volume.spacing),
    voxels: Array.from(volume.voxelManager.getCompleteScalarDataArray()),
  };
}"""


def main(url, study, chromium, picture):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False, args=LIGHT)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        elsewhere, faults = [], []
        own = (url, "blob:", "data:")
        page.on("response", lambda got: None if got.url.startswith(own) else elsewhere.append(got.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}")
        page.wait_for_selector("#monailabelServerURL", timeout=90_000)
        page.wait_for_function("() => window.cornerstone.cache.getVolumes().length > 0", timeout=90_000)
        page.click(".settingsTable button.actionButton")
        run = page.locator('button:has-text("Run")').first
        run.wait_for(timeout=60_000)
        with page.expect_response(lambda got: "/infer/" in got.url, timeout=90_000) as answer:
            run.click()
        page.wait_for_function(f"() => ({SEGMENTATIONS})() > 0", timeout=60_000)
        page.wait_for_timeout(2000)  # the answer is written into the volume after the segmentation is there
        page.screenshot(path=picture)
        said = {"status": answer.value.status, "mask": page.evaluate(MASK), "elsewhere": elsewhere, "faults": faults}
        said["server"] = page.input_value("#monailabelServerURL")
        browser.close()
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
