"""The manifest: what is named, nothing outside, nothing altered."""

from __future__ import annotations

import json

import pytest

from attunet.bundle import load_bundle, save_manifest, save_plan
from attunet.bundle.manifest import check_sums, read_sealed, read_sums, seal, write_unsealed
from attunet.config import Postprocessing
from attunet.errors import BundleError


@pytest.fixture
def model(tmp_path, make_plan_of):
    """A sealed folder of two folds; what their files hold does not matter here."""
    root = tmp_path / "run"
    save_plan(make_plan_of(), root)
    for fold in (0, 2):
        for name in ("weights.safetensors", "graph.xml", "graph.bin"):
            (root / f"fold_{fold}").mkdir(exist_ok=True)
            (root / f"fold_{fold}" / name).write_text(name)
    save_manifest(root)
    return root


def edit(root, change):
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(root, message):
    with pytest.raises(BundleError, match=message) as error:
        load_bundle(root)
    assert error.value.hint
    return error.value


def test_what_is_there_is_sealed_by_its_relative_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("content")
    seal(tmp_path, [tmp_path / "a" / "b", tmp_path / "absent"])
    sums = read_sums(tmp_path)
    assert list(sums) == ["a/b"]
    check_sums(tmp_path, sums, ["a/b"])


@pytest.mark.parametrize("name", ["../secret.txt", "fold_0/../../secret.txt", "/etc/hostname"])
def test_a_manifest_cannot_reach_outside(name, model, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    edit(model, lambda content: content["sha256"].update({name: "0"}))
    refused(model, "outside")


@pytest.mark.parametrize("name", ["fold_0/graph.bin", "plan.json", "fold_0", "manifest.json"])
def test_a_link_cannot_lead_outside(name, model, tmp_path):
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to(tmp_path / "elsewhere")
    assert "cp -rL" in refused(model, "is a link that leads out of the model folder").hint


def test_a_link_within_the_model_is_followed(model, tmp_path):
    (model / "fold_2" / "graph.bin").rename(model / "shared.bin")
    (model / "fold_2" / "graph.bin").symlink_to("../shared.bin")
    (tmp_path / "link").symlink_to(model)
    assert len(load_bundle(tmp_path / "link").folds) == 2


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.xml", "graph.bin"])
def test_one_changed_byte_is_noticed_in_every_file(name, model):
    file = model / "fold_2" / name
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    assert name in refused(model, "was changed").message


def test_a_file_that_the_manifest_lacks_is_not_used(model):
    (model / "fold_0" / "model.onnx").write_bytes(b"from somewhere else")
    fold = load_bundle(model).folds[0]
    assert fold.has(fold.graph)
    assert not fold.has(fold.onnx)
    with pytest.raises(BundleError, match="not in the manifest"):
        fold.read(fold.onnx)


def test_a_model_that_is_overwritten_gives_an_error_not_the_new_content(model):
    fold = load_bundle(model).folds[0]
    fold.graph.write_text("another")
    save_manifest(model)
    with pytest.raises(BundleError, match="was changed"):
        fold.read(fold.graph)


@pytest.mark.parametrize("name", ["plan.json", "fold_2/graph.bin"])
def test_a_manifest_must_name_all_that_is_used(name, model):
    edit(model, lambda content: content["sha256"].pop(name))
    assert name in refused(model, "does not list").message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99, "sha256": {}}', '{"sha256": 3}']
)
def test_a_damaged_manifest_is_refused(text, model):
    (model / "manifest.json").write_text(text)
    refused(model, "is not valid")


def test_names_that_no_file_can_have_are_refused(model):
    content = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(content | {"replaced": {"a" * 5000: "b"}}))
    with pytest.raises(BundleError, match=r"manifest\.json.*too long"):
        read_sums(model)


def test_a_manifest_of_bytes_is_refused(model):
    (model / "manifest.json").write_bytes(b"\xff\xfe")
    refused(model, "is not valid")


TAUGHT = Postprocessing(temperature=1.5)


def read(root, sums):
    return read_sealed(Postprocessing, root, "taught.json", sums, remedy="teach it again")


def test_what_is_not_there_is_none(tmp_path):
    assert read(tmp_path, {}) is None


def test_what_the_manifest_names_is_read(tmp_path):
    write_unsealed(TAUGHT, tmp_path / "taught.json")
    seal(tmp_path, [tmp_path / "taught.json"])
    assert read(tmp_path, read_sums(tmp_path)) == TAUGHT


def test_what_was_replaced_since_is_refused(tmp_path):
    write_unsealed(TAUGHT, tmp_path / "taught.json")
    seal(tmp_path, [tmp_path / "taught.json"])
    sums = read_sums(tmp_path)
    write_unsealed(TAUGHT.model_copy(update={"temperature": 2.0}), tmp_path / "taught.json")
    seal(tmp_path, [tmp_path / "taught.json"])
    with pytest.raises(BundleError, match="was changed"):
        read(tmp_path, sums)
    (tmp_path / "taught.json").unlink()
    with pytest.raises(BundleError, match="is missing"):
        read(tmp_path, sums)


def test_what_it_does_not_name_is_refused(tmp_path):
    write_unsealed(TAUGHT, tmp_path / "taught.json")
    with pytest.raises(BundleError, match=r"taught\.json is not in the manifest") as caught:
        read(tmp_path, {})
    assert caught.value.hint == "teach it again"
