"""Whatever the described API is asked, the server makes no mistake."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers

ASKER = Path(__file__).parents[2] / "build" / "peers-schemathesis" / "bin" / "st"


def test_no_request_is_a_mistake_of_the_server(start_server, gated, tmp_path):
    if not ASKER.exists():
        pytest.skip("schemathesis is not installed: see tests/peers/install.sh")
    server = start_server({"organs": gated}, "--max-queue", 20)
    words = [
        "--phases",
        "coverage,fuzzing",
        "--checks",
        "not_a_server_error",
        "--max-examples",
        "8",
        "--max-failures",
        "5",
    ]
    # a stop in order is answered with 503 by readyz, and nothing else may be
    done = subprocess.run(
        [ASKER, "run", f"{server.url}/openapi.json", *words], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    told = done.stdout[-4000:]
    print(told)
    tested = re.search(r"Tested:\s+(\d+)", done.stdout)
    assert done.returncode == 0, told + server.log()[-2000:]
    assert tested is not None
    assert int(tested[1]) >= 30
    assert "Traceback" not in server.log()
    assert server.process.poll() is None
    server.stop()
