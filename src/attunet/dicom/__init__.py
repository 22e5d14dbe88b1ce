"""DICOM beyond reading: objects that viewers open, and the network of a PACS. Needs the extra `attunet[dicom]`."""

from __future__ import annotations

from importlib.util import find_spec

from attunet.errors import EngineError

__all__ = ["require_dicom"]

_PACKAGES = ("pydicom", "highdicom", "pynetdicom", "dicomweb_client")


def require_dicom(action: str) -> None:
    """Make sure that the extra is installed. Raises: EngineError that says how to install it."""
    absent = [name for name in _PACKAGES if find_spec(name) is None]
    if absent:
        raise EngineError(f"{action} needs {', '.join(absent)}", hint='install them with: pip install "attunet[dicom]"')
