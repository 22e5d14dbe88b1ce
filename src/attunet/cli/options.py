"""Options that several commands share, and the values people type into them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from attunet.data.labels import Values, parse_values
from attunet.errors import ConfigError, EngineError
from attunet.gates import Gate

__all__ = [
    "CascadeOption",
    "DatasetArgument",
    "Device",
    "DeviceOption",
    "GateOption",
    "Geometry",
    "GeometryOption",
    "LabelsOption",
    "MemoryOption",
    "NetworkOption",
    "ResolutionOption",
    "SizeOption",
    "SpatialDimsOption",
    "parse_folds",
    "parse_labels",
    "parse_memory",
    "parse_numbers",
    "parse_time",
    "require_packages",
    "require_training",
]

N = TypeVar("N", int, float)
Device = Literal["auto", "cpu", "cuda"]
Geometry = Literal["fail", "copy-affine", "resample"]

DatasetArgument = Annotated[
    Path,
    typer.Argument(help="Folder of images and labels in any layout, or a CSV file of paths."),
]
DeviceOption = Annotated[Device, typer.Option(help="Device; auto uses a GPU if there is one.")]
GateOption = Annotated[
    Literal[Gate, "none"] | None,
    typer.Option(help="Attention gate; none makes a plain U-Net. [default: grid; additive for the listing]"),
]
GeometryOption = Annotated[
    Geometry, typer.Option(help="What to do when the grid of a label differs from that of its image.")
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        help='Labels to learn, such as "liver=5,spleen=1"; names are enough if the data set declares their values. '
        'Several values become one label with "lesion=1+255" or "lesion=128-255". '
        "Everything else becomes background. [default: all labels]"
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="GB", help="Memory that training may use, such as 8GB. [default: 80% of the device's free memory]"
    ),
]
NetworkOption = Annotated[
    Literal["default", "paper", "listing"] | None,
    typer.Option(
        help="Network: our default, the paper's, or that of the popular 2-D tutorial (listing). [default: default]"
    ),
]
ResolutionOption = Annotated[
    Literal["auto", "full", "low"],
    typer.Option(
        help="low: a coarser grid, so that a patch covers more of the body; full: never coarser than the data."
    ),
]
CascadeOption = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        help="on: a small network finds the organs on a coarse grid first; auto: if a patch shows little of the image, "
        "and little of it has a label"
    ),
]
SizeOption = Annotated[
    Literal["auto", "small", "base", "large"],
    typer.Option(help="Size of network, patch and batch; auto chooses for this machine."),
]
SpatialDimsOption = Annotated[
    int | None,
    typer.Option(min=2, max=3, help="2 trains on slices of volumes. [default: chosen from the data]"),
]


def parse_labels(text: str | None, declared: Mapping[str, int] | None = None) -> dict[str, Values] | None:
    """Label names and values from "liver=1,spleen=2+3,lesion=128-255"; None for None.

    A name without a value gets the value that the data set declares for it.
    Raises: ConfigError for any other entry, for the value 0, and for a repeated name or value.
    """
    if text is None:
        return None
    known = {name: str(value) for name, value in (declared or {}).items() if value}
    values: dict[str, Values] = {}
    for entry in text.split(","):
        name, _, written = (part.strip() for part in entry.partition("="))
        value = parse_values(written if "=" in entry else known.get(name, ""))
        if not name or value is None or 0 in (value if isinstance(value, tuple) else (value,)):
            names = f", or names of {', '.join(known)}" if known else ""
            raise ConfigError(
                f"--labels got {entry.strip()!r}, expected NAME=VALUE with a value above 0{names}",
                hint='write them as "liver=1,spleen=2", several values of one label as "lesion=1+255" or "128-255"',
            )
        if name in values or value in values.values():
            raise ConfigError(f"--labels got {text!r}, where {entry.strip()} repeats a name or value")
        values[name] = value
    return values


def parse_memory(text: str | None, option: str = "--memory") -> float | None:
    """GB (of 1024^3 bytes) from "8GB", "512 MB" or a plain number of GB; None for None. Raises: ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mgt]?)i?b?", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"{option} got {text!r}, expected an amount above 0", hint="write it as 8GB or 512MB")
    return float(match[1]) * {"": 1, "g": 1, "m": 1 / 1024, "t": 1024}[match[2]]


def parse_numbers(text: str | None, option: str, kind: Callable[[str], N]) -> tuple[N, N, N] | None:
    """Three numbers from "2,2,2"; the third is 1 when left out; None for None. Raises: ConfigError."""
    if text is None:
        return None
    try:
        i, j, k = map(kind, (text if text.count(",") == 2 else f"{text},1").split(","))
    except ValueError:
        raise ConfigError(f"{option} got {text!r}, expected two or three numbers", hint="write 2,2,2") from None
    if not all(0 < number < math.inf for number in (i, j, k)):
        raise ConfigError(f"{option} got {text!r}, expected numbers above 0")
    return i, j, k


def parse_time(text: str | None, option: str = "--max-time") -> float | None:
    """Seconds from "90s", "15m", "1.5h" or a plain number of seconds; None for None. Raises: ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"{option} got {text!r}, expected a time above 0", hint="write it as 90s, 15m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def parse_folds(text: str | None) -> tuple[int, ...] | None:
    """Fold indices from "0", "0,2" or "all" (None). Raises: ConfigError."""
    if text is None or text == "all":
        return None
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(
            f"--fold got {text!r}, expected numbers or all", hint="write --fold 0, --fold 0,2 or --fold all"
        ) from None


def require_training() -> None:
    """Raises: EngineError when the training extra is not installed."""
    require_packages("training", "torch", "lightning", "monai", "blosc2")


def require_packages(action: str, *packages: str) -> None:
    """Raises: EngineError when one of the packages is not installed."""
    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise EngineError(f"{action} needs {', '.join(absent)}", hint='install them with: pip install "attunet[train]"')
