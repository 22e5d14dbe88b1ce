"""Converters that report their use over the network, unasked, are made to keep it to themselves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_to_ourselves", "quiet"]


def keep_to_ourselves() -> None:
    """Give OpenVINO's converter and NNCF, where they are loaded, their own stand-ins that send nothing."""
    from openvino.tools.ovc import telemetry_stub

    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc") and hasattr(module, "tm"):
            module.tm = telemetry_stub  # type: ignore[attr-defined]
    if "nncf.telemetry" in sys.modules:
        from nncf.telemetry import telemetry
        from nncf.telemetry.wrapper import NNCFTelemetryStub

        telemetry._impl = NNCFTelemetryStub()


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Only errors from these loggers: their warnings are of packages and layers that no network here uses."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
