"""Shapley values of a straight-line model when the predictors are jointly normal.

Given some predictors, the others are expected on their regression on these, so that every v(S)
is linear in the row: one regression per subset serves all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from course_lib.errors import CourseError, course_error, listing

__all__ = ["gaussian_games"]

MOST_CORRELATED = 12  # predictors: 2^12 regressions take about a second


def gaussian_games(
    parts: list, names: list[str], data: pd.DataFrame, background: pd.DataFrame
) -> list[tuple[list[str], Callable[[frozenset[str]], np.ndarray]]]:
    """Split predictions into games, one of the mean effects and one per group.

    Parameters
    ----------
    parts : list of Part (see `linear_shap`)
        The prediction; each part a straight line in at most one variable.
    names : list of str
        The variables, numeric columns of both frames.
    data : DataFrame
        n rows to explain.
    background : DataFrame
        Rows that give mean and covariance of the variables, and the mean random effects.

    Returns
    -------
    list of (players, v)
        v takes a set of players S and returns v(S), shape (n,), in units of the response; the
        prediction is the sum over the games of v(all players).

    Raises
    ------
    CourseError
        If the prediction is no straight line in each variable, or the variables are too many,
        constant or collinear in `background`.

    See Also
    --------
    course_lib.explain.linear_shap : Shares out each game.
    """
    _check_numeric(parts, names, background)
    raw = background[names].to_numpy(dtype=float)
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    z_background = (raw - mean) / spread
    z = (data[names].to_numpy(dtype=float) - mean) / spread
    correlation = z_background.T @ z_background / len(raw)
    if np.linalg.eigvalsh(correlation).min(initial=1) < 1e-10:
        rule = "must not have a predictor that is a combination of the others"
        advice = "Take more rows, or leave one of them out of the model."
        raise course_error("background", rule, listing(names), advice)

    def expected(line: np.ndarray, known: frozenset[str]) -> np.ndarray:
        """Return E[level + slopes'z | z_known]: the others on their regression on the known."""
        at = [k for k, name in enumerate(names) if name in known]
        regression = np.linalg.solve(correlation[np.ix_(at, at)], correlation[at])
        return line[..., 0] + (z[:, at] @ regression * line[..., 1:]).sum(axis=1)

    def added(group: str, line: np.ndarray, known: frozenset[str]) -> np.ndarray:
        """Add what the group's own effects change, once it is known."""
        return expected(line, known) if group in known else np.zeros(len(z))

    # Level and slopes in z: with the mean effects, and by how much each row's own differ.
    mean_line, own_lines = 0.0, {}
    for part in parts:
        line = _line(part, names, background, z_background)
        effects = part.weights(background).mean(axis=0)
        mean_line = mean_line + effects @ line
        if part.group:
            difference = (part.weights(data) - effects) @ line
            own_lines[part.group] = own_lines.get(part.group, 0.0) + difference
    games = [(names, partial(expected, mean_line))]
    for group, line in own_lines.items():
        games.append(([*names, group], partial(added, group, line)))
    return games


def _refusal(got: str) -> CourseError:
    rule = "'gaussian' needs numeric predictors that enter one by one, as straight lines"
    advice = "Use dependence='independent', which has no such limit."
    return course_error("dependence", rule, got, advice)


def _check_numeric(parts: list, names: list[str], background: pd.DataFrame) -> None:
    for part in parts:
        if len(part.variables) > 1:
            raise _refusal(f"a product or function of {listing(part.variables)}")
        if part.group in names:
            raise _refusal(f"'{part.group}' both as a predictor and as a group")
    if len(names) > MOST_CORRELATED:
        raise _refusal(f"{len(names)} of them, and at most {MOST_CORRELATED} are allowed")
    for name in names:
        if not pd.api.types.is_any_real_numeric_dtype(background[name]):
            raise _refusal(f"'{name}' of type {background[name].dtype}")
        if background[name].nunique() < 2:
            rule, advice = "must vary in each predictor", "Pass the rows of the fit."
            raise course_error("background", rule, f"'{name}' with one value", advice)


def _line(part, names: list[str], background: pd.DataFrame, z: np.ndarray) -> np.ndarray:
    """Columns of a part as level and slopes on all of z, shape (q, 1 + variables)."""
    columns = part.columns(background)
    places = [names.index(name) for name in part.variables]
    design = np.column_stack([np.ones(len(z)), z[:, places]])
    line = np.linalg.lstsq(design, columns)[0]
    off = np.abs(columns - design @ line).max(axis=0)
    # The second term is the rounding in columns far from zero, such as years.
    if (off > 1e-8 * np.ptp(columns, axis=0) + 1e-13 * np.abs(columns).max(axis=0)).any():
        raise _refusal(f"a curve in '{listing(part.variables)}'")
    whole = np.zeros((line.shape[1], 1 + len(names)))
    whole[:, [0, *(1 + place for place in places)]] = line.T
    return whole
