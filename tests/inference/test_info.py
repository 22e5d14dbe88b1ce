"""What is known of a model and of this machine, as plain values."""

from __future__ import annotations

import json
import shutil

from attunet.bundle import save_manifest
from attunet.inference.info import machine_facts, model_facts


def test_the_machine_has_versions_and_a_processor():
    facts = json.loads(json.dumps(machine_facts()))
    assert facts["versions"]["attunet"] != "not installed"
    assert facts["devices"]["cpu"].startswith("openvino")
    assert facts["can train"] == ("not installed" not in (facts["versions"]["torch"], facts["versions"]["lightning"]))


def test_a_run_says_what_it_expects(tiny_run):
    facts = json.loads(json.dumps(model_facts(tiny_run)))
    assert facts["labels"] == {"background": 0, "body": 1, "lesion": 7}
    assert facts["channels"] == ["channel 0"]
    assert "temperature" not in facts
    assert "members" not in facts


def test_a_run_says_what_its_images_were_like(ranged_run, tiny_run):
    assert model_facts(ranged_run)["images"] == {
        "voxels": "(14 to 20) x (10 to 16) x (6 to 10)",
        "spacing mm": "(0.8 to 1.2) x (0.8 to 1.2) x (0.8 to 1.2)",
        "field of view mm": "(14 to 20) x (10 to 16) x (6 to 10)",
        "slices": "none: voxels are about as long as wide",
    }
    assert "images" not in model_facts(tiny_run)


def test_a_model_of_an_earlier_version_says_what_its_cross_validation_determined(tiny_run, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    earlier = {"postprocessing": {"body": {"largest_component": True}}, "temperature": 1.25, "attention": None}
    (model / "refinement.json").write_text(json.dumps(earlier))
    save_manifest(model)
    facts = model_facts(model)
    assert facts["post-processing"] == {"body": {"largest_component": True}}
    assert facts["temperature"] == 1.25
