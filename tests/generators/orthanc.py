"""A real PACS on this machine only: Debian's Orthanc with its DICOMweb plugin, started and stopped at will."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_SECONDS = 30
STOP_SECONDS = 20
TITLE = "ORTHANC"


def absent() -> str:
    """Why Orthanc cannot be started here; empty when it can."""
    if shutil.which("Orthanc") is None:
        return "Orthanc is not installed"
    return "" if PLUGIN.exists() else "Orthanc's DICOMweb plugin is not installed"


class Orthanc:
    """One Orthanc with a folder and two ports of its own.

    Args:
        folder: an empty folder for its files.
        ports: of DICOM and of HTTP.
        modalities: peers to which it may send, as name -> (AE title, port).
        users: names and passwords for HTTP; none lets everybody in.
    """

    def __init__(self, folder, ports, modalities=None, users=None):
        self.folder, (self.port, self.http_port), self._process = Path(folder), ports, None
        self.address = f"dicom://{TITLE}@127.0.0.1:{self.port}"
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.web = f"{self.url}/dicom-web"
        self._users = users or {}
        settings = {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "StorageCompression": False,
            "HttpPort": self.http_port,
            "DicomPort": self.port,
            "DicomAet": TITLE,
            "DicomCheckCalledAet": True,
            "RemoteAccessAllowed": bool(self._users),
            "AuthenticationEnabled": bool(self._users),
            "RegisteredUsers": self._users,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {name: [title, "127.0.0.1", port] for name, (title, port) in (modalities or {}).items()},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self):
        """Start it, and wait until it answers."""
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                ["Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                self.stop()
                raise RuntimeError(f"Orthanc did not start: {(self.folder / 'log.txt').read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def stop(self):
        """Stop it, and wait for its end: it locks its database until then."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def post(self, path, content):
        """Post JSON to its own REST interface; the answer."""
        return self.get(path, json.dumps(content).encode())

    def get(self, path, content=None):
        """The JSON or the bytes under a path of its own REST interface."""
        request = urllib.request.Request(f"{self.url}{path}", data=content)
        for name, password in self._users.items():
            token = base64.b64encode(f"{name}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content

    def instances(self):
        """SOPInstanceUID -> its number in Orthanc, of everything that it has."""
        found = self.get("/instances?expand")
        return {entry["MainDicomTags"]["SOPInstanceUID"]: entry["ID"] for entry in found}

    def instances_of_studies(self):
        """StudyInstanceUID -> how many instances of it there are."""
        counts = {}
        for study in self.get("/studies?expand"):
            counts[study["MainDicomTags"]["StudyInstanceUID"]] = len(self.get(f"/studies/{study['ID']}/instances"))
        return counts

    def file(self, uid):
        """The file of an instance, as Orthanc keeps it."""
        return self.get(f"/instances/{self.instances()[uid]}/file")

    def _answers(self):
        try:
            self.get("/system")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


def free_ports(count=2):
    """Ports on which nobody listens, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
