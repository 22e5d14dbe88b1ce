"""A server in a process of its own, on loopback."""

import os
import signal
import subprocess
import sys
import time

import httpx

from attunet.serve import Client

PATIENCE = 90


class RunningServer:
    """A server, and how to talk to it."""

    def __init__(self, folder, models, *words, environment=None, place=None):
        self.folder, self.data, self.models, self._words = folder, folder / "data", models, words
        self._environment, self._place = environment or {}, place
        self.process = None
        self.start()

    def start(self):
        self._log = (self.folder / "log").open("a")
        named = [word for name, path in self.models.items() for word in ("-m", f"{name}={path}")]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "attunet",
                "serve",
                *named,
                "--port",
                "0",
                "--data",
                self.data,
                *map(str, self._words),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | self._environment,
            cwd=self._place,
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on"), self.log()
        self.url = line.split()[-1]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, verify=False).status_code == 200:
                    return self
            except httpx.HTTPError:
                assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(self.log())

    def log(self):
        return (self.folder / "log").read_text()

    def client(self, token=None, **how):
        return Client(self.url, token, **how)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.stdout.close()
        code = self.process.wait(PATIENCE)
        self._log.close()
        return code
