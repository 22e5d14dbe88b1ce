import threading

import pytest

from attunet.training import ranks


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_process_leads(name, monkeypatch):
    for other in ranks._RANKS:
        monkeypatch.delenv(other, raising=False)
    assert ranks.leads()
    monkeypatch.setenv(name, "0")
    assert ranks.leads()
    monkeypatch.setenv(name, "3")
    assert not ranks.leads()


def test_the_others_wait(tmp_path):
    file = tmp_path / "plan.json"
    timer = threading.Timer(0.3, file.touch)
    timer.start()
    ranks.wait_for(file.exists)
    assert file.exists()
    timer.join()
