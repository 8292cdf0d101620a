"""Exercises of chapter 2: fixed effects, random effects, Hausman and Mundlak."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import lmer
from course_lib.reshape import within_between

__all__ = ["EXERCISES"]


# 2.1: the slope within two men, by hand.

TWO_MEN = {"man": list("AAABBB"), "x": [1, 2, 3, 4, 6, 8], "y": [6, 4, 2, 13, 8, 9]}


def slope(x: str, y: str) -> float:
    """Return the least-squares slope of column y on column x, with an intercept."""
    data = within_between(pd.DataFrame(TWO_MEN), ["x", "y"], by="man")
    return float(np.polyfit(data[x], data[y], 1)[0])


def own_slope(man: str) -> float:
    """Return the slope of one man's three rows."""
    rows = pd.DataFrame(TWO_MEN).query("man == @man")
    return float(np.polyfit(rows["x"], rows["y"], 1)[0])


# 2.2: which estimate answers which question. Why a letter is wrong, for each question.

RIGHT = "WBBP"
WHY_NOT = (
    {
        "B": "it compares a man with himself, in two kinds of years.",
        "P": "pooled mixes in the comparison of different men.",
    },
    {
        "W": "it compares many-year members with other men; nobody is followed through time.",
        "P": "it compares men by their share of card years, so only their means matter. Pooled "
        "mixes in the steps of each man.",
    },
    {
        "W": "nobody's schooling changes in these years, so a comparison within men has no "
        "answer.",
        "P": "a man's schooling is the same in all his rows. So pooled gives the same slope "
        "here, but it counts every man eight times and states too small a standard error.",
    },
    {
        "W": "you do not follow a man; you compare a row with rows of other men.",
        "B": "one row comes from any man in any year, so the forecast needs the slope over all "
        "rows, not over the men's means.",
    },
)
LETTERS = tuple("".join(four) for four in itertools.product("WBP", repeat=4))


def hint_to(letters: str) -> str:
    """Return why each wrong letter fails."""
    parts = [
        f"question {place + 1}: {WHY_NOT[place][letter]}"
        for place, letter in enumerate(letters)
        if letter != RIGHT[place]
    ]
    return "look again at " + " And at ".join(parts)


# 2.3: the coverage of the rule, from its two branches. In per cent.

BRANCHES = {"rejected": 30.0, "fe": 92.0, "re": 60.0}


def coverage(share: float) -> float:
    """Return the coverage of the rule if the test rejects in this share of panels."""
    return (share * BRANCHES["fe"] + (100 - share) * BRANCHES["re"]) / 100


# 2.4: what a p value permits. The numbers of the exercise, and what follows from them.

COUNTRIES = {"fe": 0.30, "fe_se": 0.15, "re": 0.10, "re_se": 0.05}


def country_gap() -> tuple[float, float, float]:
    """Return the p value of the gap and the ends of its 95 % interval."""
    gap = COUNTRIES["fe"] - COUNTRIES["re"]
    se = (COUNTRIES["fe_se"] ** 2 - COUNTRIES["re_se"] ** 2) ** 0.5
    return float(stats.chi2.sf((gap / se) ** 2, 1)), gap - 1.96 * se, gap + 1.96 * se


# 2.5: Mundlak's regression with lmer.

CONTROLS = " + educ + black + hisp"


@functools.cache
def union_parts(controls: str, years: str = " + C(year)") -> pd.Series:
    """Return the fixed effects of Mundlak's regression on union."""
    data = within_between(load("wage_panel"), ["union"], by="nr")
    return lmer(
        f"lwage ~ union_within + union_between{years}{controls} + (1 | nr)", data
    ).fe_params


def union_gap(controls: str = CONTROLS) -> float:
    """Return between minus within for union membership."""
    params = union_parts(controls)
    return float(params["union_between"] - params["union_within"])


EXERCISES = (
    Exercise(
        id="2.1",
        question="What is the slope of y on x within the two men?",
        right=lambda: slope("x_within", "y_within"),
        success="within each man y falls with x, although the man with the larger x has the "
        "larger y.",
        wanted="a slope",
        mistakes=(
            Mistake(
                lambda: slope("x", "y"),
                "that is the pooled slope. It treats the six rows as six different men.",
            ),
            Mistake(
                lambda: slope("x_between", "y_between"),
                "that is the slope between the two means. Subtract the means instead.",
            ),
            Mistake(
                lambda: slope("x", "y_within"),
                "only y lost its means. Subtract each man's mean from x as well.",
            ),
            Mistake(
                lambda: (own_slope("A") + own_slope("B")) / 2,
                "that is the mean of the two own slopes. Least squares gives more weight to "
                "the man whose x varies more.",
            ),
            Mistake(
                lambda: own_slope("A"),
                "that is man A's own slope. Use the rows of both men.",
            ),
            Mistake(
                lambda: own_slope("B"),
                "that is man B's own slope. Use the rows of both men.",
            ),
            Mistake(
                lambda: -slope("x_within", "y_within"),
                "the size is right. Does y rise or fall with x within a man?",
            ),
            Mistake(
                lambda: slope("y_within", "x_within"),
                "that is the slope of x on y. Divide by the sum of squares of x.",
            ),
        ),
    ),
    Exercise(
        id="2.2",
        question="Which estimate answers which of the four questions?",
        right=lambda: RIGHT,
        success="the question decides, and no test was needed.",
        kind="choice",
        options=LETTERS,
        mistakes=tuple(
            Mistake(functools.partial(str, letters), hint_to(letters))
            for letters in LETTERS
            if letters != RIGHT
        ),
        wanted="four letters out of W, B and P",
    ),
    Exercise(
        id="2.3",
        question="What is the coverage of the rule, in per cent?",
        right=lambda: coverage(BRANCHES["rejected"]),
        success="most panels take the branch of random effects, so its short coverage "
        "counts most. That the intervals are good after a rejection helps little.",
        absolute=0.45,  # a whole number is enough
        wanted="a number of per cent",
        mistakes=(
            Mistake(
                lambda: (BRANCHES["fe"] + BRANCHES["re"]) / 2,
                "that is the plain mean of the two branches. They do not hold equally many "
                "panels.",
            ),
            Mistake(
                lambda: coverage(100 - BRANCHES["rejected"]),
                "you gave the larger share of the panels to fixed effects. In how many panels "
                "does the test reject?",
            ),
            Mistake(
                lambda: coverage(BRANCHES["rejected"]) / 100,
                "the size is right. Give it in per cent.",
            ),
            Mistake(
                lambda: 100 - coverage(BRANCHES["rejected"]),
                "that is the share of the intervals that miss the truth.",
            ),
            Mistake(
                lambda: BRANCHES["rejected"] * BRANCHES["fe"] / 100,
                "that counts only the panels in which the test rejects. The rule gives an "
                "interval in the other panels too.",
            ),
            Mistake(
                lambda: (100 - BRANCHES["rejected"]) * BRANCHES["re"] / 100,
                "that counts only the panels in which the test does not reject. The rule gives "
                "an interval in the other panels too.",
            ),
            Mistake(
                lambda: BRANCHES["fe"],
                "that is the coverage after a rejection alone.",
            ),
            Mistake(
                lambda: BRANCHES["re"],
                "that is the coverage in the panels without a rejection alone.",
            ),
        ),
    ),
    Exercise(
        id="2.4",
        question="What may the authors write about the twelve countries?",
        right=lambda: "c",
        success="the interval of the gap says how much the data leave open: here nearly "
        "everything.",
        kind="choice",
        options=("a", "b", "c", "d", "e"),
        mistakes=(
            Mistake(
                lambda: "a",
                "a test that does not reject has not shown that its hypothesis is true. With "
                "twelve countries it may have missed a large gap.",
            ),
            Mistake(
                lambda: "b",
                "that interval adds the two variances, as if the estimates came from different "
                "data. They use the same rows. What is the variance of the gap?",
            ),
            Mistake(
                lambda: "d",
                "that interval takes the difference of the two standard errors. It is the "
                "variances that are subtracted.",
            ),
            Mistake(
                lambda: "e",
                "the two estimates differ, but their difference is small beside its standard "
                "error, and no test of a gap can say which estimate is right.",
            ),
        ),
    ),
    Exercise(
        id="2.5",
        question="How far apart are the between and the within slope of union, once schooling "
        "and origin are in the model?",
        right=union_gap,
        success="no, they do not explain it: the distance has not become smaller. Members have "
        "no more schooling than other men. They are more often black, and black men earn "
        "less, so the distance even grows.",
        absolute=0.003,  # two decimals are enough
        wanted="a difference of two slopes",
        mistakes=(
            Mistake(
                lambda: union_gap(""),
                "that is the distance without the three new predictors.",
            ),
            Mistake(
                lambda: union_gap(" + educ"),
                "that is the distance with educ alone. Two predictors are missing.",
            ),
            Mistake(
                lambda: float(union_parts(CONTROLS)["union_between"]),
                "that is the between slope itself. Subtract the within slope.",
            ),
            Mistake(
                lambda: float(union_parts(CONTROLS)["union_within"]),
                "that is the within slope itself. Subtract it from the between slope.",
            ),
            Mistake(
                lambda: float(
                    union_parts(CONTROLS)["union_between"]
                    / union_parts(CONTROLS)["union_within"]
                ),
                "that is how many times as large one is. The question asks for the difference.",
            ),
            Mistake(
                lambda: float(
                    union_parts(CONTROLS, "")["union_between"]
                    - union_parts(CONTROLS, "")["union_within"]
                ),
                "that is the distance without the years. Keep C(year) in the model.",
            ),
            Mistake(
                lambda: -union_gap(),
                "that is within minus between. The question asks for between minus within.",
            ),
        ),
    ),
)
