"""A model as the explanation tools see it: rows in, one number per row out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from course_lib import errors
from course_lib.errors import course_error
from course_lib.mixed.result import LmerResult

__all__ = ["check_features", "columns_of", "one_row", "prediction_function", "repeat_row"]


def prediction_function(predict: object) -> Callable[[pd.DataFrame], np.ndarray]:
    """Make a checked function of a model or of its prediction function.

    Parameters
    ----------
    predict : callable or object with a method ``predict``
        For example ``fit``, ``forest`` or ``lambda rows: forest.predict_proba(rows)[:, 1]``.

    Returns
    -------
    callable
        DataFrame in, finite float array of shape (rows,) out, in units of the prediction. A
        model of scikit-learn that knows its feature names is given just these columns.

    Raises
    ------
    CourseError
        If `predict` cannot be called; by the function, if a column is missing, or what the
        model returns is not one finite number per row.

    Examples
    --------
    >>> double = prediction_function(lambda rows: 2 * rows["a"])
    >>> double(pd.DataFrame({"a": [1, 2]})).tolist()
    [2.0, 4.0]

    See Also
    --------
    check_features : The columns that an explanation may move.
    """
    function = getattr(predict, "predict", predict)
    if isinstance(predict, type) or not callable(function):
        rule = "must be a function of a DataFrame, or a fitted model with .predict"
        advice = "Pass fit, forest, or lambda rows: model.predict(rows)."
        raise course_error("predict", rule, f"{predict!r:.60}", advice)
    names = getattr(predict, "feature_names_in_", None)

    def checked(rows: pd.DataFrame) -> np.ndarray:
        if names is not None:
            errors.check_columns("data", rows, names)
            rows = rows[list(names)]
        found = function(rows)
        try:
            values = np.asarray(found, dtype=float)
        except (TypeError, ValueError):
            got = f"a {type(found).__name__} of other values"
            advice = "Pass fit, forest, or lambda rows: model.predict(rows)."
            raise course_error("predict", "must return numbers", got, advice) from None
        if values.shape != (len(rows),):
            got = f"shape {values.shape} for {len(rows)} rows"
            advice = "For a classifier take a column: lambda rows: m.predict_proba(rows)[:, 1]."
            raise course_error("predict", "must return one number per row", got, advice)
        if not np.isfinite(values).all():
            got = f"NaN or infinity in {int((~np.isfinite(values)).sum())} of {len(rows)} rows"
            advice = "Look at these rows: a missing predictor or log(0) is a usual reason."
            raise course_error("predict", "must return finite numbers", got, advice)
        return values

    return checked


def columns_of(predict: object, data: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the columns of `data` that a model takes, and those of them that it measures.

    Parameters
    ----------
    predict : callable or object with a method ``predict``
        As for `prediction_function`.
    data : DataFrame
        Rows that it predicts.

    Returns
    -------
    columns : list of str
        All that it takes; every column of `data` where it does not say.
    predictors : list of str
        Without those that only name a group, such as a person's number.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> sleep = load("sleepstudy")
    >>> columns_of(lmer("Reaction ~ Days + (Days | Subject)", sleep), sleep)
    (['Days', 'Subject'], ['Days'])

    See Also
    --------
    check_features : Columns that a reader names.
    """
    if isinstance(predict, LmerResult):
        frame = predict.frame
        predictors = {*frame.fixed.variables, *(v for f in frame.factors for v in f.variables)}
        used = predictors | {name for factor in frame.factors for name in factor.group}
    else:
        used = predictors = set(getattr(predict, "feature_names_in_", data.columns))
    return [c for c in data if c in used], [c for c in data if c in predictors]


def repeat_row(row: pd.DataFrame, columns: Sequence[str], values: np.ndarray) -> pd.DataFrame:
    """Return one copy of `row` per row of `values`, which replaces `columns`.

    Parameters
    ----------
    row : DataFrame
        One row.
    columns : sequence of str, length p
        Names of columns of `row`.
    values : ndarray, shape (n, p)
        What they become.

    Returns
    -------
    DataFrame
        n rows, numbered from 0.

    Examples
    --------
    >>> repeat_row(pd.DataFrame({"a": [1], "b": [5]}), ["a"], np.array([[2], [3]]))
       a  b
    0  2  5
    1  3  5

    See Also
    --------
    one_row : Brings a row into the form that this takes.
    """
    rows = row.iloc[np.zeros(len(values), dtype=int)].reset_index(drop=True)
    rows[columns] = values
    return rows


def one_row(row: object, data: pd.DataFrame) -> pd.DataFrame:
    """Return `row` as a DataFrame with the columns and types of `data`, without missing values.

    Parameters
    ----------
    row : Series or DataFrame
        ``data.iloc[3]``, ``data.iloc[[3]]``, or one made up in the same columns.
    data : DataFrame
        Data that `row` is like.

    Returns
    -------
    DataFrame
        One row; whole-number columns as floats.

    Raises
    ------
    CourseError
        If it is not one row, a column is missing, or a value is missing, infinite or of another
        type than in `data`.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1, 2], "kind": ["u", "v"]})
    >>> one_row(table.iloc[1], table)
         a kind
    1  2.0    v

    See Also
    --------
    repeat_row : Copies of it with other values.
    """
    if isinstance(row, pd.Series):
        row = row.to_frame().T
    if not isinstance(row, pd.DataFrame) or len(row) != 1:
        got = f"{len(row)} rows" if isinstance(row, pd.DataFrame) else f"a {type(row).__name__}"
        raise course_error("row", "must be one row", got, "Take it as data.iloc[3].")
    errors.check_columns("row", row, data.columns)
    row = row[list(data.columns)]
    errors.check_no_missing("row", row, row.columns)
    try:
        # A Series out of mixed columns holds objects; a whole-number column may get 1.5.
        types = {c: float if t.kind in "iu" else t for c, t in data.dtypes.items()}
        row = row.astype(types)
    except (TypeError, ValueError) as error:
        advice = "Start from row = data.iloc[3].copy() and change values."
        raise course_error("row", "must have the types of data", error, advice) from None
    is_number = pd.api.types.is_any_real_numeric_dtype
    errors.check_numeric("row", row, [name for name in row if is_number(row[name])])
    return row


def check_features(
    argument: str, features: object, data: pd.DataFrame, numeric: bool = True
) -> list[str]:
    """Return `features` as a list of names of numeric columns without missing values.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    features : str, list, tuple or Index of str
        Names, each once.
    data : DataFrame
        Where the columns are.
    numeric : bool
        False allows columns of other types too.

    Returns
    -------
    list of str
        The names, in the order given.

    Raises
    ------
    CourseError
        If there is no name, or one is there twice, is no column, or its column does not fit.

    Examples
    --------
    >>> check_features("features", "a", pd.DataFrame({"a": [1, 2]}))
    ['a']

    See Also
    --------
    prediction_function : The model itself, checked.
    """
    errors.check_dataframe("data", data)
    names = errors.check_names(argument, features)
    errors.check_columns(argument, data, names)
    is_number = pd.api.types.is_any_real_numeric_dtype
    errors.check_numeric(argument, data, [n for n in names if numeric or is_number(data[n])])
    errors.check_no_missing(argument, data, names)
    return names
