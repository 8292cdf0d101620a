"""Exercises of chapter 3: the formula, nested data, and choosing between models."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy import optimize, stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.compare import LRTest, lr_test
from course_lib.mixed.result import LmerResult, lmer

__all__ = ["EXERCISES"]

# 3.1: parameters of a random parabola.


@functools.cache
def parabola(bar: str) -> LmerResult:
    """Fit a random parabola to the sleep study, with a single or a double bar."""
    curve = "Days + I(Days**2)"
    return lmer(f"Reaction ~ {curve} + ({curve} {bar} Subject)", load("sleepstudy"))


def random_columns(fit: LmerResult) -> int:
    """Return the columns of Z: groups times coefficients, summed over the factors."""
    return sum(len(factor.keys) * len(factor.terms) for factor in fit.frame.factors)


# 3.2: columns of Z.


@functools.cache
def columns_of_z(brackets: str) -> int:
    """Return the columns of Z for students in classes in schools."""
    return random_columns(lmer(f"score ~ time + {brackets}", load("school_growth")))


STUDENTS = "(time | student_id)"
IN_CLASSES = f"{STUDENTS} + (1 | school/class_number)"


# 3.3: orders within users.


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


# 3.5: the critical value of the mixture.


def mixture_critical() -> float:
    """Return the value that half χ²₁, half χ²₂ exceeds with probability 0.05."""
    return optimize.brentq(lambda g: stats.chi2.sf(g, [1, 2]).mean() - 0.05, 1, 20)


# 3.6: the variance of batches.


@functools.cache
def batch_test(method: str, reml: bool = True, cask: str = "sample") -> LRTest:
    """Test batches beyond casks."""
    casks, both = (
        lmer(f"strength ~ 1 + {brackets}", load("pastes"), reml=reml)
        for brackets in (f"(1 | {cask})", f"(1 | {cask}) + (1 | batch)")
    )
    return lr_test(casks, both, method)


NESTED = "(1 | user/order)"

EXERCISES = (
    Exercise(
        id="3.1",
        question="How many parameters has the random parabola in all?",
        right=lambda: parabola("|").npar,
        success="three fixed effects, a 3 × 3 covariance matrix with six free entries, and σ².",
        tolerance=1e-9,
        wanted="a count",
        mistakes=(
            Mistake(
                lambda: parabola("|").npar - 1,
                "one is missing. Which parameter belongs to the single rows?",
            ),
            Mistake(
                lambda: parabola("||").npar,
                "you counted the variances, not the covariances: look at the bar.",
            ),
            Mistake(
                lambda: parabola("|").theta.size,
                "that is the random part alone.",
            ),
            Mistake(
                lambda: parabola("|").npar + 3,
                "a covariance matrix is symmetric: each covariance counts once.",
            ),
            Mistake(
                lambda: random_columns(parabola("|")),
                "those are the columns of Z, one predicted value each; b is not a parameter.",
            ),
            Mistake(
                lambda: parabola("|").npar + random_columns(parabola("|")),
                "you counted the predicted values b as well; they are not parameters.",
            ),
        ),
    ),
    Exercise(
        id="3.2",
        question="How many columns has Z for students in classes in schools?",
        right=lambda: columns_of_z(IN_CLASSES),
        success="two for each student, one for each school and for each class within one.",
        tolerance=1e-9,
        wanted="a count",
        mistakes=(
            Mistake(
                lambda: columns_of_z("(1 | student_id) + (1 | school/class_number)"),
                "those are the groups. How many coefficients has each?",
            ),
            Mistake(
                lambda: columns_of_z(f"{STUDENTS} + (1 | school) + (1 | class_number)"),
                "you counted class numbers, not classes. What does the slash do?",
            ),
            Mistake(
                lambda: columns_of_z(STUDENTS),
                "those are the columns of the students alone.",
            ),
            Mistake(
                lambda: columns_of_z(f"{STUDENTS} + (1 | class_id)"),
                "the schools are missing. The slash stands for two brackets.",
            ),
            Mistake(
                lambda: columns_of_z(f"{STUDENTS} + (1 | school)"),
                "the classes are missing. The slash stands for two brackets.",
            ),
            Mistake(
                lambda: columns_of_z(f"{STUDENTS} + (time | school/class_number)"),
                "you gave everybody a slope. What stands to the left of the second bar?",
            ),
            Mistake(
                lambda: columns_of_z(IN_CLASSES) + 2,
                "the two fixed columns belong to X.",
            ),
        ),
    ),
    Exercise(
        id="3.3",
        question="What is the standard deviation of log prices between orders of one user?",
        right=lambda: price_sd(NESTED, "order:user"),
        success="an order is named by its user and its number together.",
        wanted="a standard deviation, in log euro",
        mistakes=(
            Mistake(
                lambda: price_sd("(1 | user) + (1 | order)", "order"),
                "how many orders does ngroups count? Compare with the number of order keys.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "user"),
                "that is how users differ from each other.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "user") ** 2,
                "that is a variance, and the users'. Look at the row of the orders.",
            ),
            Mistake(
                lambda: price_sd(NESTED, "Residual"),
                "that is how items of one order differ: the residual.",
            ),
            Mistake(
                lambda: price_sd("(1 | user) + (1 | order)", "Residual"),
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
                "the product is missing from the fixed part: laptops cost more than cables.",
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
                "those are REML fits. Do the two models have the same fixed part?",
            ),
            Mistake(
                lambda: -lower_by("aic", reml=True),
                "those are REML fits, and the sign is turned. Compare the fixed parts first.",
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
        question="Which value does half χ²₁, half χ²₂ exceed with probability 0.05?",
        right=mixture_critical,
        success="between the two textbook values; the naive one asks for too much.",
        tolerance=0.002,
        wanted="a value of G, not a probability",
        mistakes=(
            Mistake(
                lambda: stats.chi2.isf(0.05, 2),
                "that is the naive value of χ²₂.",
            ),
            Mistake(
                lambda: stats.chi2.isf(0.05, 1),
                "that is the value of χ²₁, which is only half of the mixture.",
            ),
            Mistake(
                lambda: np.mean(stats.chi2.isf(0.05, [1, 2])),
                "you averaged the two critical values. It is the probabilities that mix.",
            ),
            Mistake(
                lambda: stats.chi2.isf(0.1, 2),
                "you halved the p-value of χ²₂. That leaves out the part of χ²₁.",
            ),
            Mistake(
                lambda: stats.chi2.isf(0.1, 1),
                "that is for one variance without a covariance: ½χ²₀ + ½χ²₁.",
            ),
        ),
    ),
    Exercise(
        id="3.6",
        question="Which p-value does the boundary rule give for the batches, by REML?",
        right=lambda: batch_test("boundary").pvalue,
        success="one variance without a covariance: half of the naive p-value.",
        wanted="a p-value",
        mistakes=(
            Mistake(
                lambda: batch_test("chi2").pvalue,
                "that is the naive p-value of χ²₁; the variance is on its boundary.",
            ),
            Mistake(
                lambda: batch_test("boundary", reml=False).pvalue,
                "those are ML fits; the question asks for REML, which is allowed here.",
            ),
            Mistake(
                lambda: batch_test("chi2", reml=False).pvalue,
                "ML and the naive χ²₁: both differ from what is asked.",
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
                lambda: batch_test("boundary", cask="cask").pvalue,
                "a, b and c are used again in every batch. Which column names a cask alone?",
            ),
            Mistake(
                lambda: batch_test("chi2", cask="cask").pvalue,
                "naive, and with labels that every batch uses again: which column is unique?",
            ),
            Mistake(
                lambda: stats.chi2.sf(batch_test("boundary").statistic, [1, 2]).mean(),
                "that is the mixture for adding a slope, a variance and a covariance. Here a "
                "variance comes alone.",
            ),
            Mistake(
                lambda: 1 - batch_test("boundary").pvalue,
                "that is the area below G. A p-value is the area above it.",
            ),
        ),
    ),
)
