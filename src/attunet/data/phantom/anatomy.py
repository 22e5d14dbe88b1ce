"""The organs of an abdomen and their positions; what is painted first is not covered by what follows.

The pancreas has the intensity of the bowel around it: only its position, its curve and its neighbours distinguish it.
"""

from __future__ import annotations

import numpy as np

from attunet.data.phantom.patient import AIR, Patient

__all__ = ["BLOOD", "BONE", "FAT", "LUNG", "MUSCLE", "SKIN", "add_abdomen", "add_anatomy", "add_spine"]

LUNG, FAT, SKIN, MUSCLE, BLOOD, BONE = -820, -105, 10, 55, 150, 420  # HU


def add_anatomy(patient: Patient) -> None:
    """Paint a whole abdomen."""
    _add_body(patient)
    add_spine(patient)
    _add_chest(patient)
    add_abdomen(patient)


def add_abdomen(patient: Patient) -> None:
    """Paint what lies in the cavity below the diaphragm; its middle is at the origin."""
    _add_organs(patient)
    _add_bowel(patient)


def _add_body(patient: Patient) -> None:
    """Skin, fat and the muscular wall with ribs; what remains free is the cavity inside."""
    width, depth, wall = patient.vary(150, 5), patient.vary(106, 6), patient.vary(0.84, 0.025)
    radius = ((np.abs(patient.left) / width) ** 2.3 + (np.abs(patient.back) / depth) ** 2.3) ** (1 / 2.3)
    patient.hu[radius < 1] = SKIN
    patient.hu[radius < 0.97] = FAT
    patient.hu[radius < wall] = MUSCLE
    patient.hu[radius < wall - 0.07] = FAT
    angle = np.arctan2(patient.left, patient.back)
    slanted = (patient.up + 45 * np.abs(angle) + patient.vary(0, 8)) % 30 < 11
    ribs = slanted & (np.abs(radius - wall + 0.03) < 0.03) & (np.abs(angle) < 2.4) & (patient.up > -30)
    patient.hu[ribs] = BONE
    patient.free = radius < wall - 0.07


def add_spine(patient: Patient) -> None:
    """Paint the spine with its canal and processes, and the muscles beside it."""
    disc = patient.up % 34 < 7
    vertebra = patient.ellipsoid((0, 60, 0), (23, 18, 900))
    patient.paint(patient.ellipsoid((0, 82, 0), (9, 8, 900)), 30)
    for side in (-1, 1):
        patient.hu[patient.ellipsoid((side * 34, 84, 0), (28, 16, 900)) & (patient.hu > AIR)] = MUSCLE
        patient.paint(patient.ellipsoid((side * 38, 58, -110), (19, 20, 110)), MUSCLE)
    patient.paint(vertebra & disc, 90)
    patient.paint(vertebra, 260)
    marrow = patient.ellipsoid((0, 60, 0), (20, 15, 900))
    patient.hu[vertebra & ~marrow & ~disc] = BONE
    patient.hu[patient.ellipsoid((0, 96, 0), (4, 12, 900)) & ~disc] = BONE
    patient.free &= patient.back < 72


def _add_chest(patient: Patient) -> None:
    """The heart and the bases of the lungs above the diaphragm."""
    chest = patient.up > patient.vary(98, 6) - (patient.left**2 + (patient.back + 15) ** 2) / 320
    patient.paint(chest & patient.ellipsoid(patient.near(22, -32, 122), (58, 44, 34)), BLOOD - 15)
    patient.paint(chest, LUNG)


def _add_organs(patient: Patient) -> None:
    """Vessels, kidneys, spleen, pancreas, liver: neighbours that stay the same while shapes vary."""
    vary, near = patient.vary, patient.near
    patient.paint(patient.tube([near(9, 31, -130), near(8, 31, 130)], [10]), BLOOD)
    patient.paint(patient.tube([near(-20, 33, -130), near(-22, 26, 130)], [11]), BLOOD - 20)
    cortex = vary(190, 12)
    for side, height in ((1, vary(-8, 8)), (-1, vary(-22, 8))):
        centre = near(side * vary(66, 4), 42, height)
        radii = vary(25, 2), vary(23, 2), vary(50, 4)
        inner = (
            (centre[0] - side * 6, centre[1] - 3, centre[2]),
            (radii[0] * 0.5, radii[1] * 0.5, radii[2] * 0.6),
        )
        hilum = (centre[0] - side * 17, centre[1] - 8, centre[2]), (14.0, 7.0, 15.0)
        patient.paint(patient.ellipsoid(*hilum), FAT)
        patient.paint(patient.ellipsoid(*inner), cortex - 60, "kidneys")
        patient.paint(patient.ellipsoid(centre, radii, side * 0.4), cortex, "kidneys")
    spleen = near(94, 30, 40), (vary(25, 3), vary(46, 5), vary(46, 6))
    patient.paint(patient.ellipsoid(*spleen, vary(0.35, 0.1)), vary(128, 8), "spleen")
    _add_pancreas(patient)
    liver = patient.ellipsoid(near(-72, -4, 42), (vary(68, 4), vary(78, 4), vary(82, 8)))
    left_lobe = patient.ellipsoid(near(-10, -52, 52), (vary(72, 8), vary(32, 4), vary(36, 5)), 0.15)
    patient.paint(patient.ellipsoid(near(-40, -36, -12), (14, 22, 20)), 12)  # the gall bladder
    patient.paint(liver | left_lobe, vary(114, 7), "liver")


def _add_pancreas(patient: Patient) -> None:
    """A bent tube from the duodenum over the great vessels to the spleen, the splenic vein along its back."""
    path = [(-32, 6, -34), (-30, -4, -12), (-6, -20, 0), (22, -14, 8), (50, 4, 18), (78, 14, 28)]
    points = [patient.near(*point, spread=4.0) for point in path]
    vein = [(x, y + 13, z) for x, y, z in points[2:]]
    patient.paint(patient.tube(vein, [4.5]), BLOOD)
    radii = [patient.vary(middle, 1.5) for middle in (15, 14, 10, 11, 12, 9)]
    patient.paint(patient.tube(points, radii), patient.vary(98, 6), "pancreas")


def _add_bowel(patient: Patient) -> None:
    """Stomach, duodenum, colon and small bowel: the intensity and width of the pancreas in other places."""
    vary, near = patient.vary, patient.near
    duodenum = [
        near(-20, -34, -2),
        near(-50, -12, -8),
        near(-54, 8, -36),
        near(-30, 14, -58),
        near(10, 12, -60),
    ]
    patient.paint(patient.tube(duodenum, [11, 10]), vary(98, 8))
    stomach = [
        near(52, 22, 78),
        near(72, -8, 60),
        near(62, -42, 34),
        near(22, -56, 14),
        near(-14, -44, 6),
    ]
    widths = [26, 30, 26, 20, 13]
    patient.paint(patient.tube([(x, y - 16, z) for x, y, z in stomach[1:3]], [12]), AIR + 50)
    patient.paint(patient.tube(stomach, widths), vary(98, 10))
    for side in (-1, 1):
        colon = [near(side * 98, 20, -130), near(side * 100, 14, -60), near(side * 92, -6, -18)]
        patient.paint(patient.tube([(x, y - 9, z) for x, y, z in colon], [9]), AIR + 100)
        patient.paint(patient.tube(colon, [18, 15]), vary(70, 15))
    for _ in range(int(patient.random.integers(12, 17))):
        start = np.array(near(vary(15, 40), -24, vary(-50, 25), spread=16.0))
        turns = np.cumsum(patient.random.normal(0, 22, (4, 3)) * (1.3, 0.9, 0.7), axis=0)
        loop = [(float(x), float(y), float(z)) for x, y, z in start + turns]
        patient.paint(patient.tube(loop, [vary(11.5, 1.5)]), vary(98, 9))
