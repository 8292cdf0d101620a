"""Exercises of chapter 9: shares, what bars and reports permit, averages, LIME reports."""

from __future__ import annotations

import functools
import itertools
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
    """Return the survey as the chapter has it, without the added columns."""
    survey = load("hsb82")
    status = (survey[["ses", "meanses"]] * 512).round() / 512
    return survey.assign(
        ses=status["ses"],
        meanses=status["meanses"],
        minority=(survey["minrty"] == "Yes").astype(float),
        female=(survey["sx"] == "Female").astype(float),
        catholic=(survey["sector"] == "Catholic").astype(float),
    )


# 9.1: the share of SES where it is crossed with the sector.

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


# 9.2: which two sentences a waterfall permits.

WRONG = {
    "B": "2.62 compares him with these peers, and 36 of them are below the step too; the "
    "planted step is 4. In a real school, moreover, no lot draws who attends.",
    "C": "a bar belongs to one boy and one forest; it says nothing about the scores of others.",
    "E": "exact arithmetic is not a standard error. The five other forests gave other bars.",
}
PAIRS = ["".join(pair) for pair in itertools.combinations("ABCDE", 2)]


def hint_to_pair(pair: str) -> str:
    """Return the hints to the wrong letters of a pair, and say which one is right."""
    right = "".join(f"{letter} is right. " for letter in pair if letter not in WRONG)
    return right + " ".join(f"{letter}: {WRONG[letter]}" for letter in pair if letter in WRONG)


# 9.3: partial dependence of a forest on the mean SES of the school.

LOW, HIGH = -0.5, 0.5
GROUPS = {"all": (0.0, 1.0), "catholic": (1.0,), "public": (0.0,)}


@functools.cache
def forest() -> object:
    """Train the forest of the exercise."""
    from sklearn.ensemble import RandomForestRegressor  # slow to import

    model = RandomForestRegressor(n_estimators=30, min_samples_leaf=30, random_state=3)
    return model.fit(pupils()[FEATURES], pupils()["mAch"])


def rows_of(sectors: tuple[float, ...]) -> pd.DataFrame:
    """Return the pupils of these sectors."""
    return pupils().loc[pupils()["catholic"].isin(sectors), FEATURES]


def rise(rows: pd.DataFrame, low: float = LOW, high: float = HIGH, also: str = "") -> float:
    """Return the change of the mean prediction; with `also` a second column is set, too."""
    names = ["meanses", *filter(None, [also])]
    ends = [
        forest().predict(rows.assign(**dict.fromkeys(names, end))).mean() for end in (low, high)
    ]
    return float(ends[1] - ends[0])


def rise_if_all(sectors: tuple[float, ...]) -> float:
    """Return the change if the sector is set for everybody, not used to choose pupils."""
    rows = pupils()[FEATURES]
    return rise(rows.assign(catholic=sectors[0]) if len(sectors) == 1 else rows)


def observed(sectors: tuple[float, ...], of: str = "predicted") -> float:
    """Return the difference between pupils of schools above and below."""
    rows = rows_of(sectors)
    values = forest().predict(rows) if of == "predicted" else pupils().loc[rows.index, of]
    above, below = rows["meanses"] > HIGH, rows["meanses"] < LOW
    return float(np.mean(values[above]) - np.mean(values[below]))


def by_group(compute: Callable[[tuple[float, ...]], float]) -> dict[str, float]:
    """Return one number for all pupils and for each sector."""
    return {name: compute(sectors) for name, sectors in GROUPS.items()}


def right_rises() -> dict[str, float]:
    """Return the right numbers."""
    return by_group(lambda sectors: rise(rows_of(sectors)))


def sectors_swapped() -> dict[str, float]:
    """Return the right numbers with the names of the sectors exchanged."""
    right = right_rises()
    return right | {"catholic": right["public"], "public": right["catholic"]}


# 9.4: four LIME reports. Why a letter is wrong, for each report.

VERDICTS = "WLYN"
CLOSE = "both lines follow the predictions closely."
WHY_NOT = (
    {
        "Y": "compare its two widths.",
        "L": CLOSE,
        "N": "the spreads are small in both columns. What else differs?",
    },
    {
        "Y": "look at its local R². Is this model about a line?",
        "W": "the two widths agree. What is wrong with both?",
        "N": "the spreads are small beside the effects. What about the line itself?",
    },
    {
        "W": "the two widths agree.",
        "L": CLOSE,
        "N": "the effect is many times its spread.",
    },
    {
        "Y": "compare the effects with their spreads.",
        "W": "the two effects differ by less than their spreads.",
        "L": CLOSE,
    },
)
REPORTS = tuple("".join(four) for four in itertools.product("YWLN", repeat=4))


def hint_to_reports(letters: str) -> str:
    """Return why each wrong letter fails."""
    parts = [
        f"report {place + 1}: {WHY_NOT[place][letter]}"
        for place, letter in enumerate(letters)
        if letter != VERDICTS[place]
    ]
    return "look again at " + " And at ".join(parts)


# 9.5: the share of meanses under three groups of peers.

BOY = 4583


@functools.cache
def additive_fit() -> LmerResult:
    """Fit two columns without a product."""
    return lmer("mAch ~ ses + meanses + (1 | school)", pupils())


def boy() -> pd.Series:
    """Return the boy of the chapter."""
    return pupils().loc[BOY]


def peers_of(group: str) -> pd.DataFrame:
    """Return one of the three groups of peers."""
    table = pupils()
    if group == "school":
        return table[table["school"] == boy()["school"]]
    return table if group == "all" else table[table["catholic"] == 0]


def shares(column: str = "meanses") -> dict[str, float]:
    """Return the share of a column: coefficient times the distance from the peers' mean."""
    slope = additive_fit().fe_params[column]
    return {
        group: float(slope * (boy()[column] - peers_of(group)[column].mean()))
        for group in ("all", "public", "school")
    }


def without_peers() -> dict[str, float]:
    """Return coefficient times value, as if the peers' mean were zero."""
    return dict.fromkeys(
        shares(), float(additive_fit().fe_params["meanses"] * boy()["meanses"])
    )


def peers_minus_boy() -> dict[str, float]:
    """Return the shares with the difference the wrong way round."""
    return {group: -share for group, share in shares().items()}


def distances() -> dict[str, float]:
    """Return the distances without the coefficient."""
    slope = additive_fit().fe_params["meanses"]
    return {group: float(share / slope) for group, share in shares().items()}


def refitted() -> dict[str, float]:
    """Return the shares of models fitted to the peers, where meanses varies among them."""
    found = shares()
    formula = "mAch ~ ses + meanses + (1 | school)"
    public = peers_of("public")
    slope = lmer(formula, public).fe_params["meanses"]
    return found | {"public": float(slope * (boy()["meanses"] - public["meanses"].mean()))}


# 9.6: which two sentences.

WRONG_IN_REPORT = {
    "B": "the scenario changes a row of a table, not a family. Nobody's SES was changed.",
    "C": "a map has a hottest spot even where the cue is everywhere, as grain was. What would "
    "you do with the spot before you believe it?",
    "D": "the log held one model. What else was different in April?",
}


def hint_to_report(pair: str) -> str:
    """Return the hints to the wrong letters of a pair, and say which one is right."""
    wrong = [letter for letter in pair if letter in WRONG_IN_REPORT]
    right = "".join(f"{letter} is right. " for letter in pair if letter not in wrong)
    return right + " ".join(f"{letter}: {WRONG_IN_REPORT[letter]}" for letter in wrong)


EXERCISES = (
    Exercise(
        id="9.1",
        question="What is the Shapley value of SES in the prediction for this pupil?",
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
        id="9.2",
        question="Which two sentences does the waterfall permit?",
        right=lambda: "AD",
        success="a bar is about this forest, this boy, and these peers. Beside peers who all "
        "attend more, he loses the whole step.",
        kind="choice",
        options=tuple(PAIRS),
        mistakes=tuple(
            Mistake(functools.partial(str, pair), hint_to_pair(pair))
            for pair in PAIRS
            if pair != "AD"
        ),
        wanted="two letters from A to E",
    ),
    Exercise(
        id="9.3",
        question="By how much does the forest's mean prediction rise from meanses -0.5 to 0.5, "
        "for all pupils and for those of each sector?",
        right=right_rises,
        kind="mapping",
        wanted="a rise in points",
        success="the average stands for neither sector: the forest lets the school's mean SES "
        "count for more in Catholic ones. But a forest gives no standard error to that. In a "
        "mixed model with meanses * catholic the difference has the other sign, and an "
        "interval around zero.",
        tolerance=0.01,
        mistakes=(
            Mistake(
                lambda: by_group(observed),
                "you compared pupils of different schools, who differ in other columns too. "
                "Set the column in the same rows.",
            ),
            Mistake(
                lambda: by_group(functools.partial(observed, of="mAch")),
                "those are differences of scores. What does the forest predict?",
            ),
            Mistake(
                lambda: by_group(lambda sectors: rise(rows_of(sectors), also="ses")),
                "you set `ses` as well. Everything but `meanses` stays as it is.",
            ),
            Mistake(
                lambda: by_group(rise_if_all),
                "you set the sector for everybody. Take the pupils who are in it.",
            ),
            Mistake(
                lambda: by_group(lambda sectors: rise(rows_of(sectors), high=0.0)),
                "you went from -0.5 to 0 only.",
            ),
            Mistake(sectors_swapped, "the two sectors are the wrong way round."),
        ),
    ),
    Exercise(
        id="9.4",
        question="Which of the four reports permits the sentence, and why do the others not?",
        right=lambda: VERDICTS,
        success="a small spread says only that more neighbours would not change the answer. "
        "The fit of the line and a second width are separate questions.",
        kind="choice",
        options=REPORTS,
        mistakes=tuple(
            Mistake(functools.partial(str, letters), hint_to_reports(letters))
            for letters in REPORTS
            if letters != VERDICTS
        ),
        wanted="four letters out of Y, W, L and N",
    ),
    Exercise(
        id="9.5",
        question="How many points is the share of meanses, beside three groups of peers?",
        right=shares,
        kind="mapping",
        wanted="a share in points",
        success="one model, one boy, one prediction, and three answers. Beside his schoolmates "
        "`meanses` moves nothing, because they all share it: such a bar can show no effect of "
        "the school. Always say whom he is compared with.",
        tolerance=0.01,
        absolute=0.005,
        mistakes=(
            Mistake(
                without_peers,
                "your three numbers are (nearly) the same. Did you use the same peers three "
                "times, or none?",
            ),
            Mistake(
                peers_minus_boy,
                "the sign is wrong: a share leads from the peers to the boy.",
            ),
            Mistake(
                lambda: shares("ses"),
                "those are the shares of `ses`.",
            ),
            Mistake(
                distances,
                "those are distances in units of SES. How many points is one unit worth?",
            ),
            Mistake(
                refitted,
                "you fitted the model anew to the peers. Only the peers change, not the model.",
            ),
        ),
    ),
    Exercise(
        id="9.6",
        question="Which two sentences may stand in a report?",
        right=lambda: "AE",
        success="A speaks of the model, and E of a difference between people, with the one "
        "thing that it leaves out. Neither says what would happen.",
        kind="choice",
        options=tuple(PAIRS),
        mistakes=tuple(
            Mistake(functools.partial(str, pair), hint_to_report(pair))
            for pair in PAIRS
            if pair != "AE"
        ),
        wanted="two letters from A to E",
    ),
)
