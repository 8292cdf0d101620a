"""Fits that several rooms of the wing are tested with."""

import numpy as np
import pandas as pd
import pytest
from diagnostics_values import SLOPE

from course_lib import lmer, load


@pytest.fixture(scope="module")
def sleep():
    return load("sleepstudy")


@pytest.fixture(scope="module")
def sleep_fit(sleep):
    return lmer(SLOPE, sleep)


@pytest.fixture(scope="module")
def intercept_fit(sleep):
    return lmer("Reaction ~ Days + (1 | Subject)", sleep)


@pytest.fixture(scope="module")
def sparse_fit():
    """Two large crossed factors whose groups seldom meet."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"a": rng.integers(0, 130, 700), "b": rng.integers(0, 110, 700)})
    data["x"] = rng.standard_normal(700)
    effects = rng.standard_normal(130)[data.a] + rng.standard_normal(110)[data.b]
    data["y"] = data.x + effects + rng.standard_normal(700)
    fit = lmer("y ~ x + (1 | a) + (1 | b)", data)
    assert fit.standardised.products.levels[0].overlaps is not None
    return fit


@pytest.fixture(params=["correlated", "nested", "crossed", "sparse"])
def any_fit(request, sleep_fit, sparse_fit):
    fits = {
        "correlated": lambda: sleep_fit,
        "nested": lambda: lmer("strength ~ 1 + (1 | batch/cask)", load("pastes")),
        "crossed": lambda: lmer("diameter ~ 1 + (1|plate) + (1|sample)", load("penicillin")),
        "sparse": lambda: sparse_fit,
    }
    return fits[request.param]()
