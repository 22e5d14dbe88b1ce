"""What every object says about itself: whose it is, what made it, and UIDs that are the same each time.

Patient and study are copied from the source images, as PS3.3 requires (C.7.1.1, C.7.2.1), and appear nowhere else: no
message, file name or UID holds them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import numpy.typing as npt
from pydicom import config as pydicom_config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from pydicom.valuerep import PersonName, validate_value

from attunet.errors import AttunetError, DataError

__all__ = ["Algorithm", "ObjectIdentity", "copy_patient_and_study", "making", "new_object", "stable_uid"]

_log = logging.getLogger(__name__)

# Both packages quote values that break the rules of DICOM, which may be the patient's, in warnings and logs.
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
for package in ("pydicom", "highdicom"):
    logging.getLogger(package).setLevel(logging.ERROR)

REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
"""Attributes that every object has; of type 2, so empty where the source lacks them, but for the study's UID."""

OPTIONAL = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyDescription", "IssuerOfAccessionNumberSequence"),
    *("TimezoneOffsetFromUTC",),
)
"""Attributes that an archive needs to file an object under the same patient and study, copied where they are there."""

_VERBATIM = ("PatientName", "PatientID", "StudyInstanceUID")
"""Attributes that are copied whatever they are: without them an archive files an object under another patient."""

SEXES = ("M", "F", "O", "")
SERIES_NUMBERS = 100
"""Series of ours are numbered from this multiple of their source's number."""


@dataclass(frozen=True)
class Algorithm:
    """The model that made a result, as objects name it.

    Args:
        name: name of the model.
        manifest: sha256 of its manifest, which seals every file that a prediction depends on.
        version: version of attunet.
    """

    name: str
    manifest: str
    version: str = version("attunet")


@dataclass(frozen=True, kw_only=True)
class ObjectIdentity:
    """The UIDs and numbers of one object.

    Args:
        series_uid: of its series, which is the same for each kind of object, source and model.
        instance_uid: of the object, which also depends on its content: a different result is a different object.
        series_number: a number above those of the study's own series.
        description: of the series.
    """

    series_uid: str
    instance_uid: str
    series_number: int
    description: str

    @classmethod
    def of(
        cls,
        kind: str,
        position: int,
        source: Sequence[str],
        algorithm: Algorithm,
        content: Sequence[npt.NDArray[Any] | bytes],
        number: int | None = None,
    ) -> ObjectIdentity:
        """The identity of an object.

        Args:
            kind: of the object, a key of the output types, and what tells several of one kind from each other.
            position: of the kind among all kinds, for the series number.
            source: UIDs of the source series and of the images that were read.
            algorithm: the model.
            content: the result that it holds.
            number: the series number of the source; None for unknown.
        Returns: the identity.
        """
        series = ("series", kind, algorithm.manifest, *source)
        digest = sha256()
        for part in content:
            digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
        first = number if number is not None and 0 < number < 10**7 else 90
        return cls(
            series_uid=stable_uid(*series),
            instance_uid=stable_uid("instance", digest.hexdigest(), *series[1:]),
            series_number=first * SERIES_NUMBERS + position,
            description=f"attunet {kind}: {algorithm.name}"[:64],
        )

    def arguments(self, algorithm: Algorithm) -> dict[str, Any]:
        """What every constructor of highdicom asks for."""
        return {
            "series_instance_uid": self.series_uid,
            "series_number": self.series_number,
            "series_description": self.description,
            "sop_instance_uid": self.instance_uid,
            "instance_number": 1,
            "manufacturer": "attunet",
            "manufacturer_model_name": algorithm.name,
            "software_versions": algorithm.version,
            "device_serial_number": algorithm.manifest,
        }


def stable_uid(*parts: str) -> str:
    """A UID that is the same for the same parts: a name-based UUID (RFC 9562, version 5) under 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, chr(10).join(('attunet', *parts))).int}"


def new_object(
    sop_class: str, transfer_syntax: str, modality: str, identity: ObjectIdentity, algorithm: Algorithm
) -> Dataset:
    """An object that is made without highdicom: its file header, series and equipment.

    Args:
        sop_class: UID of its class.
        transfer_syntax: UID of its encoding.
        modality: of the series.
        identity: UIDs and numbers.
        algorithm: what made it.
    Returns: the object.
    """
    now = datetime.now()
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(identity.instance_uid)
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    for argument, value in identity.arguments(algorithm).items():
        setattr(dataset, _KEYWORDS[argument], value)
    dataset.Modality = modality
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    return dataset


_KEYWORDS = {
    "series_instance_uid": "SeriesInstanceUID",
    "series_number": "SeriesNumber",
    "series_description": "SeriesDescription",
    "sop_instance_uid": "SOPInstanceUID",
    "instance_number": "InstanceNumber",
    "manufacturer": "Manufacturer",
    "manufacturer_model_name": "ManufacturerModelName",
    "software_versions": "SoftwareVersions",
    "device_serial_number": "DeviceSerialNumber",
}
"""Arguments of highdicom's constructors to attributes."""


def copy_patient_and_study(header: Dataset, target: Dataset) -> tuple[str, ...]:
    """Copy the attributes of patient and study from a source image into an object, in UTF-8.

    Args:
        header: the image's header, decoded.
        target: the object.
    Returns: a sentence about attributes that are left empty because their values break DICOM's rules; names, no values.
    """
    target.SpecificCharacterSet = "ISO_IR 192"
    invalid = []
    for keyword in (*REQUIRED, *OPTIONAL):
        target.pop(keyword, None)
        element = header[keyword] if keyword in header else None  # noqa: SIM401, because get gives the value
        if element is not None and keyword not in _VERBATIM and not _valid(element):
            invalid.append(keyword)
            element = None
        if element is None and keyword in OPTIONAL:
            continue
        value = None if element is None else element.value
        if isinstance(value, PersonName):
            value = PersonName(str(value))  # without the bytes in the source's character set
        tag = tag_for_keyword(keyword)
        assert tag is not None
        # A new element: the values of one that highdicom has copied belong to the source, too.
        target.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=pydicom_config.IGNORE))
    if not invalid:
        return ()
    return (f"{', '.join(invalid)} of the source images break the rules of DICOM and are left empty in the objects",)


def _valid(element: DataElement) -> bool:
    if element.VR == "SQ":
        return True
    values = element.value if element.VM > 1 else [element.value or ""]
    if element.keyword == "PatientSex" and values[0] not in SEXES:
        return False
    try:
        for value in values:
            validate_value(element.VR, str(value), pydicom_config.RAISE)
    except ValueError:
        return False
    return True


@contextmanager
def making(kind: str) -> Iterator[None]:
    """Turn every exception of the block, whose message may quote a patient's data, into an error that does not.

    Raises: DataError for what a library raised; our own errors as they are.
    """
    try:
        yield
    except (AttunetError, OSError, MemoryError):
        raise
    except Exception as error:
        _log.debug("an unforeseen error while a DICOM object was made: %s", type(error).__name__)
        raise DataError(
            f"the {kind} object could not be made: {type(error).__name__} in {_place(error)}",
            hint="check the headers of the source series, for example with dciodvfy; if they are sound, report this",
        ) from None


def _place(error: BaseException) -> str:
    """Where an exception was raised: the innermost function, without any value."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else trace.tb_frame.f_code.co_qualname
