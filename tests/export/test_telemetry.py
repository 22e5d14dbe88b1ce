"""Converters keep what they do to themselves."""

from __future__ import annotations

import logging

import pytest

from attunet.export.telemetry import keep_to_ourselves, quiet


def test_openvino_and_nncf_send_nothing(monkeypatch):
    pytest.importorskip("nncf")
    wrapper = pytest.importorskip("nncf.telemetry.wrapper")
    import nncf.telemetry

    class Sender:
        def send_event(self, **_named):
            raise AssertionError("NNCF would have sent a report")

    real = object.__new__(wrapper.NNCFTelemetry)
    real._impl, real._app_name, real._app_version = Sender(), "nncf", "0"
    monkeypatch.setattr(nncf.telemetry, "telemetry", real)
    keep_to_ourselves()
    assert not isinstance(real._impl, Sender)


def test_loggers_get_their_level_back():
    logger = logging.getLogger("attunet.test.noisy")
    logger.setLevel(logging.INFO)
    with quiet("attunet.test.noisy"):
        assert logger.level == logging.ERROR
    assert logger.level == logging.INFO
