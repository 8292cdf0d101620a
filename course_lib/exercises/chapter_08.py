"""Exercises of chapter 8: intervals, sentences, a share on one day, paragraphs, causes."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import LmerResult, lmer
from course_lib.reshape import within_between

__all__ = ["EXERCISES"]


@functools.cache
def survey() -> pd.DataFrame:
    """Return the survey with SES split and the yes-or-no columns as numbers."""
    rows = within_between(load("hsb82"), "ses", by="school")
    return rows.assign(
        catholic=(rows["sector"] == "Catholic").astype(float),
        minority=(rows["minrty"] == "Yes").astype(float),
        female=(rows["sx"] == "Female").astype(float),
    )


@functools.cache
def school_fit() -> LmerResult:
    """Fit the chapter's model with the product terms."""
    formula = "mAch ~ ses_within * (catholic + ses_between) + minority + female"
    return lmer(f"{formula} + (ses_within | school)", survey())


# 8.1: the mean of such boys in a new public school.


def new_school(
    ses: float = 1.0,
    catholic: float = 0.0,
    line: bool = True,
    schools: bool = True,
    slope: bool = True,
    cov: bool = True,
    one_boy: bool = False,
    times: float = 1.96,
) -> np.ndarray:
    """Return the limits for the mean of such boys; each argument is one way to go wrong."""
    fit = school_fit()
    x = pd.Series(0.0, fit.fe_params.index)
    x[["Intercept", "ses_within", "catholic"]] = [1.0, ses, catholic]
    x["ses_within:catholic"] = ses * catholic
    Sigma = fit.cov_re["school"].to_numpy()
    Sigma = Sigma if cov else np.diag(Sigma.diagonal())
    z = np.array([1.0, ses * slope])
    variance = line * (x @ fit.cov_fe @ x) + schools * (z @ Sigma @ z) + one_boy * fit.scale
    return x @ fit.fe_params + times * np.sqrt(variance) * np.array([-1.0, 1.0])


# 8.2 and 8.4: two of five letters.

PAIRS = ["".join(pair) for pair in itertools.combinations("ABCDE", 2)]
FORBIDDEN = {
    "B": "2.6 is the slope at one place. Which product terms belong to a student of another "
    "sector, or of a school with a higher mean SES?",
    "C": "the coefficient compares schools of the same mean SES, and students alike in three "
    "columns. On average the two sectors differ in these.",
    "E": "nobody moved. The coefficient compares different students in different schools.",
}
PRESENT = {
    "A": "18 people are named, and they are the groups.",
    "C": "an effect of so many ms from one day to the next has its unit.",
    "E": "one person on two neighbouring days is compared.",
}


def pair_hint(pair: str, wrong: dict[str, str]) -> str:
    """Return the hints to the wrong letters of a pair, and say which one is right."""
    right = "".join(f"{letter} is right. " for letter in pair if letter not in wrong)
    return right + " ".join(f"{letter}: {wrong[letter]}" for letter in pair if letter in wrong)


def pair_mistakes(right: str, wrong: dict[str, str]) -> tuple[Mistake, ...]:
    """Return a mistake for every other pair of letters."""
    return tuple(
        Mistake(functools.partial(str, pair), pair_hint(pair, wrong))
        for pair in PAIRS
        if pair != right
    )


# 8.3: the share between people on one day.

DAY = 9


@functools.cache
def slope_fit() -> LmerResult:
    """Fit the random-slope model to the sleep study."""
    return lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))


def share_between(day: float = DAY, cov: bool = True, square: bool = True) -> float:
    """Return the share of the variance between people on a day."""
    Sigma = slope_fit().cov_re["Subject"].to_numpy()
    spread = Sigma[0, 0] + (day**2 if square else day) * Sigma[1, 1]
    spread += 2 * day * Sigma[0, 1] * cov
    return float(spread / (spread + slope_fit().scale))


def share_of_sds() -> float:
    """Return the share when standard deviations are added in place of variances."""
    fit = slope_fit()
    spread = fit.sd("Subject", "Intercept") + DAY * fit.sd("Subject", "Days")
    return float(spread / (spread + fit.sd("Residual")))


def ratio_between() -> float:
    """Return the variance between people over the residual variance."""
    return share_between() / (1 - share_between())


# 8.5: what a comparison within schools rules out.

RULED_OUT = "RNRN"
VERDICTS = ["".join(letters) for letters in itertools.product("NR", repeat=4)]
RIVALS = (
    "teachers are the same for both students of a school. Can they make the two differ?",
    "is the help at home the same for two students of one school?",
    "all students of a school took the test on one day. Can the day make two of them differ?",
    "the school is the same, but did its students of low and of high SES pass the same door?",
)


def rivals_hint(verdict: str) -> str:
    """Return the hints to the explanations that a verdict has wrong."""
    pairs = enumerate(zip(verdict, RULED_OUT, RIVALS, strict=True), start=1)
    return " ".join(f"{k}: {hint}" for k, (given, right, hint) in pairs if given != right)


# 8.6: a confounder, diluted.

SUPPORT_EFFECT, WISH_SD = 5, 3


def found_slope(wish_sd: float = WISH_SD, town: float = 0.0) -> float:
    """Return cov(hours, mark) / var(hours); with the town in it, when not within schools."""
    return SUPPORT_EFFECT * (1 + town) / (1 + town + wish_sd**2)


EXERCISES = (
    Exercise(
        id="8.1",
        question="What is the 95 % range for the mean of such boys in a new public school?",
        right=new_school,
        kind="numbers",
        wanted="a lower and an upper score in points",
        success="nearly all of the width is how schools differ in level; the line is well "
        "known, and the slopes differ little once the sector and the mean SES are named.",
        tolerance=0.0005,
        mistakes=(
            Mistake(
                lambda: new_school(catholic=1.0),
                "that is a Catholic school.",
            ),
            Mistake(
                lambda: new_school(schools=False),
                "that is the interval of the mean line. A new school is no average school.",
            ),
            Mistake(
                lambda: new_school(one_boy=True),
                "that is for one boy. The mean of many has no σ² in it.",
            ),
            Mistake(
                lambda: new_school(slope=False, cov=False, one_boy=True, schools=False),
                "that is for one boy, with σ². How far do *means* of such boys scatter?",
            ),
            Mistake(
                lambda: new_school(slope=False),
                "schools differ in their slopes too, and the boys' SES is 1.",
            ),
            Mistake(
                lambda: new_school(cov=False),
                "the covariance of level and slope is missing.",
            ),
            Mistake(
                lambda: new_school(line=False),
                "the line is not known exactly either.",
            ),
            Mistake(
                lambda: new_school(ses=0.0),
                "that is for boys with the mean SES of the school. Theirs is one point higher.",
            ),
            Mistake(
                lambda: new_school(times=1.0),
                "that is one sd to either side.",
            ),
        ),
    ),
    Exercise(
        id="8.2",
        question="Which two sentences does the table of `school_fit` permit?",
        right=lambda: "AD",
        kind="choice",
        options=tuple(PAIRS),
        wanted="two letters from A to E",
        success="both name the place where the coefficient holds, and what the two who are "
        "compared have in common. Neither says what a change would bring.",
        mistakes=pair_mistakes("AD", FORBIDDEN),
    ),
    Exercise(
        id="8.3",
        question="Which share of the variance around the mean line lies between people on day "
        "9?",
        right=share_between,
        wanted="a share between 0 and 1",
        success="on day 0 it is about a half. With a random slope the share of the groups, and "
        "any R² that counts them, depends on where you look.",
        tolerance=0.0045,
        mistakes=(
            Mistake(
                lambda: share_between(day=0),
                "that is the share on day 0, of the intercepts alone.",
            ),
            Mistake(
                lambda: share_between(cov=False),
                "the covariance of intercept and slope is missing. It counts twice, times 9.",
            ),
            Mistake(
                lambda: share_between(square=False),
                "the slope is multiplied by 9. What happens to its variance then?",
            ),
            Mistake(share_of_sds, "you added standard deviations. Variances add up."),
            Mistake(
                lambda: share_between(day=DAY + 1),
                "the tenth day is day 9, as the first is day 0.",
            ),
            Mistake(
                ratio_between,
                "that is the variance between people over σ². The share has both below.",
            ),
            Mistake(
                lambda: 1 - share_between(),
                "that is the share within people.",
            ),
        ),
    ),
    Exercise(
        id="8.4",
        question="Which two things are missing in the results paragraph?",
        right=lambda: "BD",
        kind="choice",
        options=tuple(PAIRS),
        wanted="two letters from A to E",
        success="without the sds of level and slope a reader takes 10.5 ms for everybody's "
        "slope, and without the check nobody learns that days have a memory.",
        mistakes=pair_mistakes("BD", PRESENT),
    ),
    Exercise(
        id="8.5",
        question="Which of the four explanations does a comparison within schools rule out?",
        right=lambda: RULED_OUT,
        kind="choice",
        options=tuple(VERDICTS),
        wanted="four letters, each of them R or N",
        success="what acts alike on all students of a school drops out of their difference. "
        "What differs between them stays, also if it is a rule of the school.",
        mistakes=tuple(
            Mistake(functools.partial(str, verdict), rivals_hint(verdict))
            for verdict in VERDICTS
            if verdict != RULED_OUT
        ),
    ),
    Exercise(
        id="8.6",
        question="Which slope of hours within schools does a very large survey find if wishes "
        "have an sd of 3?",
        right=found_slope,
        wanted="a slope in points per hour",
        success="more wishes dilute what the hours tell of support, so the slope is smaller. "
        "It is no less wrong for that, because the effect is zero.",
        tolerance=0.01,
        mistakes=(
            Mistake(lambda: found_slope(1), "that is for wishes with an sd of 1."),
            Mistake(
                lambda: SUPPORT_EFFECT / (1 + WISH_SD),
                "variances add up, standard deviations do not.",
            ),
            Mistake(
                lambda: SUPPORT_EFFECT / np.sqrt(1 + WISH_SD**2),
                "you divided by the standard deviation of the hours. A slope has the variance "
                "below.",
            ),
            Mistake(
                lambda: found_slope(town=1.0),
                "that is the slope over all students. Within a school the town is constant.",
            ),
            Mistake(
                lambda: found_slope() / SUPPORT_EFFECT,
                "so much support goes with an hour. How many points does that bring?",
            ),
            Mistake(
                lambda: float(SUPPORT_EFFECT),
                "that is the effect of support. How much support goes with an hour?",
            ),
            Mistake(lambda: 0.0, "that is the true effect. What does the survey find?"),
        ),
    ),
)
