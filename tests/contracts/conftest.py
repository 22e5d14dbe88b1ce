"""Shared by the contract tests: the project's folder, and a clean interpreter."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from attunet.data.formats import write_volume
from attunet.data.phantom import make_phantom


@pytest.fixture(scope="session")
def project():
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def modules(project):
    """Every source file of the package, as a dotted name and its path."""
    found = {}
    for path in sorted((project / "src").rglob("*.py")):
        parts = path.relative_to(project / "src").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.fixture(scope="session")
def trees(modules):
    """The syntax tree of each of them, which takes seconds to make; nobody changes it."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}


@pytest.fixture(scope="session")
def fresh_python():
    """Run code in an interpreter that has imported nothing yet; returns the last line it prints, as JSON."""

    def run(code):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, make_model, write_blobs, tiny_config):
    """The folder in which the documents' Python blocks run: a reader's scans, data set, recipe and model."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(make_model(3, spacing=(7.0, 7.0, 10.0)), folder / "model")
    image, label = make_phantom(0, shape=(48, 40, 24), spacing=(7.0, 7.0, 10.0))
    write_volume(image, folder / "scan.nii.gz")
    write_volume(label, folder / "label.nii.gz")
    write_blobs(folder / "data")
    recipe = tiny_config(epochs=1).model_dump(mode="json")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder
