"""Names that become paths."""

import pytest

from attunet.errors import DatasetError
from attunet.names import cell_of, check_name, listed, name_fault, name_in, printable, safe_name

UNUSABLE = {
    "": "empty",
    "  ": "empty",
    "../../x": "separates folders",
    "/etc/passwd": "separates folders",
    "C:\\x": "separates folders",
    "..": "stands for a folder",
    "a\x00b": "control character",
    "a\x1b[31mb": "control character",
    "a\nb": "control character",
    "a\udce9b": "control character",
    "NUL": "device",
    "com1.nii": "device",
    "ä" * 150: "bytes",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_names_that_cannot_be_paths_are_refused_with_the_reason(name):
    with pytest.raises(DatasetError, match=UNUSABLE[name]) as caught:
        check_name(name, "case in dataset.json", hint="rename the key")
    assert caught.value.hint == "rename the key"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["patient 07 (left)", "läsion_01", "肝", "$x_1", "<b>", "a\u202eb", "..a", "nulls"])
def test_names_people_use_stay_as_they_are(name):
    assert check_name(name, "case") == safe_name(name) == name


@pytest.mark.parametrize("name", [*UNUSABLE, "prostate/uterus"])
def test_any_name_has_a_safe_form(name):
    assert name_fault(safe_name(name)) is None
    assert safe_name(safe_name(name)) == safe_name(name)


def test_long_names_that_differ_at_the_end_stay_different():
    assert safe_name("x" * 300 + "a") != safe_name("x" * 300 + "b")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("liver [red] $x_1$ <b>", "liver [red] $x_1$ <b>"),
        ("Häuser 肝", "Häuser 肝"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("scan\u202egz.iin", r"scan\u202egz.iin"),
        ("a\rb\x00", r"a\rb\x00"),
    ],
)
def test_what_steers_a_terminal_or_reorders_a_line_is_spelled_out(name, shown):
    assert printable(name) == shown
    assert printable(shown) == shown


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1", "''-x"]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_spreadsheet_runs_a_name(name):
    assert cell_of(name) == f"'{name}"
    assert name_in(cell_of(name)) == name


@pytest.mark.parametrize("name", ["", "liver", "'liver'", "a=1", "patient-1", "'", "3.5"])
def test_other_names_are_cells_as_they_are(name):
    assert cell_of(name) == name_in(name) == name


def test_a_long_list_is_cut_and_says_so():
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
