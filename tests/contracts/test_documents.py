"""The documents are correct: their code runs, their commands exist, their links have targets.

Python blocks of a document are executed, in the order of the text, in a copy of the `workplace` folder. One that
cannot run here is preceded by the comment `<!-- not run: REASON -->`. Lines of console blocks that call
attunet are parsed by the command line itself, so that a flag that is gone is noticed.
"""

import re
import shutil

import pytest
import typer

from attunet.cli import app, register
from attunet.config import TrainingConfig, load_settings

STUB = 20
BLOCK = re.compile(r"(?P<excuse><!-- not run: .+? -->\s*)?^```(?P<kind>\w+)\n(?P<code>.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:home|Users|root|work|opt|tmp|mnt|var)/\w")


def documents(project):
    return [*project.glob("*.md"), *(project / "docs").rglob("*.md")]


def blocks(path, *kinds):
    found = BLOCK.finditer(path.read_text(encoding="utf-8"))
    return [block for block in found if block["kind"] in kinds]


def test_readme_has_code(project):
    readme = project / "README.md"
    written = len(readme.read_text(encoding="utf-8").splitlines()) > STUB
    assert bool(blocks(readme, "python")) or not written
    assert bool(blocks(readme, "console", "bash")) or not written


@pytest.mark.integration
def test_python_of_documents_runs(project, workplace, tmp_path, monkeypatch, subtests):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where preprocessed cases are stored
    for path in documents(project):
        code = [block["code"] for block in blocks(path, "python") if not block["excuse"]]
        if code:
            with subtests.test(path.name):
                run_blocks(code, shutil.copytree(workplace, tmp_path / path.stem), monkeypatch)


def run_blocks(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"__name__": "document"}
    for block in code:
        exec(compile(block, folder.name, "exec"), names)


@pytest.fixture(scope="module")
def command_line():
    if not app.registered_commands:
        register()
    return typer.main.get_group(app).commands


def test_commands_of_documents_exist(project, command_line):
    for path in documents(project):
        for line in commands_in(path):
            name, *arguments = line.split()
            assert name in command_line or name.startswith("-"), f"{path.name}: attunet {name} is no command"
            if name in command_line:
                parse(command_line[name], arguments, f"{path.name}: attunet {line}")


def commands_in(path):
    """What follows `attunet` on each line of the console blocks, continuation lines joined, comments cut."""
    code = "\n".join(block["code"] for block in blocks(path, "console", "bash")).replace("\\\n", " ")
    return re.findall(r"^(?:\$ )?attunet +([^#\n]+)", code, re.M)


def parse(command, arguments, where):
    try:
        if hasattr(command, "commands") and arguments:  # a group: the flags are those of the command within
            name, *arguments = arguments
            assert name in command.commands, f"{where}: {name} is no command"
            command = command.commands[name]
        command.make_context(command.name, arguments).close()
    except typer.Exit:
        return  # --help leaves here
    except Exception as error:
        pytest.fail(f"{where}: {error}")


def test_links_lead_somewhere(project):
    for path in documents(project):
        for target in LINK.findall(path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which does not exist"


def test_every_recipe_loads(project):
    for path in sorted((project / "recipes").glob("*.yaml")):
        assert load_settings(TrainingConfig, path), path.name


def test_no_document_or_source_names_a_machine(project):
    sources = [path for room in ("src", "recipes", "benchmarks") for path in (project / room).rglob("*.*")]
    texts = [path for path in sources if path.suffix in {".py", ".yaml", ".html", ".j2", ".md"}]
    for path in [*documents(project), *texts, project / "Makefile"]:
        found = MACHINE_PATH.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(project)} names {found and found.group()}…"
