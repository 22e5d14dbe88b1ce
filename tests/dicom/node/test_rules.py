"""Routing: what a rule asks of a series."""

import pytest
from dicom_peers import make_instance

from attunet.dicom.node.rules import SeriesFacts, matching_rules, may_match, read_facts
from attunet.dicom.node.settings import RuleSettings
from attunet.errors import FormatError

FACTS = SeriesFacts(
    modality="CT",
    body_part="ABDOMEN",
    study_description="CT Abdomen and pelvis",
    series_description="Portal venous 2.0",
    image_type="ORIGINAL\\PRIMARY\\AXIAL",
    instances=40,
)


def rule(**conditions):
    return RuleSettings(name="organs", model="model", **conditions)


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"modality": ("CT", "PT")}, True),
        ({"modality": ("MR",)}, False),
        ({"body_part": "abdomen|liver"}, True),
        ({"body_part": "^LIVER"}, False),
        ({"study_description": "pelvis$"}, True),
        ({"series_description": r"venous \d"}, True),
        ({"series_description": "arterial"}, False),
        ({"not_series_description": "scout|venous"}, False),
        ({"not_series_description": "scout"}, True),
        ({"image_type": r"^ORIGINAL\\PRIMARY"}, True),
        ({"image_type": "LOCALIZER"}, False),
        ({"least_instances": 40}, True),
        ({"least_instances": 41}, False),
        ({"modality": ("CT",), "body_part": "ABDOMEN", "series_description": "lung"}, False),
    ],
)
def test_every_condition_counts(conditions, matches):
    given = rule(**conditions)
    assert matching_rules(FACTS, [given]) == ([given] if matches else [])


def test_every_rule_that_matches_applies():
    rules = [rule(modality=("CT",)), rule(modality=("MR",)), rule()]
    assert matching_rules(FACTS, rules) == [rules[0], rules[2]]


@pytest.mark.parametrize("modality", ["SEG", "RTSTRUCT", "SR", "PR"])
def test_what_is_no_image_matches_only_when_it_is_named(modality):
    facts = SeriesFacts(modality=modality, instances=1)
    assert matching_rules(facts, [rule()]) == []
    assert matching_rules(facts, [rule(modality=(modality,))])
    assert not may_match(modality, [rule()])
    assert may_match(modality, [rule(modality=("CT",)), rule(modality=(modality,))])


def test_an_unknown_modality_may_match():
    assert may_match("", [rule(modality=("CT",))])
    assert not may_match("MR", [rule(modality=("CT",))])


def test_facts_are_read_from_the_first_instance(tmp_path):
    for number in (1, 2):
        make_instance("1", "1.1", number).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    facts = read_facts(tmp_path)
    assert facts == SeriesFacts(
        modality="CT",
        body_part="ABDOMEN",
        study_description="CT abdomen",
        series_description="portal venous 2.0",
        image_type="ORIGINAL\\PRIMARY\\AXIAL",
        instances=2,
    )


def test_what_is_missing_is_empty(tmp_path):
    dataset = make_instance("1", "1.1", ImageType="DERIVED")
    del dataset.BodyPartExamined
    dataset.StudyDescription = None
    dataset.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    facts = read_facts(tmp_path)
    assert (facts.body_part, facts.study_description, facts.image_type) == ("", "", "DERIVED")


def test_a_series_without_files_or_with_damaged_ones(tmp_path):
    with pytest.raises(FormatError, match="its instances were deleted") as refused:
        read_facts(tmp_path)
    assert "send the study again" in refused.value.hint
    (tmp_path / "1.dcm").write_bytes(b"damaged")
    with pytest.raises(FormatError, match="header cannot be read"):
        read_facts(tmp_path)
