"""Exercises of chapter 6: pooling, origins, units, and the engine."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.diagnostics.convergence import deviance_at
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.cross_products import FactorArrays, cross_products
from course_lib.mixed.deviance import deviance_and_gradient, solve
from course_lib.mixed.result import LmerResult, lmer

__all__ = ["EXERCISES"]

SLOPE = "Reaction ~ Days + (Days | Subject)"
LEVEL = "Reaction ~ Days + (1 | Subject)"

# 6.1: a forecast.

FIRST_HIDDEN = 5


def forecast_misses(
    formula: str = SLOPE, random: bool = True, leak: bool = False, reml: bool = True
) -> pd.Series:
    """Return the misses (ms) on the late days of a model fitted to the early ones."""
    sleep = load("sleepstudy")
    late = sleep["Days"] >= FIRST_HIDDEN
    fit = lmer(formula, sleep if leak else sleep[~late], reml)
    return fit.predict(sleep[late], random=random) - sleep.loc[late, "Reaction"]


def own_line_misses() -> pd.Series:
    """Return the misses (ms) of each person's own least-squares line."""
    parts = []
    for _, rows in load("sleepstudy").groupby("Subject"):
        late = rows["Days"] >= FIRST_HIDDEN
        line = np.polyfit(rows.loc[~late, "Days"], rows.loc[~late, "Reaction"], 1)
        parts.append(np.polyval(line, rows.loc[late, "Days"]) - rows.loc[late, "Reaction"])
    return pd.concat(parts)


def rms(misses: pd.Series) -> float:
    """Root mean square."""
    return float(np.sqrt((misses**2).mean()))


def personal_rms(misses: pd.Series) -> pd.Series:
    """Root mean square (ms) of each person's misses."""
    people = load("sleepstudy").loc[misses.index, "Subject"]
    return np.sqrt((misses**2).groupby(people).mean())


def in_sample_misses() -> pd.Series:
    """Return the misses (ms) of the model of the early days on these same days."""
    sleep = load("sleepstudy")
    return lmer(SLOPE, sleep[sleep["Days"] < FIRST_HIDDEN]).resid


# 6.2: the age at which level and slope are uncorrelated.

MIDDLE = 11  # the origin that the chapter takes as the middle of the ages


def uncorrelated_age(covariance: pd.DataFrame) -> float:
    """Return the origin that makes the covariance of level and slope zero."""
    return float(-covariance.iloc[0, 1] / covariance.iloc[1, 1])


@functools.cache
def skull_fit(
    random: str = "age",
    bar: str = "|",
    reml: bool = True,
    fixed: str = "age",
    without: str = "",
) -> LmerResult:
    """Fit the children's skulls, of all children or of all but one."""
    formula = f"distance ~ {fixed} + ({random} {bar} Subject)"
    skulls = load("orthodont")
    return lmer(formula, skulls[skulls["Subject"] != without], reml=reml)


def skull_covariance(reml: bool = True, without: str = "") -> pd.DataFrame:
    """Return the covariance matrix of the children's levels (age 0) and slopes."""
    return skull_fit(reml=reml, without=without).cov_re["Subject"]


# 6.3: days in hours.

PARTS = ["slope", "variance", "correlation", "t", "reml_rise"]


@functools.cache
def numbers_in(unit: float, reml: bool = True) -> pd.Series:
    """Return the five numbers of the sleep study with a day counted as `unit`."""
    sleep = load("sleepstudy")
    fit = lmer(SLOPE, sleep.assign(Days=sleep["Days"] * unit), reml=reml)
    variance, correlation = fit.cov_re["Subject"].loc["Days", "Days"], fit.varcorr()["sdcor"][2]
    slope = fit.fe_params["Days"]
    values = [slope, variance, correlation, slope / fit.bse_fe["Days"], fit.deviance]
    return pd.Series(values, PARTS)


def change_to_hours(before: float = 1, after: float = 24, reml: bool = True) -> pd.Series:
    """Return four factors and the rise of the criterion."""
    old, new = numbers_in(before, reml), numbers_in(after, reml)
    changed = new / old
    changed["reml_rise"] = new["reml_rise"] - old["reml_rise"]
    return changed


# 6.4: the REML criterion at a given θ.

THETA = np.array([1.0, 0.0, 1.0])


@functools.cache
def reml_parts() -> dict[str, float]:
    """Return the parts of the REML criterion at THETA, in the units of the data."""
    frame = lmer(SLOPE, load("sleepstudy")).frame
    factors = tuple(
        FactorArrays(f.codes, len(f.keys), f.columns, f.mask) for f in frame.factors
    )
    products = cross_products(frame.X, frame.y, factors)
    found = solve(THETA[None], products, True, random=False)
    n, p = frame.X.shape
    return {
        "n": n,
        "p": p,
        "r2": found.sigma[0] ** 2 * (n - p),
        "L_X": -np.linalg.slogdet(found.unscaled_cov_beta[0])[1] / 2,
        "criterion": deviance_and_gradient(THETA, products, True)[0],
    }


def changed_last_term(rows: int = 0, root: bool = False) -> float:
    """Return the criterion with `rows` in place of n - p, or with r in place of r²."""
    part = reml_parts()
    left = part["n"] - part["p"]

    def last(rows, rest):
        return rows * (1 + np.log(2 * np.pi * rest / rows))

    rest = np.sqrt(part["r2"]) if root else part["r2"]
    return part["criterion"] - last(left, part["r2"]) + last(rows or left, rest)


def engine(theta: np.ndarray = THETA, unit: float = 1, reml: bool = True) -> float:
    """Return the criterion at θ with a day counted as `unit`, not in standard units."""
    sleep = load("sleepstudy")
    counted = sleep.assign(Days=sleep["Days"] * unit)
    return float(deviance_at(SLOPE, counted, theta, scaled=False, reml=reml))


# 6.5: dropping the random curvature.

CURVE = "age + I(age**2)"


def dropped(
    random: str = "age", bar: str = "|", reml: bool = True, fixed: str = CURVE
) -> pd.Series:
    """Return rise of the criterion and parameters saved against the random parabola."""
    large, small = skull_fit(CURVE, reml=reml, fixed=CURVE), skull_fit(random, bar, reml, fixed)
    return pd.Series(
        {"rise": small.deviance - large.deviance, "saved": large.npar - small.npar}
    )


EXERCISES = (
    Exercise(
        id="6.1",
        question="What is the RMSE (ms) on days 5 to 9 of the random-slope model fitted to "
        "days 0 to 4, predicting with the random effects?",
        right=lambda: rms(forecast_misses()),
        success="that is the size of a typical miss of this forecast, much larger than when "
        "random days are hidden. And the side question: is the winner the same, and by more "
        "than chance?",
        tolerance=0.005,
        mistakes=(
            Mistake(
                lambda: rms(forecast_misses(reml=False)),
                "that is the forecast of the ML fit; the question asks for REML.",
            ),
            Mistake(
                lambda: rms(forecast_misses(LEVEL)),
                "that model gives all people the same slope. Look at the bracket.",
            ),
            Mistake(
                lambda: rms(own_line_misses()),
                "those are separate lines: no pooling.",
            ),
            Mistake(
                lambda: rms(forecast_misses(random=False)),
                "everyone got the same line. The model knows these people: use their random "
                "effects.",
            ),
            Mistake(
                lambda: rms(forecast_misses(leak=True)),
                "the model has seen the days that it is to predict. Which rows may it be "
                "fitted to?",
            ),
            Mistake(
                lambda: rms(in_sample_misses()),
                "those are the rows that the model was fitted to. Which are hidden?",
            ),
            Mistake(
                lambda: personal_rms(forecast_misses()).mean(),
                "that is the mean of 18 personal RMSEs. The question asks for one root over "
                "all hidden rows.",
            ),
            Mistake(
                lambda: rms(forecast_misses()) ** 2,
                "that is in ms². The R of RMSE is missing.",
            ),
            Mistake(
                lambda: forecast_misses().abs().mean(),
                "that is the mean absolute miss. Square, average, take the root.",
            ),
        ),
    ),
    Exercise(
        id="6.2",
        question="At which age are the children's level and slope uncorrelated (REML)?",
        right=lambda: uncorrelated_age(skull_covariance()),
        success="there the ellipse stands upright, and `||` would be the same model as `|`.",
        mistakes=(
            Mistake(
                lambda: -uncorrelated_age(skull_covariance()),
                "check the sign: in the chapter's figure, where does the curve cross zero?",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_covariance(reml=False)),
                "that is from the ML fit; the question asks for REML.",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_fit().cov_fe),
                "there the *estimates* of the two fixed effects are uncorrelated. The question "
                "is about children.",
            ),
            Mistake(
                lambda: -skull_covariance().iloc[0, 1] / skull_covariance().iloc[0, 0],
                "you divided by the variance of the levels. Which variance multiplies c in the "
                "formula for the covariance?",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_covariance()) - MIDDLE,
                "is that counted from the middle of the ages? The question asks for an age, "
                "counted from birth.",
            ),
            Mistake(
                lambda: MIDDLE,
                "that is the middle of the ages. Centring there does not make level and slope "
                "uncorrelated: look at the sign of the correlation there.",
            ),
            Mistake(
                lambda: load("orthodont")["age"].min(),
                "that is the first visit. What was the correlation there?",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_covariance(without="M13")),
                "that is without boy M13. The question is about all children.",
            ),
            Mistake(
                lambda: 1 / uncorrelated_age(skull_covariance()),
                "your fraction is upside down. The answer is an age in years.",
            ),
        ),
    ),
    Exercise(
        id="6.3",
        question="Days in hours: by which factor do slope, variance of the slopes, correlation "
        "and t change, and by how much does the REML criterion rise?",
        right=change_to_hours,
        success="what has a unit of 1/time is divided by 24, once for each 1/time; what has no "
        "unit stays. The REML criterion rises by 2 log 24, because it contains the size of X, "
        "so compare REML criteria only in equal units.",
        kind="mapping",
        tolerance=0.025,
        mistakes=(
            Mistake(
                lambda: change_to_hours() ** [1, 0.5, 1, 1, 1],
                "'variance' changes like a standard deviation in your answer.",
            ),
            Mistake(
                lambda: change_to_hours() ** [-1, -1, 1, 1, 1],
                "is the slowing per hour larger or smaller than that per day?",
            ),
            Mistake(
                lambda: change_to_hours(24, 1),
                "you went from hours to days. The question goes the other way.",
            ),
            Mistake(
                lambda: change_to_hours(reml=False).round(9),  # the rise is exactly zero
                "four are right. 'reml_rise' is that of the ML deviance, which stays.",
            ),
            Mistake(
                lambda: change_to_hours() * [1, 1, 1, 1, 0.5],
                "'reml_rise' is that of the log-likelihood. The criterion has a factor 2.",
            ),
            Mistake(
                lambda: change_to_hours() * [1, 1, 1, 1, -1],
                "check the sign of 'reml_rise'.",
            ),
            Mistake(
                lambda: change_to_hours() * [1, 1, 1 / 24, 1, 1],
                "a correlation has no unit. Does it change?",
            ),
            Mistake(
                lambda: change_to_hours() * [1, 1, 1, 1 / 24, 1],
                "the slope changes and its standard error with it. What about their ratio?",
            ),
        ),
    ),
    Exercise(
        id="6.4",
        question="What is the REML criterion of the sleep study (days) at θ = (1, 0, 1)?",
        right=lambda: reml_parts()["criterion"],
        success="minimise it, and it ends at lmer's REML criterion.",
        tolerance=4e-5,
        wanted="the REML criterion from the sums in days, with at least one decimal",
        mistakes=(
            Mistake(
                lambda: engine(reml=False),
                "that is the ML deviance. Two things change.",
            ),
            Mistake(
                lambda: round(reml_parts()["criterion"]),
                "as far as one can see that is right; give at least one decimal.",
            ),
            Mistake(
                lambda: round(changed_last_term(root=True), 1),
                "the last term has r in place of its square: the last entry of L is r.",
            ),
            Mistake(
                lambda: engine(unit=24),
                "those are the sums in hours. The question is about days.",
            ),
            Mistake(
                lambda: engine(THETA[[0, 2, 1]]),
                "look at the order of θ: which entries of Λ are 1?",
            ),
            Mistake(
                lambda: reml_parts()["criterion"] - 2 * reml_parts()["L_X"],
                "the term with L_X is missing.",
            ),
            Mistake(
                lambda: reml_parts()["criterion"] - reml_parts()["L_X"],
                "the term with L_X is there only once. (slogdet(L_X) is the log of |L_X|, not "
                "of its square.)",
            ),
            Mistake(
                lambda: reml_parts()["criterion"] + np.log(reml_parts()["r2"]),
                "you took the determinant of all of L. L_X leaves out a row and a column.",
            ),
            Mistake(
                lambda: -reml_parts()["criterion"] / 2,
                "that is the log-likelihood. The criterion is −2 times as large.",
            ),
            Mistake(
                lambda: changed_last_term(reml_parts()["n"]),
                "the term with L_X is right; count the rows again, in both places.",
            ),
            Mistake(
                lambda: deviance_at(SLOPE, load("sleepstudy"), THETA),
                "that is at this θ in standard units. Here Z is in days.",
            ),
            Mistake(
                lambda: lmer(SLOPE, load("sleepstudy")).deviance,
                "that is the minimum. The question is about one given θ.",
            ),
        ),
    ),
    Exercise(
        id="6.5",
        question="How much does the REML criterion rise without the random curvature, and how "
        "many parameters does that save?",
        right=dropped,
        success="next to nothing is lost for three parameters: these data cannot show how "
        "children differ in curvature. That is no proof that they do not.",
        kind="mapping",
        tolerance=0.008,
        mistakes=(
            Mistake(
                lambda: dropped(reml=False),
                "'rise' is that of the ML deviance, or has one decimal only. Give at least two "
                "decimals, by REML.",
            ),
            Mistake(
                lambda: dropped() - [2 * dropped()["saved"], 0],
                "'rise' is a difference of AIC. The criterion has no price for parameters.",
            ),
            Mistake(
                lambda: dropped() * [-1, 1],
                "the smaller model cannot fit better: check the sign of 'rise'.",
            ),
            Mistake(
                lambda: dropped() * [0.5, 1],
                "'rise' is that of the log-likelihood. The criterion has a factor 2.",
            ),
            Mistake(
                lambda: pd.Series({"rise": dropped()["rise"], "saved": 1}),
                "'saved': a third random effect has a variance; what else?",
            ),
            Mistake(
                lambda: pd.Series({"rise": dropped()["rise"], "saved": 2}),
                "'saved': you counted only the covariances, or forgot one of them.",
            ),
            Mistake(
                lambda: pd.Series({"rise": dropped()["rise"], "saved": 4}),
                "'saved': the fixed curvature stays, so it is not saved.",
            ),
            Mistake(
                lambda: pd.Series({"rise": dropped(fixed="age")["rise"], "saved": 3}),
                "you dropped the fixed curvature as well. REML criteria of different fixed "
                "parts cannot be compared.",
            ),
            Mistake(
                lambda: dropped(CURVE, "||"),
                "you dropped the covariances and kept the variance of the curvature.",
            ),
        ),
    ),
)
