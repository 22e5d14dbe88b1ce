"""The base of all settings: frozen, validated, read from YAML or JSON, unknown keys refused."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from attunet.documents import parse_document, read_document, reading
from attunet.errors import ConfigError

__all__ = ["Settings", "describe", "load_settings", "parse_settings"]

HINT = "correct the file, or write it again"
MOST_ISSUES = 10  # named in a message


class Settings(BaseModel):
    """Base of all settings: frozen, validated; unknown keys, nan and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], source: Path | dict[str, Any], **overrides: Any) -> S:
    """Settings of `kind` from a YAML or JSON file or a dict; keyword arguments win over the source.

    Raises: ConfigError naming the file and each offending key.
    """
    if isinstance(source, dict):
        return _validated(kind, {**source, **overrides}, "settings")
    with reading(source, ConfigError, HINT):
        return _validated(kind, {**_mapping(read_document(source), source), **overrides}, str(source))


def parse_settings(kind: type[S], content: bytes, path: Path) -> S:
    """Settings from a YAML or JSON file that was read already, so that what was checked is what is used.

    Args:
        kind: class of the settings.
        content: the bytes of the file.
        path: the file, for its suffix and for messages.
    Returns: the settings.
    Raises: ConfigError naming the file and each offending key.
    """
    with reading(path, ConfigError, HINT):
        return _validated(
            kind, _mapping(parse_document(content, json_text=path.suffix.lower() == ".json"), path), str(path)
        )


def describe(error: ValidationError) -> str:
    """A pydantic error as one line: key, given value, expected value."""
    lines = []
    issues = error.errors(include_url=False, include_context=False)
    for issue in issues[:MOST_ISSUES]:
        key = ".".join(str(part)[:100] for part in issue["loc"]) or "settings"
        got = "" if issue["type"] in ("missing", "value_error") else f", got {_shown(issue['input'])}"
        lines.append(f"{key}: {issue['msg']}{got}"[:300])
    more = [f"and {len(issues) - MOST_ISSUES} more"] if len(issues) > MOST_ISSUES else []
    return "; ".join([*lines, *more])


def _validated(kind: type[S], values: dict[str, Any], where: str) -> S:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}", hint=_known_keys(kind, error)) from error


def _shown(value: object) -> str:
    """A value in a message: a nested one is cut before it is written out."""
    if isinstance(value, str):
        return repr(value[:300])
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a very large {type(value).__name__}"


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


def _mapping(values: Any, path: Path) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} contains {type(values).__name__}, expected keys and values", hint=HINT)
    return values
