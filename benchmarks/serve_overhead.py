"""What a server adds to a prediction: the time of a job beside `predict_cases`, and jobs per minute at eight clients.

A job here is all that a client does: upload, submit, wait, and fetch the mask. The model and the scan are those of one
window, so that nearly all that is measured is the server's. Both take turns, so that what else the machine does falls
on both. Prints JSON.

usage: benchmarks/serve_overhead.py [-m RUN -i SCAN] [--jobs 40] [--clients 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from threading import Lock

import httpx
import nibabel
import numpy as np

from attunet.serve import Client

WARM_UP = 3
SHAPE = (96, 96, 64)


def main() -> int:
    """Measure, and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-m", "--model", type=Path)
    options.add_argument("-i", "--image", type=Path)
    options.add_argument("--jobs", type=int, default=40)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve-") as name:
        folder = Path(name)
        model, image = given.model, given.image
        if model is None or image is None:
            model, image = folder / "model", folder / "scan.nii.gz"
            in_child(lambda: write_model(model))
            write_scan(image)
        with serving(model, folder) as (url, ready):
            library, served = Library(model, image, folder), Served(url, image, folder)
            pairs = [(library.one(), served.one()) for _ in range(given.jobs + WARM_UP)][WARM_UP:]
            rounds = [(library.many(given.jobs), served.many(given.jobs, given.clients)) for _ in range(given.rounds)]
        figures = {
            "predict_ms": median_ms(pair[0] for pair in pairs),
            "job_ms": median_ms(pair[1] for pair in pairs),
            "overhead_ms": median_ms(pair[1] - pair[0] for pair in pairs),
            "phases_ms": served.phases_ms(),
            "library_per_minute": round(statistics.median(rate for rate, _ in rounds), 1),
            "server_per_minute": round(statistics.median(rate for _, rate in rounds), 1),
            "share": round(statistics.median(served / library for library, served in rounds), 3),
            "shares": [round(served / library, 3) for library, served in rounds],
            "first_job_after_seconds": ready,
            "windows": library.windows,
        }
        print(json.dumps(figures, indent=1))
    return 0


class Library:
    """The bare library. Args: the model, the scan, and a folder for masks."""

    def __init__(self, model: Path, image: Path, folder: Path) -> None:
        from attunet.inference.segmenter import Segmenter

        self._segmenter, self._image, self._folder = Segmenter.load(model), image, folder
        self._number, self.windows = 0, 0

    def one(self) -> float:
        """Seconds of one case."""
        return self._seconds(1)

    def many(self, jobs: int) -> float:
        """Cases per minute of one batch."""
        return 60 * jobs / self._seconds(jobs)

    def _seconds(self, jobs: int) -> float:
        from attunet.data.cases import Case
        from attunet.inference.batch import predict_cases

        cases = [Case(f"scan{number}", (self._image,), None) for number in range(jobs)]
        self._number += 1
        started = time.perf_counter()
        results = predict_cases(self._segmenter, cases, self._folder / f"library{self._number}")
        seconds = time.perf_counter() - started
        assert not any(result.error for result in results)
        self.windows = results[0].windows
        return seconds


class Served:
    """The server, asked by clients. Args: its address, the scan, and a folder for masks."""

    def __init__(self, url: str, image: Path, folder: Path) -> None:
        self._url, self._image, self._folder = url, image, folder
        self._phases: list[tuple[float, ...]] = []
        self._client = Client(url)

    def one(self) -> float:
        """Seconds of one job."""
        moments = [time.perf_counter(), *self._job(self._client, 0)]
        self._phases.append(tuple(later - earlier for earlier, later in pairwise(moments)))
        return moments[-1] - moments[0]

    def many(self, jobs: int, clients: int) -> float:
        """Jobs per minute of several clients."""
        todo, lock = iter(range(jobs)), Lock()

        def run(name: int) -> None:
            with Client(self._url) as client:
                while True:
                    with lock:
                        if next(todo, None) is None:
                            return
                    list(self._job(client, name))

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(run, range(clients)))
        return 60 * jobs / (time.perf_counter() - started)

    def phases_ms(self) -> dict[str, float]:
        """The medians of the parts of a job."""
        columns = zip(*self._phases[WARM_UP:], strict=True)
        return dict(zip(("upload", "submit", "wait", "download"), map(median_ms, columns), strict=True))

    def _job(self, client: Client, name: int) -> Iterator[float]:
        scan = client.upload(self._image)
        yield time.perf_counter()
        key = client.submit(scan.id, "model").id
        yield time.perf_counter()
        client.wait(key)
        yield time.perf_counter()
        client.download(key, "mask", self._folder / f"served{name}.nii.gz")
        yield time.perf_counter()


@contextmanager
def serving(model: Path, folder: Path) -> Iterator[tuple[str, float]]:
    """A server: its address, and the seconds from its start until it takes jobs."""
    begun = time.perf_counter()
    words = ["-m", f"model={model}", "--port", "0", "--data", str(folder / "data"), "--max-queue", "1000"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "attunet", "serve", *words], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        url = process.stdout.readline().split()[-1]
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                    break
            time.sleep(0.05)
        yield url, round(time.perf_counter() - begun, 2)
    finally:
        process.terminate()
        process.wait(60)


def median_ms(seconds: Iterable[float]) -> float:
    """The median in milliseconds."""
    return round(1000 * statistics.median(seconds), 1)


def write_scan(path: Path) -> None:
    """A scan of one window of the model."""
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)


def write_model(folder: Path) -> None:
    """A network of the usual kind, with random weights, whose patch is the scan."""
    from attunet.bundle import fold_folder, save_manifest, save_plan
    from attunet.config import FingerprintSummary, Normalization, Plan, Preprocessing
    from attunet.export.formats import export_openvino
    from attunet.networks import default_network
    from attunet.nn import AttentionUNet, save_weights

    network = default_network(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(16, 32, 64, 128),
        strides=((2,) * 3,) * 3,
        kernel_sizes=((3,) * 3,) * 4,
    )
    plan = Plan(
        name="overhead",
        labels={"background": 0, "organ": 1},
        channel_names=("CT",),
        preprocessing=Preprocessing(spacing=(1.0, 1.0, 1.0), normalization=(Normalization(kind="zscore"),)),
        patch_size=SHAPE,
        batch_size=2,
        network=network,
        fingerprint=FingerprintSummary(
            cases=3, channels=1, median_shape=SHAPE, median_spacing=(1.0, 1.0, 1.0), label_voxels={"organ": 80}
        ),
        reasons={},
    )
    folder.mkdir()
    save_plan(plan, folder)
    fold = fold_folder(folder, 0)
    weights = AttentionUNet.from_config(network).eval()
    save_weights(weights, fold / "weights.safetensors")
    export_openvino(weights, plan, fold / "graph.xml")
    save_manifest(folder)


def in_child(work: Callable[[], None]) -> None:
    """Do something in a process of its own, so that torch is not in this one."""
    process = os.fork()
    if not process:
        try:
            work()
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0


if __name__ == "__main__":
    sys.exit(main())
