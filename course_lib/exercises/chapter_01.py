"""Exercises of chapter 1: random slopes in five steps."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm
from scipy.stats import t as students_t

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import LmerResult, lmer
from course_lib.reshape import own_lines

__all__ = ["EXERCISES"]

LAST_DAY = 9  # exercise 1.3
MEAN_DAY = 4.5
NEXT_PERSON = (
    "you added the uncertainty of the mean, which belongs to a forecast for the next person. "
    "The share of people in the population is asked for at the estimates: mean slope and σ₁."
)
BASELINE = 2  # exercise 1.6: sleep is restricted after this day


@functools.cache
def sleep_fit(shift: float = 0, term: str = "Days", reml: bool = True) -> LmerResult:
    """Fit the sleep study with `Days` counted from day `shift` on."""
    sleep = load("sleepstudy")
    sleep = sleep.assign(Days=sleep["Days"] - shift)
    return lmer(f"Reaction ~ Days + ({term} | Subject)", sleep, reml=reml)


@functools.cache
def nights_fit(term: str = "nights", reml: bool = True, first: int = BASELINE) -> LmerResult:
    """Fit the sleep study from day `first` on, by nights of short sleep."""
    sleep = load("sleepstudy")
    nights = sleep[sleep["Days"] >= first].assign(nights=lambda d: d["Days"] - BASELINE)
    return lmer(f"Reaction ~ nights + ({term} | Subject)", nights, reml=reml)


@functools.cache
def jaw_fit(term: str = "age", group: str = "Subject", reml: bool = True) -> LmerResult:
    """Fit the growth of the children's jaws."""
    return lmer(f"distance ~ age + ({term} | {group})", load("orthodont"), reml=reml)


def sd_of(fit: LmerResult, group: str, term: str) -> float:
    """Estimated standard deviation of a random effect."""
    return float(np.sqrt(fit.cov_re[group].loc[term, term]))


def correlation(covariance: pd.DataFrame) -> float:
    """Correlation in a 2 × 2 covariance matrix."""
    sd = np.sqrt(np.diag(covariance))
    return float(covariance.iloc[0, 1] / (sd[0] * sd[1]))


def share_below_zero(spread: float) -> float:
    """Share below zero of normal slopes with the estimated mean and this spread."""
    return float(norm.cdf(0, sleep_fit().fe_params["Days"], spread))


def next_person_spread() -> float:
    """Return the standard deviation of the next person's slope around the estimated mean."""
    fit = sleep_fit()
    return float(np.hypot(sd_of(fit, "Subject", "Days"), fit.bse_fe["Days"]))


def next_person_below_zero() -> float:
    """Chance of a slope below zero for the next person, by the t distribution."""
    reach = sleep_fit().fe_params["Days"] / next_person_spread()
    return float(students_t.cdf(-reach, df=17))


def sleep_slopes_sd(first: int = 0) -> float:
    """Return the standard deviation of the sleepers' separate slopes from day `first` on."""
    sleep = load("sleepstudy")
    rows = sleep[sleep["Days"] >= first]
    return float(own_lines(rows, "Reaction", "Days", "Subject")["Days"].std())


def clipped_answer() -> pd.Series:
    """Return the answer of exercise 1.6 with the days before the baseline set to night 0."""
    sleep = load("sleepstudy")
    nights = sleep.assign(nights=(sleep["Days"] - BASELINE).clip(lower=0))
    formula = "Reaction ~ nights + ({} | Subject)"
    smaller, larger = (lmer(formula.format(t), nights, reml=False) for t in ("1", "nights"))
    return nights_answer(lmer(formula.format("nights"), nights), smaller, larger)


def nights_answer(fit: LmerResult, smaller: LmerResult, larger: LmerResult) -> pd.Series:
    """Put together the three numbers of exercise 1.6."""
    term = fit.fe_params.index[1]
    return pd.Series(
        {
            "slope": fit.fe_params[term],
            "sd": sd_of(fit, "Subject", term),
            "lr": smaller.deviance - larger.deviance,
        }
    )


def nights_with(part: str, value: float) -> pd.Series:
    """Replace one part of the right answer of exercise 1.6."""
    return pd.Series({**right_nights(), part: value})


def right_nights() -> pd.Series:
    """Right answer of exercise 1.6."""
    return nights_answer(
        nights_fit(), nights_fit("1", reml=False), nights_fit("nights", reml=False)
    )


EXERCISES = (
    Exercise(
        id="1.1",
        question="With which standard deviation do the children differ in growth?",
        right=lambda: sd_of(jaw_fit(), "Subject", "age"),
        success="the formula was `distance ~ age + (age | Subject)`. The children are the "
        "groups, and growth is the slope of age. Four ages per child tell little about one "
        "child's slope, so the lines of the children are drawn strongly together.",
        wanted="a standard deviation of slopes, in mm per year",
        mistakes=(
            Mistake(
                lambda: sd_of(jaw_fit("1"), "Subject", "Intercept"),
                "that is the spread of the levels, in a model in which all children grow "
                "alike. Let the slope differ too.",
            ),
            Mistake(
                lambda: sd_of(jaw_fit(), "Subject", "Intercept"),
                "that is the spread of the intercepts, the levels at age 0. Growth is the "
                "slope.",
            ),
            Mistake(
                lambda: sd_of(jaw_fit("age", "Sex"), "Sex", "age"),
                "you grouped the rows by `Sex`. Which column says which rows belong to the "
                "same child?",
            ),
            Mistake(
                lambda: sd_of(jaw_fit("0 + age"), "Subject", "age"),
                "in your model all children have the same level. They may differ in level too.",
            ),
            Mistake(
                lambda: jaw_fit("age", reml=False).sd("Subject", "age"),
                "you used the ML fit; the question asks for REML.",
            ),
            Mistake(
                lambda: jaw_fit().bse_fe["age"],
                "that is the standard error of the mean growth: the uncertainty about the "
                "mean, not the spread of children.",
            ),
            Mistake(
                lambda: jaw_fit().fe_params["age"],
                "that is the mean growth. How far do children differ from it?",
            ),
            Mistake(
                lambda: jaw_fit().cov_re["Subject"].loc["age", "age"],
                "that is the variance. Take its square root.",
            ),
            Mistake(
                lambda: jaw_fit().coef()["Subject"]["age"].std(),
                "that is the spread of the partially pooled slopes, which are drawn together. "
                "The model has an estimate of the spread itself.",
            ),
            Mistake(
                lambda: own_lines(load("orthodont"), "distance", "age", "Subject")["age"].std(),
                "that is the spread of separate lines, which contains the noise of four rows.",
            ),
            Mistake(
                lambda: jaw_fit().sd("Residual"),
                "that is the residual standard deviation, which says how the rows of a child "
                "scatter around the child's line. How far do the slopes differ?",
            ),
        ),
    ),
    Exercise(
        id="1.2",
        question="Which share of people, in the population, reacts faster from day to day?",
        right=lambda: share_below_zero(sd_of(sleep_fit(), "Subject", "Days")),
        success="a clear mean effect and a few people who go the other way live together well. "
        "(It is an estimate from 18 people: the spread behind it is known only roughly.)",
        tolerance=0.03,  # printed mean and σ₁ are enough; two decimals are not
        wanted="a proportion between 0 and 1",
        mistakes=(
            Mistake(
                lambda: share_below_zero(sleep_fit().bse_fe["Days"]),
                "you used the standard error: that is the uncertainty about the mean, not the "
                "spread of the people.",
            ),
            Mistake(
                lambda: share_below_zero(sleep_fit().cov_re["Subject"].loc["Days", "Days"]),
                "you used the variance where the standard deviation belongs.",
            ),
            Mistake(
                lambda: 0.0,
                "slopes are normal in this model, so some people in the population are on the "
                "other side of zero. The 18 subjects of the study do not answer the question.",
            ),
            Mistake(
                lambda: 1 - share_below_zero(sd_of(sleep_fit(), "Subject", "Days")),
                "that is the share of those who slow down: the other side.",
            ),
            Mistake(
                lambda: share_below_zero(sleep_slopes_sd()),
                "you counted among the subjects of the study, or used the spread of their own "
                "lines, which contains noise. The question is about the population from which "
                "they come.",
            ),
            Mistake(
                lambda: share_below_zero(next_person_spread()),
                NEXT_PERSON,
            ),
            Mistake(
                lambda: next_person_below_zero(),
                f"{NEXT_PERSON} And they are normal in this model.",
            ),
            Mistake(
                lambda: share_below_zero(sd_of(sleep_fit(reml=False), "Subject", "Days")),
                "you used the ML fit; `slope_fit` is by REML.",
            ),
            Mistake(
                lambda: share_below_zero(sleep_fit().coef()["Subject"]["Days"].std()),
                "you used the spread of the partially pooled slopes, which are drawn together. "
                "The model has an estimate of the spread itself.",
            ),
        ),
    ),
    Exercise(
        id="1.3",
        question="What is the correlation of the random intercept and slope when zero is at "
        f"day {LAST_DAY}?",
        right=lambda: correlation(sleep_fit(LAST_DAY).cov_re["Subject"]),
        success="the people did not change; the place where the intercept is read did. The "
        "lines fan out, so who is slow on day 9 mostly has a steep line.",
        wanted="a correlation, without a unit",
        mistakes=(
            Mistake(
                lambda: round(correlation(sleep_fit().cov_re["Subject"]), 2),
                "that is the correlation with zero at day 0. Move the zero and fit again.",
            ),
            Mistake(
                lambda: correlation(sleep_fit(LAST_DAY).cov_fe),
                "that is the correlation of the fixed effects, or of the people's own lines "
                "(here the two are the same). The noise of the rows is still in it; the "
                "question is about the people without it.",
            ),
            Mistake(
                lambda: sleep_fit(LAST_DAY).cov_re["Subject"].iloc[0, 1],
                "that is the covariance. Divide it by both standard deviations.",
            ),
            Mistake(
                lambda: correlation(sleep_fit(LAST_DAY).random_effects["Subject"].cov()),
                "that is the correlation of the 18 conditional modes, which are drawn "
                "together. The model has an estimate of the correlation itself.",
            ),
            Mistake(
                lambda: correlation(sleep_fit(MEAN_DAY).cov_re["Subject"]),
                "that is the correlation with zero at the mean day.",
            ),
            Mistake(
                lambda: correlation(sleep_fit(-LAST_DAY).cov_re["Subject"]),
                f"you moved the zero the other way: day {LAST_DAY} itself must become 0.",
            ),
            Mistake(
                lambda: -correlation(sleep_fit(LAST_DAY).cov_re["Subject"]),
                "your days run backwards. Subtract from `Days`, so that a later day still has "
                "the larger number and a positive slope still means slowing down.",
            ),
            Mistake(
                lambda: 1.0,
                "who is slow at the end mostly has a steep slope, but levels at the start "
                "differ too, so the two are not perfectly related. Fit again and look.",
            ),
        ),
    ),
    Exercise(
        id="1.4",
        question="Which number does each plan, more people or more rows, about halve?",
        right=lambda: "AE",
        success="four times as many people tell twice as exactly about their mean. Four times "
        "as many rows per person tell about twice as exactly where one person's line runs. How "
        "people and rows scatter is a fact: neither plan makes σ₁ or σ smaller.",
        kind="choice",
        options=tuple(a + b for a in "ABCDE" for b in "ABCDE"),
        wanted="two letters from A to E, first for plan 1, then for plan 2",
        mistakes=(
            Mistake(
                lambda: "EA",
                "you exchanged the plans. Whose lines do more rows per person make clearer?",
            ),
            Mistake(
                lambda: "AA",
                "plan 1 is right. But the mean slope is uncertain mostly because people "
                "differ, and plan 2 has the same 18 people.",
            ),
            Mistake(
                lambda: "AB",
                "plan 1 is right. But σ₁ says how much people differ, and more rows do not "
                "make people more alike.",
            ),
            Mistake(
                lambda: "AC",
                "plan 1 is right. But σ says how single rows scatter around a person's line. "
                "More rows do not make a single row calmer.",
            ),
            Mistake(
                lambda: "AD",
                "plan 1 is right. But that range is the mean slope ± 1.96 σ₁. It is about "
                "people, who differ as much as before.",
            ),
            Mistake(
                lambda: "BE",
                "plan 2 is right. But σ₁ says how much people differ, and more people differ "
                "as much as before.",
            ),
            Mistake(
                lambda: "CE",
                "plan 2 is right. But σ says how single rows scatter, and more people do not "
                "make a row calmer.",
            ),
            Mistake(
                lambda: "DE",
                "plan 2 is right. But that range is about people, who differ as much as "
                "before; plan 1 makes their mean better known.",
            ),
        ),
    ),
    Exercise(
        id="1.5",
        question="Which two sentences about subject 335 may stand in a report?",
        right=lambda: "BC",
        success="the pooled slope is near zero, and its standard error is several times as "
        "large. From the mean slope it is more than four standard errors away.",
        kind="choice",
        options=("AB", "AC", "AD", "BC", "BD", "CD"),
        mistakes=(
            Mistake(
                lambda: "AB",
                "A and B contradict each other. The own slope in A contains the noise of ten "
                "rows: compare it with the standard error of the slope.",
            ),
            Mistake(
                lambda: "AC",
                "sentence A takes the own slope for a fact. Compare it with what the model "
                "makes of it in `coef()`, and with the standard error.",
            ),
            Mistake(
                lambda: "AD",
                "sentence A takes a noisy own slope for a fact. And D does not follow: the "
                "test says that slopes differ, not that this one is below zero.",
            ),
            Mistake(
                lambda: "BD",
                "B and D contradict each other. The test says that slopes differ. It does not "
                "say on which side of zero the slope of one person lies.",
            ),
            Mistake(
                lambda: "CD",
                "sentence D does not follow. By how many standard errors is the pooled slope "
                "of 335 below zero?",
            ),
        ),
    ),
    Exercise(
        id="1.6",
        question="From the baseline on: mean slope per night, standard deviation of the slopes "
        "(both by REML), and the likelihood-ratio statistic of the random slope (by ML)?",
        right=right_nights,
        success="no, the conclusion did not depend on days 0 and 1. The mean is a little "
        "larger per night than it was per day, people still differ, and the evidence is weaker "
        "with fewer rows but still strong.",
        kind="mapping",
        tolerance=0.006,  # one decimal is enough
        mistakes=(
            Mistake(
                lambda: nights_answer(
                    sleep_fit(), sleep_fit(term="1", reml=False), sleep_fit(reml=False)
                ),
                f"you used all days. Leave out those before day {BASELINE}; moving the zero "
                "does not do that.",
            ),
            Mistake(
                lambda: nights_answer(
                    nights_fit(first=BASELINE + 1),
                    nights_fit("1", reml=False, first=BASELINE + 1),
                    nights_fit(reml=False, first=BASELINE + 1),
                ),
                f"you left out day {BASELINE} too. It is the baseline, before the first short "
                "night, and belongs to the line.",
            ),
            Mistake(
                clipped_answer,
                f"you counted the days before day {BASELINE} as night 0. They are not nights "
                "of short sleep: leave these rows out.",
            ),
            Mistake(
                lambda: nights_with("sd", nights_fit().bse_fe["nights"]),
                "'sd' is the standard error of the mean slope, not the spread of people.",
            ),
            Mistake(
                lambda: nights_with("sd", sd_of(nights_fit(), "Subject", "Intercept")),
                "'sd' is the spread of the intercepts. The question is about the slopes.",
            ),
            Mistake(
                lambda: nights_with("sd", nights_fit().coef()["Subject"]["nights"].std()),
                "'sd' is the spread of the partially pooled slopes, which are drawn together. "
                "The model has an estimate of the spread itself.",
            ),
            Mistake(
                lambda: nights_with("sd", sleep_slopes_sd(BASELINE)),
                "'sd' is the spread of separate lines, which contains noise. The model has an "
                "estimate without it.",
            ),
            Mistake(
                lambda: nights_with("lr", chi2.sf(right_nights()["lr"], df=2)),
                "'lr' is a p-value. The question asks for the statistic itself.",
            ),
            Mistake(
                lambda: right_nights() ** [1, 2, 1],
                "'sd' is a variance. Take its square root.",
            ),
            Mistake(
                lambda: nights_answer(
                    nights_fit(reml=False),
                    nights_fit("1", reml=False),
                    nights_fit("nights", reml=False),
                ),
                "'sd' is from the ML fit. Take ML for the comparison only.",
            ),
            Mistake(
                lambda: nights_answer(nights_fit(), nights_fit("1"), nights_fit()),
                "'lr' is from the REML fits. Fit both models with `reml=False`.",
            ),
            Mistake(
                lambda: right_nights() * [1, 1, -1],
                "'lr' is negative: the larger model has the smaller deviance.",
            ),
            Mistake(
                lambda: right_nights() * [1, 1, 0.5],
                "'lr' is a difference of log-likelihoods; the statistic is twice that.",
            ),
        ),
    ),
)
