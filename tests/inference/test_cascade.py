"""Cascades from end to end: real networks behind a localizer, compared with runs of all windows."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import Skipping, save_manifest, write_skipping
from attunet.data.cases import find_cases
from attunet.data.formats import write_volume
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.export.benchmark import benchmark_model
from attunet.export.monai_bundle import export_monai
from attunet.export.package import export_run
from attunet.inference.batch import predict_cases
from attunet.inference.batch_record import batch_record
from attunet.inference.case import plan_case, segment
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.estimate import estimate_cases
from attunet.inference.info import model_facts
from attunet.inference.member import Chunking
from attunet.inference.model_grid import find_context, predict_prepared
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

pytestmark = pytest.mark.integration

AUDIT = {"threshold": 0.5, "margin": 0.0, "cases": 40, "lost": 0, "skipped": 0.5, "bound": 0.072}
EVERYTHING = PredictOptions(probabilities=True, attention=True)


class Bright:
    """A localizer that finds what is bright, and counts how often it is asked."""

    name, batch = "bright", 2

    def __init__(self, outputs, regions=False):
        self._outputs, self._least, self.calls = outputs, 0 if regions else 1, 0

    def __call__(self, patches, attention=None):
        self.calls += 1
        logits = np.full((len(patches), self._outputs, *patches.shape[2:]), -9, np.float32)
        logits[:, -1] = 9 * np.sign(patches[:, 0] - 4)
        logits[:, : self._least] = 0
        return EngineOutput(logits, {})


def scan(spots=((22, 20, 9),), shape=(52, 37, 30), seed=0):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for spot in spots:
        array[tuple(slice(low, low + 5) for low in spot)] += 9 if shape[2] > 1 else 12
    return Volume.from_array(array, (1.0, 1.3, 0.9))


@pytest.fixture(scope="module")
def load(make_model):
    """The models of the tests, whose localizers find what is bright."""
    swaps = {"labels": {"background": 0, "left": 1, "right": 2}, "mirror_swaps": (("left", "right"),)}
    folders = {
        "plain": make_model(3, folds=2, localizer={}),
        "mirrored": make_model(3, localizer={"members": 1}, mirror_axes=(0, 1), **swaps),
        "foreground": make_model(3, localizer={"context": "foreground", "factor": 3}),
        "without context": make_model(3, localizer={"context": "none"}),
        "slices": make_model(2, localizer={}, mirror_axes=(0,)),
        "regions": make_model(
            3, localizer={}, regions={"body": (1, 7), "lesion": (7,)}, labels={"background": 0, "body": 1, "lesion": 7}
        ),
    }

    def run(name, **skipping):
        segmenter = Segmenter.load(folders[name], device="cpu")
        (member,) = segmenter.members
        bright = Bright(len(member.plan.outputs), bool(member.plan.regions))
        return replace(
            segmenter,
            members=(
                replace(
                    member,
                    localizers=tuple((bright,) for _ in member.engines),
                    skipping=tuple(Skipping(used=True, **(AUDIT | skipping)) for _ in member.engines),
                ),
            ),
        )

    return run


NAMES = ["plain", "mirrored", "foreground", "without context", "slices", "regions"]


@pytest.mark.parametrize("name", NAMES)
def test_inside_the_region_is_the_answer_of_all_windows_and_outside_is_background(name, load, decide):
    segmenter = load(name)
    (member,) = segmenter.members
    volume = scan() if name != "slices" else scan(((80, 40, 0),), (100, 75, 1))
    plan = plan_case([member], volume, EVERYTHING)
    (case,) = plan.members
    region, prepared = case.tiling.region, prepare(volume, member.plan.preprocessing)
    assert plan.skipped_windows > plan.windows / len(member.engines) / 4
    every = predict_prepared(member, prepared, PredictOptions(), find_context(member, volume))
    inside = region.part(*(slice(0, size) for size in region.shape), (0, 1, 2))
    expected = np.where(inside, every.probabilities, 0)
    if not member.plan.regions:
        expected[0][~inside] = 1
    result = segment(plan)
    np.testing.assert_array_equal(result.mask[0], decide(expected, prepared.record, member.plan))
    assert (result.mask != 0).any()
    assert np.count_nonzero(result.probabilities[1:].sum(axis=0) > 0.01) < 0.9 * result.mask.size


@pytest.mark.parametrize("name", ["plain", "slices", "regions"])
@pytest.mark.parametrize(
    "chunking", [Chunking(bands=4, planes=2, fill=1, rows=3), Chunking(bands=2, planes=1), Chunking(planes=5, fill=2)]
)
def test_bands_and_slabs_change_nothing(name, chunking, load):
    segmenter = load(name, margin=3.0)
    volume = scan() if name != "slices" else scan(((80, 40, 0), (3, 60, 0)), (100, 75, 1))
    plan = plan_case(segmenter.members, volume, EVERYTHING)
    whole, parts = segment(plan), segment(replace(plan, chunking=chunking))
    np.testing.assert_array_equal(whole.mask, parts.mask)
    np.testing.assert_array_equal(whole.probabilities, parts.probabilities)
    for gate, alpha in whole.attention.items():
        np.testing.assert_array_equal(alpha, parts.attention[gate])
    for label, dice in whole.expected_dice.items():
        assert dice == pytest.approx(parts.expected_dice[label], rel=1e-6)


def test_a_memory_limit_changes_nothing(load):
    segmenter = load("plain")
    volume = scan(shape=(90, 80, 70))
    free = segmenter.predict(volume)
    limited = segmenter.predict(volume, max_memory=2**40)
    np.testing.assert_array_equal(free.segmentation.array, limited.segmentation.array)
    assert limited.skipped_windows == free.skipped_windows > 0


def test_two_far_places_are_both_looked_at(load):
    volume = scan(((3, 3, 3), (44, 28, 22)))
    result = load("plain", margin=5.0).predict(volume).segmentation.array[0]
    every = load("plain").predict(volume, all_windows=True).segmentation.array[0]
    for box in ((slice(3, 8),) * 3, (slice(44, 49), slice(28, 33), slice(22, 27))):
        assert (every[box] != 0).any()
        np.testing.assert_array_equal(result[box], every[box])
    assert not result[20:30, 15:20, 12:18].any()


def test_an_ensemble_averages_what_its_members_say_where_each_looks(load):
    plain, other = load("plain").members[0], load("foreground", margin=4.0).members[0]
    both = Segmenter((replace(plain, name="a"), replace(other, name="b")))
    volume = scan()
    plan = plan_case(both.members, volume, EVERYTHING)
    whole, parts = segment(plan), segment(replace(plan, chunking=Chunking(bands=3, planes=2, rows=4)))
    np.testing.assert_array_equal(whole.mask, parts.mask)
    alone = [segment(plan_case([member], volume, EVERYTHING)) for member in both.members]
    np.testing.assert_allclose(
        whole.probabilities, np.mean([output.probabilities for output in alone], axis=0), atol=2e-6
    )


def test_a_fold_that_finds_nothing_runs_everything_for_all_folds(load):
    """Its audit counted such cases as safe, because all windows are run."""
    (member,) = load("plain").members
    skipping = member.skipping[0]
    blind = skipping.model_copy(update={"threshold": 1.0})
    result = Segmenter((replace(member, skipping=(skipping, blind)),)).predict(scan())
    assert result.skipped_windows == 0
    assert result.warnings == ("a localizer found nothing, so all windows were run",)
    assert Segmenter((member,)).predict(scan()).skipped_windows > 0


def test_nothing_found_runs_everything_and_says_so(load):
    segmenter = load("plain", threshold=1.0)
    result, every = (segmenter.predict(scan(), all_windows=every) for every in (False, True))
    assert (result.skipped_windows, result.windows) == (0, every.windows)
    assert result.warnings == ("a localizer found nothing, so all windows were run",)
    assert every.warnings == ()
    np.testing.assert_array_equal(result.segmentation.array, every.segmentation.array)


def test_a_fold_that_may_not_skip_makes_all_run_everything(load):
    (member,) = load("plain").members
    off = member.skipping[0].model_copy(update={"used": False})
    for skipping in ((member.skipping[0], off), (member.skipping[0], None)):
        assert plan_case([replace(member, skipping=skipping)], scan(), PredictOptions()).skipped_windows == 0


def test_the_region_of_a_member_unites_those_of_its_folds(load):
    (member,) = load("plain").members
    narrow, wide = (member.skipping[0].model_copy(update={"margin": margin}) for margin in (0.0, 5.0))
    masks = [
        plan_case([replace(member, skipping=folds)], scan(), PredictOptions()).members[0].tiling.region.mask
        for folds in ((narrow, narrow), (narrow, wide), (wide, wide))
    ]
    assert masks[0].sum() < masks[1].sum()
    np.testing.assert_array_equal(masks[1], masks[2])


def test_a_deadline_does_not_run_the_localizer_again(load):
    segmenter = load("plain")
    localizer = segmenter.members[0].localizers[0][0]
    segmenter.predict(scan())
    once, localizer.calls = localizer.calls, 0
    result = segmenter.predict(scan(), time_limit=1e-4)
    assert localizer.calls == once
    assert any("windows 1 instead" in text for text in result.warnings)


def test_networks_with_context_need_their_localizers(load):
    (member,) = load("plain").members
    with pytest.raises(ConfigError, match="2 networks with context"):
        plan_case([replace(member, localizers=())], scan(), PredictOptions())


def test_a_model_as_trained_finds_its_own_localizers(make_model):
    segmenter = Segmenter.load(make_model(3, folds=2, localizer={}), device="cpu")
    (member,) = segmenter.members
    assert [len(engines) for engines in member.localizers] == [2, 2]
    assert all(skipping.used for skipping in member.skipping)
    result = segmenter.predict(scan())
    assert result.segmentation.array.shape == (1, 52, 37, 30)


def test_every_case_says_what_was_skipped(load, tmp_path):
    segmenter = load("slices")
    write_volume(scan(((80, 40, 0),), (100, 75, 1)), tmp_path / "scans" / "a.nii.gz")
    cases = find_cases([tmp_path / "scans"], 1)
    (estimate,) = estimate_cases(segmenter, cases)
    (result,) = predict_cases(segmenter, cases, tmp_path / "masks")
    assert result.skipped_windows == estimate.skipped_windows > 0
    assert result.windows == estimate.windows > 0
    record = batch_record(tmp_path, segmenter, [result], {})["cases"][0]
    assert (record["windows"], record["skipped_windows"]) == (result.windows, result.skipped_windows)
    (every,) = estimate_cases(segmenter, cases, PredictOptions(all_windows=True))
    assert every.windows == estimate.windows + estimate.skipped_windows


def test_info_says_what_skipping_is_worth(make_model, tmp_path):
    model = shutil.copytree(make_model(3, folds=2, localizer={}), tmp_path / "model")
    off = Skipping(used=False, **AUDIT, reason="3 voxels were lost at the widest margin")
    write_skipping(off, model / "fold_1")
    save_manifest(model)
    facts = model_facts(model)
    assert facts["localizer"] == (
        "2 per fold, windows of 8 x 8 x 8 voxels of 2 x 2 x 2 mm; the network sees its probabilities of body, lesion"
    )
    assert facts["windows skipped"] == {
        "fold_0": "50%, farther than 1 mm from where a label has a probability of 0.9; 0 of 40 cases, which also "
        "chose the threshold, lost a voxel: at 95% confidence fewer than 7.2% of cases do",
        "fold_1": "off: 3 voxels were lost at the widest margin",
    }


def test_engines_are_timed_on_windows_with_context(make_model, tmp_path):
    write_volume(scan(shape=(20, 16, 12)), tmp_path / "a.nii.gz")
    measured = benchmark_model(make_model(3, localizer={}), tmp_path / "a.nii.gz", repeat=1)
    assert measured.windows > 1
    exact = [timing.dice for timing in measured.timings if "32" in timing.name]  # fp32: random weights, near ties
    assert len(exact) > 1
    assert min(exact) > 0.99


def test_an_export_has_its_localizers(make_model, tmp_path):
    model = make_model(2, localizer={}, labels={"background": 0, "cell": 255})
    export_run(model, tmp_path / "onnx", "onnx")
    volume = scan(((80, 40, 0),), (100, 75, 1))
    ours, exported = (
        Segmenter.load(folder, device="cpu").predict(volume, probabilities=True)
        for folder in (model, tmp_path / "onnx")
    )
    assert exported.engine.startswith("onnxruntime")
    # In fp32, a voxel at the threshold may lie on its other side.
    assert exported.windows == pytest.approx(ours.windows, rel=0.05)
    assert np.mean(exported.segmentation.array == ours.segmentation.array) > 0.98
    with pytest.raises(ConfigError, match="is a cascade"):
        export_monai(model, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["plain", "slices", "regions"])
def test_the_map_of_the_localizer_is_the_first_attention_map_also_where_windows_are_skipped(name, load, tmp_path):
    segmenter = load(name)
    volume = scan() if name != "slices" else scan(((80, 40, 0),), (100, 75, 1))
    result = segmenter.predict(volume, attention=True)
    assert result.skipped_windows
    assert list(result.attention) == ["localizer", "level2"]
    found = result.attention["localizer"].array
    assert found.shape == (1, *volume.spatial_shape)
    low = (22, 20, 9) if name != "slices" else (80, 40, 0)
    middle = tuple(start + (2 if size > 1 else 0) for start, size in zip(low, volume.spatial_shape, strict=True))
    assert found[0][middle] > 0.9
    assert 0 <= found.min() < 0.01
    every = segmenter.predict(volume, attention=True, all_windows=True)
    np.testing.assert_array_equal(found, every.attention["localizer"].array)
    assert not segmenter.predict(volume).attention
    assert result.attention_files(tmp_path)["localizer"].name == "volume_localizer.nii.gz"
