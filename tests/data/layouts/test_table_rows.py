"""The text of a CSV file of cases: separators, columns and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunet.data.layouts.table_rows import image_columns, label_columns, read_rows
from attunet.errors import DatasetError

FILE = Path("cases.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_that_of_the_first_line(tmp_path, separator):
    path = tmp_path / "cases.csv"
    path.write_text("\ufeffImage, LABEL_Liver ,Group\na.nii,b.nii,\n,,\nc.nii\n".replace(",", separator))
    columns, rows = read_rows(path)
    assert columns == ["image", "label_Liver", "group"]
    assert rows == [
        {"image": "a.nii", "label_Liver": "b.nii", "group": ""},
        {"image": "c.nii", "label_Liver": "", "group": ""},
    ]


def test_files_without_rows_and_rows_of_too_many_cells_are_refused(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("image,label\n,\n")
    with pytest.raises(DatasetError, match="has no rows"):
        read_rows(path)
    path.write_text("image,label\na,b,c\n")
    with pytest.raises(DatasetError, match=r"line 2 of .* has 3 cells, expected 2"):
        read_rows(path)
    path.write_bytes(b"image\n\xff\xfe\n")
    with pytest.raises(DatasetError, match="as text"):
        read_rows(path)


def test_images_are_one_column_or_one_for_each_channel():
    assert image_columns(["image", "image_1"], FILE) == ["image"]
    assert image_columns(["image_10", "image_2"], FILE) == ["image_2", "image_10"]
    assert image_columns(["image_t2", "image_flair"], FILE) == ["image_t2", "image_flair"]
    with pytest.raises(DatasetError, match="has the columns label, expected image"):
        image_columns(["label"], FILE)


def test_labels_have_the_values_of_their_columns():
    assert label_columns(["image", "label_liver", "label_spleen"], FILE) == {"label_liver": 1, "label_spleen": 2}
    assert label_columns(["label_liver=5", "label_spleen"], FILE) == {"label_liver=5": 5, "label_spleen": 2}
    with pytest.raises(DatasetError, match="use a value twice"):
        label_columns(["label_liver=2", "label_spleen"], FILE)
    with pytest.raises(DatasetError, match="expected label_NAME or label_NAME=VALUE"):
        label_columns(["label_liver=0"], FILE)
