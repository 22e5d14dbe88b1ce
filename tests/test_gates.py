"""Kinds of gate and the names of their maps."""

from typing import get_args

from attunet.gates import (
    GATES,
    LOCALIZER_MAP,
    MAX_MAPS,
    Gate,
    attention_map_names,
    is_level_name,
    is_localizer_map,
    level_name,
)


def test_every_gate_has_a_row():
    assert set(GATES) == set(get_args(Gate))
    assert max(kind.maps for kind in GATES.values()) == MAX_MAPS == 2


def test_names_of_maps():
    assert attention_map_names("level3", 1) == ["level3"]
    assert attention_map_names("level3", 2) == ["level3.1", "level3.2"]


def test_the_map_of_a_localizer_is_told_from_those_of_gates():
    assert is_localizer_map(LOCALIZER_MAP)
    assert is_localizer_map(f"member/{LOCALIZER_MAP}")
    assert not is_localizer_map("localizer/level2")


def test_names_of_levels():
    assert level_name(2) == "level2"
    assert [is_level_name(name) for name in ("level2", "level12", "logits", "level", "level2.1")] == [
        *(True, True, False, False, False)
    ]
