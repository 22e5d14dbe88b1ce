"""Profile of a training step: waiting for patches, forward, loss, backward, optimizer and weight averaging.

    python benchmarks/training_profile.py DATASET [--steps 100] [--size small] [--workers 1] [--operations]

Plans the data set, preprocesses its cases, and runs training steps with the training's data loader. --operations also
prints the time of each torch operation.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.profiler import ProfilerActivity, profile

from attunet.config import Plan, TrainingConfig
from attunet.data.cases import read_dataset
from attunet.planning.fingerprint import fingerprint
from attunet.planning.options import PlanOptions
from attunet.planning.planner import make_plan
from attunet.training.module import TrainingModule
from attunet.training.patches.dataset import patch_loader
from attunet.training.run_folder import default_store
from attunet.training.store import StoredCase, store_cases

WARM_UP = 10


class Stopwatch:
    """Accumulates seconds for each part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


def steps(plan: Plan, config: TrainingConfig, cases: list[StoredCase], watch: Stopwatch) -> Iterator[None]:
    """Run one training step per iteration."""
    trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    module = TrainingModule(plan, config)
    optimizer = module.configure_optimizers()
    batches = iter(patch_loader(cases, plan, config, lambda: trainer))
    while True:
        with watch.part("waiting for patches"):
            batch = next(batches)
        image = batch.image.to(memory_format=module.memory_format)
        with torch.autocast("cpu", torch.bfloat16):
            with watch.part("forward"):
                result = module.network(image, detailed=True)
            with watch.part("loss"):
                loss = module.segmentation_loss(result, batch.label, batch.annotated)
        with watch.part("backward"):
            optimizer.zero_grad()
            loss.backward()
        with watch.part("optimizer, averaging"):
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            module.on_train_batch_end(None, batch, 0)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", choices=("small", "base", "large"), default="small")
    parser.add_argument("--workers", type=int, default=TrainingConfig().workers)
    parser.add_argument("--operations", action="store_true")
    options = parser.parse_args()
    source = read_dataset(options.dataset)
    plan = make_plan(fingerprint(source), PlanOptions(size=options.size))
    cases = list(store_cases(source.labelled, plan, default_store()).values())
    watch = Stopwatch()
    run = steps(plan, TrainingConfig(steps_per_epoch=options.steps + WARM_UP, workers=options.workers), cases, watch)
    for _ in range(WARM_UP):
        next(run)
    watch.seconds.clear()
    with profile(activities=[ProfilerActivity.CPU]) if options.operations else nullcontext() as operations:
        for _ in range(options.steps):
            next(run)
    total = sum(watch.seconds.values())
    print(f"{plan.batch_size} patches of {plan.patch_size}, {torch.get_num_threads()} threads, {options.steps} steps")
    for name, seconds in watch.seconds.items():
        print(f"{name:24} {seconds / options.steps * 1e3:8.1f} ms {seconds / total:6.1%}")
    print(
        f"{'total per step':24} {total / options.steps * 1e3:8.1f} ms; "
        f"{plan.batch_size * options.steps / total:.1f} patches/s"
    )
    if operations is not None:
        print(operations.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))


if __name__ == "__main__":
    main()
