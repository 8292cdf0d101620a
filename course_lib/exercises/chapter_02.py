"""Exercises of chapter 2: fixed effects, random effects, Hausman and Mundlak."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.lmer import lmer
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


# 2.2: theta from the variance components.


def components() -> tuple[float, float]:
    """Return the variances of the effects and of the residuals in Grunfeld's panel."""
    fit = compare_fe_re(
        "invest ~ value + capital", load("grunfeld"), entity="firm", time="year"
    ).re
    effects, residual, _ = fit.variance_decomposition
    return float(effects), float(residual)


def theta(periods: int = GRUNFELD_YEARS) -> float:
    """Return θ = 1 − √(σ²_e / (σ²_e + T σ²_u))."""
    effects, residual = components()
    return 1 - (residual / (residual + periods * effects)) ** 0.5


def theta_without_root() -> float:
    """Return the share of the variance of a mean that is between entities."""
    effects, residual = components()
    return GRUNFELD_YEARS * effects / (residual + GRUNFELD_YEARS * effects)


# 2.3: the Hausman statistic of one coefficient.


def married_ratio(variance: str) -> float:
    """Return the squared difference of the estimates of married over some variance."""
    row = comparison(FOUR).table.set_index("term").loc["married"]
    below = {
        "difference": row["fe_se"] ** 2 - row["re_se"] ** 2,
        "sum": row["fe_se"] ** 2 + row["re_se"] ** 2,
        "standard errors": (row["fe_se"] - row["re_se"]) ** 2,
    }
    return float((row["fe"] - row["re"]) ** 2 / below[variance])


# 2.4: degrees of freedom with year dummies.


def p_value(df: int | None = None) -> float:
    """Return the p value of the sigmamore statistic on `df` degrees of freedom."""
    test = comparison("lwage ~ union + hours + C(year)").hausman_sigmamore.statistic
    return float(stats.chi2.sf(test.stat, test.df if df is None else df))


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

EXERCISES = (
    Exercise(
        id="2.1",
        question="How much does log wage rise per year of experience within men?",
        right=lambda: slope("exper_within", "lwage_within"),
        success="both sides lost their means, so only changes within men are left.",
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
        ),
    ),
    Exercise(
        id="2.2",
        question="Which share θ of the firm means does random effects subtract?",
        right=theta,
        success="with twenty years per firm, random effects is close to fixed effects.",
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
        ),
    ),
    Exercise(
        id="2.3",
        question="What is the Hausman statistic of the coefficient of married alone?",
        right=lambda: married_ratio("difference"),
        success="one difference, squared, in units of the variance that efficiency leaves.",
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
                lambda: married_ratio("difference") ** 0.5,
                "that is the size of z. The statistic with a χ² distribution is its square.",
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
        mistakes=(
            Mistake(p_value, "that is the printed p value: it counts every year dummy too."),
            Mistake(
                lambda: p_value(7),
                "you counted the year dummies. They are the ones that cannot disagree.",
            ),
            Mistake(
                lambda: p_value(1),
                "one degree too few: union is not the only regressor with a between part.",
            ),
        ),
    ),
    Exercise(
        id="2.5",
        question="How far apart are the between and the within coefficient of union, once "
        "education and origin are in the model?",
        right=lambda: union_contrast(CONTROLS),
        success="schooling and origin do not explain the selection into unions away.",
        mistakes=(
            Mistake(
                lambda: union_contrast(""),
                "that is the gap without the three controls.",
            ),
            Mistake(
                lambda: parts_of_union(CONTROLS)["union_between"],
                "that is the between coefficient itself. What is it to be compared with?",
            ),
            Mistake(
                lambda: -union_contrast(CONTROLS),
                "within minus between. The question asks for it the other way round.",
            ),
        ),
    ),
)
