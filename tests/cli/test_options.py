"""Parsing of option values, and of mistyped ones."""

from __future__ import annotations

import pytest

from attunet.cli.options import parse_folds, parse_labels, parse_memory, parse_numbers, parse_time
from attunet.errors import ConfigError


def test_empty_options_parse_to_none():
    assert parse_labels(None) is None
    assert parse_numbers(None, "--patch", int) is None
    assert parse_time(None) is None
    assert parse_memory(None) is None
    assert parse_folds(None) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("1d", 86400), (" 2 M ", 120)]
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "5 minutes", "1:30", "nan", "m"])
def test_what_is_no_time(text):
    with pytest.raises(ConfigError, match="--max-time got"):
        parse_time(text)


@pytest.mark.parametrize(("text", "numbers"), [("2,3,4", (2, 3, 4)), ("256, 128", (256, 128, 1))])
def test_whole_numbers(text, numbers):
    assert parse_numbers(text, "--patch", int) == numbers


def test_fractions():
    assert parse_numbers("0.5,0.5,2", "--spacing", float) == (0.5, 0.5, 2.0)


@pytest.mark.parametrize("text", ["", "2", "1,2,3,4", "a,b,c", "1,,2", "0,1,1", "-1,1,1", "nan,1,1", "inf,1,1"])
def test_what_are_no_numbers(text):
    with pytest.raises(ConfigError, match="--spacing got"):
        parse_numbers(text, "--spacing", float)


@pytest.mark.parametrize(("text", "folds"), [("0", (0,)), ("0,2", (0, 2)), ("1,1", (1,)), ("all", None)])
def test_folds(text, folds):
    assert parse_folds(text) == folds


@pytest.mark.parametrize("text", ["", "first", "0..4", "1.5"])
def test_what_is_no_fold(text):
    with pytest.raises(ConfigError, match="--fold got"):
        parse_folds(text)


def test_labels():
    assert parse_labels("liver=5, left kidney = 3") == {"liver": 5, "left kidney": 3}


def test_several_values_of_a_label():
    assert parse_labels("a=1+255,b=3-5") == {"a": (1, 255), "b": (3, 4, 5)}
    assert parse_labels("a=7-7") == {"a": 7}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "liver",
        "liver=",
        "=1",
        "liver=-1",
        "liver=0",
        "liver=1.5",
        "liver=1,",
        "a=5-3",
        "a=1+",
        "a=0-3",
        "a=1-9999999",
    ],
)
def test_what_are_no_labels(text):
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_labels(text)


@pytest.mark.parametrize("text", ["liver=1,liver=2", "liver=1,spleen=1"])
def test_labels_come_once(text):
    with pytest.raises(ConfigError, match="repeats"):
        parse_labels(text)


def test_declared_labels_need_no_value():
    declared = {"background": 0, "liver": 5, "tumour": 6}
    assert parse_labels("tumour, liver", declared) == {"tumour": 6, "liver": 5}
    assert parse_labels("tumour,spleen=9", declared) == {"tumour": 6, "spleen": 9}
    for text in ("kidney", "background", "liver="):
        with pytest.raises(ConfigError, match="or names of liver, tumour"):
            parse_labels(text, declared)


@pytest.mark.parametrize(
    ("text", "gb"), [("8", 8), ("8GB", 8), ("7.5 GiB", 7.5), ("512mb", 0.5), ("512M", 0.5), ("1TB", 1024)]
)
def test_memory(text, gb):
    assert parse_memory(text) == gb


@pytest.mark.parametrize("text", ["", "0", "0GB", "-1", "8 giga", "GB", "nan", "80%"])
def test_what_is_no_memory(text):
    with pytest.raises(ConfigError, match="--memory got"):
        parse_memory(text)
