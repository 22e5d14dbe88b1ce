"""The MONAI Bundle: MONAI's own `bundle run` finds our masks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch

from attunet.bundle import load_bundle
from attunet.config import Plan, load_settings
from attunet.errors import ConfigError, TrainingError
from attunet.evaluation.overlap import dice
from attunet.export.monai_bundle import JoinedNetworks, export_monai, write_script
from attunet.export.package import load_network
from attunet.inference.segmenter import Segmenter

MISSING = [name for name in ("monai", "fire", "ignite") if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def made(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monai") / "bundle"
    export_monai(trained_run, folder)
    return folder


def test_the_folder_is_a_bundle(made):
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    configs = {"configs/metadata.json", "configs/inference.json"}
    assert files == {*configs, "models/model.ts", "docs/README.md", "plan.json", "postprocessing.json"}
    assert "monai.bundle run" in (made / "docs" / "README.md").read_text()
    assert load_settings(Plan, made / "plan.json").name == "blobs"


def test_the_script_divides_by_the_temperature_and_takes_any_batch(made, trained_run):
    bundle = load_bundle(trained_run)
    network = load_network(bundle.folds[0], bundle.plan)
    image = torch.randn(3, 1, *bundle.plan.patch_size)
    with torch.no_grad():
        outputs = torch.jit.load(made / "models" / "model.ts")(image)
        torch.testing.assert_close(outputs, network(image) / 1.5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("regions", [False, True])
def test_several_networks_say_their_mean_probability(regions, make_plan_of, make_network):
    plan = make_plan_of(2)
    networks = [make_network(plan, seed=seed) for seed in (0, 1)]
    image = torch.randn(2, 1, 16, 12)
    activate = torch.sigmoid if regions else lambda logits: logits.softmax(dim=1)
    with torch.no_grad():
        joined = activate(JoinedNetworks(networks, temperature=2.0, regions=regions)(image))
        expected = torch.stack([activate(network(image) / 2.0) for network in networks]).mean(dim=0)
    torch.testing.assert_close(joined, expected, atol=1e-5, rtol=1e-4)


def test_a_script_that_differs_is_not_written(make_plan_of, make_network, tmp_path):
    plan = make_plan_of(2)
    with pytest.raises(TrainingError, match="TorchScript differs"):
        write_script(
            JoinedNetworks([make_network(plan)], temperature=1.0, regions=False),
            plan,
            tmp_path / "model.ts",
            tolerance=-1.0,
        )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(trained_run, tmp_path):
    with pytest.raises(ConfigError, match="exists already"):
        export_monai(trained_run, tmp_path)


@pytest.mark.integration
@pytest.mark.skipif(bool(MISSING), reason=f"MONAI's bundle run needs {', '.join(MISSING)}")
def test_monai_runs_it_and_finds_our_masks(made, trained_run, blobs, tmp_path):
    scans, masks = tmp_path / "scans", tmp_path / "masks"
    scans.mkdir()
    for case in blobs[:2]:
        (scans / case.images[0].name).symlink_to(case.images[0])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    settings = ["--bundle_root", ".", "--dataset_dir", str(scans), "--output_dir", str(masks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *settings], cwd=made, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    segmenter = Segmenter.load(trained_run, device="cpu")
    for case in blobs[:2]:
        theirs = nibabel.load(masks / f"{case.id}_seg.nii.gz")
        ours = segmenter.predict(case).segmentation
        np.testing.assert_allclose(theirs.affine, ours.affine)
        assert theirs.get_data_dtype() == np.uint8
        assert dice(np.asarray(theirs.dataobj) == 1, ours.array[0] == 1) >= 0.99


@pytest.mark.integration
def test_a_cascade_is_refused_unless_its_networks_see_only_the_image(make_model, tmp_path):
    with pytest.raises(ConfigError, match="cannot run localizers") as caught:
        export_monai(make_model(localizer={"members": 1}), tmp_path / "bundle")
    assert "--cascade off" in caught.value.hint
    assert not list(tmp_path.iterdir())
    limits = export_monai(make_model(localizer={"members": 1, "context": "none"}), tmp_path / "bundle")
    assert any("every window is run" in text for text in limits)
