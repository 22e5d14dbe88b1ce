"""A synthetic abdomen in CT: realistic enough to train on, free to publish.

The pancreas has the intensity of the bowel around it: only its position, its curve and its neighbours
distinguish it, which is what an attention gate should learn to use.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from attunet.data.formats import write_volume
from attunet.data.phantom.anatomy import add_anatomy
from attunet.data.phantom.patient import PHANTOM_LABELS, Patient
from attunet.data.phantom.trunk import make_trunk
from attunet.data.volume import Spacing, Volume
from attunet.files import write_text

__all__ = ["PHANTOM_LABELS", "make_phantom", "make_trunk", "write_phantom_dataset"]

Triple = tuple[int, int, int]


def make_phantom(
    seed: int, *, shape: Triple = (96, 80, 48), spacing: Spacing = (3.5, 3.5, 5.0), noise: float = 20.0
) -> tuple[Volume, Volume]:
    """Generate one synthetic patient; the abdomen fills the field of view.

    Args:
        seed: determines size, shape, position and intensity of every organ.
        shape: voxels (I, J, K).
        spacing: voxel size (mm) along these axes.
        noise: standard deviation of the noise, HU.
    Returns: the image (int16, HU) and its label (uint8, `PHANTOM_LABELS`), with LPS orientation as from a scanner.
    """
    random = np.random.default_rng(seed)
    patient = Patient.empty(shape, random)
    add_anatomy(patient)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = np.multiply(shape, spacing) / (2, 2, -2)
    return Volume(_scan(patient, noise)[None], affine), Volume(patient.label[None], affine)


def write_phantom_dataset(folder: Path, cases: int, seed: int, *, test_cases: int = 0) -> None:
    """Write a data set of synthetic patients in nnU-Net's raw layout.

    Args:
        folder: where to write it; created when it does not exist.
        cases: number of training cases, in imagesTr and labelsTr.
        seed: determines all cases.
        test_cases: number of further cases, in imagesTs and labelsTs.
    Raises: OSError when the folder cannot be written.
    """
    for index in range(cases + test_cases):
        part = "Tr" if index < cases else "Ts"
        image, label = make_phantom(seed * 10_007 + index)
        for kind, volume, suffix in (("images", image, "_0000"), ("labels", label, "")):
            target = folder / f"{kind}{part}"
            target.mkdir(parents=True, exist_ok=True)
            write_volume(volume, target / f"phantom_{index:03d}{suffix}.nii.gz")
    description = {
        "name": "Phantom",
        "channel_names": {"0": "CT"},
        "labels": PHANTOM_LABELS,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    write_text(folder / "dataset.json", json.dumps(description, indent=2) + "\n")


def _scan(patient: Patient, noise: float) -> npt.NDArray[np.int16]:
    """Add partial volume at every border, texture and noise."""
    hu = gaussian_filter(patient.hu, 0.6)
    texture = gaussian_filter(patient.random.standard_normal(hu.shape, dtype=np.float32), 1.5)
    hu += texture * (7 / float(texture.std()))
    hu += patient.random.standard_normal(hu.shape, dtype=np.float32) * np.float32(noise)
    return np.rint(hu).clip(-1024, 3000).astype(np.int16)
