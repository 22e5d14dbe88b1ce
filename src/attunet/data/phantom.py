"""A synthetic abdomen in CT: real enough to learn on, free to publish.

The pancreas has the intensity of the bowel around it: only its place, its curve and its neighbours give it
away, which is what an attention gate should learn to use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter

from attunet.data.formats import write_volume
from attunet.data.volume import Spacing, Volume
from attunet.files import write_text

__all__ = ["PHANTOM_LABELS", "make_phantom", "write_phantom_dataset"]

PHANTOM_LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "pancreas": 4}

Triple = tuple[int, int, int]
Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Point = tuple[float, float, float]

_AIR, _LUNG, _FAT, _SKIN, _MUSCLE, _BLOOD, _BONE = -1000, -820, -105, 10, 55, 150, 420
_EXTENT = (336.0, 280.0, 240.0)  # mm that the anatomy below is written for; other fields of view scale it


def make_phantom(
    seed: int, *, shape: Triple = (96, 80, 48), spacing: Spacing = (3.5, 3.5, 5.0), noise: float = 20.0
) -> tuple[Volume, Volume]:
    """One patient: an image (int16, HU) and its label (uint8, `PHANTOM_LABELS`), stored LPS as scanners do.

    Args: the seed decides size, shape, place and intensity of everything; noise is a standard deviation (HU).
        The abdomen always fills the field of view, whatever shape and spacing (mm) are.
    """
    random = np.random.default_rng(seed)
    patient = _Patient.lying_in(shape, random)
    _add_body(patient)
    _add_bones_and_muscles(patient)
    _add_chest(patient)
    _add_organs(patient)
    _add_bowel(patient)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = np.multiply(shape, spacing) / (2, 2, -2)
    return Volume(_scan(patient, noise)[None], affine), Volume(patient.label[None], affine)


def write_phantom_dataset(folder: Path, cases: int, seed: int, *, test_cases: int = 0) -> None:
    """A data set in nnU-Net's raw layout; test cases go to imagesTs and labelsTs.

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


@dataclass
class _Patient:
    """Each voxel's place in mm (left, back, up from the middle), what was painted, and what is still free."""

    left: Field
    back: Field
    up: Field
    random: np.random.Generator
    hu: Field
    label: npt.NDArray[np.uint8]
    free: Mask

    @classmethod
    def lying_in(cls, shape: Triple, random: np.random.Generator) -> _Patient:
        """An empty patient: the voxel grid, turned, scaled and warped a little so that no two are alike."""
        faces = zip(shape, _EXTENT, strict=True)
        axes = [((np.arange(size) + 0.5) / size - 0.5) * extent for size, extent in faces]
        grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
        angle, scale = random.normal(0, 0.06), random.normal(1, 0.04, 3).clip(0.9, 1.1)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        x, y, z = np.tensordot((turn / scale[:, None]).astype(np.float32), grid, axes=1)
        shift = random.normal(0, (4, 4, 8)).astype(np.float32)
        return cls(
            left=x + shift[0] + _ripple(grid, random),
            back=y + shift[1] + _ripple(grid, random),
            up=z + shift[2] + _ripple(grid, random),
            random=random,
            hu=np.full(shape, _AIR, dtype=np.float32),
            label=np.zeros(shape, dtype=np.uint8),
            free=np.ones(shape, dtype=bool),
        )

    def about(self, middle: float, spread: float) -> float:
        """A number near `middle`."""
        return float(np.clip(self.random.normal(middle, spread), middle - 2 * spread, middle + 2 * spread))

    def near(self, *point: float, spread: float = 5.0) -> Point:
        """A point near `point`."""
        x, y, z = (self.about(value, spread) for value in point)
        return x, y, z

    def ellipsoid(self, centre: Point, radii: Point, tilt: float = 0.0) -> Mask:
        """Voxels inside an ellipsoid, turned by `tilt` radians in the axial plane."""
        x, y, z = self.left - centre[0], self.back - centre[1], self.up - centre[2]
        across, along = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
        return np.asarray((across / radii[0]) ** 2 + (along / radii[1]) ** 2 + (z / radii[2]) ** 2 < 1)

    def tube(self, points: Sequence[Point], radii: Sequence[float]) -> Mask:
        """Voxels inside a tube along a smooth curve through `points`, its radius running through `radii`."""
        length = sum(float(np.linalg.norm(np.subtract(b, a))) for a, b in pairwise(points))
        steps = np.linspace(0, 1, max(3, int(length / (0.6 * min(radii)))))
        curve = make_interp_spline(np.linspace(0, 1, len(points)), points, k=min(3, len(points) - 1))
        widths = np.interp(steps, np.linspace(0, 1, len(radii)), radii).astype(np.float32)
        inside = np.zeros(self.free.shape, dtype=bool)
        for (x, y, z), width in zip(curve(steps).astype(np.float32), widths, strict=True):
            inside |= (self.left - x) ** 2 + (self.back - y) ** 2 + (self.up - z) ** 2 < width**2
        return inside

    def paint(self, mask: Mask, hu: float, label: str = "background") -> None:
        """Fill what is free of the mask; who comes first keeps the place."""
        inside = mask & self.free
        self.hu[inside] = hu
        self.label[inside] = PHANTOM_LABELS[label]
        self.free &= ~mask


def _add_body(patient: _Patient) -> None:
    """Skin, fat and the muscular wall with ribs; what remains free is the cavity inside."""
    width, depth, wall = patient.about(150, 5), patient.about(106, 6), patient.about(0.84, 0.025)
    radius = ((np.abs(patient.left) / width) ** 2.3 + (np.abs(patient.back) / depth) ** 2.3) ** (1 / 2.3)
    patient.hu[radius < 1] = _SKIN
    patient.hu[radius < 0.97] = _FAT
    patient.hu[radius < wall] = _MUSCLE
    patient.hu[radius < wall - 0.07] = _FAT
    angle = np.arctan2(patient.left, patient.back)
    slanted = (patient.up + 45 * np.abs(angle) + patient.about(0, 8)) % 30 < 11
    ribs = slanted & (np.abs(radius - wall + 0.03) < 0.03) & (np.abs(angle) < 2.4) & (patient.up > -30)
    patient.hu[ribs] = _BONE
    patient.free = radius < wall - 0.07


def _add_bones_and_muscles(patient: _Patient) -> None:
    """The spine with its canal and processes, and the muscles beside it."""
    disc = patient.up % 34 < 7
    vertebra = patient.ellipsoid((0, 60, 0), (23, 18, 900))
    patient.paint(patient.ellipsoid((0, 82, 0), (9, 8, 900)), 30)
    for side in (-1, 1):
        patient.hu[patient.ellipsoid((side * 34, 84, 0), (28, 16, 900)) & (patient.hu > _AIR)] = _MUSCLE
        patient.paint(patient.ellipsoid((side * 38, 58, -110), (19, 20, 110)), _MUSCLE)
    patient.paint(vertebra & disc, 90)
    patient.paint(vertebra, 260)
    marrow = patient.ellipsoid((0, 60, 0), (20, 15, 900))
    patient.hu[vertebra & ~marrow & ~disc] = _BONE
    patient.hu[patient.ellipsoid((0, 96, 0), (4, 12, 900)) & ~disc] = _BONE
    patient.free &= patient.back < 72


def _add_chest(patient: _Patient) -> None:
    """The heart and the bases of the lungs above the diaphragm."""
    chest = patient.up > patient.about(98, 6) - (patient.left**2 + (patient.back + 15) ** 2) / 320
    patient.paint(chest & patient.ellipsoid(patient.near(22, -32, 122), (58, 44, 34)), _BLOOD - 15)
    patient.paint(chest, _LUNG)


def _add_organs(patient: _Patient) -> None:
    """Vessels, kidneys, spleen, pancreas, liver: neighbours that stay the same while shapes vary."""
    about, near = patient.about, patient.near
    patient.paint(patient.tube([near(9, 31, -130), near(8, 31, 130)], [10]), _BLOOD)
    patient.paint(patient.tube([near(-20, 33, -130), near(-22, 26, 130)], [11]), _BLOOD - 20)
    cortex = about(190, 12)
    for side, height in ((1, about(-8, 8)), (-1, about(-22, 8))):
        centre = near(side * about(66, 4), 42, height)
        radii = about(25, 2), about(23, 2), about(50, 4)
        inner = (
            (centre[0] - side * 6, centre[1] - 3, centre[2]),
            (radii[0] * 0.5, radii[1] * 0.5, radii[2] * 0.6),
        )
        hilum = (centre[0] - side * 17, centre[1] - 8, centre[2]), (14.0, 7.0, 15.0)
        patient.paint(patient.ellipsoid(*hilum), _FAT)
        patient.paint(patient.ellipsoid(*inner), cortex - 60, "kidneys")
        patient.paint(patient.ellipsoid(centre, radii, side * 0.4), cortex, "kidneys")
    spleen = near(94, 30, 40), (about(25, 3), about(46, 5), about(46, 6))
    patient.paint(patient.ellipsoid(*spleen, about(0.35, 0.1)), about(128, 8), "spleen")
    _add_pancreas(patient)
    liver = patient.ellipsoid(near(-72, -4, 42), (about(68, 4), about(78, 4), about(82, 8)))
    left_lobe = patient.ellipsoid(near(-10, -52, 52), (about(72, 8), about(32, 4), about(36, 5)), 0.15)
    patient.paint(patient.ellipsoid(near(-40, -36, -12), (14, 22, 20)), 12)  # the gall bladder
    patient.paint(liver | left_lobe, about(114, 7), "liver")


def _add_pancreas(patient: _Patient) -> None:
    """A bent tube from the duodenum over the great vessels to the spleen, the splenic vein along its back."""
    path = [(-32, 6, -34), (-30, -4, -12), (-6, -20, 0), (22, -14, 8), (50, 4, 18), (78, 14, 28)]
    points = [patient.near(*point, spread=4.0) for point in path]
    vein = [(x, y + 13, z) for x, y, z in points[2:]]
    patient.paint(patient.tube(vein, [4.5]), _BLOOD)
    radii = [patient.about(middle, 1.5) for middle in (15, 14, 10, 11, 12, 9)]
    patient.paint(patient.tube(points, radii), patient.about(98, 6), "pancreas")


def _add_bowel(patient: _Patient) -> None:
    """Stomach, duodenum, colon and small bowel: the intensity and width of the pancreas in other places."""
    about, near = patient.about, patient.near
    duodenum = [
        near(-20, -34, -2),
        near(-50, -12, -8),
        near(-54, 8, -36),
        near(-30, 14, -58),
        near(10, 12, -60),
    ]
    patient.paint(patient.tube(duodenum, [11, 10]), about(98, 8))
    stomach = [near(52, 22, 78), near(72, -8, 60), near(62, -42, 34), near(22, -56, 14), near(-14, -44, 6)]
    widths = [26, 30, 26, 20, 13]
    patient.paint(patient.tube([(x, y - 16, z) for x, y, z in stomach[1:3]], [12]), _AIR + 50)
    patient.paint(patient.tube(stomach, widths), about(98, 10))
    for side in (-1, 1):
        colon = [near(side * 98, 20, -130), near(side * 100, 14, -60), near(side * 92, -6, -18)]
        patient.paint(patient.tube([(x, y - 9, z) for x, y, z in colon], [9]), _AIR + 100)
        patient.paint(patient.tube(colon, [18, 15]), about(70, 15))
    for _ in range(int(patient.random.integers(12, 17))):
        start = np.array(near(about(15, 40), -24, about(-50, 25), spread=16.0))
        turns = np.cumsum(patient.random.normal(0, 22, (4, 3)) * (1.3, 0.9, 0.7), axis=0)
        loop = [(float(x), float(y), float(z)) for x, y, z in start + turns]
        patient.paint(patient.tube(loop, [about(11.5, 1.5)]), about(98, 9))


def _scan(patient: _Patient, noise: float) -> npt.NDArray[np.int16]:
    """Partial volume at every border, uneven tissue, and noise."""
    hu = gaussian_filter(patient.hu, 0.6)
    texture = gaussian_filter(patient.random.standard_normal(hu.shape, dtype=np.float32), 1.5)
    hu += texture * (7 / float(texture.std()))
    hu += patient.random.standard_normal(hu.shape, dtype=np.float32) * np.float32(noise)
    return np.rint(hu).clip(-1024, 3000).astype(np.int16)


def _ripple(grid: Field, random: np.random.Generator) -> Field:
    """A gentle displacement in mm: waves of random direction, longer than an organ."""
    total = np.zeros(grid.shape[1:], dtype=np.float32)
    for _ in range(3):
        direction = (random.normal(size=3) / 35).astype(np.float32)
        total += 2.5 * np.sin(np.tensordot(direction, grid, axes=1) + np.float32(random.uniform(0, 2 * np.pi)))
    return total
