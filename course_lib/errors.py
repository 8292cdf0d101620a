"""Leaf checks on arguments, and the one error type that the course raises.

Every message says four things, in this order: which argument, which rule, which value was
given, and what to do next. Checks return the (possibly converted) value, so that a caller
writes ``n = check_count("n", n)``. This module imports nothing from the package.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

MOST = 1_000_000_000  # that is counted or drawn; more is a slip


class CourseError(ValueError):
    """The one error that ``course_lib`` raises for input that it cannot use."""


def course_error(argument: str, rule: str, got: object, advice: str) -> CourseError:
    """Build the error message of the course: argument, rule, value, next step.

    Parameters
    ----------
    argument : str
        Name of the argument, as the caller wrote it.
    rule : str
        What has to hold, as a clause ("must be a DataFrame").
    got : object
        The offending value, or a description of it.
    advice : str
        What the reader can do next, as a sentence.

    Returns
    -------
    CourseError
        To be raised by the caller.
    """
    return CourseError(f"{argument}: {rule}; got {got}. {advice}")


def listing(names: Iterable[object], most: int = 8) -> str:
    """Join names for a message, cutting a long list short.

    Parameters
    ----------
    names : iterable
        What to list.
    most : int
        How many names to show before the rest is only counted.

    Returns
    -------
    str
        For example ``"a, b, c and 4 more"``.
    """
    names = [str(name) for name in names]
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def suggestion(name: object, options: Iterable[object]) -> str:
    """Say which of the options was probably meant, and list them all.

    Parameters
    ----------
    name : object
        What was asked for.
    options : iterable
        What there is.

    Returns
    -------
    str
        One or two sentences.
    """
    options = [str(option) for option in options]
    near = difflib.get_close_matches(str(name), options, n=1)
    lower = [option for option in options if option.lower() == str(name).lower()]
    meant = (lower or near)[:1]
    there_is = f"There is: {listing(options)}."
    return f"Perhaps you want '{meant[0]}'. {there_is}" if meant else there_is


def check_type(argument: str, value: object, kind: type, rule: str, advice: str) -> object:
    """Return `value` if it is of a type."""
    if not isinstance(value, kind):
        raise course_error(argument, rule, f"a {type(value).__name__}", advice)
    return value


def check_dataframe(argument: str, data: object) -> pd.DataFrame:
    """Return `data` if it is a DataFrame with at least one row."""
    rule = "must be a pandas DataFrame, one row per observation"
    if not isinstance(data, pd.DataFrame):
        advice = "Build one with pandas.DataFrame(...) or pandas.read_csv(...)"
        kind = f"{type(data).__module__.split('.')[0]}.{type(data).__name__}"
        advice += "; from polars, Arrow and others with data.to_pandas()."
        kind = kind.removeprefix("builtins.")
        raise course_error(argument, rule, f"a {kind}", advice)
    if len(data) == 0:
        got = f"an empty DataFrame with columns {listing(data.columns) or '(none)'}"
        advice = "Check the filter or the file that it came from."
        raise course_error(argument, "must have at least one row", got, advice)
    if data.columns.nlevels > 1:
        rule, got = "must have one name per column", f"{data.columns.nlevels} levels of names"
        advice = "Join them: data.columns = ['_'.join(map(str, names)) for names in data]."
        raise course_error(argument, rule, got, advice)
    if not data.columns.is_unique:
        twice = data.columns[data.columns.duplicated()].unique()
        rule = "must have unique column names"
        advice = "Rename or drop one of them."
        raise course_error(argument, rule, f"{listing(twice)} more than once", advice)
    return data


def check_list(argument: str, values: object, n: int | None = None) -> list:
    """Return several labels (`n` of them, if given) as a list; text and tables are no list."""
    try:
        if isinstance(values, str | bytes | pd.DataFrame):
            raise TypeError
        values = list(values)
        set(values)
    except TypeError:
        got = f"{values!r:.60}"
        raise course_error(argument, "must be a list", got, "Write [...].") from None
    if n is not None and len(values) != n:
        raise course_error(argument, f"must be a list of {n}", values, "Write (..., ...).")
    return values


def check_names(argument: str, names: str | Iterable[object]) -> list:
    """Return one name or several as a list; raise if there is none, or one twice."""
    names = [names] if isinstance(names, str) else check_list(argument, names)
    if not names or len(set(names)) < len(names):
        rule = "must name each column once" if names else "must name at least one column"
        raise course_error(argument, rule, names or "none", "Give a list of names, each once.")
    return names


def check_columns(argument: str, data: pd.DataFrame, columns: Iterable[object]) -> None:
    """Raise unless every name in `columns` is a column of `data`."""
    for column in columns:
        try:
            known = column in data.columns
        except TypeError:  # a list, a dict or a table is no name
            known = False
        if not known:
            rule = "must name columns of the data"
            advice = suggestion(column, data.columns)
            raise course_error(argument, rule, f"'{column!s:.60}', which is not one", advice)


def check_numeric(argument: str, data: pd.DataFrame, columns: Iterable[object]) -> None:
    """Raise unless every one of `columns` is in `data`, numeric, and free of infinities."""
    columns = list(columns)
    check_columns(argument, data, columns)
    for column in columns:
        values = data[column]
        if not pd.api.types.is_any_real_numeric_dtype(values):
            rule = "must name numeric columns"
            advice = f"Convert it first, for example with pandas.to_numeric(data['{column}'])."
            raise course_error(argument, rule, f"'{column}' of type {values.dtype}", advice)
        number = values.to_numpy(dtype=float, na_value=np.nan)
        if np.isinf(number).any():
            rule = "must name columns without infinite values"
            got = f"'{column}' with {int(np.isinf(number).sum())} infinite value(s)"
            advice = "Replace them with missing values or correct them."
            raise course_error(argument, rule, got, advice)


def check_no_missing(argument: str, data: pd.DataFrame, columns: Iterable[object]) -> None:
    """Raise unless every one of `columns` is in `data`, without a missing value."""
    columns = list(columns)
    check_columns(argument, data, columns)
    for column in columns:
        n_missing = int(data[column].isna().sum())
        if n_missing:
            got = f"{n_missing} of {len(data)} missing in '{column}'"
            advice = f"Drop these rows first: data.dropna(subset=['{column}'])."
            raise course_error(argument, "must not have missing values", got, advice)


def check_labels(argument: str, data: pd.DataFrame, columns: Iterable[object]) -> None:
    """Raise unless each of `columns` holds values that can be compared, no lists or dicts."""
    for column in columns:
        if isinstance(data[column].dtype, pd.SparseDtype):
            rule, advice = "must name columns without gaps in storage", ".sparse.to_dense()"
            advice = f"Fill it: data['{column}']{advice}."
            raise course_error(argument, rule, f"'{column}', which is sparse", advice)
        if data[column].dtype.kind not in "OV":
            continue
        for value in data[column]:
            try:
                hash(value)
            except TypeError:
                rule = "must name columns of values that can be compared"
                got = f"'{column}' with a {type(value).__name__}"
                advice = f"Make text of them: data['{column}'].astype(str)."
                raise course_error(argument, rule, got, advice) from None


def check_finite(argument: str, values: object) -> np.ndarray:
    """Return `values` as a float array, or raise if one of them is NaN or infinite."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        advice = "Convert the values with float(...) or numpy.asarray(..., dtype=float)."
        raise course_error(argument, "must hold numbers", f"{values!r:.60}", advice) from None
    bad = ~np.isfinite(array)
    if bad.any():
        got = f"{int(bad.sum())} of {array.size} value(s) NaN or infinite"
        raise course_error(argument, "must be finite", got, "Remove or correct them first.")
    return array


def check_choice(argument: str, value: object, choices: Sequence[object]) -> object:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str | numbers.Number | None) or value not in choices:
        options = [repr(choice) for choice in choices]
        rule = "must be one of the known options"
        raise course_error(argument, rule, repr(value), suggestion(repr(value), options))
    return value


def check_probability(argument: str, value: object) -> float:
    """Return `value` as a float if it lies strictly between 0 and 1."""
    if not isinstance(value, numbers.Real) or not 0 < value < 1:
        rule = "must be a number strictly between 0 and 1"
        raise course_error(argument, rule, repr(value), "For a 95 % interval, alpha is 0.05.")
    return float(value)


def check_count(argument: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`, and no giant."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not minimum <= value <= MOST:
        rule = f"must be a whole number of at least {minimum}"
        rule += f" and at most {MOST:,}" if whole and value > MOST else ""
        raise course_error(argument, rule, repr(value), f"Try {argument}={max(minimum, 1000)}.")
    return int(value)


def check_number(argument: str, value: object, finite: bool = True) -> float:
    """Return `value` as a float if it is one number, finite unless that is waived."""
    try:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        number = float(value) if real else np.nan
    except OverflowError:
        number = np.nan
    if np.isnan(number) or (finite and np.isinf(number)):
        rule = "must be one number, and finite" if finite else "must be one number"
        raise course_error(argument, rule, f"{value!r:.60}", f"Try {argument}=1.0.")
    return number


def check_flag(argument: str, value: object) -> bool:
    """Return `value` as a bool if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        got, advice = f"{value!r:.60}", f"Try {argument}=True."
        raise course_error(argument, "must be True or False", got, advice)
    return bool(value)


def check_text(argument: str, value: object) -> str:
    """Return `value` if it is text."""
    if not isinstance(value, str):
        raise course_error(argument, "must be text", repr(value)[:60], "Put it in quotes.")
    return value


def check_rng(argument: str, rng: object) -> np.random.Generator:
    """Return `rng` if it is a NumPy random generator."""
    if not isinstance(rng, np.random.Generator):
        rule = "must be a numpy.random.Generator, so that results can be repeated"
        advice = f"Pass {argument}=numpy.random.default_rng(1)."
        raise course_error(argument, rule, repr(rng), advice)
    return rng


def reject_rows(
    argument: str, rule: str, data: pd.DataFrame, bad: object, show: Sequence, advice: str
) -> None:
    """Raise if any row is bad; the message shows the columns `show` of the first three."""
    bad = np.asarray(bad, dtype=bool)
    if bad.any():
        rows = data.loc[bad, list(dict.fromkeys(show))].head(3)
        shown = [
            f"row {label}: " + ", ".join(f"{column}={value}" for column, value in row.items())
            for label, row in zip(rows.index, rows.to_dict("records"), strict=True)
        ]
        got = f"{bad.sum()} of {len(data)} rows, first {'; '.join(shown)}"
        raise course_error(argument, rule, got, advice)
