"""Values show themselves in a notebook after one import, and nothing is drawn or loaded before."""

import subprocess
import sys

import pytest

from attunet.display import decimals

CODE = """
import sys
import numpy as np
from attunet import Volume

volume = Volume(np.zeros((1, 4, 4, 1)), np.eye(4))
assert not {"matplotlib", "attunet.report"} & set(sys.modules)
figure = volume.show()
assert figure._repr_png_().startswith(b"\\x89PNG")
assert "data:image/png;base64," in volume._repr_html_()
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""


def test_a_volume_alone_is_enough_and_matplotlib_comes_when_it_is_shown():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.125, "0.12"), (-0.0041, "-0.0041"), (6.5e-5, "6.5e-05"), (float("nan"), "nan")],
)
def test_a_value_never_reads_0_unless_it_is(value, text):
    assert decimals(value, 2) == text
