r"""Exact Shapley values of a mixed model's prediction.

A prediction is a sum of columns times weights: fixed coefficients, or the random effects of
the row's group. The Shapley value of a sum is the sum of Shapley values, so that each set of
columns is shared out among the few players that make it, and all their subsets can be tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from course_lib import errors
from course_lib.errors import course_error, listing
from course_lib.mixed.design import Side
from course_lib.mixed.result import LmerResult, check_fit

__all__ = ["linear_shap"]

MOST_ROWS = 20_000_000  # that are put together and evaluated: about a minute
BATCH = 200_000  # of them at a time
SUBSET_COST = 5_000  # rows that could be evaluated in the time that any subset takes
EXTRA = ["base_value", "prediction"]


@dataclass(frozen=True, eq=False)
class Part:
    """Columns that take the same variables, and what multiplies them."""

    variables: tuple[str, ...]
    group: str | None
    places: list[int]  # of its columns in the matrix of all fixed effects, or of the group
    matrix: Callable[[pd.DataFrame], np.ndarray]  # all columns, shape (rows, all)
    effects: Callable[[pd.DataFrame], np.ndarray]  # coefficients or modes, the same shape

    @property
    def players(self) -> tuple[str, ...]:
        """Who shares in it: the variables, and the group if there is one."""
        return tuple(dict.fromkeys((*self.variables, *filter(None, [self.group]))))


def linear_shap(
    fit: LmerResult,
    data: pd.DataFrame,
    *,
    background: pd.DataFrame | None = None,
    new_levels: str = "error",
) -> pd.DataFrame:
    r"""Share out each prediction of a mixed model among its predictors and groups, exactly.

    .. math:: \phi_j = \sum_{S \subseteq P \setminus j} \frac{|S|!\,(|P|-|S|-1)!}{|P|!}
              \,\bigl(v(S \cup j) - v(S)\bigr)

    (Shapley; Štrumbelj & Kononenko 2014, doi:10.1007/s10115-013-0679-x; Lundberg & Lee 2017,
    arXiv:1705.07874). The players P are the columns of the data left of the bars and in the
    fixed part, and each grouping factor as one more. A product, such as ``x1:x2`` or a random
    slope x·b_g, is split by the same formula.

    v(S) is the mean prediction over the background rows with the players in S set to the row's
    values: "what does the model do with these inputs?" (independent or interventional values,
    as those of ``shap.TreeExplainer(forest, background)``). A predictor without an effect gets
    0, but combinations that do not occur may be averaged over. A group goes with its random
    effects: not in S, it is that of the background row.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    data : DataFrame
        Rows whose predictions are shared out.
    background : DataFrame, optional
        Rows that a prediction is compared with; by default `data`. It may be a single row.
    new_levels : {"error", "population"}
        What to do with a group that the fit has not seen: raise, or use 0 for its effects.

    Returns
    -------
    DataFrame
        Rows as in `data`; one column per player, then base_value = v(∅) and prediction, all in
        units of the response: base_value plus the players is the prediction.

    Raises
    ------
    CourseError
        If a column is missing or has missing values, there is nothing to compare with, or too
        much to evaluate.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> sleep = load("sleepstudy")
    >>> shares = linear_shap(lmer("Reaction ~ Days + (Days | Subject)", sleep), sleep)
    >>> list(shares.columns)
    ['Days', 'Subject', 'base_value', 'prediction']

    See Also
    --------
    course_lib.explain.local_surrogate : For models that are no mixed model.
    """
    check_fit("fit", fit)
    errors.check_choice("new_levels", new_levels, ("error", "population"))
    parts = _model_parts(fit)
    data = _checked_rows("data", data, fit, new_levels)
    if background is None and len(data) == 1:
        advice = "Pass background=the rows that the model was fitted to."
        raise course_error("background", "is needed to explain one row", "None", advice)
    peers = data if background is None else background
    background = _checked_rows("background", peers, fit, new_levels)
    variables = [name for part in parts for name in part.variables]
    shares = dict.fromkeys([*variables, *fit.ngroups], 0.0)
    if set(EXTRA) & set(shares):
        rule = "must not use the column names of the result"
        advice = "Rename the column in the data and fit again."
        raise course_error("fit", rule, listing(EXTRA), advice)
    _check_work(parts, data, background)
    base = np.zeros(len(data))
    for part in parts:  # who takes no part in it gets nothing of it
        value = partial(_mean_prediction, part, data=data, background=background)
        base += value(frozenset())
        for player, share in _shapley_values(part.players, value).items():
            shares[player] = shares[player] + share
    told = {"base_value": base, "prediction": fit.predict(data, new_levels=new_levels)}
    return pd.DataFrame(shares | told, index=data.index)


def _model_parts(fit: LmerResult) -> list[Part]:
    """Sort the columns of the fit by the variables that they take."""
    frame, beta = fit.frame, fit.estimate.beta

    def fixed(rows: pd.DataFrame) -> np.ndarray:
        return np.broadcast_to(beta, (len(rows), len(beta)))

    def random(factor, modes: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
        codes = frame.factor_codes(factor, rows)
        return np.where(codes[:, None] >= 0, modes[codes], 0.0)

    found = _by_variables([frame.fixed])
    parts = [Part(names, None, at, frame.fixed_matrix, fixed) for names, at in found]
    for factor, modes in zip(frame.factors, fit.estimate.modes, strict=True):
        matrix, effects = partial(frame.factor_matrix, factor), partial(random, factor, modes)
        found = _by_variables(factor.sides)
        parts += [Part(names, factor.name, at, matrix, effects) for names, at in found]
    return parts


def _by_variables(sides: Iterable[Side]) -> Iterable[tuple]:
    """Pairs of the variables of a term, and the places of the columns that take just these."""
    found, offset = {}, 0
    for side in sides:
        for used, places in side.terms:
            found.setdefault(used, []).extend(offset + place for place in places)
        offset += len(side.names)
    return found.items()


def _subsets(players: Sequence[str]) -> Iterator[frozenset[str]]:
    """All subsets of the players, the empty one first."""
    for size in range(len(players) + 1):
        yield from map(frozenset, combinations(players, size))


def _shapley_values(
    players: Sequence[str], value: Callable[[frozenset[str]], np.ndarray]
) -> dict[str, np.ndarray]:
    """Share out ``v(all) - v(none)`` by the formula; v returns arrays of shape (n,)."""
    values = dict.fromkeys(players, 0.0)
    for known in _subsets(players):
        worth = value(known)
        for player in players:  # v(S) is added where the player is in S, else taken away
            joined = player in known
            n_others, n_before = len(players) - 1, len(known) - joined
            share = worth / (len(players) * math.comb(n_others, n_before))
            values[player] = values[player] + (share if joined else -share)
    return values


def _checked_rows(argument, rows, fit, new_levels) -> pd.DataFrame:
    rows, frame = errors.check_dataframe(argument, rows), fit.frame
    random = [name for f in frame.factors for name in (*f.variables, *f.group)]
    names = list(dict.fromkeys([*frame.fixed.variables, *random]))
    errors.check_columns(argument, rows, names)
    errors.check_no_missing(argument, rows, names)
    errors.check_labels(argument, rows, names)
    is_number = pd.api.types.is_any_real_numeric_dtype
    errors.check_numeric(argument, rows, [name for name in names if is_number(rows[name])])
    for factor in frame.factors if new_levels == "error" else ():
        rule = f"must use only groups of '{factor.name}' that the fit has seen"
        advice = "Pass new_levels='population' to give a new group the random effects 0."
        unseen = frame.factor_codes(factor, rows) < 0
        errors.reject_rows(argument, rule, rows, unseen, factor.group, advice)
    return rows[names]


def _check_work(parts: list[Part], data: pd.DataFrame, background: pd.DataFrame) -> None:
    work = 0
    for part, known in ((one, known) for one in parts for known in _subsets(one.players)):
        (_, own_rows), (_, other_rows) = _distinct_rows(part, known, data, background)
        work += max(len(own_rows) * len(other_rows), SUBSET_COST)
        if work > MOST_ROWS:
            rule = f"must give at most {MOST_ROWS:,} combinations with the rows of data"
            got = f"{len(data):,} × {len(background):,} rows, and {part.variables} in one term"
            advice = "Compare with fewer: background=data.sample(100, random_state=1)."
            raise course_error("background", rule, got, advice)


def _distinct_rows(part: Part, known: frozenset[str], data, background) -> list[tuple]:
    """Of data in the known variables, of background in the others: row codes, distinct rows.

    The distinct rows of the background keep all other columns, which the matrices ask for.
    """
    own = [name for name in part.variables if name in known]
    other = [name for name in part.variables if name not in known]
    found = []
    for names, rows in ((own, data[own]), (other, background.drop(columns=own))):
        by = names or np.zeros(len(rows))
        codes = rows.groupby(by, sort=False, observed=True).ngroup().to_numpy()
        found.append((codes, rows.iloc[np.unique(codes, return_index=True)[1]]))
    return found


def _mean_prediction(part: Part, known: frozenset[str], data, background) -> np.ndarray:
    """v(S) of one part for each row of `data`, shape (n,)."""
    own, other = _distinct_rows(part, known, data, background)
    (own_codes, own_rows), (other_codes, other_rows) = own, other
    if part.group is None or part.group in known:
        mixing, factor = np.bincount(other_codes)[:, None], part.effects(data)[:, part.places]
    else:  # the group's effects stay with the background row
        effects = part.effects(background)[:, part.places]
        mixing = np.column_stack([np.bincount(other_codes, one) for one in effects.T])
        factor = 1.0
    size, mean = max(1, BATCH // len(other_rows)), []
    for start in range(0, len(own_rows), size):
        rows = own_rows.iloc[start : start + size].merge(other_rows, how="cross")
        columns = part.matrix(rows)[:, part.places]
        columns = columns.reshape(-1, len(other_rows), columns.shape[1])
        mean.append((columns * mixing).sum(axis=1) / len(background))
    mean = (np.vstack(mean)[own_codes] * factor).sum(axis=1)
    if not np.isfinite(mean).all():
        rule = "must give finite predictions when combined with the background rows"
        got = f"NaN or infinity in a term of {listing(part.variables)}"
        advice = "Such a term has no average: write it so that every combination has a value."
        raise course_error("data", rule, got, advice)
    return mean
