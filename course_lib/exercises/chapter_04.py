"""Exercises of chapter 4: cleaning, reshaping, centring."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import lmer
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


def sums_multiplied() -> float:
    """Mean over the orders of the sum of prices times the sum of quantities."""
    sums = items().groupby(["user", "orders_id"])[["items_price", "items_quantity"]].sum()
    return float((sums["items_price"] * sums["items_quantity"]).mean())


def growths(sex: str | None = None) -> pd.Series:
    """Return each child's growth from the first to the last age (mm)."""
    wide = ages_apart(sex)
    return wide[f"distance{AGES[1]}"] - wide[f"distance{AGES[0]}"]


def ages_apart(sex: str | None = None) -> pd.DataFrame:
    """Return the orthodont data with one row per child, all or of one sex."""
    wide = to_wide(load("orthodont"), "distance", id="Subject", wave="age")
    return wide if sex is None else wide[wide["Sex"] == sex]


@functools.cache
def slope_of_age(way: str, sex: str = "Female", effects: str = "1") -> float:
    """Fit the slope (mm per year) when the last distances of one sex are missing.

    `way` is "left", "own mean", "grand mean", "age mean" or "nothing missing"; `effects` are
    those that vary between children.
    """
    data = load("orthodont")
    gap = (data["age"] == AGES[1]) & (data["Sex"] == sex) & (way != "nothing missing")
    data["distance"] = data["distance"].mask(gap)
    if way == "own mean":
        data, _ = impute_within(data, "distance", by="Subject")
    if way == "grand mean":
        data["distance"] = data["distance"].fillna(data["distance"].mean())
    if way == "age mean":
        data, _ = impute_within(data, "distance", by="age")
    return float(lmer(f"distance ~ age + ({effects} | Subject)", data).fe_params["age"])


def filled_minus(way: str, filling: str = "own mean") -> float:
    """Slope with the gaps filled minus another slope."""
    return slope_of_age(filling) - slope_of_age(way)


def effect_of_filling(sex: str = "Female", effects: str = "1") -> float:
    """Slope with the gaps of one sex filled minus slope with these gaps left."""
    return slope_of_age("own mean", sex, effects) - slope_of_age("left", sex, effects)


def plain_slope_left() -> float:
    """Slope of age by least squares, children ignored, with the girls' gaps left."""
    data = load("orthodont")
    known = data[(data["age"] != AGES[1]) | (data["Sex"] != "Female")]
    return float(np.polyfit(known["age"], known["distance"], 1)[0])


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


def sector_split() -> pd.DataFrame:
    """Return the schools of the sector, SES split."""
    data = load("hsb82")
    return within_between(data[data["sector"] == SECTOR], "ses", by="school")


def contextual_error() -> float:
    """Return the standard error of the contextual effect in the sector."""
    fit = lmer("mAch ~ ses + ses_between + (1 | school)", sector_split())
    return float(fit.bse_fe["ses_between"])


def contextual_plain() -> float:
    """Contextual effect in the sector by least squares, students as independent."""
    split = sector_split()
    x = np.column_stack([np.ones(len(split)), split["ses"], split["ses_between"]])
    return float(np.linalg.lstsq(x, split["mAch"].to_numpy())[0][2])


def share_of_schools(formula: str) -> float:
    """Share of a model's variance that lies in the schools' intercepts."""
    fit = lmer(formula, load("hsb82"))
    var_schools = fit.cov_re["school"].iloc[0, 0]
    return float(var_schools / (var_schools + fit.scale))


def weight_of_between() -> float:
    """Weight λ with single = λ between + (1 − λ) within."""
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
        wanted="a mean cost in euro",
        mistakes=(
            Mistake(
                lambda: mean_cost(["orders_id"]),
                "you put together the orders that share a number. What names an order?",
            ),
            Mistake(
                lambda: items()["cost"].sum(),
                "that is what all orders cost together. What does one cost on average?",
            ),
            Mistake(
                sums_multiplied,
                "you multiplied the sum of the prices by the sum of the quantities. Multiply "
                "row by row, then sum.",
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
        success="that is how much children differ: one difference a child, then the spread. "
        "(Dividing by 27 in place of 26 gives nearly the same number, and is accepted.)",
        tolerance=0.02,
        wanted="a standard deviation in mm",
        mistakes=(
            Mistake(
                lambda: growths().mean(),
                "that is how much they grow on average. How much do they differ?",
            ),
            Mistake(
                lambda: growths().var(), "that is the variance, in mm². Take its square root."
            ),
            Mistake(
                lambda: growths().std() / (AGES[1] - AGES[0]),
                "that is the spread of the growth per year. The question is about all the "
                f"years from {AGES[0]} to {AGES[1]}.",
            ),
            Mistake(lambda: growths().std() / 10, "that is in cm. Give it in mm."),
            Mistake(
                lambda: ages_apart()[f"distance{AGES[1]}"].std(),
                f"that is the spread of the distances at {AGES[1]}, not of the growth.",
            ),
            Mistake(
                lambda: load("orthodont").groupby("Subject")["distance"].diff().std(),
                "that is the spread of the steps of two years. Take the whole growth of each "
                "child.",
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
        success="the filled distances are those of younger girls, and they flatten the growth. "
        "But the slope with the gaps left is not that of the complete data either; it is too "
        "steep. Sex decides about the gaps, and the model does not use it. Fit `age * Sex` to "
        "the gaps: the girls' slope is then nearly the complete one. (Filling with the mean of "
        "all girls gives the same number as the child's own mean; the solution says why.)",
        tolerance=0.005,
        wanted="a difference of two slopes, in mm per year",
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
                lambda: slope_of_age("own mean") / slope_of_age("left"),
                "that is a ratio of the two slopes. Give their difference.",
            ),
            Mistake(
                lambda: 100 * filled_minus("left") / slope_of_age("left"),
                "that is the change in per cent. Give it in mm per year.",
            ),
            Mistake(
                lambda: (AGES[1] - AGES[0]) * filled_minus("left"),
                f"that is the change of the growth from {AGES[0]} to {AGES[1]}. Give it per "
                "year.",
            ),
            Mistake(
                lambda: effect_of_filling("Male"),
                "you set the distances of the boys to missing. It is the girls' that are gone.",
            ),
            Mistake(
                lambda: effect_of_filling(effects="age"),
                "you let the slope differ between children. The question asks for a random "
                "intercept alone.",
            ),
            Mistake(
                lambda: slope_of_age("own mean") - plain_slope_left(),
                "your slope with the gaps left is that of plain regression. Use the mixed "
                "model both times.",
            ),
            Mistake(
                lambda: slope_of_age("left") - slope_of_age("nothing missing"),
                "you compared the gaps with the complete data. Where is the filling?",
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
        tolerance=0.005,
        wanted="a difference in points of mathematics",
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
            Mistake(
                contextual_error,
                "that is the standard error of the contextual effect.",
            ),
            Mistake(
                contextual_plain,
                "that is from plain regression, without an intercept for each school.",
            ),
            Mistake(
                lambda: contextual(SECTOR) - contextual("Public"),
                "that is how much the sectors differ. The question is about one of them.",
            ),
            Mistake(
                lambda: ses_slopes()["between"],
                "that is the between slope in all schools. Choose the sector; and a contextual "
                "effect is a difference.",
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
        tolerance=0.02,
        wanted="a proportion between 0 and 1",
        mistakes=(
            Mistake(lambda: 1 - weight_of_between(), "that is the weight of the within slope."),
            Mistake(
                lambda: round(weight_of_between(), 1), "this is rounded. Give three decimals."
            ),
            Mistake(
                lambda: share_of_schools("mAch ~ ses + (1 | school)"),
                "that is the schools' share of the variance of mathematics in the model. The "
                "weight is found from the three slopes.",
            ),
            Mistake(
                lambda: share_of_schools("mAch ~ 1 + (1 | school)"),
                "that is the schools' share of the variance of mathematics. The weight is "
                "found from the three slopes.",
            ),
            Mistake(
                lambda: share_between("ses"),
                "that is the weight in the total slope of plain regression.",
            ),
            Mistake(
                lambda: weight_of_between() * contextual() / ses_slopes()["between"],
                "you divided by the between slope. By how much does the mixture move when "
                "the weight goes from 0 to 1?",
            ),
            Mistake(
                lambda: weight_of_between() * contextual(),
                "that is the distance of the mixture from the within slope, in points of "
                "mathematics. Which part of the way to the between slope is it?",
            ),
            Mistake(
                lambda: ses_slopes()["single"] / ses_slopes()["between"],
                "that is a ratio of two slopes. Write down the mixture and solve it for the "
                "weight.",
            ),
        ),
    ),
)
