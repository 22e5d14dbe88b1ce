"""Plans of data sets, and what other options would plan."""

from __future__ import annotations

import json

from attunet.config import Plan
from attunet.data.cases import read_dataset
from attunet.planning import hardware, memory
from attunet.planning.memory import MemoryUse
from attunet.planning.options import PlanOptions
from attunet.planning.plan_dataset import alternative_plans, plan_dataset


def test_every_option_that_changes_something(make_fingerprint):
    facts = make_fingerprint((512, 512, 300), (0.7, 0.7, 1.0))
    found = alternative_plans(facts, PlanOptions(size="small"))
    assert list(found) == [
        "--size base",
        "--size large",
        "--spatial-dims 2",
        "--resolution full",
        "--resolution low",
    ]
    assert found["--size large"].size == "large"
    assert found["--spatial-dims 2"].network.spatial_dims == 2
    assert found["--resolution low"].resolution == "low"


def test_what_the_data_do_not_allow_is_left_out(make_fingerprint):
    pictures = make_fingerprint((64, 60, 1), modality="image")
    assert "--spatial-dims 3" not in alternative_plans(pictures, PlanOptions(size="base"))
    assert not {"--resolution low", "--resolution full"} & set(alternative_plans(pictures, PlanOptions(size="base")))


def test_other_options_stay_as_chosen(make_fingerprint):
    found = alternative_plans(make_fingerprint(), PlanOptions(size="small", gate="none", spatial_dims=2))
    assert {plan.network.gate for plan in found.values()} == {None}
    assert found["--size base"].network.spatial_dims == 2


def test_a_data_set_is_planned_by_one_call(write_blobs, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure_step", lambda _plan, _device, precision: MemoryUse(0.5, 1.0))
    dataset, read = read_dataset(write_blobs(tmp_path, cases=2, second=4)), []
    options = PlanOptions(size="small", labels={"liver": 4}, memory_gb=8)
    plan = plan_dataset(dataset, options, on_case=lambda: read.append(1))
    assert list(plan.labels) == ["background", "liver"]
    assert plan.size == "small"
    assert len(read) == plan.fingerprint.cases
    assert "0.5 GB of the 8.0 GB" in plan.reasons["memory"]


def test_the_codes_of_a_data_set_become_those_of_the_plan(write_blobs, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure_step", lambda _plan, _device, precision: MemoryUse(0.5, 1.0))
    folder, liver = write_blobs(tmp_path, cases=2), ["10200004", "SCT", "Liver"]
    description = {"labels": {"background": 0, "leber": 1}, "codes": {"leber": {"type": liver}}}
    (folder / "dataset.json").write_text(json.dumps(description))
    plan = plan_dataset(read_dataset(folder), PlanOptions(size="small", memory_gb=8))
    assert plan.codes["leber"].type == tuple(liver)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_auto_is_resolved_once(monkeypatch):
    monkeypatch.setattr(hardware, "gpu_memory_gb", lambda: 40.0)
    resolved = PlanOptions().resolved()
    assert (resolved.size, resolved.device) == ("large", "cuda")
    assert "40 GB" in resolved.size_reason
    assert resolved.resolved() == resolved
