"""Nothing phones home: the usage reports of other packages are turned off before any of them is imported.

`import attunet` calls `silence`, so that it comes before every other import of the package, also in processes that the
package starts. Nothing is written to the home folder for it: the opt-out files that OpenVINO looks for there would be.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any

__all__ = ["OPT_OUT", "silence"]

OPT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "WANDB_ERROR_REPORTING": "false",
    }
)
"""Environment variables by which packages are told to send nothing: onnxruntime, which would also keep an identifier
in ~/.cache, Ray, and those that a data set, a logger or a user's own script may load. Child processes inherit them."""

_SENDER = "openvino_telemetry"
"""The package by which OpenVINO and NNCF report their use to an analytics server; both work without it."""
_CONVERTER = "openvino.tools.ovc"


def _ignore(*_arguments: Any, **_named: Any) -> None:
    """Does nothing."""


class _Silent:
    """Has the methods of `openvino_telemetry.Telemetry`, which do nothing."""

    def __init__(self, *_arguments: Any, **_named: Any) -> None: ...

    start_session = end_session = send_event = send_error = send_stack_trace = force_shutdown = staticmethod(_ignore)


def silence() -> None:
    """Turn off the usage reports of other packages in this process and in those that it starts; may be repeated.

    OpenVINO reports its import, so its sender must be absent before. Where OpenVINO, NNCF or onnxruntime were imported
    before attunet, they have reported that already, and are kept from further reports.
    """
    os.environ.update(OPT_OUT)
    loaded = sys.modules.get(_SENDER)
    sys.modules[_SENDER] = None  # type: ignore[assignment]  # every later import of it fails, as if it were not installed
    for name, module in list(sys.modules.items()):
        if name.startswith(_CONVERTER) and _sends(module):
            module.tm = _silent_module()  # type: ignore[attr-defined]
    if loaded is not None:
        loaded.Telemetry = _Silent  # type: ignore[attr-defined]
    if (wrapper := sys.modules.get("nncf.telemetry.wrapper")) is not None:
        wrapper.telemetry._impl = _Silent()
    if (runtime := sys.modules.get("onnxruntime")) is not None:
        runtime.disable_telemetry_events()


def _sends(module: ModuleType | None) -> bool:
    return getattr(getattr(module, "tm", None), "__name__", "") == _SENDER


def _silent_module() -> ModuleType:
    module = ModuleType("silent")
    module.Telemetry = _Silent  # type: ignore[attr-defined]
    return module
