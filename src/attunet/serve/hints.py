"""Hints for clients: those of the library are for people at a command line, who have paths, flags and programs."""

from __future__ import annotations

import re

__all__ = ["client_hint", "client_warning"]

OPERATOR = "whoever runs the server can help: "
_ELSEWHERE = re.compile(
    r"--(max-memory|device|precision|int8)|attunet (export|benchmark|select|train)|pip install|netrc|permission|"
    r"train again|model folder|trained run|in its log|into its log|certificate"
)
"""What only they can do who run the server."""
_OF_COMMANDS = re.compile(r"--[a-z]|\battunet |\bpass |check the path|that the file exists|the folder (of|that holds)")
_SERIES = re.compile(r"(correct|choose one with) --series.*")
SEND_ANOTHER = "check the files that were sent; of other images, send a single volume, such as a NIfTI file"


def client_hint(hint: str) -> str:
    """A hint of the library in the words of a client of the server.

    Args: the hint, parts of which are divided by semicolons.
    Returns: the same for what clients can do; without what needs a command line, and with who can help else.
    """
    kept = []
    for part in hint.split("; "):
        if _SERIES.search(part):
            kept.append("name another one as the series of the job")
        elif _ELSEWHERE.search(part):
            kept.append(part if part.startswith(OPERATOR) else f"{OPERATOR}{part}")
        elif not _OF_COMMANDS.search(part):
            kept.append(part)
    return "; ".join(kept) if kept else SEND_ANOTHER


def client_warning(warning: str) -> str:
    """A warning of the library without a remedy, in brackets at its end, that needs a command line."""
    found = re.fullmatch(r"(.*) \(([^()]*)\)", warning, re.DOTALL)
    return found[1] if found and _OF_COMMANDS.search(found[2]) else warning
