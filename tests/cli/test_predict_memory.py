"""The limit of --max-memory, met by a separate process on a full-size scan."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from attunet.bundle import fold_folder, save_manifest, save_plan
from attunet.data.formats import read_label, read_volume, write_volume
from attunet.data.volume import Volume

LABELS = {"background": 0} | {f"organ_{index}": index for index in range(1, 100)}
GB = 2**30
RUN = """
import atexit, sys
from attunet.cli import main
from attunet.inference.budget import peak_resident_bytes
atexit.register(lambda: print("PEAK", peak_resident_bytes(), file=sys.stderr))
main()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_plan_of, make_network):
    """100 labels at 1.5 mm, a tiny network, patches of 64 voxels a side."""
    from attunet.export.formats import export_openvino
    from attunet.nn import save_weights

    root = tmp_path_factory.mktemp("hundred")
    plan = make_plan_of(labels=LABELS, spacing=(1.5, 1.5, 1.5)).model_copy(update={"patch_size": (64, 64, 64)})
    network, folder = make_network(plan), fold_folder(root, 0)
    save_plan(plan, root)
    save_weights(network, folder / "weights.safetensors")
    export_openvino(network, plan, folder / "graph.xml")
    save_manifest(root)
    return root


def write_scan(path, shape):
    """An int16 CT of 0.8 x 0.8 x 1 mm: a noisy body in air."""
    random = np.random.default_rng(0)
    i, j = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = (i / 0.8) ** 2 + (j / 0.6) ** 2 < 1
    array = np.empty((1, *shape), np.int16, order="F")
    for k in range(shape[2]):
        texture = 40 + 60 * np.sin(9 * i + k / 40) * np.cos(7 * j) + random.integers(-30, 30, shape[:2])
        array[0, ..., k] = np.where(body, texture, -1000)
    write_volume(Volume(array, np.diag([-0.8, -0.8, 1.0, 1.0])), path)


def predict(model, scan, output, *arguments):
    """Peak bytes of the process and of what it foretold."""
    command = ["predict", "-m", model, "-i", scan, "-o", output, "--disable-tta", "--step-size", "1", *arguments]
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split("PEAK")[1])


@pytest.mark.slow
def test_a_scan_of_full_size_with_a_hundred_labels_stays_below_four_gigabytes(model, tmp_path):
    write_scan(tmp_path / "scan.nii.gz", (512, 512, 1000))
    started = time.perf_counter()
    peak = predict(model, tmp_path / "scan.nii.gz", tmp_path / "four", "--max-memory", "4GB")
    print(f"512 x 512 x 1000, 100 labels: {peak / GB:.2f} GB, {time.perf_counter() - started:.0f} s")
    assert peak <= 4 * GB
    assert len(np.unique(read_label(tmp_path / "four" / "scan.nii.gz").array)) > 10


@pytest.mark.slow
def test_on_a_crop_less_memory_gives_the_same_mask(model, tmp_path):
    write_scan(tmp_path / "scan.nii", (400, 360, 200))
    free = predict(model, tmp_path / "scan.nii", tmp_path / "free")
    least = 1.25 * GB
    bound = predict(model, tmp_path / "scan.nii", tmp_path / "bound", "--max-memory", f"{least / GB}GB")
    assert bound <= least < free
    masks = [read_volume(tmp_path / folder / "scan.nii").array for folder in ("free", "bound")]
    np.testing.assert_array_equal(*masks)
