"""What the tests of several formats share."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def by_itk():
    """A function that reads values (C, I, J, K) and affine in RAS+ with SimpleITK."""

    def read(path):
        image = sitk.ReadImage(str(path))
        axes, array = image.GetDimension(), sitk.GetArrayFromImage(image).T
        array = array[..., None] if axes == 2 else array
        if axes == 4:
            array = np.moveaxis(array, -1, 0)
        elif "vector" not in image.GetPixelIDTypeAsString():
            array = array[None]
        spatial, affine = min(axes, 3), np.eye(4)
        direction = np.reshape(image.GetDirection(), (axes, axes)) * np.array(image.GetSpacing())
        affine[:spatial, :spatial] = direction[:spatial, :spatial]
        affine[:spatial, 3] = image.GetOrigin()[:spatial]
        return array, LPS @ affine

    return read
