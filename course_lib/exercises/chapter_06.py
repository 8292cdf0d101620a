"""Exercises of chapter 6: forecasts, school variances, zero, and messages."""

from __future__ import annotations

import functools
from itertools import combinations, product

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import LmerResult, lmer
from course_lib.reshape import within_between

__all__ = ["EXERCISES"]

SLOPE = "Reaction ~ Days + (Days | Subject)"
LEVEL = "Reaction ~ Days + (1 | Subject)"
FIRST_HIDDEN = 5  # exercise 6.1
MIDDLE = 11  # exercise 6.4: the zero of the chapter's right-hand ellipse

# 6.1: a forecast.


def forecast_misses(formula: str = SLOPE, random: bool = True, leak: bool = False) -> pd.Series:
    """Return the misses (ms) on the late days of a model fitted to the early ones."""
    sleep = load("sleepstudy")
    late = sleep["Days"] >= FIRST_HIDDEN
    fit = lmer(formula, sleep if leak else sleep[~late])
    return fit.predict(sleep[late], random=random) - sleep.loc[late, "Reaction"]


def own_line_misses() -> pd.Series:
    """Return the misses (ms) of each person's own least-squares line."""
    parts = []
    for _, rows in load("sleepstudy").groupby("Subject"):
        late = rows["Days"] >= FIRST_HIDDEN
        line = np.polyfit(rows.loc[~late, "Days"], rows.loc[~late, "Reaction"], 1)
        parts.append(np.polyval(line, rows.loc[late, "Days"]) - rows.loc[late, "Reaction"])
    return pd.concat(parts)


def rms(misses: pd.Series) -> float:
    """Root mean square."""
    return float(np.sqrt((misses**2).mean()))


def personal_rms(misses: pd.Series) -> pd.Series:
    """Root mean square (ms) of each person's misses."""
    people = load("sleepstudy").loc[misses.index, "Subject"]
    return np.sqrt((misses**2).groupby(people).mean())


def in_sample_misses() -> pd.Series:
    """Return the misses (ms) of the model of the early days on these same days."""
    sleep = load("sleepstudy")
    return lmer(SLOPE, sleep[sleep["Days"] < FIRST_HIDDEN]).resid


# 6.2: what sector and mean SES leave of the schools' variances.

STEPS = {
    1: "ses_within",
    2: "ses_within * sector",
    3: "ses_within * (sector + ses_between)",
}


@functools.cache
def school_sd(step: int, term: str = "Intercept") -> float:
    """Return the sd of the schools' levels or slopes that a step leaves."""
    survey = within_between(load("hsb82"), "ses", by="school")
    return lmer(f"mAch ~ {STEPS[step]} + (ses_within | school)", survey).sd("school", term)


def fall(first: int = 1, last: int = 3, term: str = "Intercept", power: int = 2) -> float:
    """Return by how many per cent the variance (power 2) or the sd (power 1) falls."""
    return 100 * (1 - (school_sd(last, term) / school_sd(first, term)) ** power)


# 6.3: what the school model permits one to say.

PERMITTED = "CE"
NOT_PERMITTED = {
    "A": "sentence A says what a change would do. Families choose schools, and the survey "
    "changed none. Which word of A claims a cause?",
    "B": "sentence B takes an interval that contains zero for a proof of zero. What is its "
    "upper end?",
    "D": "sentence D compares students of one school, but 5.3 belongs to the mean SES of "
    "schools. Which coefficient compares two students of one school?",
}
PAIRS = tuple("".join(pair) for pair in combinations("ABCDE", 2))


def why_not(pair: str) -> str:
    """Return the hint for a wrong pair: why each sentence in it is not permitted."""
    reasons = [NOT_PERMITTED[letter] for letter in pair if letter in NOT_PERMITTED]
    kept = [letter for letter in pair if letter in PERMITTED]
    return " And ".join(reasons) + (f" Sentence {kept[0]} is permitted." if kept else "")


# 6.4: the age at which level and slope are uncorrelated.


@functools.cache
def skull_fit(reml: bool = True) -> LmerResult:
    """Fit the children's distances."""
    return lmer("distance ~ age + (age | Subject)", load("orthodont"), reml=reml)


def skull_covariance(reml: bool = True) -> pd.DataFrame:
    """Return the covariance matrix of the children's levels (age 0) and slopes."""
    return skull_fit(reml).cov_re["Subject"]


def uncorrelated_age(covariance: pd.DataFrame) -> float:
    """Return the zero that makes the covariance of level and slope zero."""
    return float(-covariance.iloc[0, 1] / covariance.iloc[1, 1])


# 6.5: what to do next.

NEXT = "RORK"
# Why each wrong letter fails, request by request.
FAILS: tuple[dict[str, str], ...] = (
    {
        "O": "with numbers up to 900,000 every optimiser walks on the same bad landscape. What "
        "is cheaper?",
        "K": "the edge may be where the search was lost, as with the hours.",
    },
    {
        "R": "from −4 to 4 the unit and the zero are fine already.",
        "K": "first find out if the search has arrived.",
    },
    {
        "O": "per metre a slope is a very small number. What is cheaper than other searches?",
        "K": "no message is no proof, and per metre a slope prints as zero.",
    },
    {
        "R": "from −4 to 4 the unit and the zero are fine already.",
        "O": "six optimisers have agreed already. So zero is the best estimate; what else do "
        "seven clinics allow?",
    },
)
ACTIONS = tuple("".join(letters) for letters in product("ROK", repeat=4))


def why_not_next(letters: str) -> str:
    """Return why each wrong letter fails."""
    parts = [
        f"request {place + 1}: {FAILS[place][letter]}"
        for place, letter in enumerate(letters)
        if letter != NEXT[place]
    ]
    return "look again at " + " And at ".join(parts)


EXERCISES = (
    Exercise(
        id="6.1",
        question="What is the RMSE (ms) on days 5 to 9 of the random-slope model fitted to "
        "days 0 to 4, predicting with the random effects?",
        right=lambda: rms(forecast_misses()),
        success="that is the size of a typical miss of this forecast, much larger than when "
        "random days are hidden. The winner is not the same: beyond the known days a line of "
        "five early days goes far, and the common slope of the random intercept misses "
        "less here.",
        tolerance=0.005,
        mistakes=(
            Mistake(
                lambda: rms(forecast_misses(LEVEL)),
                "that model gives all people the same slope. Look at the bracket.",
            ),
            Mistake(
                lambda: rms(own_line_misses()),
                "those are separate lines: no pooling.",
            ),
            Mistake(
                lambda: rms(forecast_misses(random=False)),
                "everyone got the same line. The model knows these people: use their random "
                "effects.",
            ),
            Mistake(
                lambda: rms(forecast_misses(leak=True)),
                "the model has seen the days that it is to predict. Which rows may it be "
                "fitted to?",
            ),
            Mistake(
                lambda: rms(in_sample_misses()),
                "those are the rows that the model was fitted to. Which are hidden?",
            ),
            Mistake(
                lambda: personal_rms(forecast_misses()).mean(),
                "that is the mean of 18 personal RMSEs. The question asks for one root over "
                "all hidden rows.",
            ),
            Mistake(
                lambda: forecast_misses().abs().mean(),
                "that is the mean absolute miss. Square, average, take the root.",
            ),
        ),
    ),
    Exercise(
        id="6.2",
        question="By how many per cent does the variance of the schools' levels fall from "
        "step 1 to step 3?",
        right=fall,
        success="such a share is often reported as 'variance explained between schools'. It "
        "says nothing about students within a school: the residual variance has not moved.",
        mistakes=(
            Mistake(
                lambda: fall(power=1),
                "that is the fall of the standard deviation. The variance is its square.",
            ),
            Mistake(
                lambda: 100 - fall(),
                "that is the share that is left. How much has gone?",
            ),
            Mistake(
                lambda: fall(term="ses_within"),
                "that is the variance of the slopes. The question is about the levels.",
            ),
            Mistake(
                lambda: fall(first=2),
                "that is the fall from step 2. Where does the question start?",
            ),
            Mistake(
                lambda: fall(last=2),
                "that is the fall up to step 2. Where does the question end?",
            ),
            Mistake(
                lambda: 100 * ((school_sd(1) / school_sd(3)) ** 2 - 1),
                "you divided by the variance of step 3. A fall is a share of the start.",
            ),
            Mistake(
                lambda: school_sd(1) ** 2 - school_sd(3) ** 2,
                "that is the fall in squared points. Divide it by the start.",
            ),
        ),
    ),
    Exercise(
        id="6.3",
        question="Which two sentences about the schools do the fits permit?",
        right=lambda: PERMITTED,
        success="C compares schools, E speaks of a prediction that was tried. Neither says "
        "what would happen if something were changed.",
        kind="choice",
        options=PAIRS,
        wanted="two letters from A to E",
        mistakes=tuple(
            Mistake(functools.partial(str, pair), why_not(pair))
            for pair in PAIRS
            if pair != PERMITTED
        ),
    ),
    Exercise(
        id="6.4",
        question="At which age are the children's level and slope uncorrelated (REML)?",
        right=lambda: uncorrelated_age(skull_covariance()),
        success="with zero there the ellipse stands upright, and `||` would be the same model "
        "as `|`. As an estimate it is very uncertain.",
        mistakes=(
            Mistake(
                lambda: -uncorrelated_age(skull_covariance()),
                "check the sign: the correlation is negative at birth and positive at 11. "
                "Where must it be zero?",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_covariance(reml=False)),
                "that is from the ML fit; the question asks for REML.",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_fit().cov_fe),
                "there the *estimates* of the two fixed effects are uncorrelated. The question "
                "is about children.",
            ),
            Mistake(
                lambda: -skull_covariance().iloc[0, 1] / skull_covariance().iloc[0, 0],
                "you divided by the variance of the levels. Which variance multiplies c in the "
                "formula for the covariance?",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_covariance()) - MIDDLE,
                "is that counted from age 11? The question asks for an age.",
            ),
            Mistake(
                lambda: uncorrelated_age(skull_covariance()) + MIDDLE,
                "you added 11 to a covariance that was counted from birth already.",
            ),
            Mistake(
                lambda: MIDDLE,
                "that is the middle of the ages. Look at the correlation there.",
            ),
        ),
    ),
    Exercise(
        id="6.5",
        question="What should each of the four people do next?",
        right=lambda: NEXT,
        success="units first, then the search, and only then the model. And an estimate of "
        "zero is reported with what else is possible.",
        kind="choice",
        options=ACTIONS,
        wanted="four letters, each R, O or K",
        mistakes=tuple(
            Mistake(functools.partial(str, letters), why_not_next(letters))
            for letters in ACTIONS
            if letters != NEXT
        ),
    ),
)
