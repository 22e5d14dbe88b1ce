"""What a worker loads before its first job, so that this job takes no longer than others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from attunet.errors import AttunetError
from attunet.failures import one_case
from attunet.serve.shelf import ModelShelf

__all__ = ["preload"]

NEEDED = "attunet.serve.prediction_job"
"""What every job needs."""
OFTEN = ("attunet.explanation.prediction_hook",)
"""What some jobs need and takes long: matplotlib, for pictures."""


def preload(shelf: ModelShelf, model: str, busy: Callable[[], bool]) -> None:
    """Import what jobs need, and load a model; a job that comes meanwhile goes on by itself where this has got to.

    A model that cannot be loaded is the matter of its jobs; who is told of it is that of the shelf.

    Args:
        shelf: the models.
        model: the one to load.
        busy: whether a job runs, with which this would share the processor.
    """
    import_module(NEEDED)
    with suppress(AttunetError), one_case():
        if not busy() and shelf.has_room(model):
            shelf.get(model)
    for module in OFTEN:
        if not busy():
            import_module(module)
