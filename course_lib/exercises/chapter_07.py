"""Exercises of chapter 7: what a check permits to say, unequal variances, influence."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.diagnostics.influence import influence
from course_lib.diagnostics.residuals import residual_frame
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import LmerResult, lmer

__all__ = ["EXERCISES"]


@functools.cache
def slope_fit() -> LmerResult:
    """Fit the random-slope model to the sleep study."""
    return lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))


# 7.1: which residual answers which question.

QUESTIONS = "CMBC"
HINTS = (
    {
        "M": "M compares 332 with the average person. Is the question about other people?",
        "B": "b̂ speaks of a person's whole course, and the question is about one row.",
    },
    {
        "C": "C starts from the person's own line. Is there one?",
        "B": "a mode is estimated from a person's rows. The model saw none of this person.",
    },
    {
        "M": "M mixes what is special to a person and to a day. Which belongs to the person?",
        "C": "the person's own course has already been taken out of C.",
    },
    {
        "M": "M still contains the person's line, so all rows of a person are alike in it.",
        "B": "b̂ has no days. Slow days are about rows.",
    },
)
WRONG = [
    letters
    for letters in map("".join, itertools.product("MCB", repeat=len(QUESTIONS)))
    if letters != QUESTIONS
]


def hint_to(letters: str) -> str:
    """Return the hints to the questions whose letter is wrong."""
    pairs = enumerate(zip(letters, HINTS, strict=True), 1)
    return " ".join(f"{k}: {hints[one]}" for k, (one, hints) in pairs if one in hints)


# 7.3: boys and girls.


@functools.cache
def own_residuals() -> pd.DataFrame:
    """Return the orthodont data with the residuals around each child's own line."""
    data = load("orthodont")
    children = data.groupby("Subject")
    age = data["age"] - children["age"].transform("mean")
    size = data["distance"] - children["distance"].transform("mean")
    slope = (age * size).groupby(data["Subject"]).sum() / (age**2).groupby(
        data["Subject"]
    ).sum()
    return data.assign(own=size - data["Subject"].map(slope) * age)


def sex_ratio(values: pd.Series) -> float:
    """Return the standard deviation of boys over that of girls."""
    spread = values.groupby(load("orthodont")["Sex"]).std()
    return float(spread["Male"] / spread["Female"])


def pooled_ratio(without: str = "") -> float:
    """Return the ratio of the pooled standard deviations around the own lines."""
    # Residuals of each child have mean zero, and the divisor is the same for every child.
    rows = own_residuals().query("Subject != @without")
    mean_square = (rows["own"] ** 2).groupby(rows["Sex"]).mean()
    return float(np.sqrt(mean_square["Male"] / mean_square["Female"]))


def ratio_of_sums() -> float:
    """Return the ratio without dividing by the number of children."""
    squares = (own_residuals()["own"] ** 2).groupby(own_residuals()["Sex"]).sum()
    return float(np.sqrt(squares["Male"] / squares["Female"]))


def pooled_sds() -> pd.Series:
    """Return the pooled standard deviation around the own lines of each sex (mm)."""
    rows = own_residuals()
    degrees = rows.groupby("Sex")["Subject"].nunique() * 2  # 4 rows less 2 coefficients
    return np.sqrt((rows["own"] ** 2).groupby(rows["Sex"]).sum() / degrees)


def ratio_of_common_lines() -> float:
    """Return the ratio of the standard deviations around one line for each sex."""
    data = load("orthodont")
    sds = {}
    for sex, rows in data.groupby("Sex", observed=True):
        squares = np.polyfit(rows["age"], rows["distance"], 1, full=True)[1][0]
        sds[sex] = np.sqrt(squares / (len(rows) - 2))
    return float(sds["Male"] / sds["Female"])


def ratio_of_mean_sds() -> float:
    """Return the ratio of the children's average standard deviations."""
    sds = own_residuals().groupby(["Sex", "Subject"])["own"].std().groupby("Sex").mean()
    return float(sds["Male"] / sds["Female"])


# 7.4: the most influential child.


@functools.cache
def growth_fit() -> LmerResult:
    """Fit growth by sex to the orthodont data."""
    return lmer("distance ~ age * Sex + (age | Subject)", load("orthodont"))


@functools.cache
def left_out() -> pd.DataFrame:
    """Return the changes by leaving out each child."""
    return influence(growth_fit())


def fall(child: str) -> float:
    """Return the share by which the residual variance falls without a child."""
    return float(-left_out().loc[child, "vcov: Residual"] / growth_fit().scale)


@functools.cache
def fall_without_sex() -> float:
    """Return that share in the model without sex."""
    fit = lmer("distance ~ age + (age | Subject)", load("orthodont"))
    table = influence(fit)
    return float(-table.loc[table["cooks_distance"].idxmax(), "vcov: Residual"] / fit.scale)


def most_influential() -> str:
    """Return the child with the largest Cook's distance."""
    return left_out()["cooks_distance"].idxmax()


def second_by_cook() -> str:
    """Return the child with the second-largest Cook's distance."""
    return left_out()["cooks_distance"].nlargest(2).index[1]


def largest_residual() -> str:
    """Return the child with the largest standardised residual."""
    frame = residual_frame(growth_fit())
    return frame.loc[frame["resid_std"].abs().idxmax(), "Subject"]


# 7.5: without one subject and the wild rows.

DOUBTED = "335"


def answer(fit: LmerResult) -> dict[str, float]:
    """Return mean slope, its standard error and σ."""
    return {
        "slope": float(fit.fe_params["Days"]),
        "error": float(fit.bse_fe["Days"]),
        "sigma": float(np.sqrt(fit.scale)),
    }


@functools.cache
def wild_rows() -> pd.Series:
    """Return which rows are more than three σ from the person's line, as predicted."""
    return slope_fit().resid.abs() > 3 * np.sqrt(slope_fit().scale)


def without(subjects: tuple[str, ...], rows: bool = True, reml: bool = True) -> LmerResult:
    """Refit without these subjects and, if asked, the wild rows."""
    sleep = load("sleepstudy")
    keep = ~sleep["Subject"].isin(subjects) & ~(wild_rows() & rows)
    return lmer("Reaction ~ Days + (Days | Subject)", sleep[keep], reml=reml)


def people_with_wild_rows() -> tuple[str, ...]:
    """Return the subjects to whom the wild rows belong."""
    return tuple(load("sleepstudy")["Subject"][wild_rows()].unique())


def first_by_cook() -> str:
    """Return the subject with the largest Cook's distance."""
    return influence(slope_fit())["cooks_distance"].idxmax()


EXERCISES = (
    Exercise(
        id="7.1",
        question="Which residual answers which question?",
        right=lambda: QUESTIONS,
        success="unusual for this person is asked of the own line, unusual among people of "
        "the average line, and an unusual person of the modes.",
        kind="choice",
        options=(QUESTIONS, *WRONG),
        mistakes=tuple(
            Mistake(functools.partial(str, letters), hint_to(letters)) for letters in WRONG
        ),
        wanted="four letters, each M, C or B",
    ),
    Exercise(
        id="7.2",
        question="Which step comes first?",
        right=lambda: "B",
        success="a missed curve makes neighbours alike, because residuals drift along "
        "x. If an alarm stays after this repair, look at it then.",
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "which of the two alarms can cause the other? Think of residuals that are "
                "high, then low, then high along x.",
            ),
            Mistake(
                lambda: "C",
                "rows also leave a band where the line lies too low or too high. Which alarm "
                "has to be mended before you can judge single rows?",
            ),
            Mistake(
                lambda: "D",
                "a right model raises an alarm now and then, but two with the smallest p "
                "that 199 studies allow are hardly chance.",
            ),
        ),
    ),
    Exercise(
        id="7.3",
        question="How many times as large as the girls' is the boys' residual sd?",
        right=pooled_ratio,
        success="boys scatter more than twice as much around their own lines. Either boys "
        "differ from girls, or one boy has wild rows: without M09 nearly half the excess goes "
        "(compute it). Whether the rest is chance, exercise 7.6 asks an envelope.",
        tolerance=0.0025,
        mistakes=(
            Mistake(
                lambda: pooled_ratio() ** 2,
                "that is the ratio of the variances.",
            ),
            Mistake(
                lambda: 1 / pooled_ratio(),
                "that is girls over boys.",
            ),
            Mistake(
                lambda: pooled_ratio(without="M09"),
                "boy M09 is missing. The question is about all 27 children.",
            ),
            Mistake(
                ratio_of_sums,
                "there are more boys than girls. Divide by the degrees of freedom.",
            ),
            Mistake(
                ratio_of_mean_sds,
                "you averaged the children's standard deviations. Pool the squares first.",
            ),
            Mistake(
                ratio_of_common_lines,
                "that is around one line for each sex. Give each *child* an own line.",
            ),
            Mistake(
                lambda: pooled_sds()["Male"] - pooled_sds()["Female"],
                "that is the difference. The question asks how many times as large.",
            ),
            Mistake(
                lambda: pooled_sds()["Male"],
                "that is the boys' standard deviation (mm) alone.",
            ),
            Mistake(
                lambda: sex_ratio(growth_fit().resid),
                "those are conditional residuals of a mixed model, whose lines are shrunken.",
            ),
            Mistake(
                lambda: sex_ratio(load("orthodont")["distance"]),
                "that is the spread of the distances. The lines must be taken out first.",
            ),
        ),
    ),
    Exercise(
        id="7.4",
        question="By which proportion does the residual variance fall without the child whose "
        "Cook's distance is largest?",
        right=lambda: fall(most_influential()),
        success="one child of 27 holds an eighth of the residual variance. It is not the one "
        "with the largest residual: whose rows are odd and whose line pulls are two questions.",
        mistakes=(
            Mistake(
                lambda: fall(largest_residual()),
                "that is the child with the largest residual. Whom does Cook's distance name?",
            ),
            Mistake(
                lambda: 1 - np.sqrt(1 - fall(most_influential())),
                "that is the fall of the standard deviation.",
            ),
            Mistake(
                lambda: -left_out().loc[most_influential(), "vcov: Residual"],
                "that is the fall in mm². As a proportion of what?",
            ),
            Mistake(
                lambda: left_out().loc[most_influential(), "vcov: Residual"],
                "that is the change itself, in mm². Divide by the variance; a fall counts as "
                "positive here.",
            ),
            Mistake(
                lambda: fall(second_by_cook()),
                "that is the child with the second-largest distance.",
            ),
            Mistake(
                lambda: round(fall(most_influential()), 2),
                "nearly: the question asks for three decimals.",
            ),
            Mistake(
                lambda: fall(most_influential()) / (1 - fall(most_influential())),
                "you divided by the variance without the child. It falls from the one with it.",
            ),
            Mistake(
                lambda: 1 - fall(most_influential()),
                "that is the share that stays.",
            ),
            Mistake(
                fall_without_sex,
                "is sex in your model, with its product with age?",
            ),
        ),
    ),
    Exercise(
        id="7.5",
        question="Without subject 335 and the three rows beyond three σ: mean slope, its "
        "standard error, and σ?",
        right=lambda: answer(without((DOUBTED,))),
        success="σ falls by more than a fifth, yet the standard error of the mean slope hardly "
        "changes. That is a cancellation: without 335 alone it falls, without the three rows "
        "alone it rises, each by less than a tenth. The slowing is there without them, "
        "and larger.",
        kind="mapping",
        tolerance=0.004,
        mistakes=(
            Mistake(
                lambda: answer(without((DOUBTED,), rows=False)),
                "the three rows are still in. They are those with |resid| > 3 σ in the fit to "
                "all rows.",
            ),
            Mistake(
                lambda: answer(without(())),
                "subject 335 is still in.",
            ),
            Mistake(
                lambda: answer(without((DOUBTED, *people_with_wild_rows()))),
                "you left out two whole people for their three rows.",
            ),
            Mistake(
                lambda: answer(without(people_with_wild_rows())),
                "you left out the two people of the three rows, and 335 is still in.",
            ),
            Mistake(
                lambda: answer(without((first_by_cook(),))),
                "that is without the subject of the largest Cook's distance. The reviewer "
                "asks about another one.",
            ),
            Mistake(
                lambda: answer(without((DOUBTED,), reml=False)),
                "those are ML estimates; the question asks for REML.",
            ),
            Mistake(
                lambda: answer(slope_fit()),
                "that is the fit to all rows.",
            ),
            Mistake(
                lambda: (
                    answer(without((DOUBTED,)))
                    | {"error": float(without((DOUBTED,)).varcorr()["sdcor"][1])}
                ),
                "'error' is the spread of people's slopes, not the standard error of their "
                "mean.",
            ),
            Mistake(
                lambda: answer(without((DOUBTED,))) | {"sigma": without((DOUBTED,)).scale},
                "'sigma' is the variance. The question asks for its square root.",
            ),
        ),
    ),
    Exercise(
        id="7.6",
        question="Is the boys' larger scatter chance, or one boy?",
        right=lambda: "B",
        success="without M09 the ratio is smaller, yet still far above its band. So one boy "
        "is not the whole reason; why boys scatter more, the envelope does not say.",
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "compare the ratio without M09 with `upper_all` of *its* envelope. Is it "
                "inside?",
            ),
            Mistake(
                lambda: "C",
                "a ratio of two pooled standard deviations says nothing about each child. "
                "Look at the children one by one.",
            ),
            Mistake(
                lambda: "D",
                "an alarm names a symptom. What in these data could tell care from another "
                "cause?",
            ),
        ),
    ),
)
