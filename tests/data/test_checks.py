"""Every kind of problem is detected, names the case, and has a suggested fix."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from attunet.data.cases import read_dataset
from attunet.data.checks import Inspection, inspect
from attunet.data.formats import write_volume
from attunet.data.volume import Volume

RANDOM = np.random.default_rng(0)


def image(*shape: int) -> np.ndarray:
    return RANDOM.normal(100, 20, shape or (6, 7, 8)).astype(np.float32)


def mask(*shape: int, value: float = 1) -> np.ndarray:
    array = np.zeros(shape or (6, 7, 8), np.float32)
    array[2:4, 2:4] = value
    return array


class Folder:
    """An images/ + labels/ data set to add cases to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("images", "labels"):
            (root / name).mkdir()

    def add(self, id, picture=None, label=None, spacing=(1, 1, 1), label_spacing=None, suffix=".nii.gz"):
        picture = image() if picture is None else picture
        label = mask(*picture.shape) if label is None else label
        write_volume(Volume.from_array(picture, spacing), self.root / f"images/{id}{suffix}")
        write_volume(Volume.from_array(label, label_spacing or spacing), self.root / f"labels/{id}{suffix}")
        return self

    def inspect(self, **options) -> Inspection:
        return inspect(read_dataset(self.root), **options)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path).add("good").add("fine")


def kinds(inspection: Inspection, severity: str = "problem") -> set[tuple[str, str]]:
    assert all(problem.remedy for problem in inspection.problems)
    return {(problem.case, problem.kind) for problem in inspection.problems if problem.severity == severity}


def test_a_clean_set_has_facts_and_no_problems(folder):
    ticks = []
    result = folder.inspect(advance=lambda: ticks.append(1))
    assert result.clean
    assert not result.problems
    assert len(ticks) == 2
    fine, good = result.facts
    assert (fine.id, good.shape, good.spacing, good.orientation) == ("fine", (6, 7, 8), (1, 1, 1), "RAS")
    assert (good.channels, good.dtype, good.labels) == (1, "float32", {0: 304, 1: 32})
    assert good.intensity is not None
    assert good.intensity.minimum < good.intensity.percentiles[1] < good.intensity.maximum


def test_grid_mismatch_is_resolved_by_the_policy(folder):
    folder.add("odd", label_spacing=(1, 1, 2))
    assert kinds(folder.inspect()) == {("odd", "grid mismatch")}
    resolved = folder.inspect(geometry="copy-affine")
    assert resolved.clean
    assert kinds(resolved, "warning") == {("odd", "grid mismatch")}


@pytest.mark.parametrize(
    ("picture", "label", "kind"),
    [
        (image(), mask(value=0.5), "unusable label"),
        (image(), mask(value=0), "empty label"),
        (np.where(image() > 120, np.nan, image()), mask(), "NaN or infinity"),
        (np.full((6, 7, 8), 5, np.float32), mask(), "constant image"),
        (image(2, 6, 7, 8), mask(), "channel count"),
        (image(6, 7, 1), mask(6, 7, 1), "dimensions"),
    ],
)
def test_what_is_wrong_with_one_case(picture, label, kind, folder):
    assert ("odd", kind) in kinds(folder.add("odd", picture, label).inspect())


def test_unreadable_and_missing_files(folder):
    folder.add("cut").add("bare")
    path = folder.root / "images/cut.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    (folder.root / "labels/bare.nii.gz").unlink()
    assert kinds(folder.inspect()) == {("cut", "unreadable file"), ("bare", "label missing")}
    assert len(folder.inspect().facts) == 3


def test_a_described_file_that_is_not_there(tmp_path):
    pairs = '[{"image": "a.nii.gz", "label": "b.nii.gz"}]'
    (tmp_path / "dataset.json").write_text(f'{{"labels": {{"0": "background", "1": "x"}}, "training": {pairs}}}')
    assert kinds(inspect(read_dataset(tmp_path))) == {("a", "image missing")}
    write_volume(Volume.from_array(image()), tmp_path / "a.nii.gz")
    assert kinds(inspect(read_dataset(tmp_path))) == {("a", "label missing")}
    write_volume(Volume.from_array(mask(value=3)), tmp_path / "b.nii.gz")
    assert kinds(inspect(read_dataset(tmp_path))) == {("a", "unexpected label value"), ("", "nothing to learn")}


def test_an_inspection_is_strict_json(folder):
    folder.add("nan", np.full((6, 7, 8), np.nan, np.float32))
    result = folder.inspect()
    content = json.loads(result.to_json())
    assert (content["clean"], content["layout"], content["cases_found"]) == (False, "plain", 3)
    assert [case["id"] for case in content["cases"]] == ["fine", "good", "nan"]
    assert content["cases"][2]["intensity"] is None
    assert content["problems"] == [asdict(problem) for problem in result.problems]


def test_the_same_image_twice_is_a_problem_across_formats(folder):
    twin = image()
    folder.add("one", twin).add("two", twin, suffix=".mha")
    assert kinds(folder.inspect()) == {("two", "duplicate image")}


def test_patients_in_several_groups_or_splits(folder):
    twin = image()
    folder.add("one", twin).add("two", twin)
    lines = ["image,label,group,split"]
    for id, group, split in (
        ("one", "P1", "train"),
        ("two", "P2", "train"),
        ("good", "p1 ", "val"),
        ("fine", "P2", "val"),
    ):
        lines.append(f"images/{id}.nii.gz,labels/{id}.nii.gz,{group},{split}")
    (folder.root / "cases.csv").write_text("\n".join(lines))
    result = inspect(read_dataset(folder.root / "cases.csv"))
    assert kinds(result) == {
        ("two", "patient in several groups"),
        ("", "patient in several groups"),
        ("", "patient in several splits"),
    }


def test_what_the_product_handles_is_a_warning(folder):
    folder.add("loud", image() * 1e5, mask(value=7)).add("turned", spacing=(-1, 1, 1))
    result = folder.inspect()
    assert result.clean
    assert kinds(result, "warning") == {
        ("", "gaps in label values"),
        ("", "intensity range"),
        ("", "mixed orientations"),
    }


def test_formats_without_spacing_are_warnings_and_lossy_labels_are_problems(tmp_path):
    folder = Folder(tmp_path).add("a", suffix=".npy")
    assert kinds(folder.inspect(), "warning") == {("", "no spacing")}
    folder.add("b", image(6, 7).astype(np.uint8), mask(6, 7, value=255).astype(np.uint8), suffix=".jpg")
    assert ("b", "lossy label") in kinds(folder.inspect())


def test_values_of_regions_are_declared_and_empty_regions_are_warnings(folder):
    labels = {"background": 0, "whole": [1, 2], "core": [2, 4], "rim": [5]}
    description = {"labels": labels, "regions_class_order": [1, 2, 5]}
    (folder.root / "dataset.json").write_text(json.dumps(description))
    folder.add("inner", label=mask(value=2)).add("odd", label=mask(value=3))
    result = folder.inspect()
    assert kinds(result) == {("odd", "unexpected label value")}
    (absent,) = [problem for problem in result.problems if problem.kind == "label not used"]
    assert absent.message.endswith("rim (5)")


def test_a_partly_labelled_case_holds_nothing_but_what_it_lists(folder):
    folder.add("more", label=np.arange(336).reshape(6, 7, 8) % 4)
    rows = ["image,label,labels"]
    rows += [f"images/{id}.nii.gz,labels/{id}.nii.gz,{annotated}" for id, annotated in (("good", "1"), ("more", "1;2"))]
    (folder.root / "cases.csv").write_text("\n".join(rows))
    result = inspect(read_dataset(folder.root / "cases.csv"))
    assert kinds(result) == {("more", "label not listed")}
    assert "contains 3, but this case lists only label_1, label_2" in result.problems[0].message


SHARED = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
@pytest.mark.parametrize(
    ("name", "problems", "warnings"),
    [
        ("Dataset101_SarcomaMR", set(), set()),
        ("pancreas_ct_slices", set(), {("", "no spacing")}),
        ("em_membranes", set(), {("", "no spacing"), ("", "gaps in label values"), ("", "large label")}),
        (
            "totalsegmentator_examples",
            {("example_ct_dicom", "grid mismatch")},
            {("", "mixed orientations"), ("", "gaps in label values")},
        ),
    ],
)
def test_real_sets(name, problems, warnings):
    result = inspect(read_dataset(SHARED / name))
    assert (kinds(result), kinds(result, "warning")) == (problems, warnings)


def test_a_sheared_grid_is_a_warning(tmp_path):
    affine = np.eye(4)
    affine[1, 2] = 0.2
    for folder in ("images", "labels"):
        write_volume(Volume(np.arange(60, dtype=np.uint8).reshape(1, 3, 4, 5) % 2, affine), tmp_path / folder / "a.nii")
    found = [problem for problem in inspect(read_dataset(tmp_path)).problems if problem.kind == "sheared grid"]
    assert [(problem.case, problem.severity) for problem in found] == [("a", "warning")]
    assert "11.3 degrees" in found[0].message


def test_a_label_that_covers_most_of_every_case_may_be_the_background(tmp_path):
    folder = Folder(tmp_path)
    for name in "abc":
        folder.add(name, label=1 - mask())
    assert ("", "large label") in kinds(folder.inspect(), "warning")
    assert ("", "large label") not in kinds(folder.add("d").inspect(), "warning")


def test_channels_that_are_declared_but_not_there_are_a_problem(folder):
    (folder.root / "dataset.json").write_text('{"channel_names": {"0": "CT", "1": "PET"}, "labels": {"a": 1}}')
    assert kinds(folder.inspect()) == {("", "declared channels")}


def test_an_image_of_another_scale_is_a_problem(folder):
    folder.add("metres", spacing=(0.001, 0.001, 0.001)).add("coarse", spacing=(5, 5, 9))
    assert kinds(folder.inspect()) == {("metres", "another scale")}


def test_integers_that_float32_rounds_are_reported(tmp_path):
    for number, top in enumerate((2**24, 2**24 + 1)):
        image = np.random.default_rng(number).integers(0, 100, (8, 8, 4)).astype(np.int32)
        image[0, 0, 0] = top
        for kind, array in (("images", image), ("labels", (image > 50).astype(np.uint8))):
            (tmp_path / kind).mkdir(exist_ok=True)
            write_volume(Volume.from_array(array), tmp_path / kind / f"c{number}.nii.gz")
    (told,) = [problem for problem in inspect(read_dataset(tmp_path)).problems if problem.kind == "large values"]
    assert (told.case, told.severity) == ("c1", "warning")


def test_what_readers_of_pictures_decide_is_reported_with_the_case(tmp_path):
    exif = PIL.Image.Exif()
    exif[274] = 3
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "images" / "a.png", exif=exif)
    mask = PIL.Image.fromarray((pixels[..., 0] > 99).astype(np.uint8), mode="P")
    mask.putpalette([0, 0, 0, 200, 0, 0])
    mask.save(tmp_path / "labels" / "a.png")
    found = inspect(read_dataset(tmp_path))
    told = {(problem.case, problem.kind, problem.severity) for problem in found.problems}
    assert {("a", "orientation tag", "warning"), ("a", "palette mask", "warning")} <= told
    assert found.facts[0].labels == {0: int((pixels[..., 0] <= 99).sum()), 1: int((pixels[..., 0] > 99).sum())}


def test_some_images_with_a_spacing_and_some_without_are_a_problem(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number, ome in enumerate((True, False)):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 20), dtype=np.uint8)
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if ome else {}
        tifffile.imwrite(tmp_path / "images" / f"c{number}.tif", pixels, ome=ome, metadata={"axes": "YX", **sizes})
        tifffile.imwrite(tmp_path / "labels" / f"c{number}.tif", pixels // 128)
    found = inspect(read_dataset(tmp_path))
    (told,) = [problem for problem in found.problems if problem.kind == "mixed spacing"]
    assert "1 images declare no spacing" in told.message
    assert [facts.calibrated for facts in found.facts] == [True, False]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palettes_that_number_colours_differently_are_a_problem(suffix, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number, palette in enumerate(([0, 0, 0, 200, 0, 0, 0, 90, 0], [0, 0, 0, 0, 90, 0, 200, 0, 0])):
        pixels = np.random.default_rng(number).integers(0, 3, (16, 20), dtype=np.uint8)
        write_volume(Volume.from_array(pixels * 90), tmp_path / "images" / f"c{number}.png")
        mask = PIL.Image.fromarray(pixels, mode="P")
        mask.putpalette(palette)
        mask.save(tmp_path / "labels" / f"c{number}{suffix}")
    (told,) = [problem for problem in inspect(read_dataset(tmp_path)).problems if problem.kind == "palettes differ"]
    assert "1 is (200, 0, 0) in c0, (0, 90, 0) in c1" in told.message
    assert told.severity == "problem"
