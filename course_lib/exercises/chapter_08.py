"""Exercises of chapter 8: predictions, shares, partial dependence, Grad-CAM, a confounder."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd

from course_lib.datasets import load
from course_lib.exercises.checker import Exercise, Mistake
from course_lib.mixed.result import LmerResult, lmer

__all__ = ["EXERCISES"]

FEATURES = ["ses", "meanses", "minority", "female", "catholic"]


@functools.cache
def pupils() -> pd.DataFrame:
    """Return the survey with the yes-or-no columns as numbers."""
    survey = load("hsb82")
    return survey.assign(
        minority=(survey["minrty"] == "Yes").astype(float),
        female=(survey["sx"] == "Female").astype(float),
        catholic=(survey["sector"] == "Catholic").astype(float),
    )


# 8.1: the mean of such boys in a new school.

BOY = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])  # intercept, then FEATURES: SES 1, else 0


@functools.cache
def school_fit() -> LmerResult:
    """Fit the chapter's model."""
    return lmer(f"mAch ~ {' + '.join(FEATURES)} + (ses | school)", pupils())


def sd_of_mean(
    line: bool = True,
    schools: bool = True,
    slope: bool = True,
    cov: bool = True,
    one_boy: bool = False,
) -> float:
    """Return the sd of the mean of such boys in a new school; or with parts left out."""
    fit, z = school_fit(), np.array([1.0, 1.0 * slope])
    Sigma = fit.cov_re["school"].to_numpy()
    Sigma = Sigma if cov else np.diag(Sigma.diagonal())
    variance = line * (BOY @ fit.cov_fe.to_numpy() @ BOY) + schools * (z @ Sigma @ z)
    return float(np.sqrt(variance + one_boy * fit.scale))


def sd_of_girls(new_school: float) -> float:
    """Return the sd of the chapter's girls: of their mean line, or (1) in a new school."""
    fit, rows = school_fit(), pupils().set_index("school")
    place = rows.loc[fit.random_effects["school"]["Intercept"].idxmax()].iloc[0]
    x = np.array([1, 0, place["meanses"], 0, 1, place["catholic"]], dtype=float)
    variance = x @ fit.cov_fe.to_numpy() @ x
    return float(np.sqrt(variance + new_school * fit.cov_re["school"].iloc[0, 0]))


# 8.2: the share of SES where it is crossed with the sector.

SES, CATHOLIC = -1.5, 1.0


@functools.cache
def crossed_fit() -> LmerResult:
    """Fit SES crossed with the sector."""
    return lmer("mAch ~ ses * catholic + (1 | school)", pupils())


def value(ses: float | None = None, catholic: float | None = None) -> float:
    """Return the mean fixed part over all pupils, with columns set to one value."""
    beta = crossed_fit().fe_params
    x = pupils()["ses"] if ses is None else ses
    c = pupils()["catholic"] if catholic is None else catholic
    part = beta["ses"] * x + beta["catholic"] * c + beta["ses:catholic"] * (x * c)
    return float(np.mean(beta["Intercept"] + part))


def ses_first() -> float:
    """Return what SES adds when it comes first."""
    return value(ses=SES) - value()


def ses_second() -> float:
    """Return what SES adds when the sector is already set."""
    return value(ses=SES, catholic=CATHOLIC) - value(catholic=CATHOLIC)


def catholic_share() -> float:
    """Return the share of the sector."""
    together = value(ses=SES, catholic=CATHOLIC)
    return (value(catholic=CATHOLIC) - value() + together - value(ses=SES)) / 2


# 8.3: partial dependence of a forest on the mean SES of the school.

LOW, HIGH = -0.5, 0.5
GROUPS = {"all": (0.0, 1.0), "catholic": (1.0,), "public": (0.0,)}


@functools.cache
def forest() -> object:
    """Train the forest of the exercise."""
    from sklearn.ensemble import RandomForestRegressor  # slow to import

    model = RandomForestRegressor(n_estimators=30, min_samples_leaf=30, random_state=3)
    return model.fit(pupils()[FEATURES], pupils()["mAch"])


def rise(sectors: tuple[float, ...], low: float = LOW, high: float = HIGH) -> float:
    """Return the change of the mean prediction for the pupils of these sectors."""
    rows = pupils().loc[pupils()["catholic"].isin(sectors), FEATURES]
    ends = [forest().predict(rows.assign(meanses=end)).mean() for end in (low, high)]
    return float(ends[1] - ends[0])


def rise_if_all(sectors: tuple[float, ...]) -> float:
    """Return the change if the sector is set for everybody, not used to choose pupils."""
    rows = pupils()[FEATURES]
    rows = rows.assign(catholic=sectors[0]) if len(sectors) == 1 else rows
    ends = [forest().predict(rows.assign(meanses=end)).mean() for end in (LOW, HIGH)]
    return float(ends[1] - ends[0])


def rise_with_ses(sectors: tuple[float, ...]) -> float:
    """Return the change if the pupil's own SES is set as well."""
    rows = pupils().loc[pupils()["catholic"].isin(sectors), FEATURES]
    ends = [forest().predict(rows.assign(meanses=end, ses=end)).mean() for end in (LOW, HIGH)]
    return float(ends[1] - ends[0])


def observed(sectors: tuple[float, ...], column: str = "predicted") -> float:
    """Return the difference between pupils of schools above and below."""
    rows = pupils().assign(predicted=forest().predict(pupils()[FEATURES]))
    rows = rows[rows["catholic"].isin(sectors)]
    above, below = rows["meanses"] > HIGH, rows["meanses"] < LOW
    return float(rows.loc[above, column].mean() - rows.loc[below, column].mean())


def by_group(compute: Callable[[tuple[float, ...]], float]) -> dict[str, float]:
    """Return one number for all pupils and for each sector."""
    return {name: compute(sectors) for name, sectors in GROUPS.items()}


def sectors_swapped() -> dict[str, float]:
    """Return the right numbers with the names of the sectors exchanged."""
    right = by_group(rise)
    return right | {"catholic": right["public"], "public": right["catholic"]}


# 8.4: Grad-CAM by hand.

FIRST_MAP = np.array([[0, 2, 0], [1, 3, 0], [0, 0, 1]])
SECOND_MAP = np.array([[1, 0, 4], [1, 0, 2], [0, 1, 0]])
MAP_WEIGHTS, MAP_BIAS = np.array([0.9, -0.6]), 0.25
PER_CELL = "the weights act on the means of the maps. What is then the gradient in one cell?"


def map_numbers(
    divisor: int = 9, cut: bool = True, bias: float = MAP_BIAS, score_of_cut: bool = False
) -> dict[str, float]:
    """Return hottest cell, sum of the map and score; each argument is one way to go wrong."""
    signed = (MAP_WEIGHTS[0] * FIRST_MAP + MAP_WEIGHTS[1] * SECOND_MAP) / divisor
    positive = np.maximum(signed, 0)
    return {
        "hottest": float(signed.max()),
        "sum": float((positive if cut else signed).sum()),
        "score": float((positive if score_of_cut else signed).sum()) + bias,
    }


def map_not_divided() -> dict[str, float]:
    """Return the numbers when 1/N is forgotten in the map, not in the score."""
    return map_numbers(divisor=1) | {"score": map_numbers()["score"]}


def maps_cut_one_by_one() -> dict[str, float]:
    """Return the numbers when only the first map, whose weight is positive, is used."""
    return map_numbers() | {"sum": float(MAP_WEIGHTS[0] * FIRST_MAP.sum() / 9)}


def normalised_numbers() -> dict[str, float]:
    """Return the numbers of the map that is divided by its hottest cell."""
    right = map_numbers()
    return right | {"hottest": 1.0, "sum": right["sum"] / right["hottest"]}


# 8.5: a counterfactual in a new school.

CASE, POINTS = 4597, 10


def ses_needed(known_start: bool = False, known_slope: bool = False) -> float:
    """Return the change of SES; with the known school's prediction to start from, or slope."""
    fit, case = school_fit(), pupils().loc[[CASE]]
    start = fit.predict(case, random=known_start).iloc[0]
    slope = fit.fe_params["ses"]
    if known_slope:
        slope += fit.random_effects["school"].loc[case["school"].iloc[0], "ses"]
    return float((POINTS - start) / slope)


def both_ses_needed() -> float:
    """Return the change if the school's mean moved along."""
    effects = school_fit().fe_params
    return ses_needed() * effects["ses"] / (effects["ses"] + effects["meanses"])


# 8.6: a confounder, diluted.

SUPPORT_EFFECT, WISH_SD = 5, 2


def found_coefficient(wish_sd: float = WISH_SD) -> float:
    """Return support's effect times the slope of support on hours: cov / var(hours)."""
    return SUPPORT_EFFECT * 1 / (1 + wish_sd**2)


EXERCISES = (
    Exercise(
        id="8.1",
        question="With which standard deviation do you know the mean score of such boys in a "
        "new school?",
        right=sd_of_mean,
        wanted="a standard deviation in points",
        success="away from SES 0 the slopes of schools count as well. Nearly all of it is how "
        "schools differ; the line itself is well known.",
        tolerance=0.004,
        mistakes=(
            Mistake(
                lambda: sd_of_mean(slope=False),
                "you took z = (1, 0). His SES is 1: does a school's slope matter for him?",
            ),
            Mistake(lambda: sd_of_mean(line=False), "the line is not known exactly either."),
            Mistake(
                lambda: sd_of_mean(line=False, slope=False),
                "that is the standard deviation of the schools' intercepts alone.",
            ),
            Mistake(
                lambda: sd_of_mean(schools=False),
                "that is how well the line is known. A new school is not the average school.",
            ),
            Mistake(lambda: sd_of_mean(one_boy=True), "that is for one boy, not for a mean."),
            Mistake(lambda: sd_of_mean() ** 2, "that is the variance."),
            Mistake(lambda: 1.96 * sd_of_mean(), "that is half of the interval, not the sd."),
            Mistake(
                lambda: sd_of_mean(cov=False),
                "is the covariance of intercepts and slopes in it, too?",
            ),
            Mistake(lambda: sd_of_girls(1), "that is the chapter's girls, whose SES was 0."),
            Mistake(
                lambda: sd_of_girls(0),
                "that is how well the line is known, and for the chapter's girls.",
            ),
        ),
    ),
    Exercise(
        id="8.2",
        question="What is the Shapley share of SES in the prediction for this pupil?",
        right=lambda: (ses_first() + ses_second()) / 2,
        wanted="a share in points",
        success="half of the crossed effect goes to each of the two columns. Low SES costs "
        "less in a Catholic school, and SES gets only half of that relief.",
        tolerance=0.005,
        mistakes=(
            Mistake(
                ses_first,
                "that is what SES adds when it comes first. There is another order.",
            ),
            Mistake(
                ses_second,
                "that is what SES adds when the sector is already set. There is another order.",
            ),
            Mistake(
                lambda: crossed_fit().fe_params["ses"] * SES,
                "that is the coefficient of `ses` alone, which is the slope in public schools. "
                "Where is the crossed term?",
            ),
            Mistake(catholic_share, "that is the share of `catholic`."),
            Mistake(
                lambda: value(ses=SES, catholic=CATHOLIC),
                "that is the prediction. A share is what one column adds to it.",
            ),
            Mistake(
                lambda: ses_first() + ses_second(),
                "you added the two orders. A share is their average.",
            ),
            Mistake(
                lambda: value(ses=SES, catholic=CATHOLIC) - value(),
                "that is what both columns share. Whose part is whose?",
            ),
        ),
    ),
    Exercise(
        id="8.3",
        question="By how much does the forest's mean prediction rise from meanses -0.5 to 0.5, "
        "for all pupils and for those of each sector?",
        right=lambda: by_group(rise),
        kind="mapping",
        wanted="a rise in points",
        success="the average stands for neither sector: the forest lets the school's mean SES "
        "count for more in Catholic ones. Not so the world: in a mixed model with meanses * "
        "catholic the difference has the other sign, and an interval around zero.",
        tolerance=0.01,
        mistakes=(
            Mistake(
                lambda: by_group(observed),
                "you compared pupils of different schools, who differ in other columns too. "
                "Set the column in the same rows.",
            ),
            Mistake(
                lambda: by_group(functools.partial(observed, column="mAch")),
                "those are differences of scores. What does the forest predict?",
            ),
            Mistake(
                lambda: by_group(rise_with_ses),
                "you set `ses` as well. Everything but `meanses` stays as it is.",
            ),
            Mistake(
                lambda: by_group(rise_if_all),
                "you set the sector for everybody. Take the pupils who are in it.",
            ),
            Mistake(
                lambda: by_group(lambda sectors: rise(sectors, high=0.0)),
                "you went from -0.5 to 0 only.",
            ),
            Mistake(sectors_swapped, "the two sectors are the wrong way round."),
        ),
    ),
    Exercise(
        id="8.4",
        question="What are the hottest cell, the sum of the map after the cut, and the score?",
        right=map_numbers,
        success="the score less its constant is the sum of the map before the cut. The cut "
        "hides the cells that speak against the class, so a warm map is not yet a high score.",
        kind="mapping",
        tolerance=0.002,
        wanted="three numbers in units of the score",
        mistakes=(
            Mistake(lambda: map_numbers(divisor=1), PER_CELL),
            Mistake(map_not_divided, f"the score is right; but {PER_CELL}"),
            Mistake(lambda: map_numbers(cut=False), "'sum' is that before the cut at zero."),
            Mistake(lambda: map_numbers(bias=0.0), "'score' lacks the constant of the class."),
            Mistake(
                lambda: map_numbers(score_of_cut=True),
                "'score' was added up from the map after the cut. The score has no cut.",
            ),
            Mistake(
                maps_cut_one_by_one,
                "'sum' uses the first map only. The cut comes after the maps are added up.",
            ),
            Mistake(
                normalised_numbers,
                "you divided the map by its hottest cell. How strong is the evidence then?",
            ),
        ),
    ),
    Exercise(
        id="8.5",
        question="By how much would SES have to differ for a prediction of 10 points in a "
        "school that the model has not seen?",
        right=ses_needed,
        success="less than in the pupil's own school: at this SES that one is slightly kinder, "
        "but its slope is flatter, so the way is longer. It is what the model would say of "
        "another pupil in another school, not what would happen to this one.",
        tolerance=0.003,
        wanted="a change in points of SES",
        mistakes=(
            Mistake(
                lambda: ses_needed(known_start=True, known_slope=True),
                "that is the change in the pupil's own school. What are the random effects of "
                "a school that nobody has seen?",
            ),
            Mistake(lambda: ses_needed(known_start=True), "you started in the own school."),
            Mistake(lambda: ses_needed(known_slope=True), "you used the own school's slope."),
            Mistake(
                lambda: ses_needed() + pupils().loc[CASE, "ses"],
                "that is the new SES. The question asks for the change.",
            ),
            Mistake(
                lambda: ses_needed() / pupils()["ses"].std(ddof=0),
                "that is the change in standard deviations.",
            ),
            Mistake(both_ses_needed, "the school's mean SES stays as it is, in the question."),
            Mistake(
                lambda: ses_needed() * school_fit().fe_params["ses"],
                "that is what is missing in points of the test, not of SES.",
            ),
        ),
    ),
    Exercise(
        id="8.6",
        question="Which coefficient of coaching does a large survey find if wishes have a "
        "standard deviation of 2?",
        right=found_coefficient,
        success="more wishes dilute the news of support in the hours, so the coefficient is "
        "smaller than before. It is no less wrong for that: the effect is zero. Measuring "
        "support, or a coin, would find it; more noise only hides the mistake.",
        tolerance=0.01,
        wanted="a coefficient in marks per hour",
        mistakes=(
            Mistake(lambda: found_coefficient(1), "that is for wishes with an sd of 1."),
            Mistake(lambda: SUPPORT_EFFECT / (1 + WISH_SD), "variances add up, sds do not."),
            Mistake(
                lambda: SUPPORT_EFFECT / np.sqrt(1 + WISH_SD**2),
                "you divided by the standard deviation of the hours. A slope has another "
                "denominator.",
            ),
            Mistake(
                lambda: found_coefficient() / SUPPORT_EFFECT,
                "so much support goes with an hour. How many marks does that bring?",
            ),
            Mistake(
                lambda: float(SUPPORT_EFFECT),
                "that is the effect of support. How much of a difference in hours is support?",
            ),
            Mistake(lambda: 0.0, "that is the true effect. What does the survey find?"),
        ),
    ),
)
