"""Make the input of a finding smaller as long as the finding stays."""

from __future__ import annotations

from collections.abc import Callable

from mutations import Files

MOST_TRIES = 300


def reduced(files: Files, valid: Files, same: Callable[[Files], bool]) -> Files:
    """A smaller input with the same finding.

    Args:
        files: the input.
        valid: the files that it was made from; their bytes are put back first.
        same: whether an input still leads to the finding.
    Returns: the smallest that was found.
    """
    tries = 0

    def keeps(candidate: Files) -> bool:
        nonlocal tries
        tries += 1
        return tries <= MOST_TRIES and same(candidate)

    for name in sorted(files):
        if name in valid and files[name] != valid[name] and keeps({**files, name: valid[name]}):
            files = {**files, name: valid[name]}
        files = _shorter(files, name, keeps)
    return files


def _shorter(files: Files, name: str, keeps: Callable[[Files], bool]) -> Files:
    """Remove pieces, large ones first, from the end to the begin."""
    size = len(files[name]) // 2
    while size >= 1 and len(files[name]) > 64:
        at = len(files[name]) - size
        while at >= 0:
            candidate = {**files, name: files[name][:at] + files[name][at + size :]}
            if keeps(candidate):
                files = candidate
            at -= size
        size //= 4
    return files
