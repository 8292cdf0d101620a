"""Change the shape of multilevel data, and say at which level a variable varies.

:func:`within_between` splits a variable into the group mean (between groups) and the deviation
from it (within groups). :func:`variance_by_level` says how much of the variance lies at either
level, and so whether a variable belongs to the observations, to the groups, or to both.
:func:`impute_within` fills gaps with the group mean, to show what that does.
Waves (`course_lib.waves`) and nested records (`course_lib.nested`) are reached from here too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_dataframe,
    check_names,
    check_no_missing,
    check_numeric,
    course_error,
)
from course_lib.nested import LevelCoding, encode_levels, flatten_nested
from course_lib.waves import to_long, to_wide

__all__ = [
    "LevelCoding",
    "encode_levels",
    "flatten_nested",
    "impute_within",
    "to_long",
    "to_wide",
    "variance_by_level",
    "within_between",
]

# Group means that should be equal differ by the rounding of their sums; by how much, relative
# to the largest value of the column, they may differ before they count as different.
ROUNDING = 1e-12


def within_between(
    data: pd.DataFrame, columns: str | Sequence[str], by: str | Sequence[str]
) -> pd.DataFrame:
    """Add the within and the between part of each column.

    For a value x_ij of row i in group j, with the group mean x̄_j,
    ``x_between`` = x̄_j and ``x_within`` = x_ij − x̄_j, so that the two parts add up to x.

    Parameters
    ----------
    data : DataFrame
        One row an observation; it is not changed.
    columns : str or sequence of str
        Numeric columns to split. Missing values are allowed: the mean is over the observed
        values of the group, ``x_within`` stays missing where x is, and ``x_between`` is
        missing only for a group without any observed value. If a model then drops these
        rows, drop them first, or its means are not the means of its rows.
    by : str or sequence of str
        The column that holds the group, or several columns that together name it, as
        ``["school", "class"]`` where class numbers are used again in each school.

    Returns
    -------
    DataFrame
        A copy of `data` with ``<column>_within`` and ``<column>_between`` added, in the units
        of the column.

    Raises
    ------
    CourseError
        If a column is missing or not numeric, a group is missing, or a name is taken.
    """
    data, columns, keys = _check(data, columns, by)
    new = [f"{column}_{part}" for column in columns for part in ("within", "between")]
    for name in new:
        if name in data.columns:
            rule = "must not yet have their within and between parts in the data"
            got = f"a column '{name}' that is already there"
            advice = f"Rename it, or drop it: data.drop(columns=['{name}'])."
            raise course_error("columns", rule, got, advice)
    result = data.copy()
    for column in columns:
        values = data[column].astype(float)
        between = _group_mean(values, keys)
        within = values - between
        # The mean of large numbers is rounded; a second pass removes that from the deviations
        result[f"{column}_within"] = within - _group_mean(within, keys)
        result[f"{column}_between"] = between
    return result


def variance_by_level(
    data: pd.DataFrame, columns: str | Sequence[str], by: str | Sequence[str]
) -> pd.DataFrame:
    """Say how much of each column varies within groups, and how much between them.

    With n observed values, n_j of them in group j,

    within = Σ_j Σ_i (x_ij − x̄_j)² / n,   between = Σ_j n_j (x̄_j − x̄)² / n;

    they add up to the variance with denominator n. This describes the data. It estimates no
    variance component: the means of a few rows vary even where the groups do not differ.

    Parameters
    ----------
    data : DataFrame
        One row an observation.
    columns : str or sequence of str
        Numeric columns; missing values are left out.
    by : str or sequence of str
        The column that holds the group, or several columns that together name it.

    Returns
    -------
    DataFrame
        Two rows a column. ``column``; ``level`` ("within" or "between"); ``variance`` (squared
        units of the column); ``share`` of the total (missing for a constant);
        ``n_groups`` with an observed value; ``n_groups_varying``, those with different values
        inside; ``varies_at``, the same on both rows: "within" (all groups have one mean),
        "between" (constant within each group), "both" or "neither" (constant).

    Raises
    ------
    CourseError
        If a column is missing, not numeric or without any value, or if a group is missing.
    """
    data, columns, keys = _check(data, columns, by)
    for column in columns:
        if data[column].isna().all():
            rule = "must name columns with at least one observed value"
            got = f"'{column}', where all {len(data)} are missing"
            raise course_error("columns", rule, got, "Leave the column out.")
    rows = []
    for column in columns:
        values = data[column].astype(float)
        grouped = values.groupby(keys, observed=True)
        spread = (grouped.max() - grouped.min()).dropna()
        means = grouped.mean().dropna()
        counts = grouped.count().loc[means.index]
        within = float(((values - _group_mean(values, keys)) ** 2).sum() / counts.sum())
        between = float((counts * (means - values.mean()) ** 2).sum() / counts.sum())
        varies_within = bool((spread > 0).any())
        varies_between = bool(np.ptp(means) > ROUNDING * values.abs().max())
        # What is only rounding is reported as the zero that it stands for
        parts = {"within": varies_within * within, "between": varies_between * between}
        total = sum(parts.values())
        where = ("neither", "between", "within", "both")[2 * varies_within + varies_between]
        rows += [
            {
                "column": column,
                "level": level,
                "variance": variance,
                "share": variance / total if total > 0 else np.nan,
                "n_groups": len(means),
                "n_groups_varying": int((spread > 0).sum()),
                "varies_at": where,
            }
            for level, variance in parts.items()
        ]
    return pd.DataFrame(rows)


def impute_within(
    data: pd.DataFrame, columns: str | Sequence[str], by: str | Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill missing values with the mean of the observed values of their group.

    This is for a lesson: filled values have no spread of their own, so that variances within
    groups shrink and intervals become too short. A mixed model needs no filling.

    Parameters
    ----------
    data : DataFrame
        One row an observation; it is not changed.
    columns : str or sequence of str
        Numeric columns to fill.
    by : str or sequence of str
        The column that holds the group, or several columns that together name it.

    Returns
    -------
    filled : DataFrame
        A copy of `data`; a column that had gaps is now float. Groups without any observed
        value stay missing.
    report : DataFrame
        One row a column: ``column``, ``n_missing`` before, ``n_filled``, ``n_left`` missing,
        ``n_groups_empty`` (groups without an observed value).

    Raises
    ------
    CourseError
        If a column is missing or not numeric, or a group is missing.
    """
    data, columns, keys = _check(data, columns, by)
    filled, rows = data.copy(), []
    for column in columns:
        missing = data[column].isna()
        if missing.any():
            values = data[column].astype(float)
            filled[column] = values.fillna(_group_mean(values, keys))
        n_left = int(filled[column].isna().sum())
        rows.append(
            {
                "column": column,
                "n_missing": int(missing.sum()),
                "n_filled": int(missing.sum()) - n_left,
                "n_left": n_left,
                "n_groups_empty": int(missing.groupby(keys, observed=True).all().sum()),
            }
        )
    return filled, pd.DataFrame(rows)


def _check(
    data: object, columns: str | Sequence[str], by: str | Sequence[str]
) -> tuple[pd.DataFrame, list[str], list[pd.Series]]:
    """Check the arguments; return the data, the columns as a list, and the key columns."""
    data = check_dataframe("data", data)
    columns, by = check_names("columns", columns), check_names("by", by)
    check_no_missing("by", data, by)
    check_numeric("columns", data, columns)
    return data, columns, [data[key] for key in by]


def _group_mean(values: pd.Series, keys: list[pd.Series]) -> pd.Series:
    """Return the mean of each row's group, in the order of the rows."""
    return values.groupby(keys, observed=True).transform("mean")
