"""Nested records into rows, and labels into codes that keep the parent.

A label such as "class 1" names a class only together with its school. :func:`flatten_nested`
carries the keys of all levels into each row; :func:`encode_levels` numbers the units of each
level so that class 1 of school A and class 1 of school B get different codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_columns,
    check_dataframe,
    check_names,
    course_error,
    listing,
    reject_rows,
    suggestion,
)

__all__ = ["LevelCoding", "encode_levels", "flatten_nested"]


def flatten_nested(
    records: dict | Sequence[dict],
    path: str | Sequence[str],
    keys: Sequence[str | None],
    empty: str = "error",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn records that hold lists of records into one row an innermost item.

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
        One row a level, outermost first: ``level``, ``n_units`` in the records, ``n_empty``
        units without children; the innermost ``n_units`` is the number of rows.

    Raises
    ------
    CourseError
        If a level is missing, empty (unless allowed), or not a list throughout; if units of a
        level are records in one place and plain values in another; if a key is missing,
        repeated within its parent, or of mixed type; if a field is nested but not in `path`,
        or holds mixed types; or if two fields get the same name. The message says where.
    """
    path = [path] if isinstance(path, str) else list(path)
    if not path:
        raise course_error("path", "must name at least one field", "none", "Try ['orders'].")
    if isinstance(keys, str) or len(keys) != len(path) + 1:
        rule = f"must hold a key for the records and one for each of path ({len(path)})"
        advice = "Use None for a level whose units have no name of their own."
        raise course_error("keys", rule, repr(keys), advice)
    records = [records] if isinstance(records, dict) else records
    check_choice("empty", empty, ["error", "drop"])
    counts = {level: {"n_units": 0, "n_empty": 0} for level in ["record", *path]}
    found = list(_walk(records, ["record", *path], list(keys), "records", empty, counts))
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
        """One row a level: ``n_units``; ``n_labels``; ``n_reused``, labels of several units."""
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
        """Return the labels of units: one column a level down to `level`, one row a code.

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
        One row an observation.
    levels : sequence of str
        Columns of labels, outermost first: ``["school", "class_number"]``.

    Returns
    -------
    LevelCoding

    Raises
    ------
    CourseError
        If a column is missing or named twice, or labels are missing or of several types.
    """
    data, levels = check_dataframe("data", data), check_names("levels", levels)
    check_columns("levels", data, levels)
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
