"""Fixtures for DICOM peers: small studies, a PACS that accepts C-STORE in this process, free ports."""

import secrets
import socket
import threading
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

PATIENT = "Geheim^Gisela"


def make_instance(study, series, number=1, **changes):
    """A CT slice of 16 x 12 pixels with a patient's name, at 2 mm from its neighbours."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{series}.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": f"{study}.9",
        "PatientName": PATIENT,
        "PatientID": "4711",
        "PatientBirthDate": "19500102",
        "PatientSex": "F",
        "StudyDate": "20260103",
        "StudyTime": "101112",
        "StudyID": "1",
        "AccessionNumber": "A4711",
        "ReferringPhysicianName": "",
        "Manufacturer": "none",
        "Modality": "CT",
        "BodyPartExamined": "ABDOMEN",
        "StudyDescription": "CT abdomen",
        "SeriesDescription": "portal venous 2.0",
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImagePositionPatient": [0, 0, 2 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "SliceThickness": 2,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "KVP": 120,
        "AcquisitionNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 12,
        "Columns": 16,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        **changes,
    }
    for name, value in values.items():
        setattr(dataset, name, value)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    noise = np.random.default_rng(number)
    dataset.PixelData = noise.integers(900, 1200, (12, 16), dtype=np.uint16).tobytes()
    return dataset


@pytest.fixture(scope="session")
def instance():
    """`instance(study, series, number=1, **tags)`: one slice as a data set."""
    return make_instance


@pytest.fixture(scope="session")
def patient():
    """What identifies the patient of every instance, and must not be found anywhere."""
    return ("Geheim", "Gisela", "4711", "19500102", "20260103")


@pytest.fixture
def study(tmp_path):
    """`study(slices=3, series=1, **tags)`: a new study in files; its UID, and the files."""

    def make(slices=3, series=1, uid=None, **tags):
        uid = uid or f"2.25.{secrets.randbelow(2**90)}"
        folder = tmp_path / "sources" / uid
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for part in range(1, series + 1):
            for number in range(1, slices + 1):
                dataset = make_instance(uid, f"{uid}.{part}", number, **tags)
                files.append(folder / f"{part}_{number}.dcm")
                dataset.save_as(files[-1], enforce_file_format=True)
        return uid, files

    return make


@pytest.fixture
def free_port():
    """A function that returns a port on which nobody listens."""

    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


class Pacs:
    """A node that keeps what it is sent; `status` is what it answers, `received` how often each instance came."""

    def __init__(self, port, title="PACS", contexts=None):
        self.port, self.title, self.status = port, title, 0x0000
        self.address = f"dicom://{title}@127.0.0.1:{port}"
        self.stored, self.received, self.callers, self._lock = {}, [], set(), threading.Lock()
        self._contexts, self._entity = contexts, None

    def start(self):
        self._entity = AE(ae_title=self.title)
        for context in self._contexts or AllStoragePresentationContexts:
            self._entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        self._entity.add_supported_context(Verification)
        self._entity.require_called_aet = True
        self._entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        return self

    def stop(self):
        if self._entity is not None:
            self._entity.shutdown()
            self._entity = None

    def _store(self, event):
        with self._lock:
            if self.status == 0:
                content = event.encoded_dataset()
                self.stored[event.request.AffectedSOPInstanceUID] = content
                self.received.append(str(event.request.AffectedSOPInstanceUID))
                self.callers.add(event.assoc.requestor.ae_title)
        return self.status

    def read(self, uid):
        return pydicom.dcmread(BytesIO(self.stored[uid]))


@pytest.fixture
def make_pacs(free_port):
    """`make_pacs(title="PACS")`: a running PACS."""
    made = []

    def make(**how):
        made.append(Pacs(how.pop("port", None) or free_port(), **how).start())
        return made[-1]

    yield make
    for pacs in made:
        pacs.stop()


@pytest.fixture
def pacs(make_pacs):
    """A running PACS."""
    return make_pacs()
