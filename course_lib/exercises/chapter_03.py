"""Exercises of chapter 3: the formula, nested data, and choosing between models."""

from __future__ import annotations

import functools

import pandas as pd
from scipy import stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.compare import LRTest, lr_test
from course_lib.mixed.result import lmer

__all__ = ["EXERCISES"]

# 3.1: parameters of parabolas of students in classes in schools.


def count(fixed: int = 3, covariances: int = 3, residual: int = 1) -> int:
    """Count the parameters: three variances of the curves, those of classes and schools."""
    return fixed + 3 + covariances + 2 + residual


# 3.2: orders within users.


def items() -> pd.DataFrame:
    """Return one row per item, with the order number as it stands in the list."""
    return pd.DataFrame(
        [
            {"user": user["user"], "order": str(order["id"]), **item}
            for user in load("orders")
            for order in user["orders"]
            for item in order["items"]
        ]
    )


@functools.cache
def price_sd(
    brackets: str, group: str, fixed: str = "name", response: str = "log(price)"
) -> float:
    """Return the standard deviation of one group's random intercept, or of the residual."""
    table = lmer(f"{response} ~ {fixed} + {brackets}", items()).varcorr()
    return float(table.set_index("group").loc[group, "sdcor"])


# 3.4: AIC across fixed parts.


def lower_by(criterion: str, reml: bool = False) -> float:
    """Return a criterion of the additive minus that of the interaction model."""
    plain, crossed = (
        lmer(f"distance ~ {fixed} + (age | Subject)", load("orthodont"), reml=reml)
        for fixed in ("age + Sex", "age * Sex")
    )
    return getattr(plain, criterion) - getattr(crossed, criterion)


# 3.5: the variance of batches.


@functools.cache
def batch_test(method: str, reml: bool = True, smaller: str = "sample") -> LRTest:
    """Test the two variances of pastes against one of them."""
    both = "sample) + (1 | batch" if smaller != "cask" else "cask) + (1 | batch"
    small, large = (
        lmer(f"strength ~ 1 + (1 | {brackets})", load("pastes"), reml=reml)
        for brackets in (smaller, both)
    )
    return lr_test(small, large, method)


NESTED = "(1 | user/order)"
REUSED = "(1 | user) + (1 | order)"

EXERCISES = (
    Exercise(
        id="3.1",
        question="How many parameters has the model of students in classes in schools?",
        right=lambda: count(),
        success=(
            "three fixed effects, six for the curves of the students, one each for classes and "
            "schools, and σ²."
        ),
        tolerance=1e-9,
        wanted="a count",
        mistakes=(
            Mistake(
                lambda: count() - 1,
                "one is missing. Does the slash stand for one intercept or two? Which "
                "parameter belongs to the single rows?",
            ),
            Mistake(
                lambda: count() - 2,
                "two are missing. Does each pair of columns have its covariance? What does the "
                "slash stand for, and what belongs to the single rows?",
            ),
            Mistake(
                lambda: count(covariances=0),
                "three are missing. Does the bar allow covariances? Did you count the part "
                "before the brackets?",
            ),
            Mistake(
                lambda: count(fixed=0, residual=0),
                "you counted the brackets alone. What stands before them, what is left?",
            ),
            Mistake(
                lambda: count(covariances=6),
                "a covariance matrix is symmetric: each covariance counts once.",
            ),
        ),
    ),
    Exercise(
        id="3.2",
        question="What is the standard deviation of log prices between orders of one user?",
        right=lambda: price_sd(NESTED, "order:user"),
        success="an order is named by its user and its number together.",
        tolerance=0.025,  # with one digit, 0.1 is right
        wanted="a standard deviation, in log euro",
        mistakes=(
            Mistake(
                lambda: price_sd(REUSED, "order"),
                "your fit shares its order numbers between users. How many orders does ngroups "
                "count?",
            ),
            Mistake(
                lambda: price_sd(NESTED, "user"),
                "that is how users differ from each other.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "user") ** 2,
                "that is a variance, and of the users. Look at the row of the orders.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "Residual"),
                "that is how items of one order differ: the residual.",
            ),
            Mistake(
                lambda: price_sd(REUSED, "Residual"),
                "that is a residual, and of a fit that mixes up the orders of all users.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "order:user", response="price"),
                "that is in euro. Take the logarithm of the price in the formula.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "order:user") ** 2,
                "that is a variance. The question asks for its square root.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "order:user", fixed="1"),
                "zero comes out if the product is missing from the fixed part, and also if the "
                "bracket has the order number alone. Compare both with the question.",
            ),
        ),
    ),
    Exercise(
        id="3.3",
        question="Which fault stands out in the fit of mathematics scores by social status?",
        right=lambda: "related",
        success=(
            "schools with wealthier pupils have higher intercepts, a correlation of about 0.6. "
            "So the slope of ses mixes the comparison within schools with that between them."
        ),
        kind="choice",
        options=("curve", "memory", "fan", "related"),
        mistakes=(
            Mistake(
                lambda: "curve",
                "the averages of trend_plot, residuals against ses within schools, are nearly "
                "level. Draw the other pictures and compare.",
            ),
            Mistake(
                lambda: "memory",
                "pupils stand in no order of time, so the row before means nothing.",
            ),
            Mistake(
                lambda: "fan",
                "the two lines of spread_plot stay nearly parallel. Draw the other pictures "
                "and compare.",
            ),
        ),
    ),
    Exercise(
        id="3.4",
        question="By how much is the AIC of age * Sex lower than that of age + Sex?",
        right=lambda: lower_by("aic"),
        success="the fixed parts differ, so the comparison is made by ML.",
        wanted="a difference of two AIC",
        mistakes=(
            Mistake(
                lambda: lower_by("aic", reml=True),
                "you compared REML fits. Do the two models have the same fixed part?",
            ),
            Mistake(
                lambda: -lower_by("aic", reml=True),
                "you compared REML fits, larger minus smaller. Do the fixed parts agree?",
            ),
            Mistake(
                lambda: -lower_by("aic"),
                "you subtracted the other way round: the larger model has the lower AIC.",
            ),
            Mistake(
                lambda: -lower_by("llf"),
                "that is the gain in log-likelihood. AIC has a factor of two and a price.",
            ),
            Mistake(lambda: lower_by("bic"), "that is the difference of BIC."),
            Mistake(
                lambda: lower_by("deviance"),
                "that is the drop in deviance. The price of the parameter is missing.",
            ),
        ),
    ),
    Exercise(
        id="3.5",
        question="Which p value does the boundary rule give for the batches, by REML?",
        right=lambda: batch_test("boundary").pvalue,
        success="one variance without a covariance: half the p value of χ²₁.",
        tolerance=0.045,  # with one decimal, 0.2 is right
        wanted="a p value",
        mistakes=(
            Mistake(
                lambda: batch_test("chi2").pvalue,
                "that is the p value of χ²₁, which does not know that a variance has an edge.",
            ),
            Mistake(
                lambda: batch_test("boundary", reml=False).pvalue,
                "you tested ML fits. The question asks for REML, which is allowed here.",
            ),
            Mistake(
                lambda: batch_test("chi2", reml=False).pvalue,
                "you compared ML fits with χ²₁. Asked for are REML and the boundary rule.",
            ),
            Mistake(
                lambda: batch_test("boundary").statistic,
                "that is G itself. What is the probability of a value as large or larger?",
            ),
            Mistake(
                lambda: stats.chi2.sf(batch_test("chi2").statistic, 2),
                "you compared with χ²₂, but only one parameter is added.",
            ),
            Mistake(
                lambda: batch_test("boundary", smaller="batch").pvalue,
                "you left out the casks, so you tested the casks. Leave out the batches.",
            ),
            Mistake(
                lambda: batch_test("boundary", smaller="cask").pvalue,
                "a, b and c are used again in every batch. Which column names a cask alone?",
            ),
            Mistake(
                lambda: batch_test("chi2", smaller="cask").pvalue,
                "a, b and c are used again in every batch, and χ²₁ does not know the edge.",
            ),
            Mistake(
                lambda: stats.chi2.sf(batch_test("boundary").statistic, [1, 2]).mean(),
                "that is the rule for a slope, which brings a covariance. Here a variance "
                "comes alone.",
            ),
            Mistake(
                lambda: 1 - batch_test("boundary").pvalue,
                "that is the area below G. A p value is the area above it.",
            ),
        ),
    ),
    Exercise(
        id="3.6",
        question="What does the p value of the batches permit you to say?",
        right=lambda: "B",
        success=(
            "a large p value does not show that nothing is there: the profile interval of the "
            "standard deviation runs from 0 to 2.9 points."
        ),
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "a large p value is no evidence of zero. How far up does the interval of the "
                "standard deviation reach?",
            ),
            Mistake(
                lambda: "C",
                "a p value is computed as if batches did not differ, so it cannot be the "
                "probability of that.",
            ),
            Mistake(
                lambda: "D",
                "chance alone gives an estimate above zero in many samples. What is the "
                "lower end of its interval?",
            ),
        ),
    ),
)
