import shutil

import nibabel
import numpy as np

from attunet.inference.segmenter import Segmenter
from attunet.selection.out_of_fold import out_of_fold_cases, predict_held_out
from attunet.selection.samples import Sample


def predicted(run):
    cases, _ = out_of_fold_cases(run)
    steps = []
    predict_held_out(run, cases, device="cpu", advance=lambda: steps.append(1))
    assert len(steps) == len(cases)
    return cases


def test_each_mask_is_what_its_own_fold_predicts(folded):
    for held in predicted(folded)[::2]:
        own = Segmenter.load(folded, folds=[held.fold], device="cpu", raw=True).predict(held.case)
        mask = nibabel.load(held.mask)
        assert np.array_equal(np.asarray(mask.dataobj), own.segmentation.array[0])
        sample = Sample.load(held.sample)
        assert np.allclose(sample.expected_at(1.0), own.expected_dice["blob"], atol=1e-4)


def test_what_is_done_is_done_again_only_after_more_training(folded):
    first, *others = predicted(folded)
    times = {held.case.id: held.sample.stat().st_mtime_ns for held in others}
    first.mask.unlink()
    predicted(folded)
    assert first.mask.exists()
    assert {held.case.id: held.sample.stat().st_mtime_ns for held in others} == times

    from attunet.bundle import fold_folder, save_manifest

    for name in ("weights.safetensors", "graph.xml", "graph.bin"):
        shutil.copy(fold_folder(folded, 0) / name, fold_folder(folded, 1) / name)
    save_manifest(folded)
    predicted(folded)
    again = {held.case.id for held in others if held.sample.stat().st_mtime_ns != times[held.case.id]}
    assert again == {"case1", "case3", "case5"}


def test_a_broken_sample_is_made_again(folded):
    first = predicted(folded)[0]
    first.sample.write_bytes(b"half")
    predicted(folded)
    assert Sample.load(first.sample) is not None
