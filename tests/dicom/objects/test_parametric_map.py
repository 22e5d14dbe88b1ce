"""Parametric maps, read by highdicom: every coefficient is kept bit by bit."""

import numpy as np
from highdicom.pm import ParametricMap


def coefficients(shape=(20, 16, 9), maps=1):
    return np.random.default_rng(1).random((maps, *shape)).astype(np.float32)


def test_each_gate_is_a_map_of_floats_in_place(scene, straight_affine, tmp_path):
    made = scene(straight_affine)
    gates = {"level2": coefficients(), "run/level3": coefficients() / 2}
    files = made.result(tmp_path, attention=gates).write_attention()
    assert [file.name for file in files] == ["case_attention_level2.dcm", "case_attention_run_level3.dcm"]
    for file, alpha in zip(files, gates.values(), strict=True):
        stored = ParametricMap.from_file(file)
        frames = alpha[0].transpose(2, 1, 0)
        places = [made.source.grid.position(k) for k in range(len(frames))]
        for group, frame in zip(stored.PerFrameFunctionalGroupsSequence, stored.pixel_array, strict=True):
            where = group.PlanePositionSequence[0].ImagePositionPatient
            nearest = int(np.argmin(np.linalg.norm(np.subtract(places, where), axis=1)))
            assert np.allclose(where, places[nearest], atol=1e-5)
            assert frame.dtype == np.float32
            assert np.array_equal(frame, frames[nearest])


def test_several_maps_of_a_gate_are_told_apart(scene, tmp_path):
    alpha = coefficients(maps=2)
    (file,) = scene().result(tmp_path, attention={"level2": alpha}).write_attention()
    stored = ParametricMap.from_file(file)
    assert stored.NumberOfFrames == 18
    labels = {group.RealWorldValueMappingSequence[0].LUTLabel for group in stored.PerFrameFunctionalGroupsSequence}
    assert labels == {"map 1", "map 2"}


def test_a_map_says_its_unit_and_range(scene, tmp_path):
    (file,) = scene().result(tmp_path, attention={"level2": coefficients()}).write_attention()
    mapping = ParametricMap.from_file(file).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert (mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped) == (
        0,
        1,
    )
    assert mapping.LUTExplanation == "attention of level2"
