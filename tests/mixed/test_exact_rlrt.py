"""The exact restricted likelihood-ratio test, against RLRsim and the F test."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as f_distribution

from course_lib import load
from course_lib.errors import CourseError
from course_lib.mixed.compare import _eigenvalues, exact_rlrt, restricted_null
from course_lib.mixed.result import lmer

REFERENCE = Path(__file__).parents[1] / "reference" / "compare.json"
VALUES = json.loads(REFERENCE.read_text(encoding="utf-8"))["exact"]
N_SIM = 20_000
SLEEP_GAPS = np.r_[0:7, 14:19, 30:33, 49:58, 99, 119:125, 150, 159:166]
PASTES_GAPS = np.r_[0:5, 7, 8, 13, 19, 24, 25, 30:34, 46, 54, 59]


def data_of(name):
    if name == "penicillin_plates":
        return load("penicillin").query("sample in ['A', 'F']")
    if name == "pastes_half":
        return load("pastes").iloc[1::2]
    if name == "pastes_gaps":
        return load("pastes").drop(index=PASTES_GAPS)
    if name == "sleepstudy_slope":
        return load("sleepstudy").drop(index=SLEEP_GAPS)
    return load(name)


def binomial_error(*samples):
    """Standard error of the difference of proportions: pairs of share and size."""
    return np.sqrt(sum(max(p * (1 - p), 1 / n) / n for p, n in samples))


@pytest.mark.parametrize("case", VALUES, ids=lambda case: case["data"])
def test_agrees_with_rlrsim(case):
    fit = lmer(case["formula"], data_of(case["data"]))
    test = exact_rlrt(fit, N_SIM, np.random.default_rng(4))
    # lme4's optimum is within 1e-8; RLRsim takes differences of two log-likelihoods.
    assert test.statistic == pytest.approx(case["statistic"], abs=1e-6)
    # RLRsim takes rounding error for a positive statistic: 5.7e-14 for dyestuff2, p .44.
    p = case["p"] if test.statistic > 0 else 1.0
    error = binomial_error((test.pvalue, N_SIM), (p, case["n_sim"]))
    assert abs(test.pvalue - p) < 3 * error
    for p, quantile in zip(case["probs"], case["quantiles"], strict=True):
        share = (test.simulated <= quantile + 1e-6).mean()
        assert abs(share - p) < 3.5 * binomial_error((p, N_SIM), (p, case["n_sim"]))


@pytest.mark.parametrize("groups", [3, 6, 20])
@pytest.mark.parametrize("size", [2, 5])
def test_balanced_one_way_layout_in_closed_form(groups, size):
    """All eigenvalues equal: the statistic is a function of F, and zero where F ≤ 1."""
    n = groups * size
    eigenvalues = np.append(np.full(groups - 1, float(size)), 0.0)
    draws = restricted_null(eigenvalues, n - 1, N_SIM, np.random.default_rng(8))
    between, within = groups - 1, n - groups
    zero = f_distribution.cdf(1, between, within)
    assert abs((draws == 0).mean() - zero) < 3.5 * binomial_error((zero, N_SIM))
    for F in (1.2, 2.0, 3.0, 5.0):
        # λ̂ = (F - 1) / size puts the criterion at its optimum.
        reached = (n - 1) * np.log((between * F + within) / (n - 1)) - between * np.log(F)
        p = f_distribution.sf(F, between, within)
        assert abs((draws >= reached).mean() - p) < 3.5 * binomial_error((p, N_SIM))


def test_p_value_of_dyestuff_is_that_of_the_f_test():
    data = load("dyestuff")
    groups = [group.to_numpy() for _, group in data.groupby("Batch")["Yield"]]
    between = 5 * np.var([group.mean() for group in groups], ddof=1)
    within = np.mean([group.var(ddof=1) for group in groups])
    F = between / within
    fit = lmer("Yield ~ 1 + (1|Batch)", data)
    test = exact_rlrt(fit, 100_000, np.random.default_rng(4))
    expected = 29 * np.log((5 * F + 24) / 29) - 5 * np.log(F)
    assert test.statistic == pytest.approx(expected, abs=1e-8)
    assert abs(test.pvalue - f_distribution.sf(F, 5, 24)) < 3 * test.pvalue_se
    assert (test.method, test.df, test.criterion) == ("exact", 1, "REML")


def test_variance_at_zero_has_statistic_zero_and_p_value_one():
    test = exact_rlrt(
        lmer("Yield ~ 1 + (1|Batch)", load("dyestuff2")), 500, np.random.default_rng(1)
    )
    assert (test.statistic, test.pvalue) == (0, 1)


def test_unequal_eigenvalues_against_a_fine_grid():
    """The supremum by brute force, with the same variates drawn again."""
    mu, n_sim, residual_df = np.array([0.5, 2.0, 7.0]), 300, 10
    draws = restricted_null(mu, residual_df, n_sim, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    squares, rest = rng.chisquare([1, 1, 1], (n_sim, 3)), rng.chisquare(7, n_sim)
    shrink = 1 / (1 + np.outer(np.concatenate([[0], np.geomspace(1e-6, 1e7, 20_000)]), mu))
    inside = squares @ shrink.T + rest[:, None]
    ratio = np.log((squares.sum(axis=1) + rest)[:, None] / inside)
    brute = (residual_df * ratio + np.log(shrink).sum(axis=1)).max(axis=1)
    # Steps of 0.15 % in λ leave the maximum within 1e-5.
    np.testing.assert_allclose(draws, brute, rtol=0, atol=1e-5)
    assert (draws >= brute - 1e-9).all()


def test_ml_fit_is_refitted_and_runs_repeat():
    data = load("sleepstudy")
    fits = [lmer("Reaction ~ Days + (1|Subject)", data, reml) for reml in (True, False)]
    reml, ml = (exact_rlrt(fit, 300, np.random.default_rng(2)) for fit in fits)
    assert ml.statistic == pytest.approx(reml.statistic, abs=1e-7)
    np.testing.assert_array_equal(ml.simulated, reml.simulated)
    assert "Refitted by REML" in ml.note
    assert "Refitted" not in reml.note


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(scale):
    data = load("sleepstudy").drop(index=SLEEP_GAPS)
    changed = data.assign(Days=scale * (data.Days + 3), Reaction=data.Reaction / scale)
    plain, other = (
        exact_rlrt(lmer("Reaction ~ Days + (1|Subject)", d), 200, np.random.default_rng(2))
        for d in (data, changed)
    )
    assert other.statistic == pytest.approx(plain.statistic, abs=1e-6)
    np.testing.assert_allclose(other.simulated, plain.simulated, atol=1e-6)


@pytest.mark.slow
def test_p_values_are_uniform_under_the_null():
    """An exact test holds its level: 1,000 data sets without group variance, unbalanced."""
    rng = np.random.default_rng(31)
    g = np.repeat(np.arange(6), [1, 2, 3, 4, 6, 9])
    data = pd.DataFrame({"g": g, "x": rng.normal(size=25), "y": rng.normal(size=25)})
    fit = lmer("y ~ x + (1|g)", data)
    null = exact_rlrt(fit, N_SIM, rng).simulated
    statistics = np.array(
        [exact_rlrt(fit.refit(rng.normal(size=25)), 1, rng).statistic for _ in range(1000)]
    )
    for level in (0.05, 0.2):
        rejected = (statistics > np.quantile(null, 1 - level)).mean()
        assert abs(rejected - level) < 3 * binomial_error((level, 1000), (level, N_SIM))


@pytest.mark.parametrize(
    "formula", ["Reaction ~ Days + (Days|Subject)", "Reaction ~ Days + (Days||Subject)"]
)
def test_more_than_one_variance(formula):
    fit = lmer(formula, load("sleepstudy"))
    with pytest.raises(CourseError, match="single variance component.*lr_test"):
        exact_rlrt(fit, 10, np.random.default_rng(1))


def test_bad_input():
    fit = lmer("Yield ~ 1 + (1|Batch)", load("dyestuff"))
    with pytest.raises(CourseError, match="fit: must be a model fitted by lmer"):
        exact_rlrt("Yield ~ 1 + (1|Batch)", 10, np.random.default_rng(1))
    with pytest.raises(CourseError, match="rng: must be a numpy.random.Generator"):
        exact_rlrt(fit, 10)
    with pytest.raises(CourseError, match="n_sim: must be a whole number"):
        exact_rlrt(fit, 0, np.random.default_rng(1))


def test_fixed_effects_cost_degrees_of_freedom():
    fit = lmer("Reaction ~ Days + (1 | Subject)", load("sleepstudy"))
    found = exact_rlrt(fit, n_sim=50, rng=np.random.default_rng(1)).simulated
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(found, restricted_null(_eigenvalues(fit), 180 - 2, 50, rng))
