"""A column is a number or a category, decided once, before anything is computed from it.

formulaic computes in a column's storage type (int8 wraps at 127), and reads digits held as
``string`` as numbers. So every column is brought to one of two forms first: float64, or text
and categories with the levels that occur.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd
from pandas.api import types

from course_lib.errors import course_error

__all__ = ["typed_frame"]


def typed_frame(
    argument: str, rows: pd.DataFrame, names: Iterable[str], coded: Collection[str] = ()
) -> pd.DataFrame:
    """Return the named columns as numbers and categories.

    Parameters
    ----------
    argument : str
        What the rows were passed as, for messages.
    rows : DataFrame
        Without missing values in these columns.
    names : iterable of str
        Columns that a formula takes.
    coded : collection of str
        Columns that the formula makes a category of, as ``C(week)``: whole numbers stay whole,
        so that their levels are named 1 and not 1.0.

    Returns
    -------
    DataFrame
        Numbers as float64; categories with the levels that occur, in their order; text as
        objects; truth values as bool.

    Raises
    ------
    CourseError
        If a column is neither: dates, time differences, complex numbers, numbers held as
        objects. The message has the line that converts it.
    """
    typed = {name: _typed(argument, name, rows[name], name in coded) for name in names}
    return pd.DataFrame(typed, index=rows.index)


def _typed(argument: str, name: str, column: pd.Series, coded: bool) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories()
    if types.is_bool_dtype(column.dtype):
        return column.astype(bool)
    if types.is_any_real_numeric_dtype(column.dtype):
        whole = coded and types.is_integer_dtype(column.dtype)
        return column.astype("int64" if whole else "float64")
    if types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype):
        values = column.astype(object)
        kinds = set(map(type, values))
        if kinds <= {str} or kinds <= {bool}:
            return values if kinds <= {str} else values.astype(bool)
    what, advice = _how_to_convert(name, column)
    rule = "must take columns of numbers or categories"
    raise course_error(argument, rule, f"{what} in '{name}'", advice)


def _how_to_convert(name: str, column: pd.Series) -> tuple[str, str]:
    """Say what a column holds, and the line that makes numbers or categories of it."""
    this = f"data['{name}']"
    if types.is_datetime64_any_dtype(column.dtype):
        return (
            "the dates",
            f"Make a number of them, for example ({this} - {this}.min()).dt.days.",
        )
    if types.is_timedelta64_dtype(column.dtype):
        return "the time differences", f"Make a number of them: {this}.dt.total_seconds()."
    if types.is_complex_dtype(column.dtype):
        return "complex numbers", f"Take one part: numpy.real({this})."
    if types.is_object_dtype(column.dtype):
        first = next(value for value in column if not isinstance(value, str))
        if isinstance(first, str | bytes | bool) or not hasattr(first, "__float__"):
            return (
                f"objects of type {type(first).__name__}",
                f"Make text of them: {this}.astype(str).",
            )
        return "numbers held as objects", f"Convert them: pandas.to_numeric({this})."
    return f"values of type {column.dtype}", f"Make text of them: {this}.astype(str)."
