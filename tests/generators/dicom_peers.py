"""Peers for tests of the DICOM network: small studies, a PACS in this process, a prediction without a model."""

import contextlib
import secrets
import socket
import threading
import time
from io import BytesIO
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import Verification

from attunet.dicom.network import parse_address, send_files
from attunet.dicom.node import Node, read_state
from attunet.errors import AttunetError

PATIENT = {"PatientName": "Geheim^Gisela", "PatientID": "4711", "PatientBirthDate": "19500102", "StudyDate": "20260103"}
SECRETS = ("Geheim", "Gisela", "4711", "19500102", "20260103")
SHAPE = (12, 16)


def make_instance(study, series, number=1, **tags):
    """A CT slice of 16 x 12 pixels of a patient with a name, at 2 mm from its neighbours."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"{series}.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": f"{study}.9",
        **PATIENT,
        "PatientSex": "F",
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
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
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
        "Rows": SHAPE[0],
        "Columns": SHAPE[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        **tags,
    }
    for name, value in values.items():
        setattr(dataset, name, value)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = np.random.default_rng(number).integers(900, 1200, SHAPE, dtype=np.uint16).tobytes()
    return dataset


def write_study(folder, slices=3, series=1, uid=None, **tags):
    """Write a study; its UID, and its files."""
    uid = uid or f"2.25.{secrets.randbelow(2**90)}"
    files = []
    (folder / uid).mkdir(parents=True, exist_ok=True)
    for part in range(1, series + 1):
        for number in range(1, slices + 1):
            files.append(folder / uid / f"{part}_{number}.dcm")
            make_instance(uid, f"{uid}.{part}", number, **tags).save_as(files[-1], enforce_file_format=True)
    return uid, files


def answer(folder, rule, output, cancelled):
    """A stand-in for a prediction: one object of a stable UID for each series and rule, whatever its pixels."""
    files = sorted(folder.glob("*.dcm"))
    source = pydicom.dcmread(files[0], stop_before_pixels=True)
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = answer_uid(folder.name, rule.name)
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = uid
    source.SeriesInstanceUID = f"{uid}.1"
    source.Modality = "SEG"
    source.ImageComments = f"{len(files)} instances, {rule.name}"
    source.save_as(output / "answer.dcm", enforce_file_format=True)
    return {output / "answer.dcm": "dicom-seg"}


def answer_uid(series, rule="organs"):
    """The UID of the object that `answer` makes of a series."""
    return f"2.25.{uuid5(NAMESPACE_OID, f'{series}/{rule}').int}"


@contextlib.contextmanager
def running(settings, predict=answer):
    """A node at work in a thread of its own; whatever ends it is raised."""
    node, failures = Node(settings, predict), []

    def work():
        try:
            node.run()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: failures or is_ready(settings))
        if not failures:
            yield node
    finally:
        node.stop()
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def send_to(settings, files, calling="SCANNER"):
    """Send files to a node; nothing was refused."""
    address = parse_address(f"dicom://{settings.receive.ae_title}@127.0.0.1:{settings.receive.port}")
    assert [sent.error for sent in send_files(address, files, calling=calling)] == [None] * len(files)


class Pacs:
    """A PACS that keeps what it is sent; `status` is what it answers, `received` how often each instance came."""

    def __init__(self, port, title="PACS", classes=(CTImageStorage, SegmentationStorage)):
        self.port, self.title, self.status = port, title, 0x0000
        self.address = f"dicom://{title}@127.0.0.1:{port}"
        self.stored, self.received, self.callers, self._lock = {}, [], set(), threading.Lock()
        self._classes, self._entity = classes, None

    def start(self):
        """Listen."""
        self._entity = AE(ae_title=self.title)
        for sop_class in self._classes:
            self._entity.add_supported_context(sop_class, ALL_TRANSFER_SYNTAXES)
        self._entity.add_supported_context(Verification)
        self._entity.require_called_aet = True
        self._entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        return self

    def stop(self):
        """Listen no more."""
        if self._entity is not None:
            self._entity.shutdown()
            self._entity = None

    def read(self, uid):
        """An instance that it keeps."""
        return pydicom.dcmread(BytesIO(self.stored[uid]))

    def _store(self, event):
        with self._lock:
            if self.status == 0:
                uid = str(event.request.AffectedSOPInstanceUID)
                self.stored[uid] = event.encoded_dataset()
                self.received.append(uid)
                self.callers.add(event.assoc.requestor.ae_title)
        return self.status


def free_port():
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_ready(settings):
    """Whether a node has opened its queue, and listens if it should."""
    with contextlib.suppress(OSError, AttunetError):
        read_state(settings.state)
        if settings.receive is not None:
            socket.create_connection(("127.0.0.1", settings.receive.port), timeout=1).close()
        return True
    return False


def wait_until(condition, seconds=60.0):
    """Wait until a condition is true; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value
