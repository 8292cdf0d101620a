"""Change the shape of multilevel data, and say at which level a variable varies.

Four things, each by itself:

* Within and between: :func:`within_between` splits a variable into the group mean and the
  deviation from it; :func:`variance_by_level` says how much of the variance lies at either
  level; :func:`own_lines` gives each group its least-squares line, :func:`own_slopes` its slope
  with a standard error.
* Wide and long: :func:`to_long` turns waves in columns into waves in rows, :func:`to_wide`
  turns them back, without loss. The names of wide columns carry a number (``score1``,
  ``score2``); in the long table this number is a column, so that time can enter a model.
* Nested records and their labels: a label such as "class 1" names a class only together with
  its school. :func:`flatten_nested` carries the keys of all levels into each row;
  :func:`encode_levels` numbers the units of each level so that class 1 of school A and class 1
  of school B get different codes.
* What to count after each step: :func:`table_report`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_columns,
    check_dataframe,
    check_labels,
    check_list,
    check_names,
    check_no_missing,
    check_numeric,
    check_text,
    check_type,
    course_error,
    listing,
    reject_rows,
    suggestion,
)

__all__ = [
    "LevelCoding",
    "encode_levels",
    "flatten_nested",
    "own_lines",
    "own_slopes",
    "table_report",
    "to_long",
    "to_wide",
    "variance_by_level",
    "within_between",
]

# Group means that should be equal differ by the rounding of their sums; by how much, relative
# to the largest value of the column, they may differ before they count as different.
ROUNDING = 1e-12
WAVE = r"-?\d+(?:\.\d+)?"  # what may follow the stub in the name of a wide column


def within_between(
    data: pd.DataFrame, columns: str | Sequence[str], by: str | Sequence[str]
) -> pd.DataFrame:
    """Add the within and the between part of each column.

    For a value x_ij of row i in group j, with the group mean x̄_j,
    ``x_between`` = x̄_j and ``x_within`` = x_ij − x̄_j, so that the two parts add up to x.

    Parameters
    ----------
    data : DataFrame
        One row per observation; it is not changed.
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

    Examples
    --------
    >>> table = pd.DataFrame({"school": ["A", "A", "B", "B"], "ses": [1.0, 3.0, 4.0, 8.0]})
    >>> parts = within_between(table, "ses", by="school")
    >>> parts["ses_within"].tolist(), parts["ses_between"].tolist()
    ([-1.0, 1.0, -2.0, 2.0], [2.0, 2.0, 6.0, 6.0])

    See Also
    --------
    variance_by_level : How much of the variance is within, how much between.
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
        One row per observation.
    columns : str or sequence of str
        Numeric columns; missing values are left out.
    by : str or sequence of str
        The column that holds the group, or several columns that together name it.

    Returns
    -------
    DataFrame
        Two rows per column. ``column``; ``level`` ("within" or "between"); ``variance``
        (squared units of the column); ``share`` of the total (missing for a constant);
        ``n_groups`` with an observed value; ``n_groups_varying``, those with different values
        inside; ``varies_at``, the same on both rows: "within" (all groups have one mean),
        "between" (constant within each group), "both" or "neither" (constant).

    Raises
    ------
    CourseError
        If a column is missing, not numeric or without any value, or if a group is missing.

    Examples
    --------
    >>> table = pd.DataFrame({"school": ["A", "A", "B", "B"], "ses": [1.0, 3.0, 4.0, 8.0]})
    >>> variance_by_level(table, "ses", by="school").set_index("level")["variance"].to_dict()
    {'within': 2.5, 'between': 4.0}

    See Also
    --------
    within_between : The two parts as columns.
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


def own_lines(data: pd.DataFrame, y: str, x: str, group: str) -> pd.DataFrame:
    """Return each group's own least-squares line, from its own rows only: no pooling.

    With the means x̄_j and ȳ_j of group j, slope = Σ_i (x_ij − x̄_j)(y_ij − ȳ_j) /
    Σ_i (x_ij − x̄_j)² and intercept = ȳ_j − slope · x̄_j.

    Parameters
    ----------
    data : DataFrame
        One row per observation. Rows where `y` or `x` is missing are left out.
    y, x : str
        Numeric columns: response and predictor.
    group : str
        The column that holds the group, without missing values.

    Returns
    -------
    DataFrame
        One row per group, columns "Intercept" (in units of y) and `x` (units of y per unit of
        x), as in ``fit.coef()[group]``. Both are missing for a group with fewer than two
        different x: many lines pass through its rows.

    Raises
    ------
    CourseError
        If a column is missing or not numeric, or a group is missing.

    Examples
    --------
    >>> table = pd.DataFrame({"day": [0, 1, 0], "ms": [250.0, 260.0, 300.0], "who": [1, 1, 2]})
    >>> own_lines(table, "ms", "day", "who").loc[1].tolist()
    [250.0, 10.0]

    See Also
    --------
    course_lib.plots.shrinkage_plot : From these lines to those of a mixed model.
    """
    data = check_dataframe("data", data)
    check_no_missing("group", data, [group])
    check_labels("group", data, [group])
    check_numeric("y", data, [y])
    check_numeric("x", data, [x])
    keys = data[group]
    complete = data[[y, x]].notna().all(axis=1)
    values = data[[y, x]].astype(float).where(complete)
    means = values.groupby(keys, observed=True).mean()
    off_y, off_x = (values[name] - _group_mean(values[name], [keys]) for name in (y, x))
    sums = [part.groupby(keys, observed=True).sum() for part in (off_x * off_y, off_x**2)]
    several = values[x].groupby(keys, observed=True).nunique() > 1
    slope = (sums[0] / sums[1]).where(several)
    return pd.DataFrame({"Intercept": means[y] - slope * means[x], x: slope})


def own_slopes(data: pd.DataFrame, y: str, x: str, group: str) -> pd.DataFrame:
    r"""Return the slope of each group's own line, with its standard error.

    One σ for all groups: with the residuals e_ij from the own lines of J groups and
    S_j = Σ_i (x_ij − x̄_j)²,

    .. math:: \hat\sigma^2 = \frac{\sum_j \sum_i e_{ij}^2}{\sum_j (n_j - 2)}, \qquad
              \mathrm{se}_j = \frac{\hat\sigma}{\sqrt{S_j}}.

    Rows of a group are taken to be independent, and equally scattered in all groups.

    Parameters
    ----------
    data : DataFrame
        One row per observation. Rows where `y` or `x` is missing are left out.
    y, x : str
        Numeric columns: response and predictor.
    group : str
        The column that holds the group, without missing values.

    Returns
    -------
    DataFrame
        One row per group, columns n (complete rows), estimate, std_error, and lower and upper,
        the estimate ± 1.96 standard errors (units of y per unit of x). Without two different x
        a group has no slope: its numbers but n are missing.

    Raises
    ------
    CourseError
        If a column is missing or not numeric, a group is missing, or no group has more rows
        than its line needs.

    Examples
    --------
    >>> table = pd.DataFrame({"day": [0, 1, 2], "ms": [1.0, 3.0, 2.0], "who": "a"})
    >>> own_slopes(table, "ms", "day", "who")[["n", "estimate"]].loc["a"].tolist()
    [3.0, 0.5]

    See Also
    --------
    own_lines : Intercept and slope.
    course_lib.plots.caterpillar : Draw the table.
    """
    lines = own_lines(data, y, x, group)
    complete = data.dropna(subset=[y, x]).astype({y: float, x: float})
    keys = complete[group]
    line = lines.reindex(keys).set_index(complete.index)
    off_line = complete[y] - line["Intercept"] - line[x] * complete[x]
    off_mean = complete[x] - _group_mean(complete[x], [keys])
    n, spread, rss = (
        part.groupby(keys, observed=True).sum()
        for part in (complete[x] * 0 + 1, off_mean**2, off_line**2)
    )
    df = (n - 2).reindex(lines.index[lines[x].notna()]).sum()
    if df < 1:
        rule = "must have a group with three rows or more"
        raise course_error("data", rule, f"{len(complete)} complete rows", "Add rows.")
    error = np.sqrt(rss.sum() / df) / np.sqrt(spread.where(lines[x].notna()))
    table = pd.DataFrame({"n": n.reindex(lines.index, fill_value=0).astype(int)})
    table = table.assign(estimate=lines[x], std_error=error)
    half = NormalDist().inv_cdf(0.975) * table["std_error"]
    return table.assign(lower=table["estimate"] - half, upper=table["estimate"] + half)


def table_report(
    data: pd.DataFrame,
    key: str | Sequence[str],
    parents: Mapping[str, str],
    value: str,
) -> pd.Series:
    """Count what should be known of a long table after every step of cleaning or reshaping.

    Nothing is changed and nothing judged: the counts are there to be compared with what the
    study says, and with the counts before the step.

    Parameters
    ----------
    data : DataFrame
        One row per observation.
    key : str or sequence of str
        The columns that together name a row: ``["student_id", "time"]``.
    parents : dict of str to str
        Which column must be constant within which unit: ``{"student_id": "class_id",
        "class_id": "school"}``.
    value : str
        Numeric column, the measured one.

    Returns
    -------
    Series
        Named by what is counted: ``rows``; rows with a missing or with a repeated key (all rows
        that share it, a missing part counting as a value); for each column in `parents`, the
        top level included, the number of units; per entry of `parents` the number of units
        with several parents (a missing parent is none); the observed values, and their sum.

    Raises
    ------
    CourseError
        If a column is missing, or `value` is not numeric.

    Examples
    --------
    >>> table = pd.DataFrame({"child": ["a", "a", "b"], "wave": [1, 1, 1], "score": [5, 6, 7]})
    >>> report = table_report(table, ["child", "wave"], {}, "score")
    >>> int(report["rows with a repeated key"])
    2

    See Also
    --------
    to_wide : Stops at a repeated key.
    """
    data, key = check_dataframe("data", data), check_names("key", key)
    check_columns("key", data, key)
    check_type("parents", parents, Mapping, "must be a dict of unit to parent", "Try {}.")
    for parent in parents.values():
        check_type("parents", parent, Hashable, "must give a column for each unit", "Name it.")
    units = list(dict.fromkeys([*parents, *parents.values()]))
    check_columns("parents", data, units)
    check_labels("key", data, key)
    check_labels("parents", data, units)
    check_numeric("value", data, [value])
    grouped = {unit: data.groupby(unit, observed=True, sort=False) for unit in parents}
    return pd.Series(
        {
            "rows": len(data),
            "rows with a missing key": data[key].isna().any(axis=1).sum(),
            "rows with a repeated key": data.duplicated(key, keep=False).sum(),
            **{f"number of {unit}": data[unit].nunique() for unit in units},
            **{
                f"{unit} with several {parent}": (grouped[unit][parent].nunique() > 1).sum()
                for unit, parent in parents.items()
            },
            f"observed {value}": data[value].notna().sum(),
            f"sum of {value}": data[value].sum(),
        },
        dtype=float,
    )


def _check(
    data: object, columns: str | Sequence[str], by: str | Sequence[str]
) -> tuple[pd.DataFrame, list[str], list[pd.Series]]:
    """Check the arguments; return the data, the columns as a list, and the key columns."""
    data = check_dataframe("data", data)
    columns, by = check_names("columns", columns), check_names("by", by)
    check_no_missing("by", data, by)
    check_labels("by", data, by)
    check_numeric("columns", data, columns)
    return data, columns, [data[key] for key in by]


def _group_mean(values: pd.Series, keys: list[pd.Series]) -> pd.Series:
    """Return the mean of each row's group, in the order of the rows."""
    return values.groupby(keys, observed=True).transform("mean")


# ---- wide and long ---------------------------------------------------------------------


def to_long(
    data: pd.DataFrame,
    stubs: str | Sequence[str] | Mapping[str, str],
    id: str | Sequence[str],
    wave: str = "wave",
    sep: str = "",
) -> pd.DataFrame:
    """Turn waves in columns into waves in rows: ``score1, score2`` -> ``wave, score``.

    Parameters
    ----------
    data : DataFrame
        One row per unit; it is not changed.
    stubs : str, sequence of str, or dict
        What the names of the wave columns begin with; each stub becomes one value column.
        A dict gives the value columns another name: ``{"time": "value"}``.
    id : str or sequence of str
        Column that identifies the unit, or several that do so together.
    wave : str
        Name of the new column. It holds numbers: 1 from ``score1``, 0.5 from ``score0.5``.
    sep : str
        What stands between stub and number, as "_" in ``score_1``.

    Returns
    -------
    DataFrame
        Units in the order of `data`, waves ascending within them. First the columns that
        belong to no stub, repeated in every wave, then `wave` (integer, if all labels are),
        then one column per stub. Missing values keep their row, and every column keeps its
        type (wave columns of several number types get the common one).

    Raises
    ------
    CourseError
        If units are missing or repeated, a stub has no wave columns or other waves than the
        rest, two columns claim one wave or two stubs one column, the waves of a stub differ
        in type, or a name is taken.

    Examples
    --------
    >>> wide = pd.DataFrame({"child": ["a", "b"], "score1": [5, 7], "score2": [6, 9]})
    >>> to_long(wide, "score", id="child").to_numpy().tolist()
    [['a', 1, 5], ['a', 2, 6], ['b', 1, 7], ['b', 2, 9]]

    See Also
    --------
    to_wide : The way back.
    """
    data, names, ids = _check_reshape(data, "stubs", stubs, id, sep, wave)
    _reject_repeated(data, ids, "must identify each row of a wide table")
    found = {stub: _wave_columns(data, stub, ids, sep) for stub in names}
    used = [column for columns in found.values() for column in columns.values()]
    shared = sorted({column for column in used if used.count(column) > 1})
    if shared:
        rule = "must not claim a column twice"
        raise course_error("stubs", rule, listing(shared), "Rename these columns.")
    waves = sorted({number for columns in found.values() for number in columns})
    lacking = [f"{s}{sep}{w:g}" for s, cols in found.items() for w in waves if w not in cols]
    if lacking:
        rule = f"must all have the same waves ({listing(f'{w:g}' for w in waves)})"
        advice = "Reshape the stubs one by one, or add the column with missing values."
        raise course_error("stubs", rule, f"no column {listing(lacking)}", advice)
    kinds = {stub: _one_type(data, stub, columns.values()) for stub, columns in found.items()}
    kept = [column for column in data.columns if column not in used]
    _check_free([wave, *names.values()], kept)
    rows = np.arange(len(data))
    long = data[kept].take(np.repeat(rows, len(waves))).reset_index(drop=True)
    long[wave] = np.tile(waves, len(data))
    by_unit = np.arange(len(long)).reshape(len(waves), len(data)).T.ravel()
    for stub, name in names.items():
        columns = [data[found[stub][number]] for number in waves]
        if kinds[stub] is not None:  # an empty wave beside text has the type of the others
            columns = [
                c if c.notna().any() else c.astype(object).astype(kinds[stub]) for c in columns
            ]
        long[name] = pd.concat(columns).array.take(by_unit)
    return long


def to_wide(
    data: pd.DataFrame,
    values: str | Sequence[str] | Mapping[str, str],
    id: str | Sequence[str],
    wave: str = "wave",
    sep: str = "",
    unbalanced: str = "error",
) -> pd.DataFrame:
    """Turn waves in rows into waves in columns; the inverse of :func:`to_long`.

    Parameters
    ----------
    data : DataFrame
        One row per unit and wave; it is not changed.
    values : str, sequence of str, or dict
        Columns that vary over the waves. A dict gives the wide columns another stub:
        ``{"value": "time"}``.
    id, sep
        As in :func:`to_long`.
    wave : str
        Numeric column of waves.
    unbalanced : {"error", "missing"}
        What to do if a unit has no row for a wave: raise, or leave the cell missing. Integer
        and boolean columns then become pandas' nullable ``Int64`` and ``boolean``.

    Returns
    -------
    DataFrame
        Units in the order in which they first appear. First `id` and the other columns, which
        must be constant within a unit, then the waves of each value column, ascending.

    Raises
    ------
    CourseError
        If a unit or wave is missing, a unit has two rows for a wave or (unless allowed) none,
        another column varies within a unit, or a name is taken or would be misread.

    Examples
    --------
    >>> long = pd.DataFrame({"child": ["a", "a"], "wave": [1, 2], "score": [5, 6]})
    >>> list(to_wide(long, "score", id="child").columns)
    ['child', 'score1', 'score2']

    See Also
    --------
    to_long : The way back.
    """
    data, names, ids = _check_reshape(data, "values", values, id, sep, wave)
    check_columns("values", data, names)
    check_choice("unbalanced", unbalanced, ["error", "missing"])
    check_numeric("wave", data, [wave])
    reject_rows("wave", "must not be missing", data, data[wave].isna(), ids, "Drop the rows.")
    _reject_repeated(data, [*ids, wave], "must have one row per unit and wave")
    unit = data.groupby(ids, sort=False, observed=True).ngroup().to_numpy()
    place, waves = pd.factorize(data[wave], sort=True)
    where = np.full((unit.max() + 1, len(waves)), -1)  # the row of each unit and wave
    where[unit, place] = np.arange(len(data))
    gaps = bool((where < 0).any())
    if gaps and unbalanced == "error":
        reject_rows(
            "data",
            f"must have all {len(waves)} waves of every unit",
            data,
            (where < 0).any(axis=1)[unit],
            [*ids, wave],
            "Add the missing rows, or pass unbalanced='missing'.",
        )
    others = [column for column in data.columns if column not in {*ids, wave, *names}]
    check_labels("data", data, others)
    for column in others:
        _check_constant(data, column, unit, [*ids, wave, column])
    labels = [_wave_label(number) for number in waves]
    for stub in names.values():
        misread = [c for c in others if re.fullmatch(re.escape(stub + sep) + WAVE, str(c))]
        if misread:
            rule = "must not share their stub with a column that is no wave of it"
            got = f"'{misread[0]}' beside '{stub}{sep}{labels[0]}'"
            advice = "Rename that column, or give the values another stub with a dict."
            raise course_error("values", rule, got, advice)
    new = [f"{stub}{sep}{label}" for stub in names.values() for label in labels]
    _check_free(new, [])
    wide = data[[*ids, *others]].take(where.max(axis=1)).reset_index(drop=True)
    blocks = {}
    for column, stub in names.items():
        cells = data[column]
        if gaps and cells.dtype.kind in "iub" and isinstance(cells.dtype, np.dtype):
            cells = cells.convert_dtypes()
        for k, label in enumerate(labels):
            blocks[f"{stub}{sep}{label}"] = cells.array.take(where[:, k], allow_fill=gaps)
    return pd.concat([wide, pd.DataFrame(blocks)], axis=1)


def _check_reshape(
    data: object, argument: str, values: object, id: str | Sequence[str], sep: str, wave: str
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Check what both reshapes need; return data, old names -> new names, and the ids."""
    data = check_dataframe("data", data)
    ids, olds = check_names("id", id), check_names(argument, values)
    names = dict(values) if isinstance(values, Mapping) else dict(zip(olds, olds, strict=True))
    for where, texts in (
        (argument, [*names, *names.values()]),
        ("sep", [sep]),
        ("wave", [wave]),
    ):
        for text in texts:
            check_text(where, text)
    check_columns("id", data, ids)
    check_labels("id", data, ids)
    missing = data[ids].isna().any(axis=1)
    reject_rows("id", "must not be missing", data, missing, data.columns[:4], "Drop the rows.")
    return data, names, ids


def _reject_repeated(data: pd.DataFrame, keys: list[str], rule: str) -> None:
    repeated = data.duplicated(keys, keep=False)
    advice = "Find out which row is right, or add the column that tells them apart to id."
    reject_rows("id", rule, data, repeated, keys, advice)


def _wave_columns(data: pd.DataFrame, stub: str, ids: list[str], sep: str) -> dict:
    """Return number of the wave -> column of one stub."""
    names = [column for column in data.columns if isinstance(column, str)]
    pattern = re.compile(re.escape(stub + sep) + f"({WAVE})")
    labels = {c: m[1] for c in names if c not in ids and (m := pattern.fullmatch(c))}
    if not labels:
        near = [column for column in names if column.startswith(stub)]
        raise course_error(
            "stubs",
            f"must begin the names of wave columns, as {stub}{sep}1",
            f"'{stub}' without any",
            f"With this beginning there is: {listing(near) or 'nothing'}. Check stub and sep.",
        )
    kind = float if any("." in label for label in labels.values()) else int
    columns = {}
    for column, label in labels.items():
        if kind(label) in columns:
            rule = "must have one column per wave"
            got = f"'{columns[kind(label)]}' and '{column}' for wave {kind(label)}"
            raise course_error("stubs", rule, got, "Rename or drop one of them.")
        columns[kind(label)] = column
    return columns


def _check_constant(data: pd.DataFrame, column: str, unit: np.ndarray, show: list) -> None:
    """Raise unless each unit has one value of the column, or none at all."""
    value = pd.factorize(data[column])[0]  # missing is -1
    first = pd.Series(value).groupby(unit).transform("first").to_numpy()
    rule = f"must have '{column}' constant within a unit, or among the values"
    advice = f"Correct or drop it, or add '{column}' to values."
    reject_rows("data", rule, data, value != first, show, advice)


def _wave_label(number: float) -> str:
    """Write a wave so that :func:`to_long` reads back the same number of the same type."""
    if isinstance(number, int | np.integer):
        return str(number)
    return np.format_float_positional(number, trim="0")


def _one_type(data: pd.DataFrame, stub: str, columns: Iterable[str]) -> object:
    """Return the type that the waves of a stub share; None for numbers of any type."""
    kinds = {column: data[column].dtype for column in columns}
    if all(kind.kind in "iuf" for kind in kinds.values()):
        return None
    filled = {column: kind for column, kind in kinds.items() if data[column].notna().any()}
    kinds = filled if filled and "b" not in {kind.kind for kind in filled.values()} else kinds
    if len(set(kinds.values())) > 1:
        shown, advice = kinds, "Convert them first, for example with pandas.to_numeric."
        if all(isinstance(kind, pd.CategoricalDtype) for kind in kinds.values()):
            shown = {c: f"with categories {listing(k.categories, 4)}" for c, k in kinds.items()}
            advice = "Give them the same categories, or make text of them with astype(str)."
        got = f"for '{stub}': {'; '.join(f'{column} {what}' for column, what in shown.items())}"
        raise course_error("stubs", "must have waves of one type", got, advice)
    return next(iter(kinds.values()))


def _check_free(new: list[str], kept: list[str]) -> None:
    taken = [name for i, name in enumerate(new) if name in kept or name in new[:i]]
    if taken:
        rule = "must leave the names of the new columns free"
        advice = "Rename the old column, or choose another name (a dict renames values)."
        raise course_error("data", rule, f"{listing(taken)} more than once", advice)


# ---- nested records and level codes ----------------------------------------------------


def flatten_nested(
    records: dict | Sequence[dict],
    path: str | Sequence[str],
    keys: Sequence[str | None],
    empty: str = "error",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn records that hold lists of records into one row per innermost item.

    Parameters
    ----------
    records : dict or sequence of dict
        The outermost level, as read from JSON.
    path : str or sequence of str
        The fields that hold the lists, from outside to inside: ``["orders", "items"]``.
    keys : sequence of str or None
        The field that names a unit within its parent, for the records and each level of
        `path`: ``["user", "id", "name"]``. With None, the units of the level are numbered
        1, 2, … within their parent in a column ``<level>_number`` (``record_number`` for the
        outermost). Plain values instead of innermost records (``["laptop", "mouse"]``) have
        no fields: use None.
    empty : {"error", "drop"}
        What to do with a unit whose list is empty, such as a user without orders. It has no
        row in the result; dropped units are counted.

    Returns
    -------
    rows : DataFrame
        The fields of the records under their own names, deeper ones as ``<level>_<field>``
        (``orders_id``, ``items_price``), plain values as ``<level>``; the key of each level
        first. A field that is only sometimes there is missing elsewhere. Units of a level are
        told apart by its key together with all keys before it.
    counts : DataFrame
        One row per level, outermost first: ``level``, ``n_units`` in the records, ``n_empty``
        units without children; the innermost ``n_units`` is the number of rows.

    Raises
    ------
    CourseError
        If a level is missing, empty (unless allowed), or not a list throughout; if units of a
        level are records in one place and plain values in another; if a key is missing,
        repeated within its parent, or of mixed type; if a field is nested but not in `path`,
        or holds mixed types; or if two fields get the same name. The message says where.

    Examples
    --------
    >>> users = [{"user": "U1", "orders": [{"id": 7, "price": 2.5}, {"id": 8, "price": 1.0}]}]
    >>> rows, counts = flatten_nested(users, "orders", keys=["user", "id"])
    >>> rows.to_numpy().tolist()
    [['U1', 7, 2.5], ['U1', 8, 1.0]]

    See Also
    --------
    encode_levels : Number the units of nested levels.
    """
    path, keys = check_names("path", path), check_list("keys", keys)
    for argument, names in (("path", path), ("keys", [key for key in keys if key is not None])):
        for name in names:
            check_text(argument, name)
    if len(keys) != len(path) + 1:
        rule = f"must hold a key for the records and one for each of path ({len(path)})"
        advice = "Use None for a level whose units have no name of their own."
        raise course_error("keys", rule, repr(keys), advice)
    records = [records] if isinstance(records, dict) else records
    check_choice("empty", empty, ["error", "drop"])
    counts = {level: {"n_units": 0, "n_empty": 0} for level in ["record", *path]}
    found = list(_walk(records, ["record", *path], keys, "records", empty, counts))
    if not found:
        rule = f"must have at least one of '{path[-1]}'"
        raise course_error("records", rule, "none", "Check the file.")
    places, rows = zip(*found, strict=True)
    plain = [path[-1] in row for row in rows]
    if any(plain) and not all(plain):
        record, value = (places[plain.index(kind)] for kind in (False, True))
        rule = f"must have either records or plain values in every '{path[-1]}'"
        got = f"a record at {record}, a value at {value}"
        raise course_error("records", rule, got, "Bring them to one shape first.")
    table = pd.DataFrame(rows)
    for column in table.columns:
        _check_column(column, [row.get(column) for row in rows], places)
    return table, pd.DataFrame([{"level": level, **n} for level, n in counts.items()])


def _walk(
    units: object,
    levels: list[str],
    keys: list[str | None],
    where: str,
    empty: str,
    counts: dict[str, dict[str, int]],
) -> Iterator[tuple[str, dict]]:
    """Yield place and row of each innermost unit, and count; `levels` begins with `units`'."""
    level, key, deeper = levels[0], keys[0], levels[1:]
    if not isinstance(units, list | tuple):
        rule = f"must have a list at {where}"
        advice = "Put a single unit into a list of one."
        raise course_error("records", rule, f"{units!r:.40} ({type(units).__name__})", advice)
    seen: dict[object, str] = {}
    for i, unit in enumerate(units):
        place = f"{where}[{i}]"
        own = _own_fields(unit, i, level, where, key, deeper[:1])
        name = next(iter(own.values()))
        if name in seen:
            got = f"{key}={name!r} at {seen[name]} and {place}"
            advice = "Merge the two, or pass None as the key of this level."
            raise course_error("keys", f"must name each unit of {where} once", got, advice)
        seen[name] = place
        counts[level]["n_units"] += 1
        if not deeper:
            yield place, own
            continue
        children, below = _field(unit, deeper[0], place, "path"), f"{place}.{deeper[0]}"
        if isinstance(children, list | tuple) and not children:
            if empty == "error":
                rule = "must not have a unit without children, which can have no row"
                advice = "Pass empty='drop' to leave such units out and count them."
                raise course_error("records", rule, f"an empty list at {below}", advice)
            counts[level]["n_empty"] += 1
        for inner, row in _walk(children, deeper, keys[1:], below, empty, counts):
            twice = [column for column in own if column in row]
            if twice:
                rule = "must not give two fields one name"
                got = f"'{twice[0]}' at {place} and {inner}"
                raise course_error("records", rule, got, "Rename the outer field.")
            yield inner, own | row


def _own_fields(
    unit: object, i: int, level: str, where: str, key: str | None, below: list[str]
) -> dict:
    """Return the fields of one unit with their column names, its key first."""
    place, prefix = f"{where}[{i}]", "" if where == "records" else f"{level}_"
    name = {f"{level}_number": i + 1} if key is None else {}
    if not isinstance(unit, dict):
        if below or key is not None or unit is None or isinstance(unit, list | tuple):
            rule = f"must have a record at {place}"
            advice = "Correct it; for innermost plain values the key is None."
            raise course_error("records", rule, f"{unit!r:.40}", advice)
        return name | {level: unit}
    fields = {field: value for field, value in unit.items() if field not in below}
    for field, value in fields.items():
        if isinstance(value, dict | list | tuple):
            rule = "must lead through every nested field"
            got = f"'{field}' at {place}, a {type(value).__name__}"
            raise course_error("path", rule, got, "Add it to path, or remove the field.")
    if key is not None:
        name = {prefix + key: _field(unit, key, place, "keys")}
    return name | {prefix + field: value for field, value in fields.items()}


def _field(unit: dict, name: str, place: str, argument: str) -> object:
    if unit.get(name) is None:
        rule = "must name fields that are there and not missing"
        raise course_error(argument, rule, f"'{name}' at {place}", suggestion(name, unit))
    return unit[name]


def _check_column(column: str, values: list, places: Sequence[str]) -> None:
    """Raise if a column holds values of several types; int and float are one."""
    seen: dict[type, str] = {}
    for value, place in zip(values, places, strict=True):
        if value is not None:
            seen.setdefault(float if type(value) is int else type(value), place)
    if len(seen) > 1:
        rule = f"must have one type of '{column}'"
        got = listing(f"{kind.__name__} at {place}" for kind, place in seen.items())
        raise course_error("records", rule, got, "Convert the values before flattening.")


@dataclass(frozen=True, eq=False)
class LevelCoding:
    """What :func:`encode_levels` returns: the codes and the way back.

    Attributes
    ----------
    levels : tuple of str
        The levels, outermost first.
    codes : DataFrame
        Columns ``<level>_code``, the index of the data; `data.join(coding.codes)` adds them.
    labels : dict of str to DataFrame
        For each level, the labels of unit 0, 1, …: its own and those of its parents.
    """

    levels: tuple[str, ...]
    codes: pd.DataFrame
    labels: dict[str, pd.DataFrame]

    @property
    def counts(self) -> pd.DataFrame:
        """One row per level: n_units, n_labels, and n_reused (labels of several units)."""
        used = {level: self.labels[level][level].value_counts() for level in self.levels}
        return pd.DataFrame(
            {
                "level": self.levels,
                "n_units": [len(self.labels[level]) for level in self.levels],
                "n_labels": [len(used[level]) for level in self.levels],
                "n_reused": [int((used[level] > 1).sum()) for level in self.levels],
            }
        )

    def decode(self, level: str, codes: Sequence[int] | pd.Series) -> pd.DataFrame:
        """Return the labels of units: one column per level down to `level`, one row per code.

        Parameters
        ----------
        level : str
            One of `levels`.
        codes : sequence of int or Series
            Codes of that level; the index of a Series is kept.

        Raises
        ------
        CourseError
            If there is no such level or code.
        """
        labels = self.labels[check_choice("level", level, self.levels)]
        codes = codes if isinstance(codes, pd.Series) else pd.Series(list(codes))
        unknown = [code for code in codes if code not in labels.index]
        if unknown:
            rule = f"must be codes of '{level}', 0 to {len(labels) - 1}"
            advice = "Codes of one level say nothing at another."
            raise course_error("codes", rule, listing(unknown), advice)
        return labels.loc[codes].set_axis(codes.index)


def encode_levels(data: pd.DataFrame, levels: Sequence[str]) -> LevelCoding:
    """Give the units of nested levels numbers, each together with its parents.

    Units are numbered 0, 1, … in the order of their labels, parents first, so that the
    children of one parent have consecutive codes. A code is a name: do not calculate with it.

    Parameters
    ----------
    data : DataFrame
        One row per observation.
    levels : sequence of str
        Columns of labels, outermost first: ``["school", "class_number"]``.

    Returns
    -------
    LevelCoding

    Raises
    ------
    CourseError
        If a column is missing or named twice, or labels are missing or of several types.

    Examples
    --------
    >>> table = pd.DataFrame({"school": ["A", "A", "B"], "klass": [1, 2, 1]})
    >>> encode_levels(table, ["school", "klass"]).codes["klass_code"].tolist()
    [0, 1, 2]

    See Also
    --------
    flatten_nested : Turn nested records into rows.
    """
    data, levels = check_dataframe("data", data), check_names("levels", levels)
    check_columns("levels", data, levels)
    check_labels("levels", data, levels)
    missing = data[levels].isna().any(axis=1)
    reject_rows("levels", "must not be missing", data, missing, levels, "Drop these rows.")
    for level in levels:
        kinds = data[level].map(type)
        reject_rows(
            "levels",
            f"must have labels of one type in '{level}' (here {kinds.iloc[0].__name__})",
            data,
            kinds != kinds.iloc[0],
            levels,
            f"Convert them first: data['{level}'].astype(str).",
        )
    codes, labels = {}, {}
    for depth, level in enumerate(levels, start=1):
        keys = data[levels[:depth]]
        code = keys.groupby(levels[:depth], observed=True).ngroup()
        codes[f"{level}_code"] = code
        first = np.unique(code, return_index=True)[1]
        labels[level] = keys.take(first).reset_index(drop=True)
    return LevelCoding(tuple(levels), pd.DataFrame(codes, index=data.index), labels)
