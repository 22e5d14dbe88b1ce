"""Kills at random moments do no harm: see chaos/run.py, chaos/node.py and chaos/cluster.py."""

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[1] / "chaos" / "run.py"
NODE = CHAOS.with_name("node.py")
CLUSTER = CHAOS.with_name("cluster.py")


@pytest.mark.slow
def test_kills_at_random_moments_do_no_harm():
    done = subprocess.run([sys.executable, CHAOS, "--kills", "8", "--seed", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no harm by 8 kills" in done.stdout


@pytest.mark.integration
def test_a_node_that_is_killed_at_any_of_its_steps_answers_each_study_once():
    words = [sys.executable, NODE, "--studies", "10", "--places", "--pacs", "process", "--stand-in"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 studies, 9 kills" in done.stdout
    assert "every study answered exactly once (10 of 10)" in done.stdout


@pytest.mark.slow
def test_a_node_that_is_killed_at_random_moments_answers_each_study_once():
    words = [sys.executable, NODE, "--studies", "40", "--kills", "8", "--stops", "2", "--pacs", "process", "--stand-in"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_nodes_and_drivers_of_a_cluster_die_and_each_scan_is_published_once(shared_data):
    pytest.importorskip("ray")
    words = [sys.executable, CLUSTER, "--scans", "24", "--data", shared_data]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "poison: failed after 3 tries" in done.stdout
    assert "no harm: every mask equals that of one machine, and was published once" in done.stdout
