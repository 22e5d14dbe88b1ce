"""What the server counts."""

from attunet.serve.jobs import JobQueue
from attunet.serve.metrics import ServerMetrics


def test_answers_jobs_and_bytes_are_counted(tmp_path):
    queue = JobQueue(tmp_path / "queue.sqlite")
    metrics = ServerMetrics(queue)
    metrics.answered("GET", "/healthz", 200)
    metrics.uploaded(123)
    job = queue.submit("scan", "organs", {})
    queue.submit("scan", "organs", {})
    taken = queue.take("w")
    queue.finish(taken, "done", size=7)
    metrics.ended(job.id)
    text = metrics.text().decode()
    for line in (
        'attunet_requests_total{method="GET",route="/healthz",status="200"} 1.0',
        "attunet_upload_bytes_total 123.0",
        'attunet_jobs_ended_total{model="organs",state="done"} 1.0',
        'attunet_jobs{state="queued"} 1.0',
        "attunet_stored_bytes 7.0",
        'attunet_job_seconds_count{model="organs"} 1.0',
    ):
        assert line in text
    queue.close()


def test_a_job_that_was_deleted_at_once_is_no_fault(tmp_path):
    queue = JobQueue(tmp_path / "queue.sqlite")
    ServerMetrics(queue).ended("0" * 32)
    queue.close()
