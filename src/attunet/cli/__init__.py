"""The command line: one file per command; heavy modules are imported inside the command."""

from __future__ import annotations

import signal
import sys
import threading
from typing import NoReturn

import typer

from attunet.cli.console import fail, prepare_streams
from attunet.errors import AttunetError

__all__ = ["app", "main"]

app = typer.Typer(
    name="attunet",
    help="Segment medical images with the Attention U-Net, and see where it looks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register() -> None:
    """Add every command to the application, in the order of use."""
    from attunet.cli.benchmark import benchmark
    from attunet.cli.compare import compare
    from attunet.cli.convert import convert
    from attunet.cli.demo import demo
    from attunet.cli.dicom import dicom
    from attunet.cli.evaluate import evaluate
    from attunet.cli.explain import explain
    from attunet.cli.export import export
    from attunet.cli.info import info
    from attunet.cli.inspect import inspect
    from attunet.cli.plan import plan
    from attunet.cli.predict import predict
    from attunet.cli.select import select
    from attunet.cli.serve import serve
    from attunet.cli.train import train

    life = (demo, inspect, plan, train, predict, explain, evaluate, select, compare, convert, export, serve)
    for command in (*life, benchmark, info):
        app.command()(command)
    app.add_typer(dicom)


_INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def _stop_in_order() -> list[int]:
    """Let SIGTERM and the end of the terminal stop a command as Ctrl-C does; returns a list that will name the signal.

    A signal that is ignored already (nohup) stays so, and a second one does not disturb the first.
    """
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        for name in signals:
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    signals = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in signals if threading.current_thread() is threading.main_thread() else ():
        signal.signal(number, stop)
    return received


def main() -> NoReturn:
    """Entry point: 0 done, 1 done with problems, 2 bad usage or input, 130 interrupted, 143 ended by SIGTERM."""
    register()
    prepare_streams()
    received = _stop_in_order()
    try:
        app()
    except SystemExit as done:
        sys.exit(128 + received[0] if received and done.code == _INTERRUPTED else done.code)
    except AttunetError as error:
        fail(error.message, error.hint)
    except MemoryError:
        fail("out of memory", "use a smaller image, --size small, or a machine with more memory")
    except OSError as error:
        fail(
            f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            "no incomplete file was left",
        )
    sys.exit(2)
