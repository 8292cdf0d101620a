"""Docstrings of public functions: every example is true, and each leads on to others."""

import doctest
import importlib
import inspect
import pkgutil

import matplotlib.pyplot as plt
import pytest

import course_lib

MODULES = [
    found.name
    for found in pkgutil.walk_packages(course_lib.__path__, "course_lib.")
    if not found.ispkg and ".exercises.chapter_" not in found.name
]
DOORS = ["", *(f".{m.name}" for m in pkgutil.iter_modules(course_lib.__path__))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert results.failed == 0


def public_functions():
    """Functions that the doors show, but for the leaf checks of `errors`."""
    found = {}
    for door in DOORS:
        module = importlib.import_module(f"course_lib{door}")
        for name in getattr(module, "__all__", ()):
            if inspect.isfunction(getattr(module, name)):
                found[name] = getattr(module, name)
    return found


@pytest.mark.parametrize("name", sorted(set(public_functions()) - {"judge"}))
def test_public_functions_have_an_example_and_lead_on(name):
    text = inspect.getdoc(public_functions()[name])
    assert "Examples\n--------\n>>> " in text
    assert "See Also\n--------\n" in text
    assert text.count(">>> ") > 0
