"""Envelopes: what they are, and whether they find the faults planted for them."""

import numpy as np
import pandas as pd
import pytest

from course_lib import load
from course_lib.diagnostics import (
    binned_means,
    binned_spreads,
    check_up,
    group_slope_spread,
    influence,
    random_effects_frame,
    residual_frame,
    simulated_envelope,
    sorted_modes,
    sorted_residuals,
)
from course_lib.errors import CourseError
from course_lib.mixed.result import lmer

# ---- planted faults --------------------------------------------------------------------------

N_GROUPS, N_ROWS, N_SIM, REPEATS = 30, 10, 39, 8


def planted(fault, rng):
    """y ~ x + (1 | g), all standard deviations 1, with one fault."""
    x = np.tile(np.linspace(-1, 1, N_ROWS), N_GROUPS)
    g = np.repeat(np.arange(N_GROUPS), N_ROWS)
    e = rng.standard_normal(len(x))
    y = 10 + 2 * x + rng.standard_normal(N_GROUPS)[g]
    if fault == "missing curve":
        y += x**2
    elif fault == "unequal variances":
        e *= np.exp(0.5 * x)
    elif fault == "heavy tails":
        e = rng.standard_t(3, len(x)) / np.sqrt(3)
    elif fault == "missing slope":
        y += 0.7 * rng.standard_normal(N_GROUPS)[g] * x
    elif fault == "outlying group":
        y += 6.0 * (g == 0)
    return pd.DataFrame({"y": y + e, "x": x, "g": g})


def n_found(fault, statistic, seed=7):
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(REPEATS):
        fit = lmer("y ~ x + (1 | g)", planted(fault, rng))
        found += simulated_envelope(fit, statistic, N_SIM, rng).outside.any()
    return found


@pytest.mark.slow
# Over 60 repetitions with these sizes, 39 refits each: found 58, 60, 59 and 59 times by the
# statistic meant for it, an outlying group 57 times by Cook's distance and 51 times by
# sorted_modes; false alarms under the true model: 11 in 300 (5 % allowed).
@pytest.mark.parametrize(
    ("fault", "statistic"),
    [
        ("missing curve", binned_means),
        ("unequal variances", binned_spreads),
        ("heavy tails", sorted_residuals),
        ("missing slope", group_slope_spread),
    ],
)
def test_planted_fault_is_found(fault, statistic):
    assert n_found(fault, statistic) >= REPEATS - 2


def test_outlying_group_has_the_largest_influence():
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(REPEATS):
        table = influence(lmer("y ~ x + (1 | g)", planted("outlying group", rng)))
        cook = table.cooks_distance
        # first of 30 groups, and leaving it out lowers the variance of the intercepts most
        first = cook.idxmax() == 0 and table["vcov: g Intercept"].idxmin() == 0
        found += first and cook[0] > 2 * cook[1:].max()
    assert found >= REPEATS - 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["missing curve", "missing slope", "outlying group"])
def test_faults_leave_the_tails_of_the_residuals_alone(fault):
    assert n_found(fault, sorted_residuals) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "statistic",
    [binned_means, binned_spreads, sorted_residuals, group_slope_spread, sorted_modes],
)
def test_true_model_is_left_alone(statistic):
    # 5 % false alarms: 3 or more of 8 have probability .006
    assert n_found("none", statistic) <= 2


def test_mending_the_model_removes_the_finding():
    rng = np.random.default_rng(11)
    data = planted("missing slope", rng)
    poor, good = (lmer(f"y ~ x + {bar}", data) for bar in ("(1 | g)", "(x | g)"))
    before, after = (
        simulated_envelope(fit, group_slope_spread, 99, rng) for fit in (poor, good)
    )
    assert before.attrs["pvalue"] == 0.01
    assert after.attrs["pvalue"] > 0.05


# ---- envelopes -------------------------------------------------------------------------------


def test_envelope_is_what_it_says(intercept_fit):
    def sigma(fit):
        return fit.scale

    n_sim, seed = 39, 5
    table = simulated_envelope(intercept_fit, sigma, n_sim, np.random.default_rng(seed))
    draws = intercept_fit.simulate(n_sim, np.random.default_rng(seed))
    simulated = np.array([intercept_fit.refit(y).scale for y in draws])
    assert table.observed[0] == intercept_fit.scale
    # refits side by side and one by one end within rounding of each other
    assert table["median"][0] == pytest.approx(np.median(simulated), rel=1e-9)
    assert table.lower[0] == pytest.approx(np.quantile(simulated, 0.025), rel=1e-9)
    everything = np.append(simulated, intercept_fit.scale)
    distance = np.abs(everything - everything.mean())
    assert table.attrs["pvalue"] == (distance >= distance[-1]).mean()
    # two of forty lie beyond the band at most: the level is exactly 5 %
    beyond = (everything < table.lower_all[0] - 1e-9) | (everything > table.upper_all[0] + 1e-9)
    assert beyond.sum() == 2


def test_envelope_is_repeatable_and_joint(sleep_fit):
    one, two = (
        simulated_envelope(sleep_fit, sorted_residuals, 39, np.random.default_rng(1))
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)
    # sleepstudy's residuals do have two wild rows
    assert one.outside[0]
    assert one.outside.iloc[-1]
    assert one.attrs["pvalue"] == pytest.approx(1 / 40)
    assert (one.lower_all <= one.lower).mean() > 0.9


def test_entry_that_never_varies_is_not_outside(intercept_fit):
    def with_constant(fit):
        return [1.0, fit.scale]

    table = simulated_envelope(intercept_fit, with_constant, 19, np.random.default_rng(1))
    assert not table.outside[0]
    assert table.lower_all[0] == table.upper_all[0] == 1


def test_statistics_have_their_definitions(intercept_fit):
    frame = residual_frame(intercept_fit)
    days = intercept_fit.frame.X[:, 1]
    means = frame.resid_std.groupby(days).mean().to_numpy()
    np.testing.assert_allclose(binned_means(intercept_fit, 10), means, atol=1e-12)
    squares = (frame.resid_std**2).groupby(days).mean().to_numpy()
    np.testing.assert_allclose(binned_spreads(intercept_fit, 10), np.sqrt(squares))
    t = frame.resid_std.groupby(frame.Subject).apply(
        lambda r: (np.arange(10) - 4.5) @ r.to_numpy() / np.sqrt(82.5)
    )
    np.testing.assert_allclose(group_slope_spread(intercept_fit), [np.sqrt((t**2).mean())])
    np.testing.assert_array_equal(sorted_residuals(intercept_fit), np.sort(frame.resid_std))
    modes = random_effects_frame(intercept_fit).mode_std
    np.testing.assert_array_equal(sorted_modes(intercept_fit), np.sort(modes))


def test_bad_envelope_arguments_are_refused(sleep_fit):
    rng = np.random.default_rng(1)
    good = (sleep_fit, sorted_modes, 19, rng)
    with pytest.raises(CourseError, match="fit: "):
        simulated_envelope("fit", *good[1:])
    with pytest.raises(CourseError, match="statistic: must be a function"):
        simulated_envelope(sleep_fit, "sorted_modes", 19, rng)
    with pytest.raises(CourseError, match="n_sim: must be a whole number of at least 19"):
        simulated_envelope(sleep_fit, sorted_modes, 18, rng)
    with pytest.raises(CourseError, match="n_sim: must be a whole number of at least 99"):
        simulated_envelope(*good, alpha=0.01)
    with pytest.raises(CourseError, match="alpha: must be a number strictly between"):
        simulated_envelope(*good, alpha=5)
    with pytest.raises(CourseError, match="rng: must be a numpy.random.Generator"):
        simulated_envelope(sleep_fit, sorted_modes, 19, 1)


@pytest.mark.parametrize(
    ("statistic", "match"),
    [
        (lambda fit: "much", "statistic: must hold numbers"),
        (lambda fit: [np.nan], "statistic: must be finite"),
        (lambda fit: np.zeros((2, 2)), "statistic: must return one number or a vector"),
        (lambda fit: [], "statistic: must return one number or a vector"),
        (lambda fit: np.zeros(int(fit.scale) % 50 + 1), "after length"),
    ],
)
def test_statistic_that_gives_no_vector_is_refused(sleep_fit, statistic, match):
    with pytest.raises(CourseError, match=match):
        simulated_envelope(sleep_fit, statistic, 19, np.random.default_rng(1))


def test_statistics_say_what_they_need(sleep_fit):
    with pytest.raises(CourseError, match="n_bins: must be a whole number of at least 2"):
        binned_means(sleep_fit, 1)
    constant = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff"))
    with pytest.raises(CourseError, match="fit: must have a fixed effect whose column varies"):
        group_slope_spread(constant)


def test_check_up_is_one_envelope_per_question(sleep_fit):
    questions = {"tails": sorted_residuals, "people": sorted_modes}
    table = check_up(sleep_fit, questions, 39, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for name, statistic in questions.items():
        band = simulated_envelope(sleep_fit, statistic, 39, rng)
        expected = [band["outside"].sum(), len(band), band.attrs["pvalue"]]
        assert table.loc[name, ["outside", "of", "p"]].tolist() == expected
    assert list(table.index) == list(questions)
    with pytest.raises(CourseError, match="questions: must be a dict of statistics"):
        check_up(sleep_fit, sorted_modes, 39, rng)
