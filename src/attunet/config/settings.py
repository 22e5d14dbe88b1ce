"""The base of all settings: frozen, validated, read from YAML or JSON, unknown keys refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from attunet.errors import ConfigError

__all__ = ["Settings", "describe", "load_settings"]


class Settings(BaseModel):
    """Base of all settings: frozen, validated, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], source: Path | dict[str, Any], **overrides: Any) -> S:
    """Settings of `kind` from a YAML or JSON file or a dict; keyword arguments win over the source.

    Raises: ConfigError naming the file and each offending key.
    """
    values = source if isinstance(source, dict) else _read_mapping(source)
    try:
        return kind.model_validate({**values, **overrides})
    except ValidationError as error:
        where = "settings" if isinstance(source, dict) else str(source)
        raise ConfigError(f"{where}: {describe(error)}", hint=_known_keys(kind, error)) from error


def describe(error: ValidationError) -> str:
    """A pydantic error as one line: key, given value, expected value."""
    lines = []
    for issue in error.errors():
        key = ".".join(str(part) for part in issue["loc"]) or "settings"
        got = "" if issue["type"] in ("missing", "value_error") else f", got {issue['input']!r}"
        lines.append(f"{key}: {issue['msg']}{got}"[:300])
    return "; ".join(lines)


def _known_keys(kind: type[Settings], error: ValidationError) -> str:
    """The known keys next to the first offending one, such as those of network."""
    for part in error.errors()[0]["loc"][:-1]:
        field = kind.model_fields.get(str(part))
        kind = next(iter(_types(field.annotation)), kind) if field else kind
    return f"known keys: {', '.join(kind.model_fields)}"


def _types(annotation: Any) -> list[type[Settings]]:
    """The settings that a field holds, itself or in a tuple."""
    kinds = (annotation, *get_args(annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]


def _read_mapping(path: Path) -> dict[str, Any]:
    read = json.loads if path.suffix == ".json" else yaml.safe_load  # YAML misreads JSON's surrogate pairs
    try:
        values = read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML or JSON: {error}".replace("\n", " ")) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} contains {type(values).__name__}, expected keys and values")
    return values
