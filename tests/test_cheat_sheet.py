"""The cheat sheet: its calls run, its brackets cost what it says, and it fits one page."""

import re
from html import unescape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from browser import chromium

import course_lib
from course_lib import diagnostics, panel, plots, reshape

SHEET = Path(__file__).resolve().parent.parent / "chapters" / "_book" / "cheat_sheet.html"
TEXT = SHEET.read_text(encoding="utf-8")
CALLS = [unescape(code) for code in re.findall(r'<code class="call">(.+?)</code>', TEXT)]
IMPORTS = re.findall(r"from (course_lib[.\w]*) import ([\w, ]+)", TEXT)
BRACKETS = re.findall(r'<tr><td><code>(.+?)</code><td>.+?<td class="number">(\d)', TEXT)
LONG = {'lr_test(small, large, "bootstrap", rng=rng)': "n_sim=20, progress=False"}


@pytest.fixture(scope="module")
def names():
    """What the sheet says that its calls are made of, for the sleep study."""
    renamed = {"Reaction": "y", "Days": "x", "Subject": "g"}
    data = course_lib.load("sleepstudy").rename(columns=renamed)
    data["t"] = data["x"]
    data["x"] += data.groupby("g").ngroup() % 3  # so that it varies between groups as well
    modules = (course_lib, diagnostics, panel, reshape)
    found = {name: value for module in modules for name, value in vars(module).items()}
    fit = course_lib.lmer("y ~ x + (x | g)", data)
    found |= {"plots": plots, "data": data, "new": data.head(3), "x": data["x"], "g": data["g"]}
    found |= {"fit": fit, "large": fit, "b": fit.random_effects["g"]}
    found |= {name: course_lib.lmer(f, data) for name, f in SMALLER.items()}
    return found | {"rng": np.random.default_rng(1), "ax": plt.subplots()[1]}


SMALLER = {"small": "y ~ x + (1 | g)", "empty": "y ~ 1 + (1 | g)"}


@pytest.mark.parametrize("call", dict.fromkeys(CALLS))
def test_call_runs(call, names):
    code = call.removeprefix("b = ").replace("199, rng", "19, rng")
    if call in LONG:
        code = f"{code[:-1]}, {LONG[call]})"
    assert eval(code, dict(names)) is not None


def test_calls_are_found():
    assert len(set(CALLS)) > 25


def test_imports_are_right():
    assert len(IMPORTS) >= 4
    for module, imported in IMPORTS:
        exec(f"from {module} import {imported.strip(' ,') or '*'}", {})


def test_within_and_between_have_these_names(names):
    parts = reshape.within_between(names["data"], "x", by="g")
    assert {"x_within", "x_between"} <= {*parts.columns}


@pytest.mark.parametrize(("bracket", "told"), BRACKETS)
def test_brackets_cost_what_the_sheet_says(bracket, told):
    rng = np.random.default_rng(20)
    size = 12, 6, 8  # units of a, of b within each, rows
    a, b, _ = (index.ravel() for index in np.indices(size))
    x = rng.uniform(-2, 2, a.size)
    y = rng.normal(size=a.size)
    for unit in (a, b, a * size[1] + b):
        for column in (1, x, x**2):
            y += rng.normal(size=unit.max() + 1)[unit] * column
    labels = {"a": a.astype(str), "b": b.astype(str), "g": a.astype(str)}
    fit = course_lib.lmer(
        f"y ~ x + I(x**2) + {bracket}", pd.DataFrame({"y": y, "x": x, **labels})
    )
    assert fit.npar - len(fit.fe_params) - 1 == int(told)


def test_all_brackets_are_counted():
    assert len(BRACKETS) == 8


@pytest.mark.slow
def test_sheet_fits_one_page():
    with chromium() as browser:
        page = browser.new_page()
        page.goto(SHEET.as_uri())
        printed = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type /Page\b", printed)) == 1
