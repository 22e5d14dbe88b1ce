"""What a server adds to a prediction: the time of a job beside `predict_cases`, and jobs per minute at eight clients.

A job here is all that a client does: upload, submit, wait, and fetch the mask. The model and the scan are those of one
window, so that nearly all that is measured is the server's. Prints both as JSON.

usage: benchmarks/serve_overhead.py [-m RUN -i SCAN] [--jobs 60] [--clients 8]
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import nibabel
import numpy as np

SHAPE = (96, 96, 64)


def main() -> int:
    """Measure, and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-m", "--model", type=Path)
    options.add_argument("-i", "--image", type=Path)
    options.add_argument("--jobs", type=int, default=60)
    options.add_argument("--clients", type=int, default=8)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve-") as name:
        folder = Path(name)
        model, image = given.model, given.image
        if model is None or image is None:
            model, image = folder / "model", folder / "scan.nii.gz"
            in_child(lambda: write_model(model))
            write_scan(image)
        library = measured_in_child(lambda: time_library(model, image, given.jobs, folder))
        served = time_server(model, image, given.jobs, given.clients, folder)
        figures = {
            "predict_seconds": library["one"],
            "job_seconds": served["one"],
            "overhead_ms": round(1000 * (served["one"] - library["one"]), 1),
            "library_per_minute": library["per_minute"],
            "server_per_minute": served["per_minute"],
            "share": round(served["per_minute"] / library["per_minute"], 3),
            "ready_seconds": served["ready"],
            "phases_ms": served["phases"],
            "windows": library["windows"],
        }
        print(json.dumps(figures, indent=1))
    return 0


def time_library(model: Path, image: Path, jobs: int, folder: Path) -> dict[str, float]:
    """Seconds of one case at a time, and cases per minute in one batch."""
    from attunet.data.cases import Case
    from attunet.inference.batch import predict_cases
    from attunet.inference.segmenter import Segmenter

    segmenter = Segmenter.load(model)
    case = Case("scan", (image,), None)
    times = []
    for number in range(jobs + 3):
        started = time.perf_counter()
        (result,) = predict_cases(segmenter, [case], folder / f"one{number}")
        times.append(time.perf_counter() - started)
        assert result.error is None, result.error
    many = [Case(f"scan{number}", (image,), None) for number in range(jobs)]
    started = time.perf_counter()
    predict_cases(segmenter, many, folder / "many")
    seconds = time.perf_counter() - started
    return {"one": statistics.median(times[3:]), "per_minute": 60 * jobs / seconds, "windows": result.windows}


def time_server(model: Path, image: Path, jobs: int, clients: int, folder: Path) -> dict[str, float]:
    """Seconds of one job at a time, and jobs per minute of several clients."""
    from attunet.serve import Client

    begun = time.perf_counter()
    words = ["-m", f"model={model}", "--port", "0", "--data", str(folder / "data"), "--max-queue", "1000"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "attunet", "serve", *words], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        url = process.stdout.readline().split()[-1]
        phases: list[tuple[float, ...]] = []

        def job(client: Client, name: int) -> float:
            started = time.perf_counter()
            scan = client.upload(image)
            uploaded = time.perf_counter()
            key = client.submit(scan.id, "model").id
            submitted = time.perf_counter()
            client.wait(key)
            waited = time.perf_counter()
            client.download(key, "mask", folder / f"served{name}.nii.gz")
            ended = time.perf_counter()
            phases.append((uploaded - started, submitted - uploaded, waited - submitted, ended - waited))
            return ended - started

        with Client(url) as client:
            job(client, 0)
            ready = time.perf_counter() - begun
            for _ in range(2):
                job(client, 0)
            phases.clear()
            times = [job(client, 0) for _ in range(jobs)]
        middle = [round(1000 * statistics.median(values), 1) for values in zip(*phases, strict=True)]
        work: SimpleQueue[int] = SimpleQueue()
        for number in range(jobs):
            work.put(number)

        def run(name: int) -> None:
            with Client(url) as own:
                while not work.empty():
                    work.get()
                    job(own, name)

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(run, range(clients)))
        seconds = time.perf_counter() - started
        named = dict(zip(("upload", "submit", "wait", "download"), middle, strict=True))
        return {
            "one": statistics.median(times),
            "per_minute": 60 * jobs / seconds,
            "ready": round(ready, 2),
            "phases": named,
        }
    finally:
        process.terminate()
        process.wait(60)


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


def in_child(work: object) -> None:
    """Do something in a process of its own."""
    measured_in_child(lambda: (work(), {})[1])


def measured_in_child(work: object) -> dict[str, float]:
    """What something returns that runs in a process of its own, as JSON through a pipe."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.write(write, json.dumps(work()).encode())
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    assert os.waitpid(process, 0)[1] == 0
    return json.loads(text)


if __name__ == "__main__":
    sys.exit(main())
