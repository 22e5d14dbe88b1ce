"""The container: what its files promise, read from them; no container engine is needed."""

import json
import re
import shlex

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from attunet.cli.serve import serve

FOLDER = "deploy"
TAG = re.compile(r".+/.+:(?!latest$)[\w.-]*[\w-]$")


def instructions_of(text):
    """The instructions of a Containerfile as (word, rest), continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def stages(project):
    """The stages of the Containerfile by name, each a list of its instructions."""
    found = {}
    for word, rest in instructions_of((project / FOLDER / "Containerfile").read_text(encoding="utf-8")):
        if word == "FROM":
            stage = found[rest.split(" AS ")[1]] = []
        stage.append((word, rest))
    return found


@pytest.fixture(scope="module")
def services(project):
    """The services of the compose file."""
    return yaml.safe_load((project / FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]


def only(stage, word):
    (rest,) = (rest for one, rest in stage if one == word)
    return rest


def words_of(stage, word):
    """The list in an instruction of the exec form; the last one holds."""
    rest = [rest for one, rest in stage if one == word][-1]
    return json.loads(re.search(r"\[.*\]", rest, re.DOTALL).group())


def test_bases_are_pinned_by_tag(stages, services):
    images = [only(stage, "FROM").split()[0] for stage in stages.values()]
    images += [service["image"] for service in services.values() if "build" not in service]
    assert len(images) == 4
    for image in images:
        assert TAG.fullmatch(image), image


def test_the_image_is_the_last_stage_and_takes_nothing_but_the_installation(stages):
    assert list(stages)[-1] == "runtime"
    words = [word for word, _ in stages["runtime"]]
    assert "RUN" not in words
    sources = [shlex.split(rest) for word, rest in stages["runtime"] if word == "COPY"]
    assert [source[-2] for source in sources] == ["/opt/attunet", "/data", "deploy/healthy.py"]


def test_the_installation_has_no_torch_and_known_versions(project, stages):
    (install,) = (rest for word, rest in stages["build"] if word == "RUN" and "pip install" in rest)
    assert "--constraint constraints.txt" in install
    (extras,) = re.findall(r"\.whl\)\[([a-z,]+)\]", install)
    assert extras == "serve,dicom"
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras.split(","):
        (listed,) = re.findall(rf"^{extra} = \[\n(.*?)\n\]", text, re.DOTALL | re.MULTILINE)
        names = {Requirement(item).name for item in re.findall(r'"(.+?)"', listed)}
        assert not names & {"torch", "lightning", "monai", "ray"}


def test_nobody_is_root(stages, services):
    for name in ("runtime", "ohif"):
        user = only(stages[name], "USER")
        assert re.fullmatch(r"([1-9]\d*):[1-9]\d*", user), name  # numbers, which Kubernetes can check
    for service in services.values():
        assert "privileged" not in service
        assert "user" not in service
        assert "no-new-privileges" in service["security_opt"]


def test_the_folder_of_the_data_is_that_of_the_user(stages):
    assert any(
        rest.split() == ["--from=build", "--chown=65532:65532", "/data", "/data"] for _, rest in stages["runtime"]
    )
    assert only(stages["runtime"], "USER") == "65532:65532"
    assert only(stages["runtime"], "VOLUME") == only(stages["runtime"], "WORKDIR") == "/data"
    command = words_of(stages["runtime"], "CMD")
    assert command[command.index("--data") + 1].startswith("/data/")


def test_health_is_asked_without_a_shell(project, stages):
    program = words_of(stages["runtime"], "HEALTHCHECK")
    assert program == ["/usr/bin/python3", "/opt/healthy.py"]
    assert "/healthz" in only(stages["runtime"], "ENV")
    assert (project / FOLDER / "healthy.py").is_file()


def test_the_services_are_closed(services):
    attunet = services["attunet"]
    assert attunet["read_only"] is True
    assert attunet["cap_drop"] == ["ALL"]
    assert attunet["environment"]["ATTUNET_TOKEN"].startswith("${ATTUNET_TOKEN:?")
    assert any(word.startswith("--certfile=") for word in attunet["command"])
    assert {volume.rpartition(":")[2] for volume in attunet["volumes"]} == {"ro", "/data"}
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert not any(port.endswith(":8042") for port in ports), "Orthanc's web interface has no password"
    assert all("127.0.0.1" in port for port in ports)


def test_commands_are_those_of_the_program(stages, services):
    """Every option that the files give to `attunet serve` exists."""
    app = typer.Typer()
    app.command()(serve)
    known = {name for option in typer.main.get_command(app).params for name in option.opts}
    for command in (words_of(stages["runtime"], "CMD"), services["attunet"]["command"]):
        assert command[:2] == ["attunet", "serve"]
        assert {word.partition("=")[0] for word in command[2:] if word.startswith("--")} <= known


def test_the_context_holds_what_is_copied(project, stages):
    kept = re.findall(r"^!(.+)$", (project / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    copied = [
        source
        for stage in stages.values()
        for word, rest in stage
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    for source in copied:
        assert (project / source).exists()
        assert source.split("/")[0] in kept, source
