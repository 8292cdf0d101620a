"""Exercises of chapter 3: the formula, nested data, and choosing between models."""

from __future__ import annotations

import functools
import itertools

import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
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


# 3.5: which test answers which question. Why a letter is wrong, for each question.

RIGHT = "BMSE"
FIXED_BY_REML = "the fixed parts differ, so REML criteria cannot be compared."
WHY_NOT = (
    {
        "R": "a slope brings a variance, and χ² does not know its edge.",
        "M": "a slope brings a variance, and χ² does not know its edge. The fixed parts agree, "
        "so ML is not needed either.",
        "S": "simulating can be trusted, but with so many schools a quicker rule will do.",
        "E": "the exact test is for a model with one variance besides that of the rows. Here "
        "the intercepts have one already.",
    },
    {
        "B": "two fixed effects can be negative, so nothing is at an edge.",
        "R": FIXED_BY_REML,
        "S": "simulating can be trusted, but with so many schools a quicker test will do.",
        "E": "the question is about fixed effects, not about a variance.",
    },
    {
        "B": "two fixed effects can be negative, so nothing is at an edge.",
        "R": FIXED_BY_REML,
        "M": "the criterion is right, but χ² needs many groups.",
        "E": "the question is about fixed effects, not about a variance.",
    },
    {
        "B": "the rule needs many groups, and one variance alone has a quick test without that "
        "need.",
        "R": "a variance has an edge at zero, which χ² does not know.",
        "M": "χ² does not know that a variance has an edge at zero. The fixed parts agree, so "
        "ML is not needed either.",
        "S": "simulating refits can be trusted, but one variance alone has a quicker test.",
    },
)
LETTERS = tuple("".join(four) for four in itertools.product("BRMSE", repeat=4))


def hint_to(letters: str) -> str:
    """Return why each wrong letter fails."""
    parts = [
        f"question {place + 1}: {WHY_NOT[place][letter]}"
        for place, letter in enumerate(letters)
        if letter != RIGHT[place]
    ]
    return "look again at " + " And at ".join(parts)


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
        wanted=(
            "a count of fixed effects, variances and covariances, however many groups there are"
        ),
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
                lambda: count(covariances=0) - 2,
                "five are missing. Did you count the curves' covariances, both intercepts "
                "of the slash, and what belongs to the single rows?",
            ),
            Mistake(
                lambda: count(covariances=0, fixed=0),
                "six are missing: all covariances, and the part before the brackets.",
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
        question="Which test answers which of the four questions?",
        right=lambda: RIGHT,
        success=(
            "a variance has an edge, fixed effects have none. Different fixed parts ask for "
            "ML, few groups for simulation or an exact distribution."
        ),
        kind="choice",
        options=LETTERS,
        mistakes=tuple(
            Mistake(functools.partial(str, letters), hint_to(letters))
            for letters in LETTERS
            if letters != RIGHT
        ),
        wanted="four letters out of B, R, M, S and E",
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
