"""The context of a case comes from localizers that have not seen it, and is made once for the same localizers."""

import numpy as np
import pytest

from attunet.data.coarse_map import context_channels
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.inference.localizer import locate
from attunet.nn import save_weights
from attunet.training.contexts import find_contexts, make_contexts
from attunet.training.patches.context import read_context
from attunet.training.run_folder import FoldPaths, FoldTraining
from attunet.training.store import StoredCase, store_cases

SEEN = (("case0",), ("case1",))
"""Trained on case0 and case1; case2 and case3 are held out."""


@pytest.fixture(scope="module")
def coarse(blobs, tiny_plan, make_cascade, tmp_path_factory):
    return store_cases(blobs.cases, make_cascade(tiny_plan()).coarse, tmp_path_factory.mktemp("coarse"), workers=0)


@pytest.fixture
def fold(tmp_path, stored, tiny_plan, make_cascade, tiny_config, make_network):
    """A fold whose two localizers were trained for three epochs together, in a minute and a half."""
    plan, paths = make_cascade(tiny_plan()), FoldPaths(tmp_path / "fold_0")
    for member, minutes in enumerate((0.5, 1.0)):
        save_weights(make_network(plan.coarse, seed=member), paths.localizer(member).best)
        rows = [f"{epoch},{minutes}" for epoch in range(member + 1)]
        paths.localizer(member).log.write_text("\n".join(["epoch,minutes", *rows]) + "\n")
    return FoldTraining(train=stored[:2], validation=stored[2:], plan=plan, config=tiny_config(), paths=paths)


def test_each_case_gets_the_mean_of_those_who_have_not_seen_it(fold, coarse):
    assert find_contexts(fold, coarse, SEEN) is None
    make_contexts(fold, coarse, SEEN)
    made = find_contexts(fold, coarse, SEEN)
    engines = [
        TorchEngine(fold.paths.localizer(member).best, fold.plan.coarse.network, device="cpu", low_precision=False)
        for member in (0, 1)
    ]
    for name, members in {"case0": [1], "case1": [0], "case2": [0, 1], "case3": [0, 1]}.items():
        probabilities = locate([engines[member] for member in members], fold.plan, coarse[name].image()[:])
        found = np.load(made.files[name], allow_pickle=False)
        np.testing.assert_allclose(found, context_channels(fold.plan, probabilities), atol=1e-5)


def test_a_case_that_all_have_seen_gets_the_mean_of_all(fold, coarse):
    everyone = (("case0", "case1"),) * 2
    make_contexts(fold, coarse, everyone)
    honest = np.load(find_contexts(fold, coarse, everyone).files["case0"])
    assert honest.shape == (1, *coarse["case0"].image().shape[1:])
    make_contexts(fold, coarse, SEEN)
    assert not np.array_equal(honest, np.load(find_contexts(fold, coarse, SEEN).files["case0"]))


def test_the_budget_that_was_used_is_recorded(fold, coarse):
    make_contexts(fold, coarse, SEEN)
    made = find_contexts(fold, coarse, SEEN)
    assert made.epochs == 3
    assert 90 <= made.seconds < 120


def test_what_is_there_is_kept_and_what_belongs_to_other_localizers_goes(fold, coarse, make_network):
    make_contexts(fold, coarse, SEEN)
    files = find_contexts(fold, coarse, SEEN).files
    times = {name: file.stat().st_mtime_ns for name, file in files.items()}
    files["case2"].unlink()
    assert find_contexts(fold, coarse, SEEN) is None
    done = []
    make_contexts(fold, coarse, SEEN, advance=lambda: done.append(1))
    assert len(done) == 4
    assert {name for name, file in files.items() if file.stat().st_mtime_ns != times[name]} == {"case2"}
    save_weights(make_network(fold.plan.coarse, seed=7), fold.paths.localizer(1).best)
    assert find_contexts(fold, coarse, SEEN) is None
    make_contexts(fold, coarse, SEEN)
    assert not any(file.exists() for file in files.values())
    assert len(list(fold.paths.context.glob("*.npy"))) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weights": 3}'])
def test_a_damaged_record_means_that_nothing_was_made(text, fold, coarse):
    make_contexts(fold, coarse, SEEN)
    (fold.paths.context / "made.json").write_text(text)
    assert find_contexts(fold, coarse, SEEN) is None


def test_the_files_are_as_private_as_the_cases(fold, coarse):
    make_contexts(fold, coarse, SEEN)
    assert {file.stat().st_mode & 0o777 for file in fold.paths.context.glob("*.npy")} == {0o600}


def test_a_context_covers_the_grid_of_its_case(fold, coarse):
    make_contexts(fold, coarse, SEEN)
    case = fold.train[0]
    context = read_context(StoredCase(case.id, case.folder, context=find_contexts(fold, coarse, SEEN).files[case.id]))
    assert context.window((0, 0, 0), (24, 24, 16)).shape == (1, 24, 24, 16)
