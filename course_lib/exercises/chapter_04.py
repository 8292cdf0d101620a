"""Exercises of chapter 4: cleaning, reshaping, centring."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.lmer import lmer
from course_lib.reshape import (
    flatten_nested,
    impute_within,
    to_wide,
    variance_by_level,
    within_between,
)

__all__ = ["EXERCISES"]

AGES = (8, 14)  # exercise 4.2: first and last age
SECTOR = "Catholic"  # exercise 4.4


@functools.cache
def items() -> pd.DataFrame:
    """Return the shop's items, one row each, with what each row costs."""
    rows, _ = flatten_nested(
        load("orders"), ["orders", "items"], ["user", "id", "name"], empty="drop"
    )
    return rows.assign(cost=rows["items_price"] * rows["items_quantity"])


def mean_cost(keys: list[str], column: str = "cost") -> float:
    """Mean over the units that `keys` name of the sum of a column."""
    return float(items().groupby(keys)[column].sum().mean())


def growths(sex: str | None = None) -> pd.Series:
    """Return each child's growth from the first to the last age (mm)."""
    wide = ages_apart(sex)
    return wide[f"distance{AGES[1]}"] - wide[f"distance{AGES[0]}"]


def ages_apart(sex: str | None = None) -> pd.DataFrame:
    """Return the orthodont data with one row a child, all or of one sex."""
    wide = to_wide(load("orthodont"), "distance", id="Subject", wave="age")
    return wide if sex is None else wide[wide["Sex"] == sex]


@functools.cache
def slope_of_age(way: str) -> float:
    """Fit the slope (mm per year) when the girls' last distances are missing.

    `way` is "left", "own mean", "grand mean", "age mean" or "nothing missing".
    """
    data = load("orthodont")
    gap = (data["age"] == AGES[1]) & (data["Sex"] == "Female") & (way != "nothing missing")
    data["distance"] = data["distance"].mask(gap)
    if way == "own mean":
        data, _ = impute_within(data, "distance", by="Subject")
    if way == "grand mean":
        data["distance"] = data["distance"].fillna(data["distance"].mean())
    if way == "age mean":
        data, _ = impute_within(data, "distance", by="age")
    return float(lmer("distance ~ age + (1 | Subject)", data).fe_params["age"])


def filled_minus(way: str, filling: str = "own mean") -> float:
    """Slope with the gaps filled minus another slope."""
    return slope_of_age(filling) - slope_of_age(way)


@functools.cache
def ses_slopes(sector: str | None = None) -> pd.Series:
    """Return the within, between and single slope of SES, in all schools or one sector."""
    data = load("hsb82")
    data = data if sector is None else data[data["sector"] == sector]
    split = within_between(data, "ses", by="school")
    both = lmer("mAch ~ ses_within + ses_between + (1 | school)", split).fe_params
    single = lmer("mAch ~ ses + (1 | school)", split).fe_params["ses"]
    return pd.Series(
        {"within": both["ses_within"], "between": both["ses_between"], "single": single}
    )


def contextual(sector: str | None = None) -> float:
    """Contextual effect: between minus within."""
    slopes = ses_slopes(sector)
    return float(slopes["between"] - slopes["within"])


def weight_of_between() -> float:
    """Weight w with single = w between + (1 − w) within."""
    slopes = ses_slopes()
    return float((slopes["single"] - slopes["within"]) / contextual())


def share_between(column: str) -> float:
    """Share of the variance of a column that lies between schools."""
    table = variance_by_level(load("hsb82"), column, by="school").set_index("level")
    return float(table.loc["between", "share"])


EXERCISES = (
    Exercise(
        id="4.1",
        question="What does an order of the shop cost on average, in euro?",
        right=lambda: mean_cost(["user", "orders_id"]),
        success="a mean over the orders, each named by its user and its number together.",
        mistakes=(
            Mistake(
                lambda: mean_cost(["orders_id"]),
                "you put together the orders that share a number. What names an order?",
            ),
            Mistake(
                lambda: items()["cost"].mean(),
                "that is what an item of an order costs on average, one level too low.",
            ),
            Mistake(
                lambda: mean_cost(["user"]),
                "that is what a user spends on average, one level too high.",
            ),
            Mistake(
                lambda: mean_cost(["user", "orders_id"], "items_price"),
                "the prices are summed without the quantities.",
            ),
            Mistake(
                lambda: items().groupby(["user", "orders_id"])["cost"].sum().median(),
                "that is the median order. The question is about the mean.",
            ),
            Mistake(
                lambda: items()["cost"].sum() / len(load("orders")),
                "that is the mean over all users of the list, also those without an order.",
            ),
            Mistake(
                lambda: (
                    items().groupby(["user", "orders_id"])["cost"].sum().groupby("user").mean()
                ).mean(),
                "that is the mean over users of their mean order: a user with one order counts "
                "as much as a user with four. The question is about orders.",
            ),
        ),
    ),
    Exercise(
        id="4.2",
        question="What is the standard deviation of the 27 children's growths from age "
        f"{AGES[0]} to {AGES[1]}, in mm?",
        right=lambda: growths().std(),
        success="that is how much children differ: one difference a child, then the spread.",
        tolerance=0.02,
        mistakes=(
            Mistake(
                lambda: growths().mean(),
                "that is how much they grow on average. How much do they differ?",
            ),
            Mistake(
                lambda: growths().var(), "that is the variance, in mm². Take its square root."
            ),
            Mistake(
                lambda: growths().sem(),
                "that is the standard error of the mean growth, not the spread of children.",
            ),
            Mistake(
                lambda: np.hypot(*(ages_apart()[f"distance{age}"].std() for age in AGES)),
                "you added the variances of the two ages, as if they were measured on "
                "different children. Take each child's own difference first.",
            ),
            Mistake(
                lambda: float(
                    np.subtract(*(ages_apart()[f"distance{age}"].std() for age in AGES[::-1]))
                ),
                "that is the difference of two spreads. The question is about the spread of "
                "the differences.",
            ),
            Mistake(
                lambda: load("orthodont")["distance"].std(),
                "that is the spread of all distances, at all ages.",
            ),
            Mistake(lambda: growths("Male").std(), "those are the boys alone."),
            Mistake(lambda: growths("Female").std(), "those are the girls alone."),
        ),
    ),
    Exercise(
        id="4.3",
        question="How much does filling change the slope (filled minus left, in mm per year)?",
        right=lambda: filled_minus("left"),
        success="the filled distances are those of younger girls, and they flatten the growth.",
        tolerance=0.03,
        mistakes=(
            Mistake(
                lambda: -filled_minus("left"),
                "left minus filled. The question asks for it the other way round.",
            ),
            Mistake(
                lambda: slope_of_age("own mean"),
                "that is the slope with the gaps filled. What is it to be compared with?",
            ),
            Mistake(
                lambda: slope_of_age("left"),
                "that is the slope with the gaps left. What is it to be compared with?",
            ),
            Mistake(
                lambda: filled_minus("left", "grand mean"),
                "you filled with the mean of all children. Take each child's own.",
            ),
            Mistake(
                lambda: filled_minus("left", "age mean"),
                "you filled with the mean of the others at that age. Take each child's own "
                "mean.",
            ),
            Mistake(
                lambda: filled_minus("nothing missing"),
                "you compared with the complete data. Compare with the fit to the gaps.",
            ),
        ),
    ),
    Exercise(
        id="4.4",
        question="How large is the contextual effect of SES in the Catholic schools, in points "
        "of mathematics?",
        right=lambda: contextual(SECTOR),
        success="so many points between two students of equal SES, in Catholic schools whose "
        "mean SES is one point apart.",
        tolerance=0.02,
        mistakes=(
            Mistake(
                lambda: ses_slopes(SECTOR)["between"],
                "that is the between slope. It still contains what own SES brings.",
            ),
            Mistake(lambda: ses_slopes(SECTOR)["within"], "that is the within slope."),
            Mistake(
                lambda: -contextual(SECTOR),
                "within minus between. It is the other way round.",
            ),
            Mistake(contextual, "that is the contextual effect in all schools."),
            Mistake(lambda: contextual("Public"), "that is for the public schools."),
            Mistake(
                lambda: ses_slopes(SECTOR)["between"] - ses_slopes(SECTOR)["single"],
                "you subtracted the slope of the model with ses alone, which is a mixture. "
                "Subtract the within slope.",
            ),
            Mistake(
                lambda: ses_slopes(SECTOR)["single"],
                "that is the slope of the model with ses alone, a mixture of the two levels.",
            ),
        ),
    ),
    Exercise(
        id="4.5",
        question="Which weight has the between slope in the mixed model with ses alone?",
        right=weight_of_between,
        success="so little does the mixed model trust the comparison of schools when it must "
        "use one slope for both levels; plain regression trusts it several times as much.",
        tolerance=0.1,
        mistakes=(
            Mistake(lambda: 1 - weight_of_between(), "that is the weight of the within slope."),
            Mistake(
                lambda: share_between("ses"),
                "that is the weight in the total slope of plain regression.",
            ),
            Mistake(
                lambda: weight_of_between() * contextual() / ses_slopes()["between"],
                "you divided by the between slope. By how much does the mixture move when w "
                "goes from 0 to 1?",
            ),
            Mistake(
                lambda: weight_of_between() * contextual(),
                "that is the distance of the mixture from the within slope, in points of "
                "mathematics. Which part of the way to the between slope is it?",
            ),
            Mistake(
                lambda: ses_slopes()["single"] / ses_slopes()["between"],
                "that is a ratio of two slopes. Write down the mixture and solve it for w.",
            ),
        ),
    ),
)
