"""What is written, from the words of the command line."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from attunet.cli.prediction_outputs import destination_of, hook_of, types_and_paths
from attunet.errors import ConfigError
from attunet.inference.segmenter import Segmenter


def test_words_after_an_output_type_are_types_unless_they_are_files(tmp_path, monkeypatch):
    assert types_and_paths(None, ["a.nii"]) == (["auto"], ["a.nii"])
    assert types_and_paths(["nifti"], ["dicom-seg", "a.nii"]) == (["nifti", "dicom-seg"], ["a.nii"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dicom-seg").touch()
    assert types_and_paths(["nifti"], ["dicom-seg"]) == (["nifti"], ["dicom-seg"])


def test_a_result_that_no_file_would_hold_is_refused(tiny_run):
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    assert destination_of(segmenter, ["auto"], "flat", attention=True, probabilities=True).images == "auto"
    with pytest.raises(ConfigError, match="--attention"):
        destination_of(segmenter, ["dicom-sr"], "flat", attention=True, probabilities=False)


def test_a_hook_is_made_only_if_it_has_something_to_do_and_can_be_sent(tmp_path, tiny_run):
    assert hook_of(None, agreement=False, attention=False, modality="image") is None
    hook = hook_of(tmp_path / "preview", agreement=True, attention=True, modality="image")
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    prediction = segmenter.predict(np.random.default_rng(0).normal(size=(20, 16, 10)), attention=True, name="a")
    assert pickle.loads(pickle.dumps(hook))(prediction) == hook(prediction)
    assert (tmp_path / "preview" / "a.png").exists()
