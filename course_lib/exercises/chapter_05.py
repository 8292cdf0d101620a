"""Exercises of chapter 5: pictures of groups, chance, and Simpson's paradox."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.reshape import own_slopes, within_between

__all__ = ["EXERCISES"]


def common_slope(slopes: pd.DataFrame) -> float:
    """Return the mean of the slopes, weighted by one over their squared standard errors."""
    return float(np.average(slopes["estimate"], weights=slopes["std_error"] ** -2))


# 5.2: public schools below zero by chance.


@functools.cache
def schools(sector: str | None = None) -> pd.DataFrame:
    """Return the own slopes of the schools of one sector, or of all."""
    data = load("hsb82")
    data = data if sector is None else data[data["sector"] == sector]
    return own_slopes(data, "mAch", "ses", "school")


def expected_negative(slopes: pd.DataFrame, centre: float | pd.Series | None = None) -> float:
    """Return how many slopes are below zero on average, around their common slope."""
    centre = common_slope(slopes) if centre is None else centre
    return float(stats.norm.cdf(-centre / slopes["std_error"]).sum())


def expected_with_one_error() -> float:
    """Return that number if every slope had the mean standard error."""
    public = schools("Public")
    typical = public.assign(std_error=public["std_error"].mean())
    return expected_negative(typical, common_slope(public))


def public_with_all() -> pd.DataFrame:
    """Return the public schools with the σ of all schools."""
    return schools().loc[schools("Public").index]


# 5.3: noise in the slopes of children.


@functools.cache
def children(y: str = "distance", x: str = "age") -> pd.DataFrame:
    """Return the own slopes of the children."""
    return own_slopes(load("orthodont"), y, x, "Subject")


def noise() -> float:
    """Return the sampling variance of a child's slope."""
    return float((children()["std_error"] ** 2).mean())


def noise_share(y: str = "distance", x: str = "age", ddof: int = 1) -> float:
    """Return the noise as a share of the variance of the children's slopes."""
    slopes = children(y, x)
    return float((slopes["std_error"] ** 2).mean() / slopes["estimate"].var(ddof=ddof))


@functools.cache
def sigma2() -> float:
    """Return the variance of the points around the children's own lines."""
    spread = load("orthodont").groupby("Subject")["age"].var().iloc[0] * 3
    return noise() * spread


@functools.cache
def noise_share_without_one() -> float:
    """Return the share without the child that strays most from its line."""
    rest = own_slopes(load("orthodont").query("Subject != 'M09'"), "distance", "age", "Subject")
    return float((rest["std_error"] ** 2).mean() / rest["estimate"].var())


# 5.5: experience and wage.


def slope(data: pd.DataFrame, x: str, y: str) -> float:
    """Return the least-squares slope of y on x."""
    return float(np.polyfit(data[x], data[y], 1)[0])


@functools.cache
def wage_slopes(x: str = "exper", y: str = "lwage") -> dict[str, float]:
    """Return the slopes within and between men, pooled, and with y alone de-meaned."""
    data = within_between(load("wage_panel"), [y, x], by="nr")
    return {
        "within": slope(data, f"{x}_within", f"{y}_within"),
        "between": slope(data.drop_duplicates("nr"), f"{x}_between", f"{y}_between"),
        "pooled": slope(data, x, y),
        "half": slope(data, x, f"{y}_within"),
    }


def wage_answer(within: str = "within", between: str = "between") -> dict[str, float]:
    """Return three of the slopes under the names asked for."""
    found = wage_slopes()
    return {"within": found[within], "between": found[between], "pooled": found["pooled"]}


def wage_swapped() -> dict[str, float]:
    """Return the three slopes of experience on log wage."""
    found = wage_slopes("lwage", "exper")
    return {name: found[name] for name in ("within", "between", "pooled")}


EXERCISES = (
    Exercise(
        id="5.1",
        question="Which of the four pictures suits its question, with no false conclusion?",
        right=lambda: "B",
        success="birthdays have an order, so lines may join them, and thirty lines can be "
        "followed if two stand out. How much of the fan is chance is the next question.",
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "the lowest and the highest of 60 sorted intervals are often apart by chance "
                "alone. What would have to be drawn beside them?",
            ),
            Mistake(
                lambda: "C",
                "a line says that something lies between two points. What lies between two "
                "names of the alphabet?",
            ),
            Mistake(
                lambda: "D",
                "40 colours are too alike, and a cloud of 20 points does not show its slope.",
            ),
        ),
    ),
    Exercise(
        id="5.2",
        question="How many public schools would have a slope below zero, on average, if all "
        "had the common slope of the public schools?",
        right=lambda: expected_negative(schools("Public")),
        success="the newspaper's list is little longer than chance alone would make it, so it "
        "says little about any one school. It does not say either that all slopes are equal.",
        tolerance=0.035,
        wanted="an expected number of schools, not a whole number",
        mistakes=(
            Mistake(
                lambda: float((schools("Public")["estimate"] < 0).sum()),
                "that is how many there are. How many would chance give?",
            ),
            Mistake(
                lambda: expected_negative(schools("Public"), schools("Public")["estimate"]),
                "you let each school scatter around its own slope. What is the true slope of "
                "every school in the world that is asked for?",
            ),
            Mistake(
                lambda: expected_negative(public_with_all(), common_slope(schools())),
                "you took the common slope of all schools. The public schools have their own; "
                "take their rows before you estimate anything.",
            ),
            Mistake(
                lambda: expected_negative(schools("Public"), common_slope(schools())),
                "the standard errors are those of the public schools, but the common slope is "
                "that of all.",
            ),
            Mistake(
                expected_with_one_error,
                "did you use one typical standard error for all schools? Each has its own, and "
                "the badly known slopes fall below zero more often.",
            ),
            Mistake(
                lambda: expected_negative(public_with_all(), common_slope(schools("Public"))),
                "too low. An expected number need not be a whole one, so do not round it. And "
                "every school has its own standard error, estimated from the public schools "
                "alone.",
            ),
            Mistake(
                lambda: len(schools("Public")) - expected_negative(schools("Public")),
                "that is how many would be above zero.",
            ),
            Mistake(
                lambda: expected_negative(schools()),
                "that is for all the schools. Take the rows of the public schools first.",
            ),
            Mistake(
                lambda: expected_negative(schools("Catholic")),
                "that is for the Catholic schools.",
            ),
            Mistake(
                lambda: expected_negative(schools("Public"), 0.0),
                "that is half of the schools, as if the common slope were zero.",
            ),
            Mistake(
                lambda: expected_negative(schools("Public")) / len(schools("Public")),
                "that is a share. The question asks for a number of schools.",
            ),
        ),
    ),
    Exercise(
        id="5.3",
        question="Which share of the variance of the children's slopes (with n − 1) is noise?",
        right=noise_share,
        success="by this estimate more than half of the variance of the slopes would be there "
        "if all children grew alike. But it rests much on two children, of whom one strays far "
        "from its line and one grows fastest: the solution leaves each out and looks again.",
        tolerance=0.015,
        wanted="a proportion between 0 and 1",
        mistakes=(
            Mistake(lambda: 1 - noise_share(), "that is the share that is not noise."),
            Mistake(
                lambda: noise_share() ** 0.5,
                "that is a ratio of standard deviations. The question is about variances.",
            ),
            Mistake(noise, "that is the noise itself. It is to be a share of something."),
            Mistake(
                lambda: sigma2() / 4 / float(children()["estimate"].var()),
                "σ²/n is the noise of a mean. What is the noise of a slope?",
            ),
            Mistake(
                lambda: 1 / noise_share(),
                "that is upside down: noise over variance is asked for.",
            ),
            Mistake(
                lambda: noise_share() * len(children()),
                "you added up the noise of all the children. Take its mean.",
            ),
            Mistake(
                lambda: sigma2() / float(children()["estimate"].var()),
                "σ² is the noise of one point. For the noise of a slope, the spread of the "
                "ages is missing.",
            ),
            Mistake(
                lambda: noise_share(y="age", x="distance"),
                "you took the slopes of age on distance. Which column is the response?",
            ),
            Mistake(
                noise_share_without_one,
                "you left out the child that strays most. Take all of them here.",
            ),
            Mistake(
                lambda: noise_share(ddof=0),
                "you divided by n for the variance of the slopes. pandas divides by n − 1.",
            ),
        ),
    ),
    Exercise(
        id="5.4",
        question="Which sentence on the children's slopes do your numbers permit?",
        right=lambda: "B",
        success="this test and this interval leave both possible: no differences worth a name, "
        "and large ones. But without M09 the test rejects (p = 0.001), and without M13 little "
        "is left. Report that two children decide.",
        kind="choice",
        options=("A", "B", "C", "D"),
        mistakes=(
            Mistake(
                lambda: "A",
                "a test that does not reject has not shown equality. What does the interval "
                "of the standard deviation allow?",
            ),
            Mistake(
                lambda: "C",
                "the spread of the own slopes holds their noise too. How much of it would "
                "be there if all children grew alike?",
            ),
            Mistake(
                lambda: "D",
                "hardly visible in single children is not the same as small. What does the "
                "interval of the standard deviation allow?",
            ),
        ),
    ),
    Exercise(
        id="5.5",
        question="What are the slopes of log wage on experience: within, between, pooled?",
        right=wage_answer,
        kind="mapping",
        success="within and between have opposite signs: a reversal between levels. It is not "
        "Simpson's paradox as this chapter uses the word, because the line through all rows "
        "does not fall. Every man gains one year of experience per year, so the within slope "
        "is also the trend of wages in those years.",
        tolerance=0.02,
        wanted="a slope for each name, in log wage per year",
        mistakes=(
            Mistake(
                lambda: {
                    "within": wage_slopes()["between"],
                    "between": wage_slopes()["within"],
                    "pooled": wage_slopes()["pooled"],
                },
                "these two values belong under each other's name: either you swapped them, or "
                "you grouped by year instead of by man.",
            ),
            Mistake(
                wage_swapped,
                "these are slopes of experience on log wage. Which column is the response?",
            ),
            Mistake(
                lambda: wage_answer(within="pooled"),
                "your within slope is that of all rows in one pot. Compare each man with "
                "himself only.",
            ),
            Mistake(
                lambda: wage_answer() | {"between": -wage_slopes()["between"]},
                "check the sign of your between slope: do men with more experience on average "
                "earn more or less?",
            ),
            Mistake(
                lambda: wage_answer(between="pooled"),
                "your between slope is that of all rows in one pot. Take one row per man, "
                "his means.",
            ),
            Mistake(
                lambda: wage_answer(within="half"),
                "within: only the wage was de-meaned. What has to happen to experience?",
            ),
            Mistake(
                lambda: np.expm1(pd.Series(wage_answer())),
                "that is the growth of the wage itself. The question asks for log wage.",
            ),
        ),
    ),
)
