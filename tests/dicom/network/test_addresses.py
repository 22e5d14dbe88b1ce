"""Addresses of peers, as people type them."""

from pathlib import Path

import pytest

from attunet.dicom.network import FolderAddress, PeerAddress, WebAddress, WebSource, is_web_source
from attunet.dicom.network.addresses import is_loopback, parse_address, parse_web_source
from attunet.errors import ConfigError, FormatError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dicom://PACS@10.0.0.7:11112", PeerAddress("PACS", "10.0.0.7", 11112)),
        ("dicom://MY PACS@pacs.example", PeerAddress("MY PACS", "pacs.example", 104)),
        ("DICOM://a@b@[::1]:4242", PeerAddress("a@b", "::1", 4242)),
        ("dicomweb://pacs.example/dicom-web/", WebAddress("https://pacs.example/dicom-web")),
        ("dicomweb://127.0.0.1:8042/dicom-web", WebAddress("http://127.0.0.1:8042/dicom-web")),
        ("http://pacs.example/rs", WebAddress("http://pacs.example/rs")),
        ("https://[fe80::1]:8443", WebAddress("https://[fe80::1]:8443")),
        ("results/today", FolderAddress(Path("results/today"))),
        ("/share", FolderAddress(Path("/share"))),
    ],
)
def test_an_address_names_a_peer(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("address", [PeerAddress("PACS", "::1", 11112), WebAddress("https://a/b")])
def test_an_address_that_is_printed_can_be_read_again(address):
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/x", "unknown scheme ftp"),
        ("dicom://host:104", "names no AE title"),
        ("dicom://@host:104", "names no AE title"),
        ("dicom://   @host:104", "names no AE title"),
        ("dicom://SEVENTEENLETTERSX@host", "names no AE title"),
        ("dicom://BACK\\SLASH@host", "names no AE title"),
        ("dicom://PACS@", "names no host"),
        ("dicom://PACS@host:port", "names no host, or a port"),
        ("dicom://PACS@host:70000", "names no host, or a port"),
        ("https:///dicom-web", "names no host"),
        ("https://host/rs?limit=1", "after \\? or #"),
    ],
)
def test_what_is_no_address_is_refused(text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        parse_address(text)
    assert refused.value.hint


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"https://…@host/rs.* name or password") as refused:
        parse_address("https://me:hunter2@host/rs")
    assert "hunter2" not in str(refused.value)
    assert ".netrc" in refused.value.hint


def test_a_source_names_a_study_or_a_series():
    service = WebAddress("https://pacs.example/rs")
    assert parse_web_source("dicomweb://pacs.example/rs/studies/1.2") == WebSource(service, "1.2")
    assert parse_web_source("https://pacs.example/rs/studies/1.2/series/3.4/") == WebSource(service, "1.2", "3.4")
    with pytest.raises(ConfigError, match="names no study"):
        parse_web_source("dicomweb://pacs.example/rs")
    with pytest.raises(ConfigError, match="names no study"):
        parse_web_source("dicomweb://pacs.example/rs/studies/1.2/instances/3")
    with pytest.raises(ConfigError, match="not one of DICOMweb"):
        parse_web_source("dicom://PACS@host/studies/1.2")
    with pytest.raises(FormatError, match=r"StudyInstanceUID is '\.\.', which is no UID"):
        parse_web_source("dicomweb://pacs.example/rs/studies/..")


def test_only_web_addresses_are_sources():
    assert is_web_source("dicomweb://host/rs/studies/1")
    assert is_web_source("HTTPS://host/rs/studies/1")
    assert not is_web_source("scans/http")
    assert not is_web_source("dicom://PACS@host")


def test_loopback_is_known():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "localhost.example", "")))
