"""Reading JSON and YAML files of any origin: in bounded time and memory, and with one clear error."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from attunet.errors import AttunetError, FormatError, first_line

__all__ = ["open_regular", "parse_document", "read_document", "reading"]

LARGEST_JSON = 2**28
LARGEST_YAML = 2**23  # PyYAML reads about a megabyte in ten seconds
MOST_BY_ALIAS = 10**5
"""Values that the aliases of a YAML file may stand for, in addition to those that are written out."""
LONGEST_REASON = 300


@contextmanager
def reading(path: Path, kind: type[AttunetError] = FormatError, hint: str = "copy the file again") -> Iterator[None]:
    """Whatever goes wrong within the block, whose input is a file, becomes one error that names the file.

    Args:
        path: the file.
        kind: the error to raise.
        hint: what to do about it.
    Yields: nothing.
    """
    name = str(path) if len(str(path)) <= LONGEST_REASON else f"…{str(path)[-100:]}"
    try:
        yield
    except AttunetError as error:
        if isinstance(error, kind):
            raise
        message = error.message if str(path) in error.message else f"{name}: {error.message}"
        raise kind(message, hint=error.hint or hint) from error
    except KeyError as error:
        raise kind(f"cannot read {name}: it has no {first_line(error)[:LONGEST_REASON]}", hint=hint) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind(f"cannot read {name}: {reason}", hint="check the path and its permissions") from error
    except Exception as error:  # a file may hold anything: wrong types, too large numbers, endless nesting
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        if isinstance(error, TypeError | AttributeError | IndexError):
            reason = f"its content is of another kind than this file has ({reason})"
        raise kind(f"cannot read {name}: {reason[:LONGEST_REASON]}", hint=hint) from error


def read_document(path: Path) -> Any:
    """The content of a JSON file, or of a YAML file where the suffix is another.

    Raises: FormatError for what is no regular file; otherwise whatever is wrong, see `reading`.
    """
    limit = LARGEST_JSON if path.suffix.lower() == ".json" else LARGEST_YAML
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise FormatError(f"{path} has more than {limit} bytes", hint="check that it is the right file")
    return parse_document(content, json_text=path.suffix.lower() == ".json")


def parse_document(content: bytes, *, json_text: bool = True) -> Any:
    """The value that JSON or YAML text stands for.

    Raises: ValueError for text that is not valid, or whose aliases stand for too much; RecursionError for endless
        nesting.
    """
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text) if json_text else _load_yaml(text)  # YAML misreads JSON's surrogate pairs
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"it is not valid {'JSON' if json_text else 'YAML'}: {reason}") from error


def _load_yaml(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node, sizes = loader.get_single_node(), dict[int, float]()
        if node is None:
            return None
        if _expanded(node, sizes) > len(sizes) + MOST_BY_ALIAS:
            raise ValueError(f"its aliases stand for more than {MOST_BY_ALIAS} values; write out what is meant")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, without ever waiting for a pipe or a device.

    Raises: FormatError when the file is missing, cannot be opened or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot read {path}: {reason}", hint="check the path and its permissions") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(
            f"{path} is not a regular file, but a folder, pipe, socket or device",
            hint="copy its content into a file, and pass that",
        )
    return os.fdopen(descriptor, "rb")


def _expanded(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Values that a node stands for when its aliases are written out; infinite for one that contains itself."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # until it is known: met again within itself, it has no end
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        sizes[id(node)] = 1 + sum(_expanded(child, sizes) for child in children)
    return sizes[id(node)]
