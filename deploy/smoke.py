"""Whether what trim.sh left still works: the libraries compute, decode, draw and start OpenVINO's CPU."""

import io

import numpy as np
import openvino
import SimpleITK
from matplotlib.figure import Figure
from scipy import ndimage, stats

from attunet.serve import ServeSettings, serve

assert openvino.Core().available_devices == ["CPU"]
assert np.linalg.inv(np.eye(3)).sum() == ndimage.gaussian_filter(np.eye(3), 0).sum() == 3
assert stats.t.cdf(0, 3) == 0.5
assert SimpleITK.GetImageFromArray(np.zeros((2, 3, 4))).GetSize() == (4, 3, 2)
assert callable(serve)
assert ServeSettings.__name__
for kind in ("png", "svg"):
    figure = Figure()
    figure.add_subplot().set_title("$x^2$ is written, too")
    figure.savefig(io.BytesIO(), format=kind)
