"""The network as a program of torch.export: what torch alone runs, and what attunet reads of it."""

from __future__ import annotations

import io
import logging
import operator
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from attunet.bundle import Execution, fold_folder, load_bundle, save_execution, save_plan
from attunet.errors import BundleError, TrainingError
from attunet.export.package import load_network
from attunet.export.program import as_program, export_program, quiet_loggers, supports_any_size
from attunet.inference.segmenter import Segmenter
from attunet.nn.program import read_program

ALONE = """
import sys
import torch
torch.set_num_threads(1)
program = torch.export.load(sys.argv[1]).module()
outputs = program(torch.load(sys.argv[2]))
torch.save(outputs, sys.argv[3])
assert not [name for name in sys.modules if name.startswith("attunet")]
"""


def test_loggers_get_their_level_back():
    logger = logging.getLogger("attunet.test.noisy")
    logger.setLevel(logging.INFO)
    with quiet_loggers("attunet.test.noisy"):
        assert logger.level == logging.ERROR
    assert logger.level == logging.INFO


@pytest.mark.integration
def test_torch_alone_runs_a_program_at_another_batch_and_size(exported, trained_run, tmp_path):
    image = torch.randn(3, 1, 24, 8, 16)
    torch.save(image, tmp_path / "image.pt")
    files = [exported("torch").folder / "fold_0" / "model.pt2", tmp_path / "image.pt", tmp_path / "outputs.pt"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outputs = torch.load(tmp_path / "outputs.pt")
    bundle = load_bundle(trained_run)
    with torch.no_grad():
        expected = load_network(bundle.folds[0], bundle.plan)(image, detailed=True)
    torch.testing.assert_close(outputs["logits"], expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs["level2"], expected.attention["level2"], atol=1e-4, rtol=1e-4)


def test_a_patch_that_strides_do_not_divide_keeps_its_size(make_plan_of, make_network):
    plan = make_plan_of(2).model_copy(update={"patch_size": (15, 12, 1)})
    assert not supports_any_size(plan)
    network = make_network(plan)
    image = torch.randn(3, 1, 15, 12)
    with torch.no_grad():
        np.testing.assert_allclose(as_program(network, plan).module()(image)["logits"], network(image), atol=1e-5)


def test_a_program_that_differs_is_not_written(make_plan_of, make_network, tmp_path):
    plan = make_plan_of(2).model_copy(update={"patch_size": (15, 12, 1)})
    with pytest.raises(TrainingError, match="differs from the network"):
        export_program(make_network(plan), plan, tmp_path / "model.pt2", tolerance=-1.0)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def program(make_plan_of, make_network, tmp_path_factory):
    """A plan, its network and its program."""
    plan, path = make_plan_of(2), tmp_path_factory.mktemp("program") / "model.pt2"
    network = make_network(plan)
    export_program(network, plan, path)
    return plan, network, path


def edited(path, part, content):
    """The bytes of a program with another content of the part whose name ends so."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(made, "w") as target:
        for name in archive.namelist():
            target.writestr(name, content if name.endswith(part) else archive.read(name))
    return made.getvalue()


class Mark:
    """Unpickles to the value, after it has made a file."""

    def __init__(self, file, value):
        self.file, self.value = file, value

    def __reduce__(self):
        return operator.getitem, ([Opens(self.file), self.value], 1)


class Opens:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return exec, (f"open({str(self.file)!r}, 'w').close()",)


def test_the_weights_of_a_program_are_those_of_its_network(program):
    _, network, path = program
    weights, expected = read_program(path.read_bytes(), path), network.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_program_of_a_stranger_runs_no_code(program, tmp_path):
    """torch.export.load would: its example inputs are pickled."""
    plan, _, path = program
    with zipfile.ZipFile(path) as archive:
        (inputs,) = [name for name in archive.namelist() if name.endswith("sample_inputs/model.pt")]
        known = torch.load(io.BytesIO(archive.read(inputs)), weights_only=True)
    code = io.BytesIO()
    torch.save(Mark(tmp_path / "ran", known), code)
    model = tmp_path / "model"
    file = fold_folder(model, 0) / "model.pt2"
    file.parent.mkdir(parents=True)
    file.write_bytes(edited(path, "sample_inputs/model.pt", code.getvalue()))
    save_plan(plan, model)
    save_execution(Execution(engine="torch program"), model)
    image = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    found = Segmenter.load(model).predict(image)
    assert not (tmp_path / "ran").exists()
    assert found.engine.startswith("torch program cpu")
    with quiet_loggers("torch._export.serde.serialize"):
        torch.export.load(file)
    assert (tmp_path / "ran").exists()


def test_pickled_weights_are_not_read(program, tmp_path):
    _, _, path = program
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("model_weights_config.json")]
        config = archive.read(name)
    with pytest.raises(BundleError, match="they are pickled"):
        read_program(edited(path, "weights_config.json", config.replace(b"false", b"true", 1)), path)


def test_a_program_of_an_earlier_torch_is_read_without_its_code(program, tmp_path):
    _, network, _ = program
    expected = {f"network.{name}": value for name, value in network.state_dict().items()}
    for content, refused in ((expected, False), (Mark(tmp_path / "ran", expected), True)):
        state, made = io.BytesIO(), io.BytesIO()
        torch.save(content, state)
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("serialized_state_dict.pt", state.getvalue())
            archive.writestr("serialized_example_inputs.pt", b"never read")
        if refused:
            with pytest.raises(BundleError, match="cannot be read"):
                read_program(made.getvalue(), Path("model.pt2"))
        else:
            assert read_program(made.getvalue(), Path("model.pt2")).keys() == network.state_dict().keys()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no program", b"PK\x05\x06" + bytes(18)])
def test_another_file_is_no_program(content):
    with pytest.raises(BundleError, match=r"model\.pt2 cannot be read"):
        read_program(content, Path("model.pt2"))


def test_a_program_does_not_name_the_folders_of_this_machine(program):
    with zipfile.ZipFile(program[2]) as archive:
        home = str(Path(torch.__file__).parents[1]).encode()
        assert not [name for name in archive.namelist() if home in archive.read(name)]
