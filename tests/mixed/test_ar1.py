"""`fit_ar1` against nlme, against dense matrices, and under changes that must not matter."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from course_lib import CourseError, fit_ar1, lmer, load

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "reference" / "ar1.json").read_text(encoding="utf-8")
)


def frame_and_formula(reference):
    name = reference["data"]
    if name == "sleepstudy":
        return load(name), "Reaction ~ Days", "Days"
    if name == "grunfeld":
        return load(name), "invest ~ value + capital", "year"
    data = load("orthodont")
    if name == "gaps":
        data = data.drop(data.index[np.array(REFERENCE["head"]["left_out_of_gaps"]) - 1])
    return data, "distance ~ age", "age"


def fitted(reference):
    data, fixed, time = frame_and_formula(reference)
    bar = reference["random"].removeprefix("~")
    fit = lmer(f"{fixed} + ({bar})", data, reml=reference["method"] == "REML")
    return fit, fit_ar1(fit, data[time])


def stds(table):
    rows = [name for name in table.index if name.startswith("sd(")]
    return table.loc[[*rows, "sigma"], "ar1"].to_numpy()


@pytest.mark.parametrize(
    "reference",
    REFERENCE["fits"],
    ids=[f"{r['data']} {r['random']} {r['method']}" for r in REFERENCE["fits"]],
)
def test_agrees_with_nlme(reference):
    _, memory = fitted(reference)
    # nlme's nlminb stops 5e-5 above the minimum where the correlation is 1; never below ours.
    assert memory.deviance <= reference["criterion"] + 1e-7
    assert memory.deviance == pytest.approx(reference["criterion"], abs=1e-4)
    fixed = memory.table.iloc[: len(reference["fixed"])]
    assert memory.phi == pytest.approx(reference["phi"], abs=1e-4)
    assert fixed["ar1"].to_numpy() == pytest.approx(reference["fixed"], rel=2e-4)
    assert fixed["ar1_se"].to_numpy() == pytest.approx(reference["se"], rel=2e-4)
    assert stds(memory.table) == pytest.approx(reference["sd"], rel=1e-3)
    sigma = memory.table.loc["sigma", "ar1"]
    # Any square root of R⁻¹ gives one sum of squares. nlme's "normalized" residuals do so only
    # without gaps: with them its sum is 75.69, where r'R⁻¹r/σ² written out in R is 78.12.
    if reference["data"] == "gaps":
        reference = {"residuals": [np.sqrt(78.12048)]}
    assert np.sum((memory.residuals / sigma) ** 2) == pytest.approx(
        np.sum(np.square(reference["residuals"])), rel=1e-3
    )


def dense_deviance(memory, fit, groups, times):
    """ML deviance from the covariance of all rows, written out."""
    table = memory.table["ar1"]
    factor = fit.frame.factors[0]
    sd0, sd1, cor = (
        table[f"{k} | Subject)"] for k in ("sd(Intercept", "sd(Days", "cor(Intercept, Days")
    )
    D = np.array([[sd0**2, cor * sd0 * sd1], [cor * sd0 * sd1, sd1**2]])
    same = groups[:, None] == groups[None, :]
    R = memory.phi ** np.abs(times[:, None] - times[None, :])
    V = same * (factor.columns @ D @ factor.columns.T + table["sigma"] ** 2 * R)
    residual = fit.frame.y - fit.frame.X @ table[list(fit.frame.fixed_names)].to_numpy()
    _, log_det = np.linalg.slogdet(2 * np.pi * V)
    return log_det + residual @ np.linalg.solve(V, residual)


def test_deviance_is_that_of_the_covariance_written_out():
    sleep = load("sleepstudy").drop([3, 4, 40])  # gaps of two and three steps
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep, reml=False)
    memory = fit_ar1(fit, sleep["Days"])
    codes, days = sleep["Subject"].to_numpy(), sleep["Days"].to_numpy()
    assert memory.deviance == pytest.approx(dense_deviance(memory, fit, codes, days), abs=1e-6)


@pytest.mark.slow
def test_no_memory_in_white_noise_and_the_planted_one_where_it_was_planted():
    rng = np.random.default_rng(7)
    n_groups, n_times = 200, 12
    group, time = np.divmod(np.arange(n_groups * n_times), n_times)
    noise = rng.normal(size=(n_groups, n_times))
    intercepts = rng.normal(size=n_groups)[group]
    for phi in (0.0, 0.6, -0.4):
        memory_noise = noise.copy()
        for t in range(1, n_times):
            fresh = np.sqrt(1 - phi**2) * noise[:, t]
            memory_noise[:, t] = phi * memory_noise[:, t - 1] + fresh
        data = pd.DataFrame({"g": group, "t": time, "y": intercepts + memory_noise.ravel()})
        found = fit_ar1(lmer("y ~ t + (1 | g)", data), data["t"])
        assert found.phi == pytest.approx(phi, abs=0.08)  # standard error about .025
        assert found.interval[0] < found.phi < found.interval[1]
        assert (found.p_value < 1e-6) == (phi != 0)
        lag = found.residuals.to_numpy().reshape(n_groups, n_times)
        assert abs(np.corrcoef(lag[:, 1:].ravel(), lag[:, :-1].ravel())[0, 1]) < 0.12


def test_ends_of_the_interval_are_where_the_test_turns():
    sleep = load("sleepstudy")
    fit = lmer("Reaction ~ Days + (1 | Subject)", sleep)
    memory = fit_ar1(fit, sleep["Days"])
    assert memory.lr == pytest.approx(fit.deviance - memory.deviance)
    lower, upper = memory.interval
    assert 0 < lower < memory.phi < upper < 1
    assert memory.p_value < 0.05


def test_order_units_and_origin_do_not_matter():
    sleep = load("sleepstudy")
    formula = "Reaction ~ Days + (1 | Subject)"
    here = fit_ar1(lmer(formula, sleep), sleep["Days"])
    shuffled = sleep.sample(frac=1, random_state=3)
    there = fit_ar1(lmer(formula, shuffled), shuffled["Days"] * 24 + 1000)
    assert there.phi == pytest.approx(here.phi, abs=1e-5)
    assert there.deviance == pytest.approx(here.deviance, abs=1e-7)
    pd.testing.assert_series_equal(
        there.residuals.loc[sleep.index], here.residuals, rtol=1e-4, atol=1e-3
    )
    seconds = lmer(formula, sleep.assign(Reaction=sleep["Reaction"] / 1000))
    assert fit_ar1(seconds, sleep["Days"]).phi == pytest.approx(here.phi, abs=1e-5)


def test_incomplete_rows_are_left_out_of_a_series_of_times():
    sleep = load("sleepstudy")
    gap = sleep.assign(Reaction=sleep["Reaction"].mask(sleep.index == 5))
    formula = "Reaction ~ Days + (1 | Subject)"
    with_gap = fit_ar1(lmer(formula, gap), gap["Days"])
    rest = sleep.drop(5)
    assert with_gap.phi == pytest.approx(fit_ar1(lmer(formula, rest), rest["Days"]).phi)


def test_uneven_distances_take_time_as_continuous():
    boys = load("oxboys")
    fit = lmer("height ~ age + I(age**2) + (age | Subject)", boys)
    memory = fit_ar1(fit, boys["age"])
    assert 0 <= memory.phi < 1
    assert memory.interval[0] >= 0


def test_a_memory_without_end_is_said():
    boys = load("oxboys")
    with pytest.warns(UserWarning, match="runs to its end"):
        memory = fit_ar1(lmer("height ~ age + (1 | Subject)", boys), boys["age"])
    assert memory.interval[1] == 1


SLEEP = load("sleepstudy")
ONE = lmer("Reaction ~ Days + (1 | Subject)", SLEEP)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fit_ar1("fit", SLEEP["Days"]), "must be a model fitted by lmer"),
        (lambda: fit_ar1(ONE, SLEEP["Days"].head(5)), "one value per row"),
        (lambda: fit_ar1(ONE, SLEEP["Days"].where(SLEEP["Days"] > 0)), "time"),
        (lambda: fit_ar1(ONE, SLEEP["Days"] // 2), "must not repeat within a group"),
        (lambda: fit_ar1(ONE, "Days"), "time"),
        (
            lambda: fit_ar1(
                lmer("strength ~ 1 + (1 | batch/cask)", load("pastes")), np.arange(60)
            ),
            "one grouping factor",
        ),
    ],
)
def test_bad_input_is_named(make, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CourseError, match=words):
            make()
