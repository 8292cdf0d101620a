"""Checks of convergence, against lme4, closed forms, and searches that were made to fail."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from course_lib import load
from course_lib.diagnostics import variance_parts
from course_lib.diagnostics.convergence import (
    OPTIMIZERS,
    all_optimizers,
    check_convergence,
    random_effects_pca,
)
from course_lib.errors import CourseError
from course_lib.mixed.deviance import deviance_and_gradient
from course_lib.mixed.result import lmer

REFERENCE = Path(__file__).parents[1] / "reference" / "diagnostics.json"
VALUES = json.loads(REFERENCE.read_text(encoding="utf-8"))

SLOPE = "Reaction ~ Days + (Days | Subject)"
MILLISECONDS = 86_400_000
# Our search stops within 1e-7 of the minimum of the deviance, lme4's at tight tolerance within
# 1e-9: θ may be off by 3e-4 of its standard error, which is below 1e-4 of θ itself here.
THETA = 1e-4
# Optimisers end within 1e-8 of the minimum where they do reach it.
CRITERION = 1e-6


@pytest.fixture(scope="module")
def sleep():
    return load("sleepstudy")


@pytest.fixture(scope="module")
def sleep_fit(sleep):
    return lmer(SLOPE, sleep)


@pytest.fixture(scope="module")
def proportional():
    """Slopes that are exactly half of the intercepts: a correlation of 1."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 8), "x": np.tile(np.arange(8.0), 20)})
    effect = 2 * rng.standard_normal(20)[data.g]
    data["y"] = 5 + data.x + effect * (1 + data.x / 2) + rng.standard_normal(160)
    return data


def failed(table):
    return list(table.index[table.verdict == "failed"])


# ---- against lme4 ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", VALUES["models"], ids=lambda c: f"{c['formula']}-{c['reml']}")
def test_singularity_and_components_agree_with_lme4(case):
    fit = lmer(case["formula"], load(case["data"]), case["reml"])
    checks = check_convergence(fit)
    singular = checks.loc["relative_theta", "verdict"] == "failed"
    assert singular == case["is_singular"] == fit.is_singular
    assert set(failed(checks)) <= {"relative_theta", "pca: Batch"}
    components = random_effects_pca(fit, scaled=False)
    for group, sd in case["pca"].items():
        ours = components.loc[components.group == group, "sd"].to_numpy()
        # absolutely for dyestuff2, where lme4 stops at 1.3e-9 and not at 0
        np.testing.assert_allclose(ours, sd, rtol=THETA, atol=1e-8)


@pytest.mark.parametrize("case", VALUES["all_fit"], ids=lambda c: c["data"])
def test_all_optimizers_reach_what_the_best_of_lme4s_reach(case):
    table = all_optimizers(case["formula"], load(case["data"]), case["reml"])
    best = min(case["criteria"].values())
    assert list(table.index) == list(OPTIMIZERS)
    np.testing.assert_allclose(table.deviance, best, rtol=0, atol=CRITERION)
    assert (table.above_best >= 0).all()
    assert table.above_best.min() == 0


def test_two_of_lme4s_optimizers_fail_on_orthodont():
    case = next(c for c in VALUES["all_fit"] if c["data"] == "orthodont")
    excess = pd.Series(case["criteria"]) - min(case["criteria"].values())
    assert set(excess.index[excess > 1]) == {"nlminbwrap", "nloptwrap.NLOPT_LN_NELDERMEAD"}


# ---- closed forms and invariance -------------------------------------------------------------


def test_squared_scaled_components_add_up_to_the_random_variance(sleep_fit):
    parts = variance_parts(sleep_fit)
    components = random_effects_pca(sleep_fit)
    total = parts["Subject"] / parts["Residual"]
    assert (components.sd**2).sum() == pytest.approx(total, rel=1e-12)
    assert components.share.sum() == pytest.approx(1, rel=1e-12)


def test_components_are_eigenvalues_of_cov_times_gram(sleep_fit):
    columns = sleep_fit.frame.factors[0].columns
    matrix = sleep_fit.cov_re["Subject"].to_numpy() @ columns.T @ columns / len(columns)
    eigenvalues = np.sort(np.linalg.eigvals(matrix).real)[::-1] / sleep_fit.scale
    sd = random_effects_pca(sleep_fit)["sd"]
    np.testing.assert_allclose(sd**2, eigenvalues, rtol=1e-10)


def test_checks_do_not_depend_on_units_or_origin(sleep, sleep_fit):
    moved = sleep.assign(Days=MILLISECONDS * (sleep.Days - 4.5), Reaction=sleep.Reaction / 1e3)
    other = lmer(SLOPE, moved)
    np.testing.assert_allclose(
        random_effects_pca(other).sd, random_effects_pca(sleep_fit).sd, rtol=THETA
    )
    both = pd.concat([check_convergence(fit).value for fit in (other, sleep_fit)], axis=1)
    # θ itself depends on the origin (rotated within its factor), its components do not
    kept = both.drop(index=["relative_theta", "scaled_gradient", "hessian"])
    np.testing.assert_allclose(kept.iloc[:, 0], kept.iloc[:, 1], rtol=THETA)
    assert failed(check_convergence(other)) == []
    # lme4's rePCA does depend on units
    assert random_effects_pca(other, scaled=False)["share"].iloc[1] < 1e-10


def test_all_optimizers_give_the_same_effects(sleep, sleep_fit):
    table = all_optimizers(SLOPE, sleep)
    # balanced data: the fixed effects do not depend on θ at all
    np.testing.assert_allclose(table.Days, sleep_fit.fe_params["Days"], rtol=1e-10)
    assert table.converged.all()
    without_gradient = table.loc[["Nelder-Mead", "Powell"], "n_evaluations"]
    assert without_gradient.min() > 3 * table.loc["L-BFGS-B", "n_evaluations"]


# ---- searches that went wrong ----------------------------------------------------------------


def test_good_fit_passes_everything(sleep_fit):
    table = check_convergence(sleep_fit)
    assert list(table.columns) == ["value", "threshold", "verdict", "advice"]
    assert failed(table) == []
    assert (table.advice == "").all()


def test_search_that_stopped_early_is_found(sleep_fit):
    optimum = sleep_fit.estimate.optimum
    moved = replace(optimum, theta=optimum.theta * 1.05)
    stopped = replace(sleep_fit, estimate=replace(sleep_fit.estimate, optimum=moved))
    table = check_convergence(stopped)
    assert failed(table) == ["scaled_gradient"]
    assert "all_optimizers" in table.loc["scaled_gradient", "advice"]


def test_scaled_gradient_tells_how_far_the_deviance_could_fall(sleep_fit):
    optimum = sleep_fit.estimate.optimum
    moved = replace(optimum, theta=optimum.theta + [1e-3, 0, 0])
    stopped = replace(sleep_fit, estimate=replace(sleep_fit.estimate, optimum=moved))
    products = stopped.standardised.products
    drop = deviance_and_gradient(moved.theta, products, True)[0] - optimum.deviance
    value = check_convergence(stopped).loc["scaled_gradient", "value"]
    # |H^(-1/2) g|² = 2 drop for a quadratic; its largest entry is at least 1/√3 of that norm
    assert np.sqrt(2 * drop / 3) * 0.99 < value < np.sqrt(2 * drop) * 1.01


def test_gradient_along_a_flat_direction_counts_as_it_stands(sleep_fit, monkeypatch):
    module = import_module("course_lib.diagnostics.convergence")
    slope = np.array([0.0, 0.0, 1e-6])
    monkeypatch.setattr(module, "_hessian", lambda *_: np.diag([1.0, 4.0, 1e-14]))
    monkeypatch.setattr(module, "deviance_and_gradient", lambda *_: (0.0, slope))
    table = check_convergence(sleep_fit)
    assert table.loc["scaled_gradient", "value"] == pytest.approx(1e-6)


def test_same_factor_twice_makes_the_hessian_flat(sleep):
    twice = sleep.assign(again=[f"s{level}" for level in sleep.Subject])
    fit = lmer("Reaction ~ Days + (1 | Subject) + (1 | again)", twice)
    table = check_convergence(fit)
    assert "hessian" in failed(table)
    assert abs(table.loc["hessian", "value"]) < 1e-6
    assert "flat" in table.loc["hessian", "advice"]


def test_correlation_of_one_is_found(proportional):
    fit = lmer("y ~ x + (x | g)", proportional)
    table = check_convergence(fit)
    assert set(failed(table)) == {"relative_theta", "pca: g"}
    assert random_effects_pca(fit).share.iloc[1] == pytest.approx(0, abs=1e-8)
    assert abs(fit.varcorr().sdcor[2]) == pytest.approx(1, abs=1e-6)


def test_zero_variance_has_no_shares():
    fit = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2"))
    assert random_effects_pca(fit).share.isna().all()


# ---- bad input -------------------------------------------------------------------------------


def test_not_a_fit_is_refused():
    with pytest.raises(CourseError, match="fit: must be a model fitted by lmer"):
        check_convergence(SLOPE)
    with pytest.raises(CourseError, match="fit: must be a model fitted by lmer"):
        random_effects_pca(None)


def test_unknown_options_are_refused(sleep, sleep_fit):
    with pytest.raises(CourseError, match="scaled: must be True or False"):
        random_effects_pca(sleep_fit, scaled="yes")
    with pytest.raises(CourseError, match="reml: must be True or False"):
        all_optimizers(SLOPE, sleep, reml=None)


@pytest.mark.parametrize(
    ("formula", "change", "match"),
    [
        ("Reaction ~ Hours + (1 | Subject)", {}, "'Hours', which is not one"),
        ("Reaction ~ Days", {}, "formula: "),
        (SLOPE, {"Days": 1.0}, "must not have a column that is a combination"),
        (SLOPE, {"Subject": "one"}, "at least two groups"),
        (SLOPE, {"Subject": range(180)}, "fewer groups than rows"),
        (SLOPE, {"Days": np.inf}, "finite numbers"),
        (SLOPE, {"Days": np.nan}, "at least one row without missing"),
    ],
)
def test_models_that_cannot_be_fitted_are_refused(sleep, formula, change, match):
    with pytest.raises(CourseError, match=match):
        all_optimizers(formula, sleep.assign(**change))


def test_data_that_are_no_frame_are_refused(sleep):
    with pytest.raises(CourseError, match="data: must be a pandas DataFrame"):
        all_optimizers(SLOPE, sleep.to_numpy())
    with pytest.raises(CourseError, match="data: must have at least one row"):
        all_optimizers(SLOPE, sleep.head(0))
