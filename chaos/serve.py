"""Kill a server and its workers at random moments, and count how often each job ended: once, with the mask of predict.

Clients upload small scans and submit jobs, again and again until the server has taken them. Meanwhile the server or a
worker is killed with SIGKILL; a killed server is started again. At the end every job has to be done, to have ended
once, and to have the voxels of `attunet.predict`; nothing may lie in the folder that is not recorded.

usage: chaos/serve.py [--jobs 200] [--kills 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import psutil

from attunet.dicom.network.addresses import is_loopback
from attunet.errors import AttunetError, BusyError, NetworkError
from attunet.serve import Client

sys.path.insert(0, str(Path(__file__).parent))
from node import fork, write_model

SCANS = 8
CLIENTS = 4
PATIENCE = 180
"""Seconds without any progress after which the run is given up."""


def main() -> int:
    """Run, print the counts, and return 1 when a job was lost, doubled, failed or wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=200)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        run = Run(Path(name), given.jobs, random.Random(given.seed))
        try:
            run.start()
            run.kill(given.kills)
            run.wait_for_the_rest()
            return run.report()
        finally:
            run.stop()


class Run:
    """One server, its clients, and whoever kills it.

    Args: an empty folder; the number of jobs; what chooses moments.
    """

    def __init__(self, folder: Path, jobs: int, moments: random.Random) -> None:
        self.folder, self.jobs, self.moments = folder, jobs, moments
        self.model, self.data = folder / "model", folder / "data"
        os.waitpid(fork(lambda: write_model(self.model)), 0)
        self.scans = [self._scan(number) for number in range(SCANS)]
        self.submitted: dict[str, int] = {}
        self.kills: Counter[str] = Counter()
        self.harm: list[str] = []
        self._lock, self._todo = threading.Lock(), iter(range(jobs))
        self.url, self.process = "", None

    def start(self) -> None:
        """Start the server and the clients."""
        self._serve()
        self._clients = [threading.Thread(target=self._submit_all, daemon=True) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def kill(self, kills: int) -> None:
        """Kill the server or a worker, spread over the time until nearly all jobs have ended."""
        for share in sorted(self.moments.uniform(0.0, 0.9) for _ in range(kills)):
            self._wait(lambda share=share: self._ended() >= share * self.jobs)
            time.sleep(self.moments.uniform(0, 0.6))
            if self.moments.random() < 0.5:
                self._kill_server()
            else:
                self._kill_worker()

    def wait_for_the_rest(self) -> None:
        """Wait until every job has ended."""
        if not self._wait(lambda: self._ended() >= self.jobs):
            self.harm.append(f"after {PATIENCE} s without progress, {self._ended()} of {self.jobs} jobs had ended")

    def report(self) -> int:
        """Print what became of the jobs; 1 when it is not one right mask for each."""
        rows = self._rows("SELECT id, state, ends, tries, folder FROM job")
        ends, states = Counter(row[2] for row in rows), Counter(row[1] for row in rows)
        wrong = sum(not self._is_right(key) for key in self.submitted)
        known = {row[0] for row in rows}
        lost = [key for key in self.submitted if key not in known]
        print(f"{len(self.submitted)} jobs submitted, kills: {dict(self.kills)}")
        print(f"states: {dict(states)}, ends: {dict(ends)}, lost: {len(lost)}, masks other than predict's: {wrong}")
        print(f"deaths of a worker per job: {dict(Counter(row[3] for row in rows))}")
        folders = {row[4] for row in rows}
        stray = [entry.name for entry in (self.data / "results").iterdir() if entry.name not in folders]
        if stray:
            self.harm.append(f"{len(stray)} folders of results that no job has")
        if lost or wrong or set(states) != {"done"} or set(ends) != {1}:
            self.harm.append("not every job ended once and right")
        for line in self.harm:
            print("HARM:", line)
        return 1 if self.harm else 0

    def stop(self) -> None:
        """End the server, which ends its workers."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def _scan(self, number: int) -> Path:
        path = self.folder / f"scan{number}.nii.gz"
        image = np.random.default_rng(number).normal(size=(28, 26, 20)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.diag([1.0, 1.0, 2.0, 1.0])), path)
        return path

    def _serve(self) -> None:
        with (self.folder / "log").open("a") as log:
            words = [
                "-m",
                f"organs={self.model}",
                "--port",
                "0",
                "--data",
                str(self.data),
                "--max-queue",
                str(self.jobs),
            ]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "attunet", "serve", *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError((self.folder / "log").read_text()[-2000:])
        self.url = line.split()[-1]
        assert is_loopback(self.url.split("/")[2].rsplit(":", 1)[0])

    def _kill_server(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills["server"] += 1
        self._serve()

    def _kill_worker(self) -> None:
        while not (workers := psutil.Process(self.process.pid).children()):
            time.sleep(0.01)
        workers[0].kill()
        self.kills["worker"] += 1

    def _submit_all(self) -> None:
        while True:
            with self._lock:
                number = next(self._todo, None)
            if number is None:
                return
            self._submit(number)

    def _submit(self, number: int) -> None:
        """Submit one job; a job whose answer was lost is asked for again, so that the queue may have more of them."""
        while True:
            try:
                with Client(self.url, timeout=20) as client:
                    scan = client.upload(self.scans[number % SCANS])
                    job = client.submit(scan.id, "organs", step_size=0.3)
                with self._lock:
                    self.submitted[job.id] = number % SCANS
                return
            except (NetworkError, BusyError, AttunetError):
                time.sleep(0.2)

    def _is_right(self, job: str) -> bool:
        if not hasattr(self, "_expected"):
            self._expected = self._predicted()
        try:
            with Client(self.url) as client:
                path = client.download(job, "mask", self.folder / "mask.nii.gz")
            mask = np.asanyarray(nibabel.load(path).dataobj)
        except AttunetError:
            return False
        return bool(np.array_equal(mask, self._expected[self.submitted[job]]))

    def _predicted(self) -> list[np.ndarray]:
        from attunet.inference.segmenter import Segmenter

        segmenter = Segmenter.load(self.model)
        return [segmenter.predict(path, step_size=0.3).segmentation.array[0] for path in self.scans]

    def _ended(self) -> int:
        return int(self._rows("SELECT COUNT(*) FROM job WHERE ended IS NOT NULL")[0][0])

    def _rows(self, query: str) -> list[tuple]:
        for _ in range(100):
            with suppress(sqlite3.OperationalError):  # the file is made, or recovered
                connection = sqlite3.connect(f"file:{self.data / 'queue.sqlite'}?mode=ro", uri=True, timeout=30)
                try:
                    return connection.execute(query).fetchall()
                finally:
                    connection.close()
            time.sleep(0.1)
        raise RuntimeError("the queue cannot be read")

    def _wait(self, met) -> bool:
        """Wait until something is met; False when nothing has changed for too long."""
        last, since = -1, time.monotonic()
        while not met():
            if (now := self._ended()) != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                return False
            time.sleep(0.05)
        return True


if __name__ == "__main__":
    sys.exit(main())
