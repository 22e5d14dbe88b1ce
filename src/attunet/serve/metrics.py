"""What the server counts, in the format of Prometheus, without anything that clients chose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from attunet.errors import DatasetError
from attunet.serve.jobs import JobQueue
from attunet.serve.records import ENDED

__all__ = ["ServerMetrics"]

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class ServerMetrics:
    """Counters of one server. Args: its queue, from which the numbers of jobs in each state are read."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue, self._registry = queue, CollectorRegistry()
        self._requests = Counter(
            "attunet_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._ended = Counter("attunet_jobs_ended", "Jobs ended.", ("state", "model"), registry=self._registry)
        self._seconds = Histogram(
            "attunet_job_seconds",
            "Time of a job from its start.",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._waited = Histogram(
            "attunet_job_wait_seconds", "Time that a job waited.", buckets=_SECONDS, registry=self._registry
        )
        self._uploads = Counter("attunet_upload_bytes", "Bytes of uploaded scans.", registry=self._registry)
        self._states = Gauge("attunet_jobs", "Jobs in each state.", ("state",), registry=self._registry)
        self._bytes = Gauge("attunet_stored_bytes", "Bytes of uploads and results.", registry=self._registry)

    def answered(self, method: str, route: str, status: int) -> None:
        """Count an answer.

        Args:
            method: the method.
            route: the route, which is not the path.
            status: the status.
        """
        self._requests.labels(method, route, str(status)).inc()

    def uploaded(self, size: int) -> None:
        """Count the bytes of a scan."""
        self._uploads.inc(size)

    def ended(self, key: str) -> None:
        """Count a job that ended; one that was deleted at once is not counted."""
        try:
            job = self._queue.job(key)
        except DatasetError:
            return
        self._ended.labels(job.state if job.state in ENDED else "failed", job.model).inc()
        if job.started is not None and job.ended is not None:
            self._seconds.labels(job.model).observe(job.ended - job.started)
            self._waited.observe(max(0.0, job.started - job.created))

    def text(self) -> bytes:
        """All counters."""
        for state, count in self._queue.counts().items():
            self._states.labels(state).set(count)
        self._bytes.set(self._queue.bytes())
        return generate_latest(self._registry)
