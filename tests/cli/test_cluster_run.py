"""What is said about a run on a cluster."""

from __future__ import annotations

from collections import Counter

import pytest

from attunet.cli import cluster_run
from attunet.cli.cluster_run import ClusterDisplay, describe_progress
from attunet.cli.console import progress_bar
from attunet.cluster.prediction import RunProgress
from attunet.cluster.tasks import TaskEvent


@pytest.mark.parametrize(
    ("progress", "seconds", "text"),
    [
        (RunProgress(total=10), 5, "0 of 10 cases, 0.0 a minute"),
        (
            RunProgress(total=10, done=4, failed=1, share=0.25),
            60,
            "5 of 10 cases, 5.0 a minute, 3 min 0 s left, 1 failed",
        ),
        (RunProgress(total=10, done=1, share=0.001), 60, "1 of 10 cases, 1.0 a minute, 16 h 39 min left"),
        (RunProgress(total=10, done=10, share=1.0), 30, "10 of 10 cases, 20.0 a minute"),
    ],
)
def test_progress_in_words(progress, seconds, text):
    assert describe_progress(progress, seconds) == text


def test_without_a_terminal_there_are_lines_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(cluster_run, "PAUSE", 0.0)
    progress = RunProgress(total=4, done=3, share=0.75, by_node=Counter({"b": 1, "a": 2}), running=Counter({"a": 1}))
    with progress_bar() as bars:
        display = ClusterDisplay(bars)
        display.on_event(TaskEvent(kind="done", task="x", node="a"), progress)
        display.on_event(TaskEvent(kind="lost", task="y", node="b", tries=2, reason="killed by signal 9"), progress)
    told = capsys.readouterr().err
    assert "3 of 4 cases" in told
    assert "by node: a 2, b 1" in told
    assert "y: try 2 was lost on b: killed by signal 9" in told
