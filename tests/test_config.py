"""Settings: unknown keys are refused by name, files round trip, contradictions are found."""

from __future__ import annotations

import importlib
import json
import pkgutil

import pytest
import yaml
from pydantic import ValidationError

import attunet.config
from attunet.config import NetworkConfig, Plan, Settings, TrainingConfig, load_settings
from attunet.errors import ConfigError


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_recipe_fills_in_the_defaults_and_flags_win(tmp_path):
    recipe = write(tmp_path / "recipe.yaml", "epochs: 7\nlearning_rate: 1e-3\n")
    config = load_settings(TrainingConfig, recipe, seed=4, epochs=9)
    assert (config.epochs, config.learning_rate, config.seed) == (9, 1e-3, 4)
    assert load_settings(TrainingConfig, write(tmp_path / "empty.yaml", "# nothing\n")) == TrainingConfig()


def test_an_unknown_key_is_named_with_the_known_ones(tmp_path):
    recipe = write(tmp_path / "recipe.yaml", "epoch: 7\n")
    with pytest.raises(ConfigError, match="epoch") as refused:
        load_settings(TrainingConfig, recipe)
    assert str(recipe) in refused.value.message
    assert all(key in refused.value.hint for key in TrainingConfig.model_fields)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ((), "patch_size"),
        (("network",), "deep_supervision"),
        (("preprocessing",), "crop_to_content"),
        (("preprocessing", "normalization", 0), "upper"),
    ],
)
def test_an_unknown_key_deep_in_a_plan_is_named_with_its_neighbours(path, known, make_plan_of, tmp_path):
    content = make_plan_of().model_dump(mode="json")
    place = content
    for part in path:
        place = place[part]
    place["surprise"] = 1
    with pytest.raises(ConfigError, match="surprise") as refused:
        load_settings(Plan, write(tmp_path / "plan.json", content))
    assert known in refused.value.hint


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_plan_survives_its_file(suffix, make_plan_of, tmp_path):
    plan = make_plan_of().model_copy(update={"name": "Bäuche 🫁: 1e-3"})
    content = plan.model_dump(mode="json")
    text = json.dumps(content) if suffix == "json" else yaml.safe_dump(content)
    assert load_settings(Plan, write(tmp_path / f"plan.{suffix}", text)) == plan


@pytest.mark.parametrize("name", ["plan.json", "recipe.yaml"])
@pytest.mark.parametrize("content", ["{", "[1, 2]", "key: [", "\x00", '"text"'])
def test_what_is_no_mapping_is_refused(name, content, tmp_path):
    with pytest.raises(ConfigError, match=name):
        load_settings(TrainingConfig, write(tmp_path / name, content))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid"):
        load_settings(TrainingConfig, tmp_path / "recipe.yaml")


def test_a_missing_file_is_an_error_of_its_own(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(TrainingConfig, tmp_path / "none.yaml")


def every_settings_class():
    for module in pkgutil.walk_packages(attunet.config.__path__, "attunet.config."):
        importlib.import_module(module.name)
    importlib.import_module("attunet.bundle.execution")
    kinds = [Settings]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return [kind for kind in kinds[1:] if kind.__module__.startswith("attunet")]


def unbounded_numbers(schema):
    """The parts of a field's schema that are numbers without a least and a largest value."""
    bounded = {"minimum", "exclusiveMinimum"} & schema.keys() and {"maximum", "exclusiveMaximum"} & schema.keys()
    if schema.get("type") in ("number", "integer") and not bounded and "const" not in schema and "enum" not in schema:
        yield schema
    inner = [schema.get(key) for key in ("items", "additionalProperties")]
    for part in (*inner, *schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        if isinstance(part, dict):
            yield from unbounded_numbers(part)


def test_every_number_of_every_setting_has_a_range():
    fields = {
        f"{kind.__name__}.{name}": list(unbounded_numbers(schema))
        for kind in every_settings_class()
        for name, schema in kind.model_json_schema().get("properties", {}).items()
    }
    assert len(fields) > 80
    assert not {name for name, unbounded in fields.items() if unbounded}


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1e308", "-1e308", "9" * 400, "0x" + "f" * 5000])
def test_no_number_of_a_recipe_may_be_anything(number, tmp_path):
    for name, default in TrainingConfig().model_dump().items():
        if isinstance(default, int | float) and not isinstance(default, bool):
            with pytest.raises(ConfigError, match=name):
                load_settings(TrainingConfig, write(tmp_path / "recipe.yaml", f"{name}: {number}\n"))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), 1e9, "heavy"])
def test_class_weights_are_finite_and_not_negative(weight):
    with pytest.raises(ConfigError, match="class_weights"):
        load_settings(TrainingConfig, {"class_weights": {"a": weight}})


def test_a_refusal_is_short_whatever_was_given(tmp_path):
    wrong = {"folds": ["x" * 9999] * 9, "class_weights": {str(i): -1 for i in range(999)}}
    with pytest.raises(ConfigError, match="and 990 more") as refused:
        load_settings(TrainingConfig, write(tmp_path / "recipe.yaml", wrong))
    assert len(refused.value.message) < 3000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": ((2, 2, 2),)}, "3 channels need 2 strides"),
        ({"strides": ((2, 2), (2, 2))}, "needs 3 numbers"),
        ({"kernel_sizes": ((2, 3, 3),) * 3}, "odd"),
        ({"gated_levels": (3,)}, r"1\.\.2"),
        ({"gated_levels": (1, 1)}, "must differ"),
        ({"gate_channels": (1, 2, 3)}, "one number for each"),
        ({"channels": (4, 0, 8)}, "greater than or equal to 1"),
        ({"gate": "round"}, "gate: .*grid"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(change, message, make_plan_of):
    with pytest.raises(ConfigError, match=message):
        load_settings(NetworkConfig, make_plan_of().network.model_dump() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "a": 1}}, "2 outputs need as many out_channels, got 3"),
        ({"labels": {"background": 0}}, "labels"),
        ({"patch_size": (16, 16)}, "patch_size"),
        ({"patch_size": (16, 0, 8)}, "patch_size"),
        ({"mirror_axes": (3,)}, "mirror_axes"),
        ({"mirror_axes": (1, 1)}, "mirror_axes"),
        ({"mirror_axes": (0,), "mirror_swaps": (("body", "nobody"),)}, "mirror_swaps must name different labels"),
        ({"mirror_axes": (1,), "mirror_swaps": (("body", "lesion"),)}, "needs the left-right axis"),
        ({"ignore_label": 7}, "distinct values"),
        ({"labels": {"background": 0, "body": 1, "lesion": 1}}, "distinct values"),
        ({"channel_names": ("T1", "T2")}, "one entry per input channel"),
        ({"regions": {"body": (1, 7)}}, "regions must be named like the labels"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(change, message, make_plan_of):
    with pytest.raises(ConfigError, match=message):
        load_settings(Plan, make_plan_of().model_dump() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": ((1.2, 0.8), (1, 1), (1, 1))}, "the smallest comes first, got 1.2 and 0.8"),
        ({"channels": ()}, "the channels of the fingerprint's ranges need one entry"),
        ({"planes": ("oblique",)}, "planes"),
        ({"tilt": 91}, "tilt"),
        ({"extent": ((1, 2), (1, 2))}, "extent"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(change, message, ranged_run):
    content = load_settings(Plan, ranged_run / "plan.json").model_dump()
    assert load_settings(Plan, content).fingerprint.ranges is not None
    content["fingerprint"]["ranges"] |= change
    with pytest.raises(ConfigError, match=message):
        load_settings(Plan, content)


def test_a_plan_of_an_earlier_version_has_no_ranges(ranged_run):
    content = load_settings(Plan, ranged_run / "plan.json").model_dump()
    del content["fingerprint"]["ranges"]
    assert load_settings(Plan, content).fingerprint.ranges is None


def with_regions(plan, regions, swaps):
    network = plan.network.model_copy(update={"out_channels": len(regions)})
    labels = {"background": 0, **{name: values[0] for name, values in regions.items()}}
    fields = {"labels": labels, "regions": regions, "network": network, "mirror_axes": (0,), "mirror_swaps": swaps}
    return Plan.model_validate(plan.model_dump() | fields)


def test_classes_and_outputs_change_places_in_a_mirror_image(make_plan_of):
    labels = {"background": 0, "left": 4, "middle": 5, "right": 9}
    plan = make_plan_of(labels=labels, mirror_axes=(0,), mirror_swaps=(("left", "right"),))
    assert plan.mirrored_outputs == plan.mirrored_classes == (0, 3, 2, 1)
    regions = {"left": (1, 3), "right": (2, 4), "tumour": (3, 4, 6), "middle": (5,)}
    plan = with_regions(plan, regions, (("left", "right"),))
    assert plan.mirrored_outputs == (1, 0, 2, 3)
    assert [plan.file_classes[index][0] for index in plan.mirrored_classes] == [0, 2, 1, 4, 3, 5, 6]


def test_values_that_mean_the_same_are_one_class_and_one_index_is_reserved(make_plan_of):
    plan = with_regions(make_plan_of(), {"whole": (1, 2, 3, 9), "core": (2, 3)}, ())
    assert plan.file_classes == ((0,), (1, 9), (2, 3))
    many = make_plan_of(labels={"background": 0, **{f"l{value}": value for value in range(1, 301)}})
    assert many.file_classes[254:257] == ((254,), (), (255,))
    assert many.file_classes[-1] == (300,)
    assert many.mirrored_classes == tuple(range(302))


def test_a_region_with_a_part_that_its_counterpart_lacks_has_no_mirror_image(make_plan_of):
    regions = {"left": (1, 3), "right": (2,), "tumour": (3,)}
    plan = with_regions(make_plan_of(), regions, (("left", "right"),))
    assert plan.mirrored_outputs == (1, 0, 2)
    with pytest.raises(ConfigError, match="no value is the mirror image of 3"):
        _ = plan.mirrored_classes


def test_a_flat_network_takes_flat_patches(make_plan_of):
    with pytest.raises(ConfigError, match="depth 1"):
        load_settings(Plan, make_plan_of(2).model_dump() | {"patch_size": (16, 16, 2)})


def test_settings_do_not_change(make_plan_of):
    with pytest.raises(ValidationError, match="frozen"):
        make_plan_of().network.dropout = 0.5
