"""The shape of the library: wings, rooms, and who may import whom; what is banned everywhere.

Each rule is a function of source text, so that the lower half of this file can show on a few
lines of bad source that the rule does find something.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "course_lib"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_AT_THE_TOP = 8  # files of course_lib/ itself

# A wing is a file at the top or a folder. It may import the wings named here and no other.
GROUND = {"errors"}
FIRST = {"datasets", "simulate", "reshape", "mixed", "plots"}
SECOND = {"panel", "diagnostics", "explain"}
WINGS = (
    {"errors": set()}
    | {wing: GROUND for wing in sorted(FIRST)}
    | {
        "panel": {"errors", "reshape", "mixed"},
        "diagnostics": {"errors", "mixed"},
        "explain": {"errors", "mixed"},
        "exercises": GROUND | FIRST | SECOND,
    }
)
MOST_FLOORS = 4

# The rooms of a folder, in the order in which data flow: each may import only those before it.
ROOMS = {
    "mixed": [
        "formula",
        "typed_frame",
        "design",
        "cross_products",
        "deviance",
        "scaling",
        "from_database",
        "search",
        "bootstrap",
        "prediction",
        "inference",
        "summary",
        "result",
        "compare",
        "ar1",
    ],
    "diagnostics": ["convergence", "residuals", "influence", "envelope", "variance_explained"],
    "explain": [
        "model",
        "surrogate",
        "shapley",
        "counterfactual",
        "enrichment",
        "grad_cam",
        "log",
    ],
    "plots": ["style", "groups", "estimates", "assumptions", "panel"],
    "exercises": [
        "checker",
        *(f"chapter_{k:02}" for k in range(1, 10)),
        "progress",
        "marking",
        "handout",
        "__main__",
    ],
}
# Imported by the wing that needs them, on use, and never by `import course_lib`.
HEAVY = ("linearmodels", "statsmodels", "shap", "sklearn", "seaborn", "matplotlib")


def package_imports(source):
    """Dotted names below course_lib that a module imports; type-only imports count."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package are absolute"
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in dotted]
        found |= {".".join(part[1:]) for part in parts if part[0] == "course_lib"}
    return found


def place(dotted):
    """Wing and room of a dotted name below course_lib: mixed.search.fit -> mixed, search."""
    wing, _, rest = dotted.partition(".")
    room = rest.partition(".")[0]
    return wing, room if room in ROOMS.get(wing, ()) else ""


def forbidden_imports(dotted, source):
    """What the module `dotted` imports from the package against the arrows."""
    wing, room = place(dotted)
    bad = set()
    for name in package_imports(source):
        other, other_room = place(name)
        if other != wing:
            ok = other in WINGS[wing]
        elif not room:
            ok = bool(other_room)  # a door shows its rooms
        else:
            order = ROOMS[wing]
            ok = other_room != "" and order.index(other_room) < order.index(room)
        if not ok:
            bad.add(name)
    return bad


def dotted_name(path):
    """mixed.search of course_lib/mixed/search.py; mixed of its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def floors(wings):
    """Number of floors on which wings stand that import only from floors above them."""
    depth, left = 0, dict(wings)
    while left:
        free = [wing for wing, uses in left.items() if not uses & set(left)]
        assert free, f"a circle among {sorted(left)}"
        left = {wing: uses for wing, uses in left.items() if wing not in free}
        depth += 1
    return depth


def calls_print(source):
    """Line numbers of print(...)."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]


def star_imports(source):
    """Line numbers of `from x import *`."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names)
    ]


def open_signatures(source):
    """Names of the functions that take **kwargs: callers cannot see what they may pass."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions) and node.args.kwarg is not None
    ]


def by_name(paths):
    return [pytest.param(path, id=dotted_name(path) or "course_lib") for path in paths]


@pytest.mark.parametrize(
    "path", by_name(p for p in MODULES if p.parent != PACKAGE or p.stem != "__init__")
)
def test_imports_follow_the_arrows(path):
    name = dotted_name(path)
    wing, room = place(name)
    assert wing in WINGS, "a new wing needs its line in WINGS and in the design"
    assert room or name == wing, "a new room needs its place in ROOMS and in the design"
    assert forbidden_imports(name, path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("path", by_name(MODULES))
def test_file_keeps_the_rules(path):
    source = path.read_text(encoding="utf-8")
    assert calls_print(source) == []
    assert star_imports(source) == []
    assert open_signatures(source) == []


def test_wings_stand_on_few_floors():
    assert floors(WINGS) <= MOST_FLOORS


def test_every_room_exists_once():
    for wing, rooms in ROOMS.items():
        there = {path.stem for path in (PACKAGE / wing).glob("*.py")} - {"__init__"}
        assert there <= set(rooms)
    assert all(wing in WINGS for wing in ROOMS)


def test_few_files_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP


def test_there_is_no_utils_module():
    banned = {"utils", "util", "helpers", "misc", "common"}
    assert {path.stem for path in PACKAGE.rglob("*.py")} & banned == set()


def test_package_docstring_is_the_map():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    assert [wing for wing in WINGS if wing not in docstring] == []


DOORS = ["", *(wing for wing in WINGS if wing != "errors")]


@pytest.mark.parametrize("door", DOORS)
def test_public_names_are_explicit_and_exist(door):
    module = importlib.import_module(f"course_lib.{door}" if door else "course_lib")
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_importing_the_package_loads_no_heavy_library():
    code = f"import sys, course_lib; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


# The rules themselves, on source that breaks them.


@pytest.mark.parametrize(
    "line",
    [
        "from course_lib.panel import hausman",
        "from course_lib import panel",
        "import course_lib.panel",
        "def late():\n    from course_lib.panel import hausman",
        "if TYPE_CHECKING:\n    from course_lib.panel import hausman",
    ],
)
def test_forbidden_import_is_found(line):
    assert len(forbidden_imports("diagnostics.residuals", line)) == 1
    assert forbidden_imports("exercises.chapter_02", line) == set()


def test_a_room_imports_only_earlier_rooms():
    source = "from course_lib.mixed.search import estimate"
    assert forbidden_imports("mixed.scaling", source) == {"mixed.search.estimate"}
    assert forbidden_imports("mixed.result", source) == set()
    assert forbidden_imports("mixed", source) == set()
    assert forbidden_imports("mixed.result", "from course_lib.mixed import lmer") != set()


def test_import_of_the_package_itself_is_forbidden():
    assert forbidden_imports("mixed.compare", "import course_lib") == {""}
    assert forbidden_imports("mixed.compare", "from course_lib import lmer") == {"lmer"}


def test_imports_of_other_libraries_are_free():
    source = "import numpy as np\nfrom scipy.optimize import minimize"
    assert forbidden_imports("errors", source) == set()


def test_circle_and_floors_are_found():
    assert floors({"a": set(), "b": {"a"}, "c": {"a"}}) == 2
    with pytest.raises(AssertionError, match="circle"):
        floors({"a": {"b"}, "b": {"a"}})


def test_banned_constructs_are_found():
    assert calls_print("x = 1\nprint(x)") == [2]
    assert star_imports("from numpy import *") == [1]
    assert open_signatures("def f(a, **options):\n    return g(**options)") == ["f"]
    assert open_signatures("def f(a):\n    return g(**a)") == []
