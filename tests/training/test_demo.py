"""The demonstration as a library call: its steps, and how it is cancelled."""

from __future__ import annotations

from threading import Event

import pytest

from attunet.errors import CancelledError, ConfigError
from attunet.training.demo import DemoCallbacks, DemoOptions, run_demo

SMALL = DemoOptions(max_time=1.0, cases=4, test_cases=1)


def test_it_is_cancelled_while_it_plans(tmp_path):
    cancelled, stages = Event(), []

    class CancelAtTheFirstCase(DemoCallbacks):
        def on_stage(self, number, text, folder):
            stages.append((number, text, folder))

        def on_case_planned(self):
            cancelled.set()

    with pytest.raises(CancelledError):
        run_demo(tmp_path, SMALL, callbacks=CancelAtTheFirstCase(), cancelled=cancelled)
    assert stages == [
        (1, "4 + 1 synthetic scans", tmp_path / "data"),
        (2, "training for 1 s", tmp_path / "model"),
    ]
    assert len(list((tmp_path / "data" / "imagesTr").iterdir())) == 4
    assert not (tmp_path / "masks").exists()


def test_folders_that_it_did_not_make_are_left_alone(tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(ConfigError, match="not made by the demo"):
        run_demo(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
