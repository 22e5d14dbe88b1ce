"""Options of a cluster mean something only with one, and Ctrl-C drains."""

from __future__ import annotations

import os
import signal

import click
import pytest
import typer

from attunet.cli.cluster_options import draining, parse_workers
from attunet.cli.places import input_places
from attunet.errors import ConfigError

NONE = (None, None, None, None)


def test_without_a_cluster_there_are_no_workers():
    assert parse_workers("local", *NONE) is None


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (("auto", None, None, None), "--address"),
        ((None, 2, None, None), "--workers"),
        ((None, None, 2, None), "--cpus-per-worker"),
        ((None, None, None, 1.0), "--gpus-per-worker"),
    ],
)
def test_an_option_of_a_cluster_without_one_is_refused(given, option):
    with pytest.raises(ConfigError, match=option) as refused:
        parse_workers("local", *given)
    assert "--engine ray" in refused.value.hint


def test_workers_are_as_asked():
    workers = parse_workers("ray", "host:6379", 3, 2, 0.5)
    assert (workers.address, workers.workers, workers.cpus, workers.gpus) == ("host:6379", 3, 2, 0.5)
    assert parse_workers("ray", *NONE).cpus == 1


def test_a_study_of_a_dicomweb_service_is_not_left_to_nodes_that_do_not_see_it():
    context = typer.Context(click.Command("predict"))
    with pytest.raises(ConfigError, match="nodes of the cluster host:6379") as refused:
        input_places(context, ["dicomweb://127.0.0.1:1/dicom-web/studies/1.2.3"], None, cluster="host:6379")
    assert "--address" in refused.value.hint


def test_the_first_interrupt_drains_and_the_second_stops(capsys):
    before = signal.getsignal(signal.SIGINT)

    def interrupt_twice():
        with draining() as cancelled:
            os.kill(os.getpid(), signal.SIGINT)
            assert cancelled.is_set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert "nothing new is started" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
