import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from attunet.errors import ConfigError, DatasetError, FormatError
from attunet.training.run_folder import FoldPaths, any_started, fix_folds, require_fold, run_folds


def test_a_run_has_started_once_a_checkpoint_or_a_model_is_there(tmp_path):
    assert not any_started(tmp_path / "nothing")
    paths = FoldPaths(tmp_path / "fold_3")
    paths.last.parent.mkdir(parents=True)
    assert not any_started(tmp_path)
    paths.last.touch()
    assert any_started(tmp_path)
    paths.last.unlink()
    paths.weights.touch()
    assert any_started(tmp_path)


def test_every_file_lies_in_the_folder_under_its_own_name(tmp_path):
    paths = FoldPaths(tmp_path)
    files = [paths.last, paths.best, paths.log, paths.weights, paths.graph, paths.metrics, paths.curves]
    files += [paths.attention_frames, paths.recorded_frames]
    assert len(set(files)) == len(files)
    assert all(file.is_relative_to(tmp_path) for file in files)


def test_asking_where_files_are_loads_no_torch():
    code = "import sys, attunet.training.run_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def kept(blobs, stored):
    return {case.id: stored[index] for index, case in enumerate(blobs.cases)}


def begin(run):
    last = FoldPaths(run / "fold_0").last
    last.parent.mkdir(parents=True)
    last.touch()


def test_folds_are_written_and_kept_once_the_run_has_begun(blobs, kept, tiny_config, tmp_path):
    folds = fix_folds(blobs, tiny_config(), tmp_path, kept)
    assert len(folds) == 2
    written = yaml.safe_load((tmp_path / "folds.yaml").read_text())
    assert [tuple(sides["validation"]) for sides in written.values()] == [fold.validation for fold in folds]
    other = fix_folds(blobs, tiny_config(folds=4), tmp_path, kept)
    assert len(other) == 4
    begin(tmp_path)
    assert fix_folds(blobs, tiny_config(seed=9), tmp_path, kept) == other
    assert run_folds(blobs, tiny_config(), tmp_path) == other


def test_a_fold_that_does_not_exist_is_refused_before_anything_is_read(blobs, tiny_config, tmp_path):
    require_fold(blobs, tiny_config(), tmp_path, 1)
    with pytest.raises(ConfigError, match="no fold 2: this data set gives 2"):
        require_fold(blobs, tiny_config(), tmp_path, 2)


def test_identical_images_on_both_sides_are_refused(blobs, kept, tiny_config, tmp_path):
    twins = dict.fromkeys(kept, next(iter(kept.values())))
    with pytest.raises(DatasetError, match="the same image"):
        fix_folds(blobs, tiny_config(), tmp_path, twins)


def test_a_case_that_is_gone_is_named(blobs, kept, tiny_config, tmp_path):
    fix_folds(blobs, tiny_config(), tmp_path, kept)
    begin(tmp_path)
    fewer = replace(blobs, cases=blobs.cases[1:])
    with pytest.raises(ConfigError, match=f"no longer has: {blobs.cases[0].id}"):
        fix_folds(fewer, tiny_config(), tmp_path, kept)


def test_folds_that_cannot_be_read_are_not_guessed(blobs, kept, tiny_config, tmp_path):
    begin(tmp_path)
    (tmp_path / "folds.yaml").write_text("0: [case1]")
    with pytest.raises(FormatError, match="of another kind than this file has"):
        fix_folds(blobs, tiny_config(), tmp_path, kept)
