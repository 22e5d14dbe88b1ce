"""Plans that fit: the batch gives way first, then the patch, and memory that is left is used."""

from __future__ import annotations

import sys
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.errors import ConfigError
from attunet.networks import default_network
from attunet.planning import hardware
from attunet.planning.hardware import MemoryLimit
from attunet.planning.memory import MemoryUse, activations_gb, estimate_gb, fit_memory, measure_step
from attunet.planning.options import BUDGETS, PlanOptions
from attunet.planning.planner import make_plan


def network(width=16, classes=2):
    return default_network(
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=(width, 2 * width, 4 * width),
        strides=((2, 2, 2),) * 2,
        kernel_sizes=((3, 3, 3),) * 3,
    )


@pytest.fixture(autouse=True)
def bf16(monkeypatch):
    """The numbers below are those of a CPU that computes bf16, whichever runs the tests."""
    monkeypatch.setattr(hardware, "cpu_precision", lambda: "bf16")


@pytest.fixture
def planner(make_fingerprint):
    """What fit_memory asks for plans; `planner.asked` holds the most voxels each was asked with."""

    def plan(voxels):
        plan.asked.append(voxels)
        return make_plan(facts, PlanOptions(size="base"), voxels)

    plan.asked = []
    facts = make_fingerprint((160, 160, 100))
    return plan


def scale(plan):
    """A dry step that takes 1 GB and a microgram a voxel, 0.6 of it with checkpointing."""
    return MemoryUse(
        1.0 + (0.6 if plan.checkpointing else 1.0) * plan.micro_batch_size * prod(plan.patch_size) / 1e6, 1.0
    )


def limit(gb, device="cpu"):
    return MemoryLimit(gb, device, "said so")


def test_the_estimate_grows_with_everything(tiny_plan):
    plan = tiny_plan(network=network(), patch_size=(64, 64, 64))
    usual = estimate_gb(plan)
    assert estimate_gb(tiny_plan(network=network(), patch_size=(64, 64, 128))) > usual
    assert estimate_gb(tiny_plan(network=network(), patch_size=(64, 64, 64), batch_size=3)) > usual
    assert estimate_gb(tiny_plan(network=network(width=32), patch_size=(64, 64, 64))) > usual
    many = {"background": 0, **{f"organ{value}": value for value in range(1, 20)}}
    assert estimate_gb(tiny_plan(network=network(classes=20), labels=many, patch_size=(64, 64, 64))) > usual
    assert estimate_gb(plan, precision="fp32") > usual
    assert estimate_gb(plan, "cuda") < usual
    assert estimate_gb(plan.model_copy(update={"accumulation": 2})) < usual
    assert estimate_gb(plan.model_copy(update={"checkpointing": True})) < usual


def test_activations_are_in_proportion_to_voxels():
    once = activations_gb(network(), (32, 32, 32), 1)
    assert activations_gb(network(), (32, 32, 64), 3) == pytest.approx(6 * once)


def test_what_fits_is_left_as_it_is(planner):
    plan = fit_memory(planner, limit(16), scale)
    whole = planner(None)
    assert (plan.patch_size, plan.batch_size) == (whole.patch_size, whole.batch_size)
    assert plan.reasons["memory"] == f"a dry step took {scale(whole).gb:.1f} GB of the 16.0 GB allowed (said so)"


def test_the_batch_gives_way_first(make_fingerprint):
    facts = make_fingerprint((48, 48, 48))
    whole = make_plan(facts, PlanOptions(size="base"))
    plan = fit_memory(lambda voxels: make_plan(facts, PlanOptions(size="base"), voxels), limit(1.5), scale)
    assert 2 <= plan.batch_size < whole.batch_size
    assert plan.patch_size == whole.patch_size
    assert scale(plan).gb <= 1.5
    assert f"then changed from {whole.batch_size} to fit into the memory" in plan.reasons["batch_size"]


def test_then_the_patches_are_trained_one_at_a_time_and_computed_again(planner):
    whole = planner(None)
    for again in (False, True):
        spared = whole.model_copy(update={"batch_size": 2, "accumulation": 2, "checkpointing": again})
        plan = fit_memory(planner, limit(scale(spared).gb + 0.01), scale)
        assert (plan.patch_size, plan.batch_size) == (whole.patch_size, 2)
        assert (plan.accumulation, plan.checkpointing) == (2, again)
        assert "to fit, each batch is trained in 2 parts" in plan.reasons["memory"]
        assert ("with gradient checkpointing" in plan.reasons["memory"]) is again


def test_then_the_patch(planner):
    plan = fit_memory(planner, limit(1.25), scale)
    assert (plan.batch_size, plan.accumulation, plan.checkpointing) == (2, 2, True)
    assert prod(plan.patch_size) <= 500_000
    assert "reduced to fit" in plan.reasons["patch_size"]
    assert planner.asked[0] is None
    assert all(planner.asked[1:])


def test_a_small_patch_of_a_large_size_gives_way_at_once(make_fingerprint):
    facts, asked = make_fingerprint((48, 48, 48)), []

    def planner(voxels):
        asked.append(voxels)
        return make_plan(facts, PlanOptions(size="large"), voxels)

    assert scale(fit_memory(planner, limit(1.1), scale)).gb <= 1.1
    assert all(asked[1:])


@settings(max_examples=30)
@given(size=st.sampled_from(list(BUDGETS)), gb=st.floats(0.5, 40), device=st.sampled_from(["cpu", "cuda"]))
def test_whatever_the_limit_it_is_kept_or_refused(size, gb, device, make_fingerprint):
    facts = make_fingerprint((300, 280, 120), (0.8, 0.8, 2.5), classes=4)
    whole = make_plan(facts, PlanOptions(size=size))
    fitting = MemoryLimit(gb, device, "said so")
    plan = fitted_or_none(lambda voxels: make_plan(facts, PlanOptions(size=size), voxels), fitting)
    if plan is None:
        patch = tuple(max(1, size // 3) for size in whole.patch_size)
        assert estimate_gb(whole.model_copy(update={"patch_size": patch, "batch_size": 2}), device) > gb
    else:
        assert estimate_gb(plan, device) <= gb
        assert "no dry step was possible, because it needs torch" in plan.reasons["memory"]


def fitted_or_none(planner, fitting):
    try:
        return fit_memory(planner, fitting, growth=2.0 if fitting.device == "cuda" else 1.0)
    except ConfigError:
        return None


def test_too_little_for_any_training_is_refused(planner):
    with pytest.raises(ConfigError, match=r"even with patches of .* voxels, but only 0.5 GB are allowed"):
        fit_memory(planner, limit(0.5), scale)


def test_a_step_that_ran_out_of_memory_is_not_the_end(planner):
    whole = planner(None)

    def short(plan):
        return scale(plan) if prod(plan.patch_size) < 0.6 * prod(whole.patch_size) else MemoryUse(float("inf"), 1.0)

    assert prod(fit_memory(planner, limit(16), short).patch_size) < 0.6 * prod(whole.patch_size)


def test_a_step_that_could_not_fit_is_not_tried(planner):
    tried = []

    def careful(plan):
        tried.append(estimate_gb(plan))
        return MemoryUse(tried[-1], 0.25)

    plan = fit_memory(planner, limit(2.0), careful)
    assert max(tried) <= 3.0
    assert "scaled up from a dry step with 25% of the voxels" in plan.reasons["memory"]


def test_the_batch_grows_where_memory_is_left(planner):
    whole = planner(None).batch_size
    plan = fit_memory(planner, limit(80, "cuda"), scale, growth=2.0)
    assert plan.batch_size == 2 * whole
    assert f"then changed from {whole} because memory is left" in plan.reasons["batch_size"]
    assert fit_memory(planner, limit(4.0, "cuda"), scale, growth=2.0).batch_size == whole


def child(code):
    """A command whose process runs this code in place of the step; it ignores the plan it is sent."""
    return [sys.executable, "-c", f"import os, signal, sys\nsys.stdin.read()\n{code}"]


def test_a_step_is_really_run(tiny_plan):
    measured = measure_step(tiny_plan(), "cpu")
    assert measured.share == 1.0
    assert 0.2 < measured.gb < 2.0


def test_what_the_process_reports_is_passed_on(tiny_plan):
    code = """print('some library warns')\nprint('{"gb": 1.5, "share": 0.25}')"""
    assert measure_step(tiny_plan(), "cpu", child(code)) == (1.5, 0.25, "")


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "sys.exit('torch.OutOfMemoryError: CUDA out of memory')",
        """sys.exit("DefaultCPUAllocator: can't allocate memory")""",
    ],
)
def test_running_out_of_memory_is_infinite(code, tiny_plan):
    assert measure_step(tiny_plan(), "cuda", child(code)).gb == float("inf")


@pytest.mark.parametrize("code", ["sys.exit('ImportError: no torch')", "sys.exit(print('nonsense'))"])
def test_what_cannot_be_run_is_estimated(code, tiny_plan):
    plan = tiny_plan()
    assert measure_step(plan, "cpu", child(code)) == (estimate_gb(plan), 0.0, "the dry step failed")


def test_a_step_that_never_ends_is_estimated_and_the_plan_says_why(planner, tiny_plan):
    measured = measure_step(tiny_plan(), "cpu", child("signal.pause()"), time_limit=0.5)
    assert measured.share == 0.0
    plan = fit_memory(planner, limit(1000.0), lambda _plan: measured)
    assert "stopped after 0.5 s" in plan.reasons["memory"]
    assert "torch" not in plan.reasons["memory"]
    assert "needs torch" in fit_memory(planner, limit(1000.0)).reasons["memory"]


def test_the_memory_is_that_of_the_precision_of_the_cpu_or_the_recipe(tiny_plan, monkeypatch):
    plan, code = tiny_plan(), """print('{"gb": 1.5, "share": 1.0, "failure": "' + sys.argv[2] + '"}')"""
    bf16, fp32 = (estimate_gb(plan, precision=precision) for precision in ("bf16", "fp32"))
    for native, expected in (("bf16", bf16), ("fp32", fp32)):
        monkeypatch.setattr(hardware, "cpu_precision", lambda native=native: native)
        assert estimate_gb(plan) == expected
        assert PlanOptions(device="cpu").trained_in == native
        assert PlanOptions(device="cpu", precision="fp32").trained_in == "fp32"
        assert measure_step(plan, "cpu", child(code)).failure == native
