"""The YAML of a node: unknown keys, contradictions and unusable values are refused with the key."""

import pytest
import yaml

from attunet.dicom.node import load_node_settings
from attunet.errors import ConfigError

LEAST = {
    "state": "state",
    "receive": {"peers": [{"ae_title": "SCANNER"}]},
    "rules": [{"name": "organs", "model": "model"}],
    "destinations": [{"name": "pacs", "address": "dicom://PACS@10.0.0.7:104"}],
}


@pytest.fixture
def load(tmp_path):
    """`load(**changes)`: the settings of a file that holds the least with these changes."""

    def read(**changes):
        file = tmp_path / "node.yaml"
        file.write_text(yaml.safe_dump({**LEAST, **changes}))
        return load_node_settings(file)

    return read


def test_the_least_is_enough(load, tmp_path):
    settings = load()
    assert settings.receive.address == "127.0.0.1"
    assert settings.page.address == "127.0.0.1"
    assert settings.settle == 60
    assert settings.rules[0].outputs == ("dicom-seg",)
    assert settings.destinations_of(settings.rules[0], "dicom-seg") == ("pacs",)


def test_relative_paths_start_at_the_file(load, tmp_path):
    share = {"name": "share", "address": "share"}
    settings = load(watch=[{"folder": "in"}, {"folder": "/in"}], destinations=[*LEAST["destinations"], share])
    assert settings.state == tmp_path / "state"
    assert settings.rules[0].model == tmp_path / "model"
    assert [str(watch.folder) for watch in settings.watch] == [str(tmp_path / "in"), "/in"]
    assert [one.address for one in settings.destinations] == ["dicom://PACS@10.0.0.7:104", str(tmp_path / "share")]


def test_results_go_where_they_are_taken(load):
    destinations = [*LEAST["destinations"], {"name": "share", "address": "/share"}]
    rules = [{"name": "organs", "model": "model", "outputs": ["nifti", "dicom-seg"]}]
    settings = load(destinations=destinations, rules=rules)
    assert settings.destinations_of(settings.rules[0], "nifti") == ("share",)
    assert settings.destinations_of(settings.rules[0], "dicom-seg") == ("pacs", "share")
    chosen = load(destinations=destinations, rules=[{**rules[0], "destinations": ["share"]}])
    assert chosen.destinations_of(chosen.rules[0], "dicom-seg") == ("share",)


RULE = LEAST["rules"][0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"retries": 3}, "retries: Extra inputs are not permitted"),
        ({"receive": {"aet": "X"}}, r"receive\.aet: Extra inputs"),
        ({"receive": {"ae_title": "MUCHTOOLONGATITLE"}}, r"receive\.ae_title: .*1 to 16 printable"),
        ({"receive": {"port": 99999}}, r"receive\.port: "),
        ({"receive": None}, "no studies come in: give receive, watch or queries"),
        ({"rules": []}, "rules: "),
        ({"rules": [RULE, RULE]}, "two rules are named organs"),
        ({"rules": [{**RULE, "name": "a/b"}]}, r"rules\.0\.name"),
        ({"rules": [{**RULE, "body_part": "(liver"}]}, "is no regular expression"),
        ({"rules": [{**RULE, "outputs": ["nifti"]}]}, "no destination of rule organs takes nifti"),
        ({"rules": [{**RULE, "outputs": ["docx"]}]}, r"rules\.0\.outputs"),
        ({"rules": [{**RULE, "destinations": ["share"]}]}, "rule organs names the unknown destination share"),
        ({"destinations": [{"name": "pacs", "address": "ftp://host"}]}, "unknown scheme ftp"),
        ({"queries": [{"url": "dicom://PACS@host"}]}, "expected the address of a DICOMweb service"),
        ({"settle": 0}, "settle: "),
    ],
)
def test_what_cannot_be_is_refused(changes, said, load):
    with pytest.raises(ConfigError, match=said) as refused:
        load(**changes)
    assert "node.yaml" in refused.value.message


def test_a_password_in_an_address_is_refused_and_not_repeated(load):
    with pytest.raises(ConfigError, match="name or password") as refused:
        load(queries=[{"url": "https://me:hunter2@host/rs"}])
    assert "hunter2" not in str(refused.value)


def test_waits_double_up_to_the_longest(load):
    retry = load(retry={"first": 5, "longest": 60}).retry
    assert [retry.wait(tries) for tries in (1, 2, 3, 4, 5, 500)] == [5, 10, 20, 40, 60, 60]
