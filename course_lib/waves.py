"""Waves in columns into waves in rows, and back, without loss.

The names of wide columns carry a number (``score1``, ``score2``); in the long table this number
is a column, so that time can enter a model. What cannot be turned back is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_columns,
    check_dataframe,
    check_names,
    check_numeric,
    course_error,
    listing,
    reject_rows,
)

__all__ = ["to_long", "to_wide"]

WAVE = r"-?\d+(?:\.\d+)?"  # what may follow the stub in the name of a wide column


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
        One row a unit; it is not changed.
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
        then one column a stub. Missing values keep their row, and every column keeps its
        type (wave columns of several number types get the common one).

    Raises
    ------
    CourseError
        If units are missing or repeated, a stub has no wave columns or other waves than the
        rest, two columns claim one wave or two stubs one column, the waves of a stub differ
        in type, or a name is taken.
    """
    data, names, ids = _check_reshape(data, "stubs", stubs, id, sep)
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
    for stub, columns in found.items():
        _check_one_type(data, stub, columns.values())
    kept = [column for column in data.columns if column not in used]
    _check_free([wave, *names.values()], kept)
    rows = np.arange(len(data))
    long = data[kept].take(np.repeat(rows, len(waves))).reset_index(drop=True)
    long[wave] = np.tile(waves, len(data))
    by_unit = np.arange(len(long)).reshape(len(waves), len(data)).T.ravel()
    for stub, name in names.items():
        stacked = pd.concat([data[found[stub][number]] for number in waves])
        long[name] = stacked.array.take(by_unit)
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
        One row a unit and wave; it is not changed.
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
    """
    data, names, ids = _check_reshape(data, "values", values, id, sep)
    check_columns("values", data, names)
    check_choice("unbalanced", unbalanced, ["error", "missing"])
    check_numeric("wave", data, [wave])
    reject_rows("wave", "must not be missing", data, data[wave].isna(), ids, "Drop the rows.")
    _reject_repeated(data, [*ids, wave], "must have one row a unit and wave")
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
    data: object, argument: str, values: object, id: str | Sequence[str], sep: str
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Check what both reshapes need; return data, old names -> new names, and the ids."""
    data = check_dataframe("data", data)
    if isinstance(values, str):
        values = [values]
    names = dict(values) if isinstance(values, Mapping) else {name: name for name in values}
    ids, _ = check_names("id", id), check_names(argument, names)
    texts = [*names, *names.values(), sep]
    if not all(isinstance(text, str) for text in texts):
        rule = "must be text, as is sep"
        raise course_error(argument, rule, listing(map(repr, texts)), "Put it in quotes.")
    check_columns("id", data, ids)
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
            rule = "must have one column a wave"
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


def _check_one_type(data: pd.DataFrame, stub: str, columns: Iterable[str]) -> None:
    types = {column: data[column].dtype for column in columns}
    numbers = all(kind.kind in "iuf" for kind in types.values())
    if len(set(types.values())) > 1 and not numbers:
        got = f"for '{stub}': {listing(f'{column} {kind}' for column, kind in types.items())}"
        advice = "Convert them first, for example with pandas.to_numeric."
        raise course_error("stubs", "must have waves of one type", got, advice)


def _check_free(new: list[str], kept: list[str]) -> None:
    taken = [name for i, name in enumerate(new) if name in kept or name in new[:i]]
    if taken:
        rule = "must leave the names of the new columns free"
        advice = "Rename the old column, or choose another name (a dict renames values)."
        raise course_error("data", rule, f"{listing(taken)} more than once", advice)
