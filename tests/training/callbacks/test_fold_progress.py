import json

import pytest

from attunet.training.callbacks.fold_progress import FoldProgress, ProgressFile
from attunet.training.callbacks.progress import TrainingState
from attunet.training.run_folder import FoldPaths


@pytest.fixture
def paths(tmp_path):
    return FoldPaths(tmp_path / "fold_0")


def test_another_program_reads_how_far_a_fold_is(paths):
    assert FoldProgress.read(paths) is None
    file = ProgressFile(paths)
    file.on_case_stored()
    assert FoldProgress.read(paths) == FoldProgress(cases=1)
    file.on_network_start("localizer 1 of 2")
    file.on_training_start()
    file.on_step(TrainingState(epoch=3, progress=0.25, minutes=1.0, loss=0.5, dice=0.75))
    file.on_warning("the cores are busy")  # written at once, with what was held back
    told = FoldProgress.read(paths)
    assert (told.stage, told.network, told.epoch, told.progress) == ("train", "localizer 1 of 2", 3, 0.25)
    assert (told.loss, told.dice, told.warnings) == (0.5, 0.75, ("the cores are busy",))
    file.on_training_end()
    file.on_case_evaluated()
    assert (FoldProgress.read(paths).stage, file.now.cases) == ("validate", 1)
    file.remove()
    file.remove()
    assert FoldProgress.read(paths) is None


def test_it_is_written_once_a_second(paths):
    file = ProgressFile(paths)
    for _ in range(100):
        file.on_case_stored()
    assert FoldProgress.read(paths).cases == 1
    assert file.now.cases == 100


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"stage": "train"}), '{"warnings": 3}'])
def test_a_damaged_file_says_nothing(paths, content):
    paths.progress.parent.mkdir(parents=True)
    paths.progress.write_text(content)
    assert FoldProgress.read(paths) is None


def test_a_disk_that_refuses_stops_no_training(tmp_path):
    (tmp_path / "fold_0").write_text("")
    ProgressFile(FoldPaths(tmp_path / "fold_0")).on_case_stored()
