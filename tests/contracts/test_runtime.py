"""The runtime knows no torch: a hospital server installs neither torch nor what comes with it."""

import json

RUNTIME = ("errors", "config", "bundle", "data", "planning", "evaluation", "inference", "report")
ABSENT = ("torch", "lightning", "monai", "blosc2")
TORCH_ENGINES = {"attunet.inference.torch_engine"}

BLOCKED_IMPORT = """
import importlib, json, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)

sys.meta_path.insert(0, Absent())
failed = {{}}
for name in {names}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""


def test_runtime_imports_where_torch_is_absent(modules, fresh_python):
    names = ["attunet"] + [
        name for name in modules if name.count(".") and name.split(".")[1] in RUNTIME and name not in TORCH_ENGINES
    ]
    assert fresh_python(BLOCKED_IMPORT.format(absent=json.dumps(ABSENT), names=json.dumps(names))) == {}


def test_every_command_is_offered_where_torch_is_absent(fresh_python):
    code = BLOCKED_IMPORT.format(absent=json.dumps(ABSENT), names=["attunet.cli"])
    assert fresh_python(code + "sys.modules['attunet.cli'].register()\nprint(json.dumps(failed))") == {}
