"""The shape of the library: who may import whom, how large a file may grow, what is banned.

Each rule is a function of source text, so that the lower half of this file can show on a few
lines of bad source that the rule does find something.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "course_lib"
MODULES = sorted(PACKAGE.glob("*.py"))
EXERCISES = sorted((PACKAGE / "exercises").glob("*.py"))
MOST_LINES_A_FILE = 430
MOST_CODE_LINES = 5_500  # of the whole library, without exercises, docstrings and comments

# The arrows: a module may import these modules of the package and no other.
ARROWS = {
    "validate": set(),
    "datasets": {"validate"},
    "simulate": {"validate"},
    "waves": {"validate"},
    "nested": {"validate"},
    "reshape": {"validate", "waves", "nested"},
    "formula": {"validate"},
    "model_frame": {"formula", "validate"},
    # the engine, on arrays
    "cross_products": set(),
    "profiled_deviance": {"cross_products"},
    "standardise": {"cross_products", "profiled_deviance"},
    "estimate": {"cross_products", "profiled_deviance", "standardise"},
    "inference": {"cross_products", "profiled_deviance", "standardise", "estimate"},
    # the engine, with names
    "summary": set(),  # text and HTML of a fit
    "prediction": {"model_frame", "validate"},
    "intervals": {"standardise", "estimate", "inference", "prediction", "validate"},
    "to_statsmodels": {"model_frame", "validate"},
    "lmer": {
        "model_frame",
        "cross_products",
        "standardise",
        "estimate",
        "inference",
        "summary",
        "prediction",
        "intervals",
        "to_statsmodels",
        "validate",
    },
    # what is done with fits
    "refit_deviances": {"estimate", "standardise"},
    "nesting": {"lmer", "model_frame", "validate"},
    "compare": {"estimate", "lmer", "nesting", "refit_deviances", "validate"},
    "exact_test": {"compare", "estimate", "lmer", "profiled_deviance", "validate"},
    "panel": {"validate", "reshape"},
    "convergence": {
        "compare",
        "cross_products",
        "estimate",
        "lmer",
        "profiled_deviance",
        "validate",
    },
    "residuals": {"compare", "cross_products", "lmer", "profiled_deviance"},
    "influence": {
        "compare",
        "cross_products",
        "estimate",
        "inference",
        "lmer",
        "model_frame",
        "standardise",
        "validate",
    },
    "envelope": {"compare", "lmer", "residuals", "validate"},
    "diagnostics": {"compare", "envelope", "influence", "lmer", "residuals"},
    # explanations of any prediction
    "predictor": {"validate"},
    "explain": {"predictor", "validate"},
    "counterfactual": {"predictor", "validate"},
    "shapley_parts": set(),
    "gaussian_shap": {"shapley_parts", "validate"},
    "linear_shap": {"gaussian_shap", "shapley_parts", "validate"},
    "grad_cam": {"validate"},
    "explanation_log": {"validate"},
    "plot_parts": {"validate"},
    "fit_plots": {"plot_parts", "validate"},
    "plots": {"fit_plots", "plot_parts", "validate"},
}
# Imported by the module that needs them, when it is imported, and never by `import course_lib`.
HEAVY = ("linearmodels", "statsmodels", "shap", "sklearn", "seaborn")


def package_imports(source):
    """Names of the modules of course_lib that a module in course_lib/ imports.

    What stands under ``if TYPE_CHECKING`` is never imported and draws no arrow.
    """
    found = set()
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"course_lib.{node.module or ''}" if node.level else node.module
            base = base.rstrip(".")
            names = [alias.name for alias in node.names]
            dotted = [f"{base}.{name}" for name in names] if base == "course_lib" else [base]
        else:
            continue
        parts = [name.split(".") for name in dotted]
        found |= {(part + [""])[1] for part in parts if part[0] == "course_lib"}
    return found


def is_for_type_checkers(node):
    """Whether a statement is ``if TYPE_CHECKING: …``."""
    return isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"


def n_code_lines(source):
    """Lines with code on them: no blank lines, comments or docstrings."""
    tree, docstrings = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings |= set(range(first.lineno, first.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(
        1
        for i, line in lines
        if line.strip() and line.strip()[0] != "#" and i not in docstrings
    )


def forbidden_imports(module, source):
    """What `module` imports from the package against the arrows."""
    return package_imports(source) - ARROWS[module]


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


def n_lines(path):
    """Number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def by_name(paths):
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in paths]


@pytest.mark.parametrize("path", by_name(p for p in MODULES if p.stem != "__init__"))
def test_imports_follow_the_arrows(path):
    assert path.stem in ARROWS, "a new module needs its line in ARROWS and in the design"
    assert forbidden_imports(path.stem, path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("path", by_name(MODULES + EXERCISES))
def test_file_keeps_the_rules(path):
    source = path.read_text(encoding="utf-8")
    assert calls_print(source) == []
    assert star_imports(source) == []
    assert open_signatures(source) == []
    assert n_lines(path) <= MOST_LINES_A_FILE


def test_arrows_have_no_cycle():
    order = []
    while len(order) < len(ARROWS):
        free = [m for m in ARROWS if m not in order and ARROWS[m] <= set(order)]
        assert free, f"a cycle among {sorted(set(ARROWS) - set(order))}"
        order += free


def test_library_stays_small():
    sizes = [n_code_lines(path.read_text(encoding="utf-8")) for path in MODULES]
    assert sum(sizes) <= MOST_CODE_LINES


def test_there_is_no_utils_module():
    banned = {"utils", "util", "helpers", "misc", "common"}
    assert {path.stem for path in PACKAGE.rglob("*.py")} & banned == set()


def test_package_docstring_is_the_map():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    public = [path.stem for path in MODULES if path.stem != "__init__"]
    assert [name for name in public if name not in docstring] == []


def test_public_names_are_explicit_and_exist():
    import course_lib

    assert len(set(course_lib.__all__)) == len(course_lib.__all__) > 0
    assert [name for name in course_lib.__all__ if not hasattr(course_lib, name)] == []


def test_importing_the_package_loads_no_heavy_library():
    code = f"import sys, course_lib; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


# The rules themselves, on source that breaks them.


@pytest.mark.parametrize(
    "line",
    [
        "from course_lib.lmer import lmer",
        "from course_lib import lmer",
        "import course_lib.lmer",
        "from .lmer import lmer",
        "from . import lmer",
        "def late():\n    from course_lib.lmer import LmerResult",
    ],
)
def test_forbidden_import_is_found(line):
    assert forbidden_imports("validate", line) == {"lmer"}
    assert forbidden_imports("compare", line) == set()


def test_import_of_the_package_itself_is_forbidden():
    assert forbidden_imports("compare", "import course_lib") == {""}


def test_imports_of_other_libraries_are_free():
    source = "import numpy as np\nfrom scipy.optimize import minimize"
    assert forbidden_imports("validate", source) == set()


def test_banned_constructs_are_found():
    assert calls_print("x = 1\nprint(x)") == [2]
    assert star_imports("from numpy import *") == [1]
    assert open_signatures("def f(a, **options):\n    return g(**options)") == ["f"]
    assert open_signatures("def f(a):\n    return g(**a)") == []
