"""A network that has learnt something, its run, and what it is exported as; each made once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attunet.bundle import fold_folder, save_manifest, save_plan, save_postprocessing
from attunet.config import Postprocessing
from attunet.data.cases import read_case
from attunet.data.dataset import Case
from attunet.data.folds import Split
from attunet.data.layouts import read_dataset
from attunet.data.preprocess import prepare, prepare_label
from attunet.export.formats import export_openvino
from attunet.export.package import export_run
from attunet.nn import AttentionUNet, save_weights


def learn(plan, cases, steps=80):
    """The plan's network after some steps on whole cases, one at a time."""
    torch.manual_seed(0)
    network = AttentionUNet.from_config(plan.network)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    pairs = []
    for case in cases:
        image, label = read_case(case)
        prepared = prepare(image, plan.preprocessing)
        classes = prepare_label(label, prepared.record, plan.file_classes)
        pairs.append((torch.from_numpy(prepared.array)[None], torch.from_numpy(classes.astype(np.int64))[None]))
    for step in range(steps):
        image, label = pairs[step % len(pairs)]
        loss = F.cross_entropy(network(image), label, weight=torch.tensor([1.0, 8.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def blobs(tmp_path_factory, write_blobs) -> list[Case]:
    """Six labelled volumes."""
    return list(read_dataset(write_blobs(tmp_path_factory.mktemp("blobs"), cases=6)).labelled)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, tiny_plan, blobs):
    """A run of one fold that finds blobs, and where its cases lie; never write into it."""
    root = tmp_path_factory.mktemp("trained") / "run"
    plan, folder = tiny_plan(), fold_folder(root, 0)
    network = learn(plan, blobs[:4])
    save_plan(plan, root)
    save_weights(network, folder / "weights.safetensors")
    export_openvino(network, plan, folder / "graph.xml")
    names = tuple(case.id for case in blobs)
    Split(blobs[0].images[0].parents[1], "fail", names[:4], names[4:]).write(folder)
    save_postprocessing(Postprocessing(temperature=1.5), root)
    save_manifest(root)
    return root


@pytest.fixture(scope="session")
def exported(tmp_path_factory, trained_run):
    """`exported(format)`: the trained run, exported."""
    made = {}

    def make(format):
        if format not in made:
            made[format] = export_run(trained_run, tmp_path_factory.mktemp("exported") / format, format)
        return made[format]

    return make
