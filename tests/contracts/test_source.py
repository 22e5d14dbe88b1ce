"""The rules of style that a machine can check."""

import ast
import importlib
import inspect
import re
import statistics
from collections import defaultdict
from itertools import chain

LONGEST_FILE = 300
SMALL_FILE = 80
SMALL_FILES = 0.15  # largest share of the modules
LONG_FUNCTION = 45
MOST_POSITIONAL, MOST_PARAMETERS = 6, 12
NAMELESS_ROOMS = {"utils", "util", "common", "helpers", "helper", "misc"}
THE_SCHEMA = {"attunet.nn.network.AttentionUNet.__init__"}  # its arguments are the fields of NetworkConfig
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def rank(name):
    """Constants, then classes, then the rest: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def lengths(modules):
    return {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules.items()}


def parameters(function):
    arguments = function.args
    positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args) if one.arg not in ("self", "cls")]
    return positional, [one.arg for one in arguments.kwonlyargs]


def below(name, tree):
    """Every function of a module, with its dotted name."""
    for node in tree.body:
        if isinstance(node, FUNCTIONS):
            yield f"{name}.{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from below(f"{name}.{node.name}", node)


def test_every_module_names_what_it_offers(trees):
    for name, tree in trees.items():
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


def test_every_module_says_what_it_is_for(trees):
    assert not [name for name, tree in trees.items() if not ast.get_docstring(tree)]


def test_files_hold_one_whole_idea(modules):
    """Neither too much nor too little: a limit on size alone would reward splitting."""
    sizes = lengths(modules)
    assert not {name: size for name, size in sizes.items() if size > LONGEST_FILE}
    sizes = {name: size for name, size in sizes.items() if modules[name].name != "__init__.py"}
    small = {name: size for name, size in sizes.items() if size < SMALL_FILE}
    assert len(small) < SMALL_FILES * len(sizes), small


def test_functions_are_short(trees):
    nodes = chain.from_iterable(map(ast.walk, trees.values()))
    sizes = [node.end_lineno - node.lineno + 1 for node in nodes if isinstance(node, FUNCTIONS)]
    assert statistics.quantiles(sizes, n=20)[-1] <= LONG_FUNCTION


def test_functions_take_few_parameters(trees):
    """The command line's own functions aside: a flag each."""
    many = {}
    for name, tree in trees.items():
        if name.startswith("attunet.cli"):
            continue
        for function, node in below(name, tree):
            positional, keywords = parameters(node)
            if len(positional) > MOST_POSITIONAL or len(positional) + len(keywords) > MOST_PARAMETERS:
                many[function] = len(positional), len(keywords)
    assert many.keys() <= THE_SCHEMA


def test_no_two_things_have_one_name(trees):
    homes = defaultdict(set)
    for name, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")].add(name)
            elif isinstance(node, FUNCTIONS) and not node.name.startswith("_") and not name.startswith("attunet.cli"):
                homes[node.name].add(name)
    assert not {thing: places for thing, places in homes.items() if len(places) > 1}


def documented(docstring):
    """The names that have a line of their own under `Args:` or `Attributes:`."""
    parts = re.split(r"^\s*(Args|Attributes|Returns|Yields|Raises|Source):", docstring, flags=re.MULTILINE)
    blocks = [text for head, text in zip(parts[1::2], parts[2::2], strict=True) if head in ("Args", "Attributes")]
    lines = re.findall(r"^\s*(\*{0,2}\w+(?:, \*{0,2}\w+)*):", "\n".join(blocks), re.MULTILINE)
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def has(docstring, section):
    return re.search(rf"^\s*{section}:", docstring, re.MULTILINE) is not None


def raises_itself(node):
    """Whether its body raises one of our errors."""
    raised = [part.exc for part in ast.walk(node) if isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call)]
    return any(getattr(call.func, "id", "").endswith("Error") for call in raised)


def lacking(node):
    """What the docstring of a public function with three or more parameters does not say."""
    positional, keywords = parameters(node)
    docstring = ast.get_docstring(node) or ""
    if len(positional + keywords) < 3 or docstring.startswith("See `"):
        return []
    absent = [name for name in positional + keywords if name not in documented(docstring)]
    returns = node.returns is not None and not (isinstance(node.returns, ast.Constant) and node.returns.value is None)
    if returns and not has(docstring, "Returns") and not has(docstring, "Yields"):
        absent.append("Returns")
    if raises_itself(node) and not has(docstring, "Raises"):
        absent.append("Raises")
    return absent


def fields(node):
    """What a class is made from: the parameters of its __init__, or the fields of a dataclass or named tuple."""
    bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
    if "Settings" in bases:  # each field carries its own description
        return []
    for part in node.body:
        if isinstance(part, FUNCTIONS) and part.name == "__init__":
            positional, keywords = parameters(part)
            return positional + keywords
    if not node.decorator_list and "NamedTuple" not in bases:
        return []
    parts = [
        part for part in node.body if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.dump(part.annotation)
    ]
    return [part.target.id for part in parts if not part.target.id.startswith("_")]


def public_functions(name, tree):
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(f"{name}.{node.name}", node)
        elif isinstance(node, FUNCTIONS) and not node.name.startswith(("_", "on_")):  # on_: Lightning's hooks
            yield f"{name}.{node.name}", node


def test_docstrings_have_a_line_for_each_parameter(trees):
    silent = {}
    for name, tree in trees.items():
        if name.startswith("attunet.cli"):  # there each option carries its help
            continue
        silent |= {function: lacking(node) for function, node in public_functions(name, tree)}
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and len(fields(node)) >= 3:
                lines = documented(ast.get_docstring(node) or "")
                silent[f"{name}.{node.name}"] = [field for field in fields(node) if field not in lines]
    assert not {function: absent for function, absent in silent.items() if absent}


def imported(tree, names):
    """The modules of the package that a module imports: at its head, within functions and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in names else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_there_are_no_import_cycles(modules, trees):
    """Lazy imports and those for types count: they hide cycles, too."""
    graph = {
        name: {other for other in imported(tree, modules) if other in modules and other != name}
        for name, tree in trees.items()
        if name != "attunet"  # it exports names of all packages, imported on first use
    }
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    while roots := [name for name in graph if not any(name in others for others in graph.values())]:
        for name in roots:
            del graph[name]
    assert not graph, "these modules import each other in a cycle"


def test_nothing_lives_in_a_room_without_a_name(modules):
    assert not [name for name in modules if NAMELESS_ROOMS & set(name.split("."))]
