"""The marks of the house's style that a machine can check."""

import ast
import importlib
import inspect
import statistics

LONGEST_FILE = 300
MEDIAN_FUNCTION = 12
LONG_FUNCTION = 45
NAMELESS_ROOMS = {"utils", "util", "common", "helpers", "helper", "misc"}


def trees(modules):
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}


def rank(name):
    """Constants, then classes, then the rest: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_every_module_names_what_it_offers(modules):
    for name, tree in trees(modules).items():
        defines_something = len(tree.body) > 1
        offered = getattr(importlib.import_module(name), "__all__", None)
        assert offered is not None or not defines_something, f"{name} has no __all__"
        if offered is not None:
            assert list(offered) == sorted(offered, key=rank), f"{name}.__all__ is not sorted"


def test_every_offered_name_exists_and_is_documented(modules):
    for name in modules:
        module = importlib.import_module(name)
        for offered in getattr(module, "__all__", ()):
            thing = getattr(module, offered)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert inspect.getdoc(thing), f"{name}.{offered} has no docstring"


def test_every_module_says_what_it_is_for(modules):
    assert not [name for name, tree in trees(modules).items() if not ast.get_docstring(tree)]


def test_files_are_small(modules):
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules.items()}
    assert not {name: size for name, size in sizes.items() if size > LONGEST_FILE}


def test_functions_are_short(modules):
    sizes = [
        node.end_lineno - node.lineno + 1
        for tree in trees(modules).values()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert statistics.median(sizes) <= MEDIAN_FUNCTION
    assert statistics.quantiles(sizes, n=20)[-1] <= LONG_FUNCTION


def test_nothing_lives_in_a_room_without_a_name(modules):
    assert not [name for name in modules if NAMELESS_ROOMS & set(name.split("."))]
