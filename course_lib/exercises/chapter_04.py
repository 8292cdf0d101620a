"""Exercises of chapter 4: cleaning, reshaping, centring."""

from __future__ import annotations

import functools
import io

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import lmer
from course_lib.reshape import to_wide, within_between

__all__ = ["EXERCISES"]

AGES = (8, 14)  # exercise 4.4: first and last age
SECTOR = "Catholic"  # exercise 4.6
REPORT = """child,wave,score
C1,1,12
C1,2,14
c1 ,2,14
C1,3,15
C2,1,9
C2,2,99
C2,3,13
C3,1,11
C3,1,17
C3,2,3
C4,1,8
C4,2,10
C4,3,
C4,2,10
C5,1,16
C5,3,19
"""  # exercise 4.1: the table as the chapter shows it


@functools.cache
def balance(mend_labels: bool = True, first_wins: bool = False) -> dict[str, int]:
    """Clean the report of exercise 4.1 and count, in the order of the chapter."""
    table = pd.read_csv(io.StringIO(REPORT))
    if mend_labels:
        table["child"] = table["child"].str.strip().str.upper()
    key = ["child", "wave"]
    distinct = table.drop_duplicates()
    twice = distinct.duplicated(key, keep=False)
    unknown = distinct["score"].mask(twice & (not first_wins))
    single = distinct.assign(score=unknown).drop_duplicates(key)
    impossible = single["score"].notna() & ~single["score"].between(0, 20)
    children = table["child"].nunique()
    return {
        "copies": len(table) - len(distinct),
        "contradictions": len(distinct) - len(single),
        "impossible": int(impossible.sum()),
        "absent": 3 * children - len(single),
        "known": int((single["score"].notna() & ~impossible).sum()),
    }


def wrong(entry: str, count: int) -> dict[str, int]:
    """Return the balance sheet with one entry wrong."""
    return balance() | {entry: count}


@functools.cache
def growths() -> pd.Series:
    """Return each child's growth from the first to the last age (mm)."""
    wide = to_wide(load("orthodont"), "distance", id="Subject", wave="age")
    return wide[f"distance{AGES[1]}"] - wide[f"distance{AGES[0]}"]


@functools.cache
def growth_model() -> tuple[float, float, float]:
    """Return sd of the true growths, sd of the children's predicted ones, and σ (mm)."""
    fit = lmer("distance ~ age + (age | Subject)", load("orthodont"))
    years = AGES[1] - AGES[0]
    sd = fit.cov_re["Subject"].loc["age", "age"] ** 0.5
    return years * sd, years * fit.coef()["Subject"]["age"].std(), fit.scale**0.5


def total_growth() -> float:
    """Return the model's mean growth over the years (mm): its fixed slope times the years."""
    fit = lmer("distance ~ age + (age | Subject)", load("orthodont"))
    return float((AGES[1] - AGES[0]) * fit.fe_params["age"])


@functools.cache
def growth_variant(random: str, effect: str = "age", reml: bool = True) -> float:
    """Return the years times the sd of an effect in another fit (mm), a wrong answer."""
    fit = lmer(f"distance ~ age + ({random})", load("orthodont"), reml=reml)
    return float((AGES[1] - AGES[0]) * fit.cov_re["Subject"].loc[effect, effect] ** 0.5)


def slope_sd_by_root() -> float:
    """Return the sd of the slopes times the root of the years, a wrong answer."""
    return growth_model()[0] / (AGES[1] - AGES[0]) ** 0.5


@functools.cache
def slope_of_age(way: str, sex: str = "Female", effects: str = "1") -> float:
    """Fit the slope (mm per year) when the last distances of one sex are missing.

    `way` is "open", "own mean", "grand mean", "age mean" or "nothing missing"; `effects` are
    those that vary between children.
    """
    data = load("orthodont")
    gap = (data["age"] == AGES[1]) & (data["Sex"] == sex) & (way != "nothing missing")
    known = data["distance"].mask(gap)
    means = {
        "own mean": known.groupby(data["Subject"]).transform("mean"),
        "age mean": known.groupby(data["age"]).transform("mean"),
        "grand mean": known.mean(),
    }
    data["distance"] = known.fillna(means[way]) if way in means else known
    return float(lmer(f"distance ~ age + ({effects} | Subject)", data).fe_params["age"])


def filled_minus(way: str, filling: str = "own mean") -> float:
    """Slope with the gaps filled minus another slope."""
    return slope_of_age(filling) - slope_of_age(way)


def effect_of_filling(sex: str = "Female", effects: str = "1") -> float:
    """Slope with the gaps of one sex filled minus slope with these gaps open."""
    return slope_of_age("own mean", sex, effects) - slope_of_age("open", sex, effects)


def plain_slope_open() -> float:
    """Slope of age by least squares, children ignored, with the girls' gaps open."""
    data = load("orthodont")
    known = data[(data["age"] != AGES[1]) | (data["Sex"] != "Female")]
    return float(np.polyfit(known["age"], known["distance"], 1)[0])


@functools.cache
def ses_slopes(sector: str | None = None, effects: str = "1") -> pd.Series:
    """Return the within, between and single slope of SES, in all schools or one sector."""
    data = load("hsb82")
    data = data if sector is None else data[data["sector"] == sector]
    split = within_between(data, "ses", by="school")
    both = lmer(f"mAch ~ ses_within + ses_between + ({effects} | school)", split).fe_params
    single = lmer("mAch ~ ses + (1 | school)", split).fe_params["ses"]
    return pd.Series(
        {"within": both["ses_within"], "between": both["ses_between"], "single": single}
    )


def contextual(sector: str | None = None) -> float:
    """Contextual effect: between minus within."""
    slopes = ses_slopes(sector)
    return float(slopes["between"] - slopes["within"])


def contextual_error() -> float:
    """Return the standard error of the contextual effect in the sector."""
    data = load("hsb82")
    split = within_between(data[data["sector"] == SECTOR], "ses", by="school")
    fit = lmer("mAch ~ ses + ses_between + (1 | school)", split)
    return float(fit.bse_fe["ses_between"])


def adjusted() -> float:
    """Contextual effect in all schools with the sector in the model."""
    split = within_between(load("hsb82"), "ses", by="school")
    fit = lmer("mAch ~ ses + ses_between + sector + (1 | school)", split)
    return float(fit.fe_params["ses_between"])


EXERCISES = (
    Exercise(
        id="4.1",
        question="What is the balance sheet of the report on five children?",
        right=balance,
        success="15 rows should be there, and each is accounted for: known, empty in "
        "the report, contradicting, impossible or absent. A score of 3 is rare, but possible.",
        kind="mapping",
        tolerance=1e-9,
        wanted="a count for each entry",
        mistakes=(
            Mistake(
                lambda: balance(mend_labels=False),
                "you cleaned well, but before the labels were written alike. Which two labels "
                "are one child?",
            ),
            Mistake(
                lambda: balance() | {"impossible": 0, "known": balance()["known"] + 1},
                "you kept a score of 99. A score lies between 0 and 20.",
            ),
            Mistake(
                lambda: wrong("impossible", 0),
                "one known score lies outside 0 to 20. Count it.",
            ),
            Mistake(
                lambda: balance() | {"contradictions": 0, "known": balance()["known"] + 1},
                "you kept one of two contradicting scores and counted no contradiction. "
                "Nothing says which score is right.",
            ),
            Mistake(
                lambda: balance() | {"contradictions": 0, "known": balance()["known"] + 2},
                "you kept both of two contradicting scores. Which pair of child and wave has "
                "two rows after the copies are gone?",
            ),
            Mistake(
                lambda: wrong("contradictions", 0),
                "one pair of child and wave has two different scores. Count it.",
            ),
            Mistake(
                lambda: wrong("contradictions", balance()["contradictions"] + 1),
                "count pairs of child and wave. Two contradicting rows are one pair.",
            ),
            Mistake(
                lambda: wrong("copies", balance(mend_labels=False)["copies"]),
                "a copy with a badly written label was missed. Which step must come first?",
            ),
            Mistake(
                lambda: wrong("absent", balance(mend_labels=False)["absent"]),
                "you expected rows for six children. Which two labels are one child?",
            ),
            Mistake(
                lambda: wrong("absent", balance()["absent"] + 1),
                "a row whose score is empty is there; it is not absent.",
            ),
            Mistake(
                lambda: wrong("known", balance(first_wins=True)["known"]),
                "one score too many is known. Is each between 0 and 20, and does none "
                "contradict another?",
            ),
            Mistake(
                lambda: wrong("known", balance()["known"] + 2),
                "you counted both of two contradicting scores as known.",
            ),
            Mistake(
                lambda: wrong("impossible", balance()["impossible"] + 1),
                "you took a rare score for an impossible one. What are the limits?",
            ),
            Mistake(
                lambda: wrong("contradictions", balance()["contradictions"] + 2),
                "equal rows do not contradict each other. Count pairs with different scores.",
            ),
        ),
    ),
    Exercise(
        id="4.2",
        question="In which study is the slope right on average, and the usual interval perhaps "
        "too narrow?",
        right=lambda: "C",
        success="what ended the forms is a pain score that the table still holds, so the slope "
        "is right on average; and as earlier responses decide who stays, the profile interval "
        "is the one to report.",
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "rain in the post knows nothing of pain. These scores are missing by accident, "
                "and then the usual interval did well.",
            ),
            Mistake(
                lambda: "B",
                "the reason is the pain of that very day, and it is lost with the form. Is the "
                "slope right on average then?",
            ),
            Mistake(
                lambda: "D",
                "a lottery knows nothing of pain. These scores are missing by accident, though "
                "they are many.",
            ),
        ),
    ),
    Exercise(
        id="4.3",
        question="How much does filling change the slope (filled minus open, in mm per year)?",
        right=lambda: filled_minus("open"),
        success="the filled distances are those of younger girls, and they flatten the growth. "
        "But the slope with the gaps open is not that of the complete data either; it is too "
        "steep. Sex decides about the gaps, and the model does not use it. Fit `age * Sex` to "
        "the gaps: the girls' slope is then nearly the complete one. (Filling with the mean of "
        "all girls gives the same number as the child's own mean; the solution says why.)",
        tolerance=0.005,
        wanted="a difference of two slopes, in mm per year",
        mistakes=(
            Mistake(
                lambda: -filled_minus("open"),
                "open minus filled. The question asks for it the other way round.",
            ),
            Mistake(
                lambda: slope_of_age("own mean"),
                "that is the slope with the gaps filled. What is it to be compared with?",
            ),
            Mistake(
                lambda: slope_of_age("open"),
                "that is the slope with the gaps open. What is it to be compared with?",
            ),
            Mistake(
                lambda: slope_of_age("own mean") / slope_of_age("open"),
                "that is a ratio of the two slopes. Give their difference.",
            ),
            Mistake(
                lambda: 100 * filled_minus("open") / slope_of_age("open"),
                "that is the change in per cent. Give it in mm per year.",
            ),
            Mistake(
                lambda: (AGES[1] - AGES[0]) * filled_minus("open"),
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
                lambda: slope_of_age("own mean") - plain_slope_open(),
                "your slope with the gaps open is that of plain regression. Use the mixed "
                "model both times.",
            ),
            Mistake(
                lambda: slope_of_age("open") - slope_of_age("nothing missing"),
                "you compared the gaps with the complete data. Where is the filling?",
            ),
            Mistake(
                lambda: filled_minus("open", "grand mean"),
                "you filled with the mean of all children. Take each child's own.",
            ),
            Mistake(
                lambda: filled_minus("open", "age mean"),
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
        question="What is the standard deviation of the children's true growth from age "
        f"{AGES[0]} to {AGES[1]}, in mm, as the model estimates it?",
        right=lambda: growth_model()[0],
        success="the raw differences scatter more, because each holds the noise of two "
        "measurements; the model takes noise and children apart.",
        wanted="a standard deviation in mm",
        mistakes=(
            Mistake(
                lambda: growths().std(),
                "that is the spread of the raw differences. It holds the noise of two "
                "measurements as well.",
            ),
            Mistake(
                lambda: growth_model()[1],
                "that is the spread of the children's predicted growths. They are shrunken, so "
                "they scatter less than the true ones.",
            ),
            Mistake(
                lambda: growth_model()[0] / (AGES[1] - AGES[0]),
                "that is the spread per year. The question is about all the years from "
                f"{AGES[0]} to {AGES[1]}.",
            ),
            Mistake(
                lambda: growth_model()[0] ** 2,
                "that is the variance, in mm². Take its square root.",
            ),
            Mistake(
                lambda: (growth_model()[0] / (AGES[1] - AGES[0])) ** 2 * (AGES[1] - AGES[0]),
                "you multiplied the variance of the slopes by the years. First take its square "
                "root.",
            ),
            Mistake(
                lambda: growth_model()[2],
                "that is the residual standard deviation, the noise of one measurement.",
            ),
            Mistake(
                lambda: (growths().var() - growth_model()[2] ** 2) ** 0.5,
                "you took away the noise of one measurement. A difference holds the noise of "
                "two.",
            ),
            Mistake(
                lambda: (growths().var() - 2 * growth_model()[2] ** 2) ** 0.5,
                "you took the noise of two measurements from the raw differences. That is a "
                "sound idea and comes near. But the question asks for the estimate of the "
                "model, which uses the ages between as well.",
            ),
            Mistake(
                lambda: growth_variant("age | Subject", reml=False),
                "you fitted by maximum likelihood, which makes the spread of few children too "
                "small. Take the default, REML.",
            ),
            Mistake(
                lambda: growth_variant("age || Subject"),
                "you left out the correlation of intercepts and slopes. Use one bar.",
            ),
            Mistake(
                lambda: growth_variant("age | Subject", effect="Intercept"),
                "you took the standard deviation of the intercepts. Growth is in the slopes.",
            ),
            Mistake(
                total_growth,
                "that is the fixed slope times six: how much they grow on average. How much do "
                "they differ?",
            ),
            Mistake(
                slope_sd_by_root,
                "you multiplied the standard deviation of the slopes by the root of the years. "
                "A slope grows by the years themselves.",
            ),
            Mistake(
                lambda: growths().mean(),
                "that is how much they grow on average. How much do they differ?",
            ),
        ),
    ),
    Exercise(
        id="4.5",
        question="Which of the four sentences about coffee and sleep do the numbers permit?",
        right=lambda: "C",
        success="equal coffee today is a comparison at equal raw values, so it asks for the "
        "contextual effect: 0.3 − (−0.2) = 0.5 hours. It describes people and says nothing of "
        "what a change would bring.",
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "nobody was told how much to drink. Days with more coffee can differ in other "
                "things, such as work at night.",
            ),
            Mistake(
                lambda: "B",
                "0.3 compares people whose coffee differs by one cup on average. Here both "
                "drank equally much today, so one of them was above and one below the usual. "
                "What does the within slope say about that?",
            ),
            Mistake(
                lambda: "D",
                "the two slopes answer two questions: one compares days of a person, the other "
                "compares persons. Both can be right.",
            ),
        ),
    ),
    Exercise(
        id="4.6",
        question="How large is the contextual effect of SES in the Catholic schools, in points "
        "of mathematics?",
        right=lambda: contextual(SECTOR),
        success="so many points lie, on average, between two students of equal SES in Catholic "
        "schools whose mean SES is one point apart.",
        tolerance=0.005,
        wanted="a difference in points of mathematics",
        mistakes=(
            Mistake(
                lambda: ses_slopes(SECTOR)["between"],
                "that is the between slope. It compares schools whose students differ in their "
                "own SES as well.",
            ),
            Mistake(lambda: ses_slopes(SECTOR)["within"], "that is the within slope."),
            Mistake(
                lambda: -contextual(SECTOR),
                "that is within minus between. It is the other way round.",
            ),
            Mistake(
                contextual_error,
                "that is the standard error of the contextual effect.",
            ),
            Mistake(
                adjusted,
                "that is the effect in all schools, with the sector held constant. Choose the "
                "Catholic schools first.",
            ),
            Mistake(
                lambda: ses_slopes()["between"],
                "that is the between slope in all schools. Choose the sector; and a contextual "
                "effect is a difference.",
            ),
            Mistake(contextual, "that is the contextual effect in all schools."),
            Mistake(lambda: contextual("Public"), "that is the effect in the public schools."),
            Mistake(
                lambda: ses_slopes(SECTOR)["between"] - ses_slopes(SECTOR)["single"],
                "you subtracted the slope of the model with ses alone, which is a mixture. "
                "Subtract the within slope.",
            ),
            Mistake(
                lambda: ses_slopes(SECTOR)["single"],
                "that is the slope of the model with ses alone, a mixture of the two levels.",
            ),
            Mistake(
                lambda: (
                    ses_slopes(SECTOR, "ses")["between"] - ses_slopes(SECTOR, "ses")["within"]
                ),
                "you let the slope of ses differ between schools. The question asks for a "
                "random intercept alone.",
            ),
            Mistake(
                lambda: (
                    ses_slopes(SECTOR, "ses_within")["between"]
                    - ses_slopes(SECTOR, "ses_within")["within"]
                ),
                "you let the within slope differ between schools. The question asks for a "
                "random intercept alone.",
            ),
        ),
    ),
)
