"""The page of the server: what it holds is ours or named, it asks nobody outside, and suits its own security policy."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

import attunet.serve.server as server_module
from attunet.serve.guard import HEADERS

PAGE = server_module.PAGE
VENDOR = PAGE / "vendor"
OWN = sorted(path for path in PAGE.iterdir() if path.is_file())
MODULES = [path for path in OWN if path.suffix == ".js"]
LONGEST = 300


class Elements(HTMLParser):
    """Every element of a page as its tag and attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def elements():
    return Elements((PAGE / "index.html").read_text(encoding="utf-8")).found


def test_vendored_files_are_those_that_were_recorded():
    about = json.loads((VENDOR / "niivue.json").read_text(encoding="utf-8"))
    assert hashlib.sha256((VENDOR / about["file"]).read_bytes()).hexdigest() == about["sha256"]
    algorithm, _, digest = about["integrity"].partition("-")
    assert algorithm == "sha512"
    assert len(base64.b64decode(digest)) == hashlib.sha512().digest_size
    assert about["version"] in about["tarball"]
    assert "BSD 2-Clause" in (VENDOR / "niivue.LICENSE").read_text(encoding="utf-8")
    assert {path.name for path in VENDOR.iterdir()} == {about["file"], "niivue.json", "niivue.LICENSE"}


def test_the_decision_names_the_version(project):
    about = json.loads((VENDOR / "niivue.json").read_text(encoding="utf-8"))
    (record,) = (project / "docs" / "decisions").glob("0032-*.md")
    assert about["version"] in record.read_text(encoding="utf-8")


def test_nothing_is_inline(elements):
    """The policy of every answer would refuse it."""
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    for tag, attributes in elements:
        assert tag != "style", attributes
        assert tag != "script" or "src" in attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)


def test_everything_that_it_refers_to_is_there(elements):
    links = [attributes.get("src") or attributes.get("href") for _, attributes in elements]
    for link in filter(None, links):
        assert link.startswith(("/page/", "/openapi.json", "#")), link
        assert not link.startswith("/page/") or (PAGE / link.removeprefix("/page/")).is_file(), link
    for module in MODULES:
        for target in re.findall(r'from "([^"]+)"|import "([^"]+)"', module.read_text(encoding="utf-8")):
            assert (PAGE / "".join(target)).is_file(), (module.name, target)


def test_every_id_that_the_modules_ask_for_is_there(elements):
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    used = {name for path in MODULES for name in re.findall(r'byId\("([^"]+)"\)', path.read_text(encoding="utf-8"))}
    assert used <= ids
    assert len(used) > 30


def test_controls_have_names(elements):
    labels = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        for reference in ("aria-labelledby", "aria-describedby", "for"):
            assert reference not in attributes or attributes[reference] in ids, (tag, attributes)
    assert "slice" in labels


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_own_files_are_short_and_ask_nobody_outside(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"']+", text)
    assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", text)
