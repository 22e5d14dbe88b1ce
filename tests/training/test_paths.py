import subprocess
import sys

from attunet.training.paths import FoldPaths, any_started


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
    files += [paths.film, paths.frames]
    assert len(set(files)) == len(files)
    assert all(file.is_relative_to(tmp_path) for file in files)


def test_asking_where_files_are_loads_no_torch():
    code = "import sys, attunet.training.paths; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
