"""No file of a stranger runs code: the calls by which it could are not in the source, but for a few that are ours."""

import ast

import pytest

READERS = {
    "eval": "runs code",
    "exec": "runs code",
    "__import__": "runs code",
    "pickle.load": "unpickles",
    "pickle.loads": "unpickles",
    "pickle.Unpickler": "unpickles",
    "joblib.load": "unpickles",
    "dill.load": "unpickles",
    "cloudpickle.load": "unpickles",
    "shelve.open": "unpickles",
    "marshal.load": "runs code",
    "marshal.loads": "runs code",
    "runpy.run_path": "runs code",
    "yaml.load": "makes any object",
    "yaml.load_all": "makes any object",
    "yaml.unsafe_load": "makes any object",
    "yaml.full_load": "makes objects",
    "torch.export.load": "unpickles example inputs and constants",
    "torch.jit.load": "reads a stranger's program",
    "torch.package.PackageImporter": "runs code",
    "torch.hub.load": "downloads code",
    "torch.hub.load_state_dict_from_url": "downloads",
    "torch.classes.load_library": "loads a library",
    "torch.ops.load_library": "loads a library",
    "add_safe_globals": "lets pickles make more objects",
    "add_extension": "loads a library",
    "register_custom_ops_library": "loads a library",
    "ConfigParser": "MONAI evaluates its `$` expressions",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "load_file": "maps a safetensors file, which may shrink meanwhile",
}
"""Calls that no module may contain, by their last names, and what they do."""

OURS = {
    ("attunet.export.program", "torch.export.load"),
    ("attunet.export.monai_bundle", "torch.jit.load"),
}
"""Files that the same function has written a moment ago, into a folder of its own, to check them."""

REQUIRED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "np.savez": ("allow_pickle", False),
    "np.savez_compressed": ("allow_pickle", False),
}
"""Arguments that a call must have."""

MAPPING = {"np.memmap", "mmap.mmap", "open_memmap", "tifffile.memmap", "safe_open", "nibabel.load", "torch.from_file"}
"""Calls that map a file, or may."""

MAPPED = {"attunet.inference.buffers"}
"""Modules that may map files: buffers are unnamed, allocated files that no other program can shorten."""


def calls(tree):
    """The dotted name of every call, or of every decorator and argument that is one, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def dangerous(tree):
    """The forbidden calls of a module, also under a name that it imported."""
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for called, node in calls(tree):
        first, _, rest = called.partition(".")
        whole = ".".join(filter(None, (imported.get(first, first), rest)))
        for name in READERS:
            method = name in ("add_safe_globals", "add_extension", "register_custom_ops_library")
            if whole == name or (whole.endswith(f".{name}") and (method or "." in name or first in imported)):
                yield name, node.lineno


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("eval('1')", {"eval"}),
        ("net.eval()", set()),
        ("re.compile('a')", set()),
        ("import torch\ntorch.export.load(p)", {"torch.export.load"}),
        ("from torch.export import load\nload(p)", {"torch.export.load"}),
        ("from pickle import loads as get\nget(b)", {"pickle.loads"}),
        ("from monai.bundle import ConfigParser\nConfigParser(c)", {"ConfigParser"}),
        ("core.add_extension(p)", {"add_extension"}),
        ("import yaml\nyaml.safe_load(t)", set()),
    ],
)
def test_the_search_finds_what_it_should(code, found):
    assert {name for name, _ in dangerous(ast.parse(code))} == found


def test_no_reader_runs_code(trees):
    found = {(module, name) for module, tree in trees.items() for name, _ in dangerous(tree)}
    assert found - OURS == set(), {name: READERS[name] for _, name in found - OURS}
    assert found >= OURS, "an exception that is not needed any more"


def test_readers_refuse_pickles_by_name(trees):
    lacking = []
    for module, tree in trees.items():
        for called, node in calls(tree):
            if called in REQUIRED:
                name, value = REQUIRED[called]
                given = {word.arg: word.value for word in node.keywords}
                if not (isinstance(given.get(name), ast.Constant) and given[name].value is value):
                    lacking.append((module, node.lineno, called))
    assert not lacking


def test_no_process_is_started_through_a_shell(trees):
    for module, tree in trees.items():
        for called, node in calls(tree):
            assert not [word for word in node.keywords if word.arg == "shell"], f"{module}: {called}"


def is_off(value):
    return isinstance(value, ast.Constant) and value.value in (False, None)


def test_no_file_of_others_is_mapped(trees):
    """A file that becomes shorter while it is mapped ends the process with SIGBUS."""
    for module, tree in trees.items():
        for called, node in calls(tree):
            named = [word for word in node.keywords if word.arg in ("mmap", "mmap_mode") and not is_off(word.value)]
            opened = [ast.unparse(argument) for argument in node.args[:1]]
            by_name = called.endswith("Image.open") and opened == ["path"]  # Pillow maps a file that it opens itself
            mapping = called in MAPPING or named or by_name
            assert not mapping or module in MAPPED, f"{module}:{node.lineno}: {called}"
