"""What planted errors once slipped through, in the diagnostics and their neighbours."""

import numpy as np
import pandas as pd
import pytest

from course_lib import lmer, load
from course_lib.diagnostics import influence, sorted_modes
from course_lib.explain import counterfactual
from course_lib.reshape import variance_by_level


def test_influence_of_a_singular_fit_is_that_of_direct_refits():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(9), 7), "x": rng.normal(size=63)})
    data["y"] = 1 + data.x + rng.normal(size=63)
    fit = lmer("y ~ x + (x | g)", data)
    assert fit.is_singular
    table = influence(fit).drop(columns=["cooks_distance", "n_rows"])
    for level in range(9):
        part = lmer("y ~ x + (x | g)", data[data.g != level])
        changes = [part.fe_params - fit.fe_params, part.varcorr().vcov - fit.varcorr().vcov]
        # variances are known to the root of the deviance's 1e-12
        np.testing.assert_allclose(table.loc[level], np.concatenate(changes), atol=1e-5)


@pytest.mark.parametrize(("start", "kind", "end"), [(-3, "at most", -1), (2, "at most", 1)])
def test_counterfactual_of_a_curve_comes_from_its_own_side(start, kind, end):
    table = pd.DataFrame({"a": np.arange(-3.0, 4.0)})
    row = table[table["a"] == start]
    options = {"change": ["a"], "target_kind": kind}
    found = counterfactual(lambda rows: rows["a"] ** 2, row, table, 1.0, **options)
    assert found.changed["a"].item() == pytest.approx(end, abs=1e-6)


def test_a_column_of_zeros_varies_at_no_level():
    data = pd.DataFrame({"g": [0, 0, 1, 1], "x": [1.0, 2, 3, 5], "nil": 0.0})
    table = variance_by_level(data, ["x", "nil"], by="g").set_index("column")
    assert list(table.loc["nil", "varies_at"]) == ["neither", "neither"]
    assert (table.loc["nil", "variance"] == 0).all()
    assert table.loc["nil", "share"].isna().all()


def test_modes_are_sorted_term_by_term(sleep_fit):
    found = sorted_modes(sleep_fit)
    for at, term in ((slice(0, 18), 0), (slice(18, 36), 1)):
        modes = sleep_fit.random_effects["Subject"].iloc[:, term]
        assert np.corrcoef(found[at], np.sort(modes))[0, 1] > 0.99
        assert (np.diff(found[at]) >= 0).all()


def test_levels_of_random_effects_are_unique_with_two_factors():
    fit = lmer("strength ~ 1 + (1 | batch/cask)", load("pastes"))
    for frame in fit.random_effects.values():
        assert frame.index.is_unique
    assert fit.ngroups == {"cask:batch": 30, "batch": 10}
