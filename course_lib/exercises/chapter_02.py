"""Exercises of chapter 2: fixed effects, random effects, Hausman and Mundlak."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import lmer
from course_lib.panel import PanelComparison, compare_fe_re
from course_lib.reshape import within_between

__all__ = ["EXERCISES"]

FOUR = "lwage ~ exper + expersq + union + married"
GRUNFELD_YEARS = 20


@functools.cache
def comparison(formula: str) -> PanelComparison:
    """Compare FE and RE in the wage panel."""
    return compare_fe_re(formula, load("wage_panel"), entity="nr", time="year")


# 2.1: the within estimate by hand.


@functools.cache
def experience() -> pd.DataFrame:
    """Split log wage and experience into their within and between parts."""
    return within_between(load("wage_panel"), ["lwage", "exper"], by="nr")


def slope(x: str, y: str) -> float:
    """Return the least-squares slope of column y on column x, with an intercept."""
    data = experience()
    return float(np.polyfit(data[x], data[y], 1)[0])


def correlation() -> float:
    """Return the correlation of the within parts."""
    data = experience()
    return float(data["exper_within"].corr(data["lwage_within"]))


# 2.2: theta from the variance components.


def components() -> tuple[float, float]:
    """Return the variances of the effects and of the residuals in Grunfeld's panel."""
    fit = compare_fe_re(
        "invest ~ value + capital", load("grunfeld"), entity="firm", time="year"
    ).re
    effects, residual, _ = fit.variance_decomposition
    return float(effects), float(residual)


def theta_of(effects: float, residual: float, periods: int) -> float:
    """Return θ = 1 − √(σ²_e / (σ²_e + T σ²_u))."""
    return 1 - (residual / (residual + periods * effects)) ** 0.5


def theta(periods: int = GRUNFELD_YEARS) -> float:
    """Return θ of Grunfeld's panel, with this number of periods."""
    return theta_of(*components(), periods)


def theta_swapped() -> float:
    """Return θ with the two variances exchanged."""
    effects, residual = components()
    return theta_of(residual, effects, GRUNFELD_YEARS)


def theta_without_root() -> float:
    """Return the share of the variance of a mean that is between entities."""
    effects, residual = components()
    return GRUNFELD_YEARS * effects / (residual + GRUNFELD_YEARS * effects)


def theta_of_wages() -> float:
    """Return θ of the wage panel, with union as the only predictor."""
    return float(comparison("lwage ~ union").re.theta["theta"].iloc[0])


# 2.3: the Hausman statistic of one coefficient.


def married_ratio(variance: str) -> float:
    """Return the squared difference of the estimates of married over some variance."""
    row = comparison(FOUR).table.set_index("term").loc["married"]
    below = {
        "difference": row["fe_se"] ** 2 - row["re_se"] ** 2,
        "sum": row["fe_se"] ** 2 + row["re_se"] ** 2,
        "standard errors": (row["fe_se"] - row["re_se"]) ** 2,
        "standard errors, not squared": row["fe_se"] - row["re_se"],
    }
    return float((row["fe"] - row["re"]) ** 2 / below[variance])


def married_z() -> float:
    """Return the signed root of the Hausman statistic: RE is above FE."""
    return -(married_ratio("difference") ** 0.5)


# 2.4: degrees of freedom with year dummies.

YEARS = "lwage ~ union + hours + C(year)"


def p_value(df: int | None = None, test: str = "hausman_sigmamore") -> float:
    """Return the p value of one of the Hausman statistics on `df` degrees of freedom."""
    found = getattr(comparison(YEARS), test)
    return float(stats.chi2.sf(found.statistic, found.df if df is None else df))


# 2.5: Mundlak's regression with lmer.


def parts_of_union(controls: str) -> pd.Series:
    """Return the fixed effects of Mundlak's regression, with time-invariant controls."""
    columns = ["exper", "expersq", "union", "married"]
    data = within_between(load("wage_panel"), columns, by="nr")
    names = [f"{column}_{part}" for part in ("within", "between") for column in columns]
    return lmer(f"lwage ~ {' + '.join(names)}{controls} + (1 | nr)", data).fe_params


def union_contrast(controls: str) -> float:
    """Return between minus within for union membership."""
    params = parts_of_union(controls)
    return float(params["union_between"] - params["union_within"])


CONTROLS = " + educ + black + hisp"


def union_ratio() -> float:
    """Return between over within for union membership."""
    params = parts_of_union(CONTROLS)
    return float(params["union_between"] / params["union_within"])


def union_re_minus_fe() -> float:
    """Return RE minus FE for union membership, with the controls."""
    compared = comparison(FOUR + CONTROLS)
    return float(compared.re.params["union"] - compared.fe.params["union"])


EXERCISES = (
    Exercise(
        id="2.1",
        question="How much does log wage rise within men for each year that passes?",
        right=lambda: slope("exper_within", "lwage_within"),
        success="both sides lost their means, so only changes within men are left.",
        wanted="a slope, in log wage per year",
        mistakes=(
            Mistake(
                lambda: slope("exper", "lwage"),
                "that is the pooled slope. Nothing was de-meaned.",
            ),
            Mistake(
                lambda: slope("exper_between", "lwage_between"),
                "that compares the men's means with each other, the between slope.",
            ),
            Mistake(
                lambda: slope("exper", "lwage_within"),
                "only the wage was de-meaned. What has to happen to the regressor?",
            ),
            Mistake(
                lambda: float(comparison(FOUR).fe.params["exper"]),
                "that is the fixed-effects slope beside three other predictors, one of them "
                "exper squared. Here exper stands alone.",
            ),
            Mistake(
                lambda: slope("lwage_within", "exper_within"),
                "that is years per unit of log wage. Which of the two is the response?",
            ),
            Mistake(correlation, "that is the correlation, which has no unit."),
            Mistake(
                lambda: float(np.expm1(slope("exper_within", "lwage_within"))),
                "that is the growth of the wage itself. The question asks for log wage.",
            ),
        ),
    ),
    Exercise(
        id="2.2",
        question="Which share θ of the firm means does random effects subtract?",
        right=theta,
        success="with twenty years per firm, random effects is close to fixed effects.",
        wanted="a proportion between 0 and 1",
        mistakes=(
            Mistake(
                lambda: 1 - theta(),
                "that is the square root alone, the share of the mean that stays.",
            ),
            Mistake(
                lambda: theta(periods=1),
                "the number of years is missing: a firm mean averages over all of them.",
            ),
            Mistake(
                theta_without_root,
                "a variance ratio. The formula for θ takes a square root before subtracting.",
            ),
            Mistake(
                lambda: theta(periods=8),
                "that takes the eight years of the wage panel. How many has a firm?",
            ),
            Mistake(
                lambda: theta(periods=10),
                "T is the number of years, not the number of firms.",
            ),
            Mistake(
                theta_swapped,
                "the two variances are exchanged: which of them is the noise?",
            ),
            Mistake(
                lambda: components()[0] / sum(components()),
                "that is the share of u in the variance of a single year, the third entry.",
            ),
            Mistake(
                lambda: theta_of(*np.sqrt(components()), GRUNFELD_YEARS),
                "you took roots of the two entries. They are variances already, as the "
                "formula wants them.",
            ),
            Mistake(
                lambda: theta_of(*np.square(components()), GRUNFELD_YEARS),
                "you squared the two entries. They are variances already, not standard "
                "deviations.",
            ),
            Mistake(
                theta_of_wages,
                "that is θ of the wage panel with union alone. Here the firms are asked for.",
            ),
        ),
    ),
    Exercise(
        id="2.3",
        question="What is the Hausman statistic of the coefficient of married alone?",
        right=lambda: married_ratio("difference"),
        success="one difference, squared, in units of the variance that efficiency leaves.",
        wanted="a statistic, not its p-value",
        mistakes=(
            Mistake(
                lambda: married_ratio("sum"),
                "you added the variances, as for two independent samples. Here both "
                "estimates come from the same rows.",
            ),
            Mistake(
                lambda: married_ratio("standard errors"),
                "you subtracted standard errors. Variances subtract; standard errors do not.",
            ),
            Mistake(
                lambda: married_ratio("standard errors, not squared"),
                "below the line stand standard errors. Square them first, then subtract.",
            ),
            Mistake(
                lambda: -married_z(),
                "that is the size of z. The statistic with a χ² distribution is its square.",
            ),
            Mistake(married_z, "that is z, with its sign. χ² is the square of it."),
            Mistake(
                lambda: -married_ratio("difference"),
                "a square cannot be negative: the variances are the other way round.",
            ),
            Mistake(
                lambda: float(stats.chi2.sf(married_ratio("difference"), 1)),
                "that is the p value. The statistic itself is asked for.",
            ),
            Mistake(
                lambda: float(comparison(FOUR).hausman.statistic),
                "that is the joint statistic of all four coefficients. Take married alone.",
            ),
            Mistake(
                lambda: float(comparison(FOUR).hausman_sigmamore.statistic),
                "that is sigmamore for all four coefficients. Take married alone.",
            ),
        ),
    ),
    Exercise(
        id="2.4",
        question="What is the p value of the sigmamore statistic, on the right degrees of "
        "freedom?",
        right=lambda: p_value(2),
        success="only regressors with a between part can disagree between the levels.",
        tolerance=0.02,
        wanted="a p value",
        mistakes=(
            Mistake(p_value, "that is the printed p value: it counts every year dummy too."),
            Mistake(
                lambda: p_value(7),
                "you counted the year dummies. They are the ones that cannot disagree.",
            ),
            Mistake(
                lambda: p_value(8),
                "only one degree less than printed. How many of the terms have no between "
                "part?",
            ),
            Mistake(
                lambda: p_value(3),
                "too many degrees. Does the constant belong to them?",
            ),
            Mistake(
                lambda: p_value(1),
                "too few degrees: which terms have a between part?",
            ),
            Mistake(
                lambda: p_value(2, "hausman"),
                "the degrees of freedom are right. The statistic is not the sigmamore one.",
            ),
            Mistake(
                lambda: p_value(None, "hausman"),
                "that is the printed p value of the plain Hausman test.",
            ),
            Mistake(
                lambda: comparison(YEARS).mundlak_test.pvalue,
                "that is the p value of Mundlak's test, which counts right by itself. Here "
                "the sigmamore statistic is asked for.",
            ),
            Mistake(
                lambda: comparison(YEARS).mundlak_test_clustered.pvalue,
                "that is the p value of the clustered Mundlak test. Take sigmamore.",
            ),
            Mistake(
                lambda: 1 - p_value(2),
                "that is the area below the statistic. A p value is the area above it.",
            ),
            Mistake(
                lambda: float(comparison(YEARS).hausman_sigmamore.statistic),
                "that is the statistic. Its p value is asked for.",
            ),
        ),
    ),
    Exercise(
        id="2.5",
        question="How far apart are the between and the within coefficient of union, once "
        "education and origin are in the model?",
        right=lambda: union_contrast(CONTROLS),
        success="schooling and origin do not explain the selection into unions away.",
        wanted="a difference of two coefficients",
        mistakes=(
            Mistake(
                lambda: union_contrast(""),
                "that is the gap without the three controls.",
            ),
            Mistake(
                lambda: union_contrast(" + educ"),
                "that is the gap with educ alone. Two controls are missing.",
            ),
            Mistake(
                lambda: parts_of_union(CONTROLS)["union_between"],
                "that is the between coefficient itself. What is it to be compared with?",
            ),
            Mistake(
                lambda: parts_of_union(CONTROLS)["union_within"],
                "that is the within coefficient itself. What is it to be compared with?",
            ),
            Mistake(
                union_ratio,
                "that is how many times as large one is. The difference is asked for.",
            ),
            Mistake(
                union_re_minus_fe,
                "that is RE minus FE. RE is a mixture of the two slopes, not the between one.",
            ),
            Mistake(
                lambda: -union_contrast(CONTROLS),
                "within minus between. The question asks for it the other way round.",
            ),
        ),
    ),
)
