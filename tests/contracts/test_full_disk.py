"""A full disk is one clear error, whichever library met it, and leaves nothing; a limit on file size fails alike."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("resource")

DRIVER = """
import json, os, resource, sys
from pathlib import Path
import numpy as np
import torch
from attunet.config import Plan
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import FormatError
from attunet.export.formats import FORMATS
from attunet.export.monai_bundle import JoinedNetworks, write_script
from attunet.files import write_text
from attunet.nn import AttentionUNet, save_weights
from attunet.report import write_report
from attunet.report.theme import chart, save_figure
from attunet.selection.samples import Sample
from attunet.training.store import _write as write_stored

root, plan = Path(sys.argv[1]), Plan.model_validate_json(sys.argv[2])
network, random = AttentionUNet.from_config(plan.network).eval(), np.random.default_rng(0)
volume = Volume.from_array(random.integers(0, 255, (1, 90, 80, 70)).astype(np.uint8))
flat = Volume.from_array(random.integers(0, 255, (1, 300, 200, 1)).astype(np.uint8))
voxels = random.integers(0, 1000, (5000, 3)).astype(np.float32)
joined = JoinedNetworks([network], temperature=1.0, regions=False)
figure = chart(3.0, 3.0)
figure.subplots().imshow(random.random((300, 300)))
MASKS, PICTURES = (".nii", ".nii.gz", ".mha", ".nrrd", ".npy"), (".png", ".bmp", ".tif")
writers = {
    "weights.safetensors": lambda path: save_weights(network, path),
    **{form.file: (lambda path, form=form: form.write(network, plan, path)) for form in FORMATS.values()},
    "model.ts": lambda path: write_script(joined, plan, path),
    "image.b2nd": lambda path: write_stored(path, random.normal(size=(1, 40, 40, 40)).astype(np.float32), plan),
    **{f"mask{suffix}": (lambda path: write_volume(volume, path)) for suffix in MASKS},
    **{f"picture{suffix}": (lambda path: write_volume(flat, path)) for suffix in PICTURES},
    "sample.npz": lambda path: Sample(voxels, voxels, voxels, voxels, voxels, "origin").save(path),
    "figure.png": lambda path: save_figure(figure, path),
    "figure.svg": lambda path: save_figure(figure, path),
    "report.html": lambda path: write_report(path, title="x" * 50000),
    "statistics.json": lambda path: write_text(path, "x" * 50000),
}
print(json.dumps(list(writers)), flush=True)
for name, write in writers.items():
    folder = root / name
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            write(folder / name)
            print(json.dumps([name, "written", ""]))
        except FormatError as error:
            print(json.dumps([name, error.message, [str(part) for part in folder.rglob("*")]]))
        except BaseException as error:
            print(json.dumps([name, f"{type(error).__name__}: {error}", ""]))
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.integration
def test_every_writer_tells_a_full_disk(make_plan_of, tmp_path):
    pytest.importorskip("onnxruntime")
    plan = make_plan_of(2)
    plan = plan.model_copy(update={"network": plan.network.model_copy(update={"channels": (32, 48, 64)})})
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), plan.model_dump_json()],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    writers, *told = map(json.loads, done.stdout.splitlines())
    assert [name for name, _, _ in told] == writers, "one was killed"
    for name, message, left in told:
        assert f"{name}: File too large" in message, name
        assert not left, name
