"""Kill a DICOM node at random moments, stop its PACS, and count the answers: each study has to get exactly one.

Small studies are sent by C-STORE, and sent again until the node has accepted them. The node predicts them with a tiny
model, or with `--stand-in` without one, and sends its results to a PACS: Orthanc, or with `--pacs process` a process
that accepts everything. With `--places` the node kills itself at each of its steps, instead of at random moments.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from pynetdicom import AE, evt

from attunet.dicom.network import parse_address, send_files
from attunet.dicom.node import Node, load_node_settings, read_state
from attunet.dicom.node.predict import Predict
from attunet.dicom.node.queue import StudyQueue
from attunet.dicom.node.storage import Storage
from attunet.errors import AttunetError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "generators"))
from dicom_peers import answer, write_study
from orthanc import Orthanc, free_ports

SLICES = 4
RULE = "organs"
PATIENCE = 60
"""Seconds without any progress after which the run is given up."""
DOWN = 3.0
"""Seconds for which the PACS stays away."""

PLACES: dict[str, tuple[type, str, bool]] = {
    "an instance is stored, and not recorded": (StudyQueue, "add", True),
    "an instance is recorded, and not acknowledged": (StudyQueue, "add", False),
    "a study has settled, and is not queued": (StudyQueue, "settle", True),
    "a prediction begins": (StudyQueue, "take", False),
    "a result is written, and not recorded": (StudyQueue, "finish", True),
    "a result is in the outbox": (Storage, "publish", False),
    "results are recorded, and not sent": (StudyQueue, "finish", False),
    "a result is sent, and not recorded as sent": (StudyQueue, "delivered", True),
    "a result is recorded as sent, and still in the outbox": (StudyQueue, "delivered", False),
}
"""Steps after or before which a process may end: their class and method, and whether it ends before it."""


def main() -> int:
    """Run, print the counts, and return 1 when a study was lost, doubled or failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=200)
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--stops", type=int, default=2, help="how often the PACS is stopped")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pacs", choices=("orthanc", "process"), default="orthanc")
    options.add_argument("--places", action="store_true", help="kill the node at each of its steps")
    options.add_argument("--stand-in", action="store_true", help="predict without a model")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        run = Run(Path(name), given.studies, given.pacs, slow_answer if given.stand_in else None)
        with run.working():
            if given.places:
                run.kill_at_places()
            else:
                run.kill_at_random(given.kills, given.stops, random.Random(given.seed))
            run.wait_for_the_rest()
            return run.report()


class Run:
    """One node with its sender and its PACS, each a process.

    Args:
        folder: an empty folder.
        studies: how many.
        pacs: which PACS.
        predict: what predicts a series; None for a tiny model, which is made.
    """

    def __init__(self, folder: Path, studies: int, pacs: str, predict: Predict | None) -> None:
        self.kills, self.stops, self.harm, self.predict = 0, 0, list[str](), predict
        if predict is None:
            os.waitpid(fork(lambda: write_model(folder / "model")), 0)
        ports = free_ports(3)
        self.pacs = Orthanc(folder / "pacs", ports[:2]) if pacs == "orthanc" else ProcessPacs(folder / "pacs", ports[0])
        self.config = folder / "node.yaml"
        settings = {
            "state": str(folder / "state"),
            "settle": 0.5,
            "receive": {"port": ports[2]},
            "rules": [{"name": RULE, "model": str(folder / "model"), "modality": ["CT"]}],
            "destinations": [{"name": "pacs", "address": self.pacs.address}],
            "retry": {"first": 0.2, "longest": 1, "starts": 20},
            "least_free_mb": 0,
            "page": None,
        }
        self.config.write_text(yaml.safe_dump(settings))
        self.settings = load_node_settings(self.config)
        self.studies = dict(
            write_study(folder, slices=SLICES, uid=f"2.25.{1000 + number}") for number in range(studies)
        )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Start everything; end what is still running."""
        self.pacs.start()
        self.node, self.sender = fork(self._node), fork(self._send)
        try:
            yield
        finally:
            kill(self.node)
            kill(self.sender)
            self.pacs.stop()

    def kill_at_random(self, kills: int, stops: int, moments: random.Random) -> None:
        """Kill the node, and stop the PACS, spread over the time until nearly all studies are answered."""
        acts = [self._kill] * kills + [self._stop_pacs] * stops
        moments.shuffle(acts)
        for share, act in zip(sorted(moments.uniform(0.02, 0.9) for _ in acts), acts, strict=True):
            self._wait(lambda share=share: self.answered() >= share * len(self.studies))
            time.sleep(moments.uniform(0, 0.5))
            act()

    def kill_at_places(self) -> None:
        """Let the node end at each of its steps in turn."""
        kill(self.node)
        for place in PLACES:
            self.node = fork(lambda place=place: self._node(place))
            if not self._wait(lambda: os.waitpid(self.node, os.WNOHANG)[0] != 0):
                self.harm.append(f"the node never came to where {place}")
                kill(self.node)
            self.kills += 1
        self.node = fork(self._node)

    def wait_for_the_rest(self) -> None:
        """Wait until every study has ended."""
        self._wait(lambda: self.answered() + self._counts()["failed"] + self._counts()["ignored"] >= len(self.studies))

    def report(self) -> int:
        """Print what became of the studies; 1 when it is not one answer to each."""
        answers, counts, harm = self.pacs.instances_of_studies(), self._counts(), [*self.harm]
        lost, doubled = self.studies.keys() - answers.keys(), [study for study in answers if answers[study] > 1]
        strange = answers.keys() - self.studies.keys()
        harm += [f"{len(lost)} studies have no answer: {sorted(lost)[:5]}"] if lost else []
        harm += [f"{len(doubled)} studies have several answers: {sorted(doubled)[:5]}"] if doubled else []
        harm += [f"answers to other studies: {sorted(strange)[:5]}"] if strange else []
        if counts["answered"] != len(self.studies):
            harm.append(f"states of the studies: {counts}")
        print(f"{len(self.studies)} studies, {self.kills} kills, PACS stopped {self.stops} times")
        print(f"answered: {counts['answered']}; objects in the PACS: {sum(answers.values())}")
        print("\n".join(harm) or f"every study answered exactly once ({len(self.studies)} of {len(self.studies)})")
        return bool(harm)

    def answered(self) -> int:
        """How many studies are answered."""
        return self._counts()["answered"]

    def _counts(self) -> dict[str, int]:
        try:
            return read_state(self.settings.state).counts
        except AttunetError:  # the node has not begun
            return Counter()

    def _wait(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition, as long as anything changes."""
        seen, since = None, time.monotonic()
        while not condition():
            if (now := str(self._counts())) != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                self.harm.append(f"nothing changed for {PATIENCE} s: {seen}")
                return False
            time.sleep(0.05)
        return True

    def _kill(self) -> None:
        kill(self.node)
        self.kills += 1
        self.node = fork(self._node)

    def _stop_pacs(self) -> None:
        self.pacs.stop()
        self.stops += 1
        time.sleep(DOWN)
        self.pacs.start()

    def _node(self, place: str = "") -> None:
        if place:
            owner, method, before = PLACES[place]
            setattr(owner, method, deadly(getattr(owner, method), before=before))
        Node(self.settings, self.predict).run()

    def _send(self) -> None:
        """Send every study until each of its instances is acknowledged, as a scanner does."""
        address = parse_address(f"dicom://ATTUNET@127.0.0.1:{self.settings.receive.port}")
        for files in self.studies.values():
            while files:
                with suppress(AttunetError):
                    files = [sent.file for sent in send_files(address, files, calling="SCANNER") if sent.error]
                time.sleep(0.05)


class ProcessPacs:
    """A PACS that accepts everything, in a process of its own, and writes down what came. Args: a folder; its port."""

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir()
        self.address, self._port, self._log, self._process = f"dicom://PACS@127.0.0.1:{port}", port, folder / "log", 0

    def start(self) -> None:
        """Start it."""
        self._process = fork(self._serve)

    def stop(self) -> None:
        """Stop it."""
        kill(self._process)

    def instances_of_studies(self) -> dict[str, int]:
        """The studies of which something came, and how many different instances."""
        return Counter(line.split()[0] for line in set(self._log.read_text().splitlines()))

    def _serve(self) -> None:
        entity = AE(ae_title="PACS")
        entity.add_supported_context(SegmentationStorage, ExplicitVRLittleEndian)
        entity.start_server(("127.0.0.1", self._port), evt_handlers=[(evt.EVT_C_STORE, self._store)])

    def _store(self, event: evt.Event) -> int:
        with self._log.open("a") as log:
            log.write(f"{event.dataset.StudyInstanceUID} {event.request.AffectedSOPInstanceUID}\n")
        return 0


def write_model(folder: Path) -> None:
    """A model of random weights for these studies."""
    from attunet.bundle import fold_folder, save_manifest, save_plan
    from attunet.config import FingerprintSummary, Normalization, Plan, Preprocessing
    from attunet.export.formats import export_openvino
    from attunet.networks import default_network
    from attunet.nn import AttentionUNet, save_weights

    step, patch = (1.0, 1.0, 2.0), (8, 8, 4)
    network = default_network(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(4, 6),
        strides=((2,) * 3,),
        kernel_sizes=((3,) * 3,) * 2,
    )
    plan = Plan(
        name="chaos",
        labels={"background": 0, "liver": 1},
        channel_names=("CT",),
        preprocessing=Preprocessing(spacing=step, normalization=(Normalization(kind="zscore"),)),
        patch_size=patch,
        batch_size=2,
        network=network,
        fingerprint=FingerprintSummary(
            cases=3, channels=1, median_shape=patch, median_spacing=step, label_voxels={"liver": 80}
        ),
        reasons={},
    )
    folder.mkdir()
    save_plan(plan, folder)
    fold = fold_folder(folder, 0)
    weights = AttentionUNet.from_config(network).eval()
    save_weights(weights, fold / "weights.safetensors")
    export_openvino(weights, plan, fold / "graph.xml")
    save_manifest(folder)


def slow_answer(*arguments):
    """A prediction that takes long enough to be interrupted."""
    time.sleep(0.05)
    return answer(*arguments)


def deadly(function: Callable[..., object], *, before: bool) -> Callable[..., object]:
    """The same function, in which the process ends as by kill -9."""

    def ends(*arguments: object, **named: object) -> object:
        if not before:
            function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    return ends


def fork(work: Callable[[], object]) -> int:
    """Do something in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        work()
        os._exit(0)
    except BaseException as error:
        print(f"a process failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


def kill(process: int) -> None:
    """Kill a process as kill -9 does, and wait for its end."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(process, 0)


if __name__ == "__main__":
    sys.exit(main())
