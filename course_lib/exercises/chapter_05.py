"""Exercises of chapter 5: pictures, chance, and Simpson's paradox."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.reshape import within_between

__all__ = ["EXERCISES"]


def own_line(rows: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Return size, least-squares slope, spread of x and residual sum of squares of a group."""
    deviation = rows[x] - rows[x].mean()
    spread = (deviation**2).sum()
    slope = (deviation * rows[y]).sum() / spread
    rss = ((rows[y] - rows[y].mean() - slope * deviation) ** 2).sum()
    return pd.Series({"n": len(rows), "slope": slope, "spread": spread, "rss": rss})


def residual_sd(lines: pd.DataFrame) -> float:
    """Return the common residual standard deviation around lines of their own."""
    return float(np.sqrt(lines["rss"].sum() / (lines["n"] - 2).sum()))


def common_slope(lines: pd.DataFrame) -> float:
    """Return the mean of the slopes, weighted by the spread of x."""
    return float(np.average(lines["slope"], weights=lines["spread"]))


# 5.1: an axis that does not start at zero.

START = 200


def reaction(day: int) -> float:
    """Return the mean reaction time on a day, in ms."""
    return float(load("sleepstudy").query("Days == @day")["Reaction"].mean())


def increase(start: float) -> float:
    """Return the relative increase from day 0 to day 9 of lengths measured from `start`."""
    return (reaction(9) - reaction(0)) / (reaction(0) - start)


def ratio(start: float) -> float:
    """Return the ratio of day 9 to day 0 of lengths measured from `start`."""
    return 1 + increase(start)


# 5.2 and 5.5: the schools by sector.


@functools.cache
def schools(sector: str | None = None) -> pd.DataFrame:
    """Return the own lines of the schools of one sector, or of all."""
    data = load("hsb82")
    data = data if sector is None else data[data["sector"] == sector]
    return data.groupby("school")[["ses", "mAch"]].apply(own_line, "ses", "mAch")


def expected_negative(
    lines: pd.DataFrame, base: pd.DataFrame, slope: float | None = None
) -> float:
    """Return how many slopes are below zero on average, with slope and σ those of `base`."""
    slope = common_slope(base) if slope is None else slope
    std_error = residual_sd(base) / np.sqrt(lines["spread"])
    return float(stats.norm.cdf(-slope / std_error).sum())


def own_sigma(lines: pd.DataFrame) -> pd.Series:
    """Return each group's own residual standard deviation."""
    return np.sqrt(lines["rss"] / (lines["n"] - 2))


# 5.3: noise in the slopes of children.


@functools.cache
def children() -> pd.DataFrame:
    """Return the own lines of the children."""
    data = load("orthodont")
    return data.groupby("Subject")[["age", "distance"]].apply(own_line, "age", "distance")


def noise(variance: float | None = None) -> float:
    """Return the sampling variance of a child's slope."""
    lines = children()
    variance = residual_sd(lines) ** 2 if variance is None else variance
    return float((variance / lines["spread"]).mean())


def noise_share() -> float:
    """Return the noise as a share of the variance of the children's slopes."""
    return noise() / float(children()["slope"].var())


def noise_share_without_one() -> float:
    """Return the share without the child that strays most from its line."""
    lines = children()
    lines = lines.drop(lines["rss"].idxmax())
    return float((residual_sd(lines) ** 2 / lines["spread"]).mean() / lines["slope"].var())


def noise_share_wrong_df() -> float:
    """Return the share if only one estimated number per child is counted."""
    lines = children()
    variance = lines["rss"].sum() / (lines["n"] - 1).sum()
    return noise(variance) / float(lines["slope"].var())


def noise_share_without_spread() -> float:
    """Return σ²/n, the noise of a mean, over the variance of the slopes."""
    lines = children()
    return float((residual_sd(lines) ** 2 / lines["n"]).mean() / lines["slope"].var())


# 5.4: experience and wage.


def slope(data: pd.DataFrame, x: str, y: str) -> float:
    """Return the least-squares slope of y on x."""
    return float(np.polyfit(data[x], data[y], 1)[0])


@functools.cache
def wage_slopes() -> dict[str, float]:
    """Return the slopes of log wage on experience within and between groups, and pooled."""
    data = within_between(load("wage_panel"), ["lwage", "exper"], by="nr")
    return {
        "within": slope(data, "exper_within", "lwage_within"),
        "between": slope(data.drop_duplicates("nr"), "exper_between", "lwage_between"),
        "pooled": slope(data, "exper", "lwage"),
        "half": slope(data, "exper", "lwage_within"),
    }


def wage_answer(within: str, between: str, pooled: str = "pooled") -> dict[str, float]:
    """Return three of the slopes under the names asked for."""
    found = wage_slopes()
    return {"within": found[within], "between": found[between], "pooled": found[pooled]}


# 5.5: Q by sector.


def q_of(sector: str, slope: float | None = None, sigma: object = None) -> float:
    """Return Q of a sector, about its common slope and with its σ unless others are given."""
    lines = schools(sector)
    slope = common_slope(lines) if slope is None else slope
    sigma = residual_sd(lines) if sigma is None else sigma
    return float((((lines["slope"] - slope) / sigma) ** 2 * lines["spread"]).sum())


def q_with_all(sector: str) -> float:
    """Return Q of a sector with slope and σ of all the schools."""
    return q_of(sector, common_slope(schools()), residual_sd(schools()))


def q_with_own_sigma(sector: str) -> float:
    """Return Q of a sector with a σ for each school."""
    return q_of(sector, sigma=own_sigma(schools(sector)))


def by_sector(function: object) -> dict[str, float]:
    """Apply a function to the names of both sectors."""
    return {sector: float(function(sector)) for sector in ("Catholic", "Public")}


def p_value(sector: str) -> float:
    """Return the p-value of a sector's Q."""
    return float(stats.chi2.sf(q_of(sector), len(schools(sector)) - 1))


EXERCISES = (
    Exercise(
        id="5.1",
        question="By which factor does an axis from 200 ms exaggerate the relative increase "
        "from day 0 to day 9?",
        right=lambda: increase(START) / increase(0),
        success="the exaggeration is the value of day 0 over its drawn length. The data of "
        "day 9 have no say in it.",
        wanted="a factor, one increase over another",
        mistakes=(
            Mistake(
                lambda: increase(START),
                "that is the relative increase that the picture shows. How does it compare "
                "with the increase in the data?",
            ),
            Mistake(
                lambda: increase(0),
                "that is the relative increase in the data. What does the picture show?",
            ),
            Mistake(
                lambda: ratio(START),
                "that is the ratio of the drawn lengths. The question is about increases, "
                "and in comparison with the data.",
            ),
            Mistake(
                lambda: ratio(0),
                "that is the ratio of the two means. The cut axis has no part in it yet.",
            ),
            Mistake(
                lambda: ratio(START) / ratio(0),
                "you compared the ratios of day 9 to day 0. An increase is a difference "
                "first: what was added, as a share of day 0.",
            ),
            Mistake(
                lambda: increase(0) / increase(START),
                "upside down: by this factor the data fall short of the picture.",
            ),
            Mistake(
                lambda: reaction(9) / (reaction(9) - START),
                "you measured the increase as a share of day 9. It is a share of day 0.",
            ),
        ),
    ),
    Exercise(
        id="5.2",
        question="How many public schools would have a slope below zero, on average, if all "
        "had the common slope of the public schools?",
        right=lambda: expected_negative(schools("Public"), schools("Public")),
        success="the steeper the common slope, the fewer fall below zero by chance. The "
        "count in the data is a little larger, and no surprise.",
        tolerance=0.006,
        wanted="an expected number of schools, not a whole number",
        mistakes=(
            Mistake(
                lambda: float((schools("Public")["slope"] < 0).sum()),
                "that is how many there are. How many would chance give?",
            ),
            Mistake(
                lambda: expected_negative(schools("Public"), schools()),
                "you took slope and σ of all the schools. The public schools have their own.",
            ),
            Mistake(
                lambda: expected_negative(
                    schools("Public"), schools(), slope=common_slope(schools("Public"))
                ),
                "the slope is that of the public schools, but σ is that of all. Take both "
                "from the public schools.",
            ),
            Mistake(
                lambda: expected_negative(
                    schools("Public"),
                    schools("Public"),
                    slope=schools("Public")["slope"].mean(),
                ),
                "you took the plain mean of the slopes. The common slope weights each by its "
                "spread of x.",
            ),
            Mistake(
                lambda: (
                    len(schools("Public"))
                    - expected_negative(schools("Public"), schools("Public"))
                ),
                "that is how many would be above zero.",
            ),
            Mistake(
                lambda: expected_negative(schools(), schools()),
                "that is for all the schools. Take the rows of the public schools first.",
            ),
            Mistake(
                lambda: expected_negative(schools("Catholic"), schools("Catholic")),
                "that is for the Catholic schools.",
            ),
            Mistake(
                lambda: expected_negative(schools("Public"), schools("Public"), slope=0.0),
                "that is half of the schools, as if the common slope were zero.",
            ),
            Mistake(
                lambda: (
                    expected_negative(schools("Public"), schools("Public"))
                    / len(schools("Public"))
                ),
                "that is a share. The question asks for a number of schools.",
            ),
        ),
    ),
    Exercise(
        id="5.3",
        question="Which share of the variance of the children's slopes is noise?",
        right=noise_share,
        success="by this estimate more than half of the variance of the slopes would be there "
        "if all children grew alike. But it rests much on one child, whose points stray far "
        "from its line: the solution leaves it out and looks again.",
        tolerance=0.015,
        wanted="a proportion between 0 and 1",
        mistakes=(
            Mistake(lambda: 1 - noise_share(), "that is the share that is not noise."),
            Mistake(
                lambda: noise_share() ** 0.5,
                "a ratio of standard deviations. The question is about variances.",
            ),
            Mistake(
                noise,
                "that is the noise itself. It is to be a share of something.",
            ),
            Mistake(
                noise_share_without_spread,
                "σ²/n is the noise of a mean. What is the noise of a slope?",
            ),
            Mistake(
                lambda: 1 / noise_share(), "upside down: noise over variance is asked for."
            ),
            Mistake(
                lambda: noise_share() * len(children()),
                "you added up the noise of all the children. Take its mean.",
            ),
            Mistake(
                lambda: residual_sd(children()) ** 2 / float(children()["slope"].var()),
                "σ² is the noise of one point. For the noise of a slope, the spread of the "
                "ages is missing.",
            ),
            Mistake(
                noise_share_without_one,
                "you left out the child that strays most. Take all of them here.",
            ),
            Mistake(
                noise_share_wrong_df,
                "σ² is too small: how many numbers does each child's line cost?",
            ),
            Mistake(
                lambda: noise() / float(children()["slope"].var(ddof=0)),
                "you divided by n for the variance of the slopes. pandas divides by n − 1.",
            ),
        ),
    ),
    Exercise(
        id="5.4",
        question="What are the slopes of log wage on experience: within, between, pooled?",
        right=lambda: wage_answer("within", "between"),
        kind="mapping",
        success="within and between have opposite signs: a reversal between levels. It is not "
        "Simpson's paradox, because the line through all rows does not fall.",
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
                lambda: wage_answer("pooled", "between"),
                "your within slope is that of all rows in one pot. Compare each man with "
                "himself only.",
            ),
            Mistake(
                lambda: {
                    **wage_answer("within", "between"),
                    "between": -wage_slopes()["between"],
                },
                "check the sign of your between slope: do men with more experience on average "
                "earn more or less?",
            ),
            Mistake(
                lambda: wage_answer("within", "pooled"),
                "your between slope is that of all rows in one pot. Take one row a man, "
                "his means.",
            ),
            Mistake(
                lambda: wage_answer("half", "between"),
                "within: only the wage was de-meaned. What has to happen to experience?",
            ),
            Mistake(
                lambda: np.expm1(pd.Series(wage_answer("within", "between"))),
                "that is the growth of the wage itself. The question asks for log wage.",
            ),
        ),
    ),
    Exercise(
        id="5.5",
        question="What is Q for the Catholic schools alone, and for the public schools alone?",
        right=lambda: by_sector(q_of),
        kind="mapping",
        success="each Q is now only a little above its number of schools less one, within "
        "what chance gives. So most of the excess goes together with the sector. That does "
        "not say that the sector causes it.",
        wanted="a value of Q for each name",
        mistakes=(
            Mistake(
                lambda: by_sector(
                    lambda sector: q_of(sector, common_slope(schools()), residual_sd(schools()))
                ),
                "you took slope and σ of all the schools. Let each sector have its own.",
            ),
            Mistake(
                lambda: by_sector(lambda sector: q_of(sector, common_slope(schools()))),
                "you took the common slope of all the schools. Let each sector have its own.",
            ),
            Mistake(
                lambda: by_sector(lambda sector: q_of(sector, sigma=residual_sd(schools()))),
                "you took the σ of all the schools. Let each sector have its own.",
            ),
            Mistake(
                lambda: {"Catholic": q_of("Public"), "Public": q_of("Catholic")},
                "these are the two values, under each other's name.",
            ),
            Mistake(
                lambda: by_sector(
                    lambda sector: q_of(sector, sigma=own_sigma(schools(sector)))
                ),
                "you estimated σ in each school by itself. Take one σ a sector.",
            ),
            Mistake(
                lambda: by_sector(lambda sector: q_of(sector, slope=0.0)),
                "you measured the distance of the slopes from zero. From what should it be?",
            ),
            Mistake(
                lambda: by_sector(p_value),
                "these are the p-values. The question asks for Q itself.",
            ),
            Mistake(
                lambda: by_sector(lambda sector: q_of(sector) / (len(schools(sector)) - 1)),
                "you have divided by the number of schools less one already.",
            ),
        ),
    ),
)
