"""Exercises of chapter 6: pooling, origins, units, and the engine."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.convergence import deviance_at
from course_lib.cross_products import FactorArrays, cross_products
from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.lmer import LmerResult, lmer
from course_lib.profiled_deviance import deviance_and_gradient, solve

__all__ = ["EXERCISES"]

SLOPE = "Reaction ~ Days + (Days | Subject)"
LEVEL = "Reaction ~ Days + (1 | Subject)"

# 6.1: a forecast.

FIRST_HIDDEN = 5


def forecast_misses(formula: str = SLOPE, random: bool = True, leak: bool = False) -> pd.Series:
    """Return the misses (ms) on the late days of a model fitted to the early ones."""
    sleep = load("sleepstudy")
    late = sleep["Days"] >= FIRST_HIDDEN
    fit = lmer(formula, sleep if leak else sleep[~late])
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


def level_gain() -> str:
    """Say how the random level compares with the random slope, with its interval."""
    extra = personal_rms(forecast_misses(LEVEL)) - personal_rms(forecast_misses())
    half = stats.t.isf(0.025, len(extra) - 1) * extra.sem()
    mean = extra.mean()
    return (
        f"{mean:.1f} ms, 95 % interval {mean - half:.1f} to {mean + half:.1f} "
        f"over {len(extra)} people"
    )


# 6.2: the age at which level and slope are uncorrelated.

MIDDLE = 11  # the origin that the chapter takes as the middle of the ages


def uncorrelated_age(covariance: pd.DataFrame) -> float:
    """Return the origin that makes the covariance of level and slope zero."""
    return float(-covariance.iloc[0, 1] / covariance.iloc[1, 1])


@functools.cache
def teeth_fit(
    random: str = "age", bar: str = "|", reml: bool = True, fixed: str = "age"
) -> LmerResult:
    """Fit the children's teeth."""
    formula = f"distance ~ {fixed} + ({random} {bar} Subject)"
    return lmer(formula, load("orthodont"), reml=reml)


def teeth_covariance(reml: bool = True) -> pd.DataFrame:
    """Return the covariance matrix of the children's levels (age 0) and slopes."""
    return teeth_fit(reml=reml).cov_re["Subject"]


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
    found = solve(THETA, products, True)
    n, p = frame.X.shape
    return {
        "n": n,
        "p": p,
        "r2": found.sigma**2 * (n - p),
        "L_X": -np.linalg.slogdet(found.unscaled_cov_beta)[1] / 2,
        "criterion": deviance_and_gradient(THETA, products, True)[0],
    }


def reml_with_n() -> float:
    """Return the criterion with n in place of n - p."""
    part = reml_parts()

    def last(rows):
        return rows * (1 + np.log(2 * np.pi * part["r2"] / rows))

    return part["criterion"] - last(part["n"] - part["p"]) + last(part["n"])


# 6.5: dropping the random curvature.

CURVE = "age + I(age**2)"


def dropped(
    random: str = "age", bar: str = "|", reml: bool = True, fixed: str = CURVE
) -> pd.Series:
    """Return rise of the criterion and parameters saved against the random parabola."""
    large, small = teeth_fit(CURVE, reml=reml, fixed=CURVE), teeth_fit(random, bar, reml, fixed)
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
        "random days are hidden. Do not conclude that a random level forecasts better: level "
        f"minus slope, as a mean of personal RMSEs, is {level_gain()}.",
        mistakes=(
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
        right=lambda: uncorrelated_age(teeth_covariance()),
        success="there the ellipse stands upright, and `||` would be the same model as `|`.",
        mistakes=(
            Mistake(
                lambda: -uncorrelated_age(teeth_covariance()),
                "check the sign: in the chapter's figure, where does the curve cross zero?",
            ),
            Mistake(
                lambda: uncorrelated_age(teeth_covariance(reml=False)),
                "that is from the ML fit; the question asks for REML.",
            ),
            Mistake(
                lambda: uncorrelated_age(teeth_fit().cov_fe),
                "there the *estimates* of the two fixed effects are uncorrelated. The question "
                "is about children.",
            ),
            Mistake(
                lambda: -teeth_covariance().iloc[0, 1] / teeth_covariance().iloc[0, 0],
                "you divided by the variance of the levels. Which variance multiplies c in the "
                "formula for the covariance?",
            ),
            Mistake(
                lambda: -teeth_fit().varcorr()["sdcor"][2] / teeth_covariance().iloc[1, 1],
                "above the line you have the correlation. The formula has the covariance.",
            ),
            Mistake(
                lambda: uncorrelated_age(teeth_covariance()) - MIDDLE,
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
                lambda: 1 / uncorrelated_age(teeth_covariance()),
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
                lambda: change_to_hours() ** [1, -1, 1, 1, 1],
                "the slope is right, and 'variance' has the right size. Which way does it go?",
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
        mistakes=(
            Mistake(
                lambda: deviance_at(SLOPE, load("sleepstudy"), THETA, scaled=False, reml=False),
                "that is the ML deviance. Two things change.",
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
                reml_with_n,
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
                "those are the ML deviances; the question asks for REML.",
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
                "'rise' is right. A third random effect has a variance; what else?",
            ),
            Mistake(
                lambda: pd.Series({"rise": dropped()["rise"], "saved": 2}),
                "'rise' is right. You counted the covariances or forgot one of them.",
            ),
            Mistake(
                lambda: dropped(fixed="age"),
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
