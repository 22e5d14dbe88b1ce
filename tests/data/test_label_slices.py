"""Pictures as the label of a series of DICOM."""

import numpy as np
import pytest
from dicom_series import make_picture, make_series, sample, save_series
from PIL import Image

from attunet.data.cases import check_case_headers, read_case_label, read_dataset
from attunet.data.checks import inspect
from attunet.data.layouts.table import write_table
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError

SHAPE = (12, 10, 6)


@pytest.fixture
def masks():
    """Masks (I, J, K) of 0 and 255, each slice different."""
    found = np.zeros(SHAPE, np.uint8)
    for index in range(SHAPE[2]):
        found[index : index + 4, : index + 2, index] = 255
    return found


def save_pictures(masks, folder, names):
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        Image.fromarray(masks[:, :, index].T).save(folder / name)


def save_files(series, folder, names):
    folder.mkdir(parents=True)
    for ds, name in zip(series, names, strict=True):
        ds.save_as(folder / name, enforce_file_format=True)


def only(root):
    (case,) = read_dataset(root).cases
    return read_case_label(case)


def test_pictures_in_the_order_of_the_files_get_the_positions_of_the_slices(masks, tmp_path):
    """From head to feet, as in CHAOS: the last slice is the first file, and the first picture."""
    series = make_series(sample(SHAPE))[::-1]
    for number, ds in enumerate(series, start=1):
        ds.InstanceNumber = number
    save_files(series, tmp_path / "images/CT_1", [f"i{number}.dcm" for number in range(8, 14)])
    save_pictures(masks[:, :, ::-1], tmp_path / "labels/CT_1", [f"liver_{number}.png" for number in range(8, 14)])
    dataset = read_dataset(tmp_path)
    np.testing.assert_array_equal(read_case_label(dataset.cases[0]).array[0], masks)
    result = inspect(dataset)
    assert result.facts[0].labels == {0: int((masks == 0).sum()), 255: int((masks == 255).sum())}
    (problem,) = check_case_headers(dataset.cases[0])
    assert "in the order of their names: liver_13.png is i13.dcm, liver_8.png is i8.dcm" in problem.message


def test_pictures_called_like_files_belong_to_them_in_any_order(masks, tmp_path):
    names = ["d", "a", "f", "b", "c", "e"]
    save_files(make_series(sample(SHAPE)), tmp_path / "images/p1", [f"{name}.dcm" for name in names])
    save_pictures(masks, tmp_path / "labels/p1", [f"{name}.png" for name in names])
    np.testing.assert_array_equal(only(tmp_path).array[0], masks)
    assert check_case_headers(read_dataset(tmp_path).cases[0]) == []


def test_doubtful_orders_are_refused(masks, tmp_path):
    save_series(make_series(sample(SHAPE)), tmp_path / "images/p1")
    save_pictures(masks, tmp_path / "labels/p1", [f"m{index}.png" for index in range(6)])
    with pytest.raises(FormatError, match="another order by name than by InstanceNumber"):
        only(tmp_path)


def test_pictures_of_another_size_are_refused(masks, tmp_path):
    save_files(make_series(sample(SHAPE)), tmp_path / "images/p1", [f"i{index}.dcm" for index in range(6)])
    save_pictures(masks[:-1], tmp_path / "labels/p1", [f"m{index}.png" for index in range(6)])
    with pytest.raises(GeometryError, match="11 x 10 pixels"):
        only(tmp_path)


def test_a_folder_of_pictures_in_a_table(masks, tmp_path):
    save_files(make_series(sample(SHAPE)), tmp_path / "scan", [f"i{index}" for index in range(6)])
    save_pictures(masks, tmp_path / "drawn", [f"m{index}.png" for index in range(6)])
    (tmp_path / "cases.csv").write_text("id,image,label\na,scan,drawn\n")
    np.testing.assert_array_equal(only(tmp_path / "cases.csv").array[0], masks)
    write_table(read_dataset(tmp_path / "cases.csv"), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text().splitlines()[1].startswith("a,scan,drawn")


def test_the_picture_of_a_radiograph_is_not_turned(tmp_path):
    mask = np.zeros((20, 16), np.uint8)
    mask[2:9, 11:14] = 1
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in "ab":
        picture = make_picture(sample((1, 20, 16)).astype(np.uint16), PixelSpacing=[0.2, 0.2])
        picture.save_as(tmp_path / f"images/{name}.dcm", enforce_file_format=True)
        Image.fromarray(mask).save(tmp_path / f"labels/{name}.png")
    for case in read_dataset(tmp_path).cases:
        label = read_case_label(case)
        assert isinstance(label, Volume)
        np.testing.assert_array_equal(label.array[0, :, :, 0].T, mask)


def test_real_masks_of_a_liver_lie_in_the_body(shared_data):
    dataset = read_dataset(shared_data / "chaos_ct_dicom")
    (case,) = dataset.cases
    from attunet.data.cases import read_case

    image, label = read_case(case)
    liver = label.array > 0
    assert image.spatial_shape == (512, 512, 78)
    assert 1.2e6 < liver.sum() * np.prod(image.spacing) < 2.2e6  # mm3
    assert np.median(image.array[liver]) > 50  # HU, with contrast
    flipped = np.median(image.array[liver[..., ::-1]])
    assert flipped < np.median(image.array[liver])
