"""Shapley values of a straight-line model when the predictors are jointly normal.

Given some predictors, the others are expected on their regression on these, so that every v(S)
is linear in the row: one regression per subset serves all rows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from course_lib.errors import CourseError, course_error, listing
from course_lib.explain.shapley_parts import Part, shapley_values

__all__ = ["gaussian_values"]

MOST_CORRELATED = 12  # predictors: 2^12 regressions take about a second


def gaussian_values(
    parts: list[Part], names: list[str], data: pd.DataFrame, background: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Shapley values by player, and base_value; see `linear_shap` with "gaussian".

    Parameters
    ----------
    parts : list of Part
        The prediction; each part a straight line in at most one variable.
    names : list of str
        The variables, numeric columns of both frames.
    data : DataFrame
        n rows to explain.
    background : DataFrame
        Rows that give mean and covariance of the variables, and the mean random effects.

    Returns
    -------
    dict
        Arrays of shape (n,).

    Raises
    ------
    CourseError
        If the prediction is no straight line in each variable, or the variables are too many,
        constant or collinear in `background`.
    """
    _check_numeric(parts, names, background)
    raw = background[names].to_numpy(dtype=float)
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    z_background, z = ((rows - mean) / spread for rows in (raw, data[names].to_numpy(float)))
    correlation = z_background.T @ z_background / len(raw)
    if np.linalg.eigvalsh(correlation).min(initial=1) < 1e-10:
        rule = "must not have a predictor that is a combination of the others"
        advice = "Take more rows, or leave one of them out of the model."
        raise course_error("background", rule, listing(names), advice)
    # The prediction as a line in z: with the mean effects, and what each known group adds.
    lines = {part: _line(part, names, background, z_background) for part in parts}
    means = {part: part.weights(background).mean(axis=0) for part in parts}
    mean_line = sum(means[part] @ lines[part] for part in parts)  # level and slopes
    base = np.full(len(data), mean_line[0])

    def expected(known, line):
        """E[level + slopes'z | z_known]: the others on their regression on the known."""
        at = [k for k, name in enumerate(names) if name in known]
        regression = np.linalg.solve(correlation[np.ix_(at, at)], correlation[at])
        return line[..., 0] + (z[:, at] @ regression * line[..., 1:]).sum(axis=1)

    values = shapley_values(names, lambda known: expected(known, mean_line))
    for group in dict.fromkeys(part.group for part in parts if part.group):
        own = [part for part in parts if part.group == group]
        added = sum((part.weights(data) - means[part]) @ lines[part] for part in own)
        nothing = np.zeros(len(z))
        shares = shapley_values(
            [*names, group],
            lambda known, group=group, added=added, nothing=nothing: (
                expected(known, added) if group in known else nothing
            ),
        )
        for player, share in shares.items():
            values[player] = values.get(player, 0.0) + share
    return values | {"base_value": base}


def _refusal(got: str) -> CourseError:
    rule = "'gaussian' needs numeric predictors that enter one by one, as straight lines"
    advice = "Use dependence='independent', which has no such limit."
    return course_error("dependence", rule, got, advice)


def _check_numeric(parts: list[Part], names: list[str], background: pd.DataFrame) -> None:
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
            got, advice = (
                f"'{name}' with one value",
                "Pass the rows that the model was fitted to.",
            )
            raise course_error("background", "must vary in each predictor", got, advice)


def _line(part: Part, names: list[str], background: pd.DataFrame, z: np.ndarray) -> np.ndarray:
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
