"""A synthetic trunk in CT, from the neck to the thighs: the organs of the abdomen fill little of a large scan.

The anatomy is painted on a grid of about 3 mm and then refined, so that a scan of clinical size takes seconds: images
by linear interpolation, labels by where an organ covers half of a voxel. Noise is added on the final grid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, gaussian_filter

from attunet.data.phantom.anatomy import BLOOD, BONE, FAT, LUNG, MUSCLE, SKIN, add_abdomen, add_spine
from attunet.data.phantom.patient import AIR, Patient
from attunet.data.resample import Resizing
from attunet.data.volume import Spacing, Volume

__all__ = ["make_trunk"]

Triple = tuple[int, int, int]
Field = npt.NDArray[np.float32]

_PAINTED = 3.0  # mm: voxels of the grid that the anatomy is painted on
_SLAB = 8  # rows that are refined at once
# Half the width and half the depth of the body (mm) by height above the middle of the abdomen (mm).
_HEIGHTS = (-460, -380, -300, -200, -100, 0, 100, 220, 300, 370, 420, 470)
_WIDTHS = (160, 170, 176, 165, 150, 148, 152, 162, 176, 184, 110, 66)
_DEPTHS = (84, 94, 110, 108, 104, 106, 108, 112, 104, 84, 66, 60)


def make_trunk(
    seed: int, *, shape: Triple = (512, 512, 600), spacing: Spacing = (0.8, 0.8, 1.5), noise: float = 20.0
) -> tuple[Volume, Volume]:
    """Generate a patient from the neck to the thighs on a table, with the labels of the abdomen.

    Args:
        seed: determines size, shape, position and intensity of every organ.
        shape: voxels (I, J, K). At the default spacing, the default shape covers 410 × 410 × 900 mm.
        spacing: voxel size (mm) along these axes.
        noise: standard deviation of the noise, HU.
    Returns: the image (int16, HU) and its label (uint8, `PHANTOM_LABELS`), with LPS orientation as from a scanner.
    """
    random = np.random.default_rng(seed)
    extent = tuple(float(size * step) for size, step in zip(shape, spacing, strict=True))
    painted = tuple(max(1, min(size, round(mm / _PAINTED))) for size, mm in zip(shape, extent, strict=True))
    patient = Patient.empty((painted[0], painted[1], painted[2]), random, (extent[0], extent[1], extent[2]))
    _add_trunk(patient)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = np.multiply(shape, spacing) / (2, 2, -2)
    return Volume(_scan(patient, shape, noise)[None], affine), Volume(_label(patient.label, shape)[None], affine)


def _add_trunk(patient: Patient) -> None:
    """Paint the table and a body; what is painted first is not covered by what follows."""
    _add_table(patient)
    _add_outline(patient)
    _add_spine(patient)
    _add_thorax(patient)
    _add_pelvis(patient)
    add_abdomen(patient)


def _add_table(patient: Patient) -> None:
    """A bent plate with a foam core below the back."""
    surface = 128 - (patient.left / 200) ** 2 * 22
    depth = patient.back - surface
    within = (depth > 0) & (np.abs(patient.left) < 195)
    patient.hu[within & (depth < 26)] = -890
    patient.hu[within & ((depth < 3) | ((depth > 23) & (depth < 26)))] = -350


def _add_outline(patient: Patient) -> None:
    """Skin, fat, the muscular wall and the ribs; what remains free is the cavity, and the space between the thighs."""
    size, wall = patient.vary(1, 0.03), patient.vary(0.84, 0.02)
    width = np.interp(patient.up, _HEIGHTS, _WIDTHS).astype(np.float32) * size
    depth = np.interp(patient.up, _HEIGHTS, _DEPTHS).astype(np.float32) * size
    radius = ((np.abs(patient.left) / width) ** 2.3 + (np.abs(patient.back) / depth) ** 2.3) ** (1 / 2.3)
    legs = patient.up < -340
    side = np.hypot((np.abs(patient.left) - width / 2) / (width / 2), patient.back / depth)
    radius = np.where(legs, side, radius)
    wall_of = np.where((patient.up > 325) | (patient.up < -270), 0.1, wall)  # shoulders and thighs are all muscle
    for bound, hu in ((1.0, SKIN), (0.97, FAT), (wall_of, MUSCLE), (wall_of - 0.07, FAT)):
        patient.hu[radius < bound] = hu
    angle = np.arctan2(patient.left, patient.back)
    slanted = (patient.up + 45 * np.abs(angle) + patient.vary(0, 8)) % 30 < 11
    ribs = slanted & (np.abs(radius - wall + 0.03) < 0.03) & (np.abs(angle) < 2.4)
    patient.hu[ribs & (patient.up > -30) & (patient.up < 325)] = BONE
    patient.free = radius < wall - 0.07
    for sign in (-1, 1):
        patient.paint(patient.tube([(sign * 88, -10, -300), (sign * 84, -8, -460)], [15]), BONE)
        patient.paint(patient.ellipsoid((sign * 152, 6, 350), (22, 24, 26)), BONE - 100)
        patient.paint(patient.tube([(sign * 20, -66, 318), (sign * 80, -40, 344), (sign * 140, 0, 356)], [7]), BONE)


def _add_spine(patient: Patient) -> None:
    """The spine and its muscles, down to the sacrum: below, everything stays as it was."""
    thighs = patient.up < -290
    hu, free = patient.hu[thighs], patient.free[thighs]
    add_spine(patient)
    patient.hu[thighs], patient.free[thighs] = hu, free


def _add_thorax(patient: Patient) -> None:
    """Heart, great vessels and trachea between two lungs, above the diaphragm and below the shoulders."""
    vary, near = patient.vary, patient.near
    patient.hu[patient.ellipsoid((0, -98, 210), (20, 9, 85)) & (patient.hu > FAT)] = BONE - 120
    dome = vary(98, 6) - (patient.left**2 + (patient.back + 15) ** 2) / 320
    chest = (patient.up > dome) & patient.free
    patient.paint(chest & patient.ellipsoid(near(24, -30, 138), (56, 44, 48)), BLOOD - 15)
    arch = [near(10, 34, 128), near(12, 36, 230), near(14, 8, 268), near(-8, -22, 236), near(6, -30, 170)]
    patient.paint(chest & patient.tube(arch, [12]), BLOOD)
    patient.paint(chest & patient.tube([near(-28, -16, 150), near(-30, -14, 300)], [9]), BLOOD - 20)
    patient.paint(patient.tube([near(-2, 14, 235), near(0, 4, 400), (0, 0, 470)], [9]), AIR)
    patient.paint(patient.tube([near(2, 28, 110), near(4, 30, 300), (2, 24, 470)], [8]), MUSCLE)
    for sign in (-1, 1):
        patient.paint(chest & patient.tube([near(sign * 6, 8, 232), near(sign * 44, 10, 196)], [6]), AIR)
        for _ in range(5):
            vessel = [near(sign * 36, 0, 200), near(sign * vary(90, 18), vary(0, 40), vary(190, 60), spread=8.0)]
            patient.paint(chest & patient.tube(vessel, [5, 2.5]), BLOOD - 20)
    patient.paint(chest & patient.ellipsoid(near(0, -8, 240), (26, 34, 130)), FAT)
    apex = vary(318, 8) - patient.left**2 / 500
    patient.paint(chest & (patient.up < apex), vary(LUNG, 15))
    patient.paint(patient.up >= apex, MUSCLE - 10)
    patient.free &= patient.up <= dome


def _add_pelvis(patient: Patient) -> None:
    """Hip bones, femoral heads, bladder and rectum below the abdomen, then gluteal muscle."""
    vary, near = patient.vary, patient.near
    below = patient.up < -135
    for sign in (-1, 1):
        wing = patient.ellipsoid((sign * 92, 26, -190), (26, 50, 60), sign * 0.5)
        hollow = patient.ellipsoid((sign * 82, 18, -186), (25, 48, 58), sign * 0.5)
        patient.hu[wing & ~hollow & below & (patient.hu > AIR)] = BONE
        patient.free &= ~(wing & ~hollow & below)
        patient.paint(patient.ellipsoid((sign * 90, -2, -282), (25, 25, 25)), BONE - 60)
        patient.paint(patient.tube([near(sign * 40, 16, -140), near(sign * 60, -30, -270)], [7]), BLOOD - 10)
    patient.paint(patient.ellipsoid((0, 62, -215), (46, 16, 62)), BONE - 180)
    patient.paint(patient.ellipsoid(near(0, -32, -262), (vary(42, 6), vary(36, 5), vary(32, 5))), 8)
    patient.paint(patient.ellipsoid(near(0, 8, -262), (26, 20, 22)), MUSCLE - 10)
    patient.paint(patient.tube([near(0, 40, -180), near(4, 40, -230), near(0, 46, -290)], [8]), AIR + 150)
    patient.paint(patient.tube([near(0, 40, -175), near(4, 40, -230), near(0, 46, -295)], [18]), vary(45, 8))
    for _ in range(8):
        start = np.array(near(vary(0, 50), -26, vary(-165, 25), spread=14.0))
        turns = np.cumsum(patient.random.normal(0, 20, (3, 3)) * (1.3, 0.9, 0.7), axis=0)
        loop = [(float(x), float(y), float(z)) for x, y, z in start + turns]
        patient.paint(patient.tube(loop, [vary(11.5, 1.5)]), vary(98, 9))
    patient.paint(patient.up < -300, MUSCLE)


def _scan(patient: Patient, shape: Triple, noise: float) -> npt.NDArray[np.int16]:
    """Partial volume and texture on the painted grid, then the final grid and its noise, slab by slab."""
    hu = gaussian_filter(patient.hu, 0.5)
    texture = gaussian_filter(patient.random.standard_normal(hu.shape, dtype=np.float32), 1.2)
    hu += texture * (7 / float(texture.std()))
    resizing = Resizing.between((hu.shape[0], hu.shape[1], hu.shape[2]), shape)
    scan = np.empty(shape, dtype=np.int16)
    for start in range(0, shape[0], _SLAB):
        rows = slice(start, min(start + _SLAB, shape[0]))
        slab = resizing.slab(hu, rows)
        grain = patient.random.standard_normal(slab.shape, dtype=np.float32)
        grain *= np.float32(noise)
        grain += slab
        scan[rows] = np.rint(grain, out=grain).clip(-1024, 3000, out=grain)
    return scan


def _label(painted: npt.NDArray[np.uint8], shape: Triple) -> npt.NDArray[np.uint8]:
    """Each organ on the final grid, where it covers at least half of a voxel; only boxes around organs are computed."""
    old = (painted.shape[0], painted.shape[1], painted.shape[2])
    whole, result = Resizing.between(old, shape), np.zeros(shape, dtype=np.uint8)
    for value, box in enumerate(find_objects(painted), start=1):
        if box is None:
            continue
        organ, target, resizing = (painted == value), [], whole
        for axis, part in enumerate(box):
            scale = shape[axis] / old[axis]
            start, stop = int((part.start - 1) * scale), int(np.ceil((part.stop + 1) * scale))
            target.append(slice(max(0, start), min(shape[axis], stop)))
            sources, resizing = resizing.part(target[-1], axis)
            organ = organ[(slice(None),) * axis + (sources,)]
        result[tuple(target)][resizing(organ) >= 0.5] = value
    return result
