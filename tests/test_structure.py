"""The shape of the house: which way imports go, who may do I/O, how big things get, what is exported."""

import ast
import graphlib
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "paystack_source"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
SCRIPTS = sorted((ROOT / "pipelines").glob("*.py"))

# What every part may use, and what uses no other part.
FOUNDATION = {"customer", "errors", "values"}

# Arrows run one way: pipelines -> source, bulk -> extract -> api (docs/architecture.md).
MAY_USE = {
    **{name: set() for name in FOUNDATION},
    "api": {"settings"},
    "settings": {"api"},
    "extract": {"api", "settings"},
    "progress": set(),
    "failures": {"api"},
    "bulk": {"api", "failures", "place", "progress", "settings"},
    "frames": {"api", "bulk", "progress", "warehouse"},
    "helpers": {"api", "frames"},
    "sandbox": set(),
    # what a warehouse holds, in dlt's words
    "place": set(),
    "alone": set(),
    "pending": set(),
    "lake": set(),
    "destinations": {"lake"},
    "warehouse": {"destinations", "extract", "lake", "mirror", "place"},
    "details": {"api", "destinations", "extract", "warehouse"},
    "history": {"destinations", "extract", "warehouse"},
    "source": {"api", "destinations", "details", "extract", "history", "settings", "warehouse"},
    "mirror": {
        "alone",
        "api",
        "destinations",
        "details",
        "extract",
        "history",
        "pending",
        "place",
        "source",
        "warehouse",
    },
    # what people see
    "cli": {"api", "bulk", "failures", "place", "progress", "sandbox", "warehouse"},
    "__init__": {"api", "helpers", "source"},
}

# Third parties that a part must not know, and why it would be wrong if it did.
FORBIDDEN = {
    "api": {"dlt", "pandas", "pyarrow", "duckdb", "polars", "aiohttp", "requests", "rich", "click"},
    "extract": {"dlt", "pandas", "aiohttp", "rich", "click"},
    "sandbox": {"dlt", "pandas", "pyarrow", "duckdb", "urllib3", "rich"},
    "bulk": {"aiohttp", "rich", "click", "requests", "urllib3"},
    "cli": {"dlt", "duckdb", "pandas", "pyarrow", "urllib3"},
}

# Functions of values: what they may not import, because it reaches out of the process.
PURE = [
    "customer.py",
    "values.py",
    "extract/windows.py",
    "bulk/run/states.py",
    "failures.py",
    "errors.py",
    "api/records.py",
]
REACHES_OUT = {
    "duckdb",
    "os",
    "pathlib",
    "random",
    "requests",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib3",
}


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def part(path):
    """`api`, `extract`, … for a module in a folder of the package; its own name for one at the top."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path):
    """Every module name that `path` imports, at any depth, relative ones resolved."""
    package = (
        ["paystack_source", *path.relative_to(PACKAGE).parts[:-1]] if path.is_relative_to(PACKAGE) else []
    )
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def used_parts(path):
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] == "paystack_source" and len(pieces) > 1 and pieces[1] in MAY_USE:
            yield pieces[1]


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_imports_run_one_way(path):
    own = part(path)
    assert own in MAY_USE, f"{own} has no place in the house yet: say in MAY_USE what it may use"
    wrong = set(used_parts(path)) - MAY_USE[own] - {own} - (FOUNDATION if own not in FOUNDATION else set())
    assert not wrong, f"{own} must not know {sorted(wrong)}"


def test_no_file_imports_itself_by_a_detour():
    """At run time; what only the type checker imports is not counted."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}

    def at_run_time(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        yield node
        for child in ast.iter_child_nodes(node):
            yield from at_run_time(child)

    graph = {}
    for name, path in names.items():
        found = [node for node in at_run_time(tree(path)) if isinstance(node, ast.ImportFrom)]
        wanted = {f"{node.module}.{alias.name}" for node in found for alias in node.names}
        graph[name] = (wanted | {node.module for node in found}) & names.keys() - {name}
    graphlib.TopologicalSorter(graph).prepare()


TRADES = [path for path in MODULES if part(path) in FORBIDDEN]


@pytest.mark.parametrize("path", TRADES, ids=ids(TRADES))
def test_a_part_knows_only_the_libraries_of_its_trade(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & FORBIDDEN[part(path)]


@pytest.mark.parametrize("name", PURE)
def test_what_is_called_pure_reaches_nothing(name):
    path = PACKAGE / name
    if not path.exists():
        pytest.fail(f"{name} is gone; if it was renamed, rename it here")
    used = {module.split(".")[0] for module in imports(path)} | {
        module for module in imports(path) if module.startswith("paystack_source.api.transport")
    }
    assert not used & REACHES_OUT
    calls = {
        node.func.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=ids(MODULES + SCRIPTS))
def test_a_module_says_what_it_is_for_and_stays_readable(path):
    text = path.read_text(encoding="utf-8")
    # An empty file only marks a package.
    assert ast.get_docstring(tree(path)) or not text.strip(), "its first lines say what it is for"
    lines = len(text.splitlines())
    assert lines <= 450, f"{lines} lines: past 400 is a smell, past 450 it is cut in two"


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=ids(MODULES + SCRIPTS))
def test_a_function_fits_on_a_screen(path):
    long = {
        node.name: node.end_lineno - node.body[0].lineno + 1
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.body[0].lineno + 1 > 50
    }
    assert not long, f"past 40 lines is a smell, past 50 it is cut: {long}"


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_nothing_prints_behind_the_terminals_back(path):
    if part(path) == "sandbox" and path.name == "__main__.py":
        return  # its own command line
    calls = {
        node.func.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in calls


def test_the_package_exports_what_the_design_promises_and_no_more():
    package = importlib.import_module("paystack_source")
    promised = {
        "AlreadyRunningError",
        "BulkResult",
        "IdentificationType",
        "NotCompleteError",
        "PaystackClient",
        "PaystackSourceError",
        "RiskAction",
        "bulk_create",
        "bulk_deactivate_authorization",
        "bulk_set_risk_action",
        "bulk_update",
        "bulk_validate",
        "paystack_source",
    }
    errors = importlib.import_module("paystack_source.errors")
    tree_names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PaystackError)
    }
    assert set(package.__all__) == promised | tree_names
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        package.no_such_name  # noqa: B018


# Raised and caught inside; nobody outside sees them.
SIGNALS = {"FiltersIgnoredError", "IllegalEventError", "NoTotalError", "NotAnObjectError"}


def test_all_errors_are_in_one_tree():
    errors = importlib.import_module("paystack_source.errors")
    known = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert all(issubclass(value, errors.PaystackSourceError) for value in known.values())
    elsewhere = {
        node.name
        for path in MODULES
        if part(path) not in {"errors", "sandbox"}
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        for base in map(ast.unparse, node.bases)
        if base in known or base.endswith(("Error", "Exception"))
    }
    assert elsewhere <= SIGNALS


def test_importing_the_package_is_quick_because_it_loads_nothing_heavy():
    heavy = "{'dlt', 'pandas', 'pyarrow', 'duckdb', 'urllib3', 'aiohttp', 'rich'}"
    code = f"import sys, paystack_source; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"


def test_type_checkers_are_told():
    assert (PACKAGE / "py.typed").exists()
