"""What is exported answers as the network at every size that it admits, and refuses all others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attunet.export.formats import FORMATS
from attunet.export.monai_bundle import JoinedNetworks, write_script

EVERY, LIGHT = ("openvino", "onnx", "torch", "script"), ("openvino", "script")
CASES = [(2, (16, 12, 1), EVERY), (2, (15, 12, 1), LIGHT), (2, (4, 4, 1), LIGHT), (3, (8, 12, 8), LIGHT)]
CASES += [(3, (9, 8, 4), LIGHT)]


def program(path):
    module = torch.export.load(path).module()
    return lambda image: module(image)["logits"]


def onnx(path):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, settings)
    return lambda image: torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])


def openvino(path):
    import openvino as ov

    graph = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: torch.from_numpy(graph(image.numpy())["logits"])


READERS = {"openvino": openvino, "onnx": onnx, "torch": program, "script": torch.jit.load}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("form", "dims", "patch"), [(form, dims, patch) for dims, patch, forms in CASES for form in forms]
)
def test_an_export_answers_as_the_network_or_refuses(form, dims, patch, make_plan_of, make_network, tmp_path):
    plan = make_plan_of(dims).model_copy(update={"patch_size": patch})
    network, path = make_network(plan), tmp_path / "model.xml"
    if form == "script":
        write_script(JoinedNetworks([network], temperature=1.0, regions=False), plan, path)
    else:
        pytest.importorskip("onnxruntime")
        FORMATS[form].write(network, plan, path)
    run, patch = READERS[form](str(path)), patch[:dims]
    sizes = [tuple(edge + step for edge in patch) for step in (0, 1, -1, -3, 4, 8)]
    sizes += [(edge,) * dims for edge in (1, 2, 4, 8)] + [(32, *[4] * (dims - 1))]
    answered = []
    for size in dict.fromkeys(size for size in sizes if min(size) > 0):
        image = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.inference_mode():
                result = run(image)
        except Exception:  # each runtime has its own
            continue
        with torch.inference_mode():
            np.testing.assert_allclose(result, network(image), atol=1e-3, rtol=1e-3, err_msg=str(size))
        answered.append(size)
    assert answered[0] == patch
