"""Explain any prediction function by asking it: local surrogate and partial dependence."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from course_lib import errors
from course_lib.errors import course_error
from course_lib.explain.model import (
    check_features,
    columns_of,
    one_row,
    prediction_function,
    repeat_row,
)
from course_lib.mixed.typed_frame import typed_frame

__all__ = ["LocalSurrogate", "local_surrogate", "partial_dependence_frame"]


@dataclass(frozen=True)
class LocalSurrogate:
    """A weighted straight line through a model's predictions around one row.

    Attributes
    ----------
    effects : DataFrame
        One row per feature, the strongest first: feature, value (the row's), effect (change of
        the prediction for one standard deviation of the data, mean over repeats), spread (its
        standard deviation over repeats), effect_per_unit (the effect of one unit).
    r_squared : float
        Weighted R² of the line, mean over repeats; NaN where the prediction does not vary. Near
        1 the line describes the model around the row; if not, do not read the effects.
    stability : float
        Share of repeats in which the strongest feature is the first of `effects`.
    prediction : float
        Of the model for the row.
    local_prediction : float
        Of the line for the row, mean over repeats.
    repeats : DataFrame
        Effects of each repeat, repeats × features.
    """

    effects: pd.DataFrame
    r_squared: float
    stability: float
    prediction: float
    local_prediction: float
    repeats: pd.DataFrame


def local_surrogate(
    predict: object,
    row: pd.Series | pd.DataFrame,
    data: pd.DataFrame,
    *,
    features: Sequence[str] | None = None,
    n_samples: int = 1000,
    n_repeats: int = 10,
    kernel_width: float | None = None,
    alpha: float = 1.0,
    rng: np.random.Generator,
) -> LocalSurrogate:
    r"""Fit a ridge line to a model's predictions around one row (LIME for tables).

    .. math:: \min_{a, b} \sum_k w_k \bigl(f(x + s z_k) - a - z_k'b\bigr)^2 + \alpha\, b'b,
              \quad z_k \sim N(0, I), \quad w_k = \exp(-|z_k|^2 / h^2)

    with s the standard deviations of the data and h the kernel width (Ribeiro, Singh & Guestrin
    2016, doi:10.1145/2939672.2939778). The whole is repeated with new z: what changes from
    repeat to repeat is noise of the method, not a property of the model. All numeric features
    are moved, also 0/1 ones, independently of each other; other columns stay as in the row.

    Parameters
    ----------
    predict : callable or object with a method ``predict``
        The model; it is given rows with the columns of `data`.
    row : Series or DataFrame
        The row to explain.
    data : DataFrame
        Data that give the standard deviations.
    features : sequence of str, optional
        Numeric columns to move; by default all that vary.
    n_samples : int
        Points z per repeat.
    n_repeats : int
        Repeats, at least two.
    kernel_width : float, optional
        h, in standard deviations; by default 0.75 √features, as in the package lime (which
        then takes the square roots of these weights, so that its neighbours count further out).
    alpha : float
        Ridge penalty, on the scale of the summed weights; 0 is weighted least squares.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    LocalSurrogate

    Raises
    ------
    CourseError
        If a column is missing, not numeric or constant, an option is out of range, or the
        kernel leaves too few points.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> table = pd.DataFrame(rng.standard_normal((50, 2)), columns=["a", "b"])
    >>> row, model = table.iloc[0], lambda rows: 3 * rows["a"]
    >>> found = local_surrogate(model, row, table, alpha=0, rng=rng)
    >>> found.effects.set_index("feature")["effect_per_unit"].round(6).abs().to_dict()
    {'a': 3.0, 'b': 0.0}

    See Also
    --------
    partial_dependence_frame : The model on average, instead of around one row.
    """
    function = prediction_function(predict)
    errors.check_dataframe("data", data)
    used, predictors = columns_of(predict, data)
    if features is None:
        numeric = data[predictors].select_dtypes("number")
        features = [name for name in numeric.columns if data[name].nunique() > 1]
    features = check_features("features", features, data)
    centre = one_row(row, data[list(dict.fromkeys([*used, *features]))])
    p = len(features)
    n_samples = errors.check_count("n_samples", n_samples, p + 2)
    n_repeats = errors.check_count("n_repeats", n_repeats, 2)
    width = 0.75 * np.sqrt(p) if kernel_width is None else kernel_width
    if not (isinstance(width, numbers.Real) and 0 < width < np.inf):
        rule, advice = "must be a positive number", "Try None, for the default."
        raise course_error("kernel_width", rule, repr(width), advice)
    if not (isinstance(alpha, numbers.Real) and 0 <= alpha < np.inf):
        raise course_error("alpha", "must be a number, 0 or more", repr(alpha), "Try alpha=1.")
    errors.check_rng("rng", rng)
    here = centre[features].to_numpy(dtype=float)[0]
    scale = data[features].to_numpy(dtype=float).std(axis=0)
    for name in np.array(features)[scale == 0]:
        advice = "Leave it out of features, or give data with more rows."
        raise course_error("data", "must vary in each feature", f"'{name}' constant", advice)
    z = rng.standard_normal((n_repeats, n_samples, p))
    weights = np.exp(-(z**2).sum(axis=2) / width**2)
    # Kish's effective number of points; below, the line goes through a handful of them.
    if (weights.sum(axis=1) ** 2 <= (p + 1) * (weights**2).sum(axis=1)).any():
        rule = "must leave more points near the row than the line has coefficients"
        advice = "Take a wider kernel, more samples or fewer features."
        raise course_error("kernel_width", rule, f"{width:g} with {p} features", advice)
    moved = (here + scale * z).reshape(-1, p)  # of all repeats: one call is faster
    y = function(repeat_row(centre, features, moved)).reshape(n_repeats, n_samples)
    fits = [_ridge(*one, alpha) for one in zip(z, y, weights, strict=True)]
    intercepts, slopes, r_squared = (np.array(one) for one in zip(*fits, strict=True))
    effect, spread = slopes.mean(axis=0), slopes.std(axis=0, ddof=1)
    effects = pd.DataFrame({"feature": features, "value": here, "effect": effect})
    effects = effects.assign(spread=spread, effect_per_unit=effect / scale)
    strongest = np.argsort(-np.abs(effect), kind="stable")
    return LocalSurrogate(
        effects=effects.iloc[strongest].reset_index(drop=True),
        r_squared=float(r_squared.mean()),
        stability=float((np.abs(slopes).argmax(axis=1) == strongest[0]).mean()),
        prediction=float(function(centre)[0]),
        local_prediction=float(intercepts.mean()),
        repeats=pd.DataFrame(slopes, columns=features),
    )


def _ridge(z, y, weights, alpha) -> tuple[float, np.ndarray, float]:
    """Intercept, slopes and weighted R² of a weighted ridge line, its intercept free."""
    design = np.column_stack([np.ones(len(z)), z])
    penalty = alpha * np.diag([0.0] + [1.0] * z.shape[1])
    weighted = design.T * weights
    line = np.linalg.solve(weighted @ design + penalty, weighted @ y)
    total = weights @ (y - np.average(y, weights=weights)) ** 2
    left = weights @ (y - design @ line) ** 2
    return line[0], line[1:], 1 - left / total if np.ptp(y) > 0 else np.nan


def partial_dependence_frame(
    predict: object,
    data: pd.DataFrame,
    features: str | Sequence[str],
    *,
    kind: str = "average",
    grid_resolution: int = 20,
    percentiles: tuple[float, float] = (0.05, 0.95),
) -> pd.DataFrame:
    r"""Partial dependence of a model on one or two features, by scikit-learn, as a tidy table.

    .. math:: \bar f(x_A) = \frac{1}{n} \sum_i f(x_A, x_{i,-A})

    the mean prediction if feature(s) A had the value x_A in every row (Friedman 2001,
    doi:10.1214/aos/1013203451); the terms of the sum, one line per row, are the individual
    conditional expectations (Goldstein, Kapelner, Bleich & Pitkin 2015,
    doi:10.1080/10618600.2014.907095).

    Parameters
    ----------
    predict : callable or object with a method ``predict``
        The model; it is given rows with the columns of `data`.
    data : DataFrame
        Rows to average over.
    features : str or sequence of one or two str
        What to vary: one column, or two together. Numeric columns take a grid, others each of
        their values.
    kind : {"average", "individual", "both"}
        Partial dependence, one line per row, or both.
    grid_resolution : int
        Points of the grid of each numeric feature; one with fewer values takes these.
    percentiles : tuple of float
        Ends of the grid, as shares of the rows.

    Returns
    -------
    DataFrame
        The feature(s), kind ("average" or "individual"), row (label in `data`; missing for the
        average) and prediction.

    Raises
    ------
    CourseError
        If a column is missing or constant, an option is unknown, or there is no grid between
        the percentiles.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [5.0, 5.0, 8.0]})
    >>> curve = partial_dependence_frame(lambda rows: 2 * rows["a"] + rows["b"], table, "a")
    >>> curve["prediction"].tolist()
    [6.0, 8.0, 10.0]

    See Also
    --------
    local_surrogate : The model around one row.
    """
    function = prediction_function(predict)
    errors.check_dataframe("data", data)
    if not isinstance(features, str) and np.size(features) not in (1, 2):
        advice = "Call once for each pair, and put the tables together."
        raise course_error("features", "must be one or two columns", repr(features), advice)
    names = check_features("features", features, data, numeric=False)
    typed, kinds = typed_frame("features", data, names), {}
    for name in typed.select_dtypes(exclude="number"):  # scikit-learn sees a number per value
        typed[name], kinds[name] = pd.factorize(typed[name], sort=True)
        kinds[name] = data[name].iloc[np.unique(typed[name], return_index=True)[1]].array
    for name in names:
        taken = name in ("kind", "row", "prediction")
        if taken or data[name].nunique() < 2:
            got = f"'{name}', {'a column of the result' if taken else 'constant'}"
            advice = "Take another feature, or rename it."
            raise course_error("features", "must vary in data", got, advice)
    errors.check_choice("kind", kind, ("average", "individual", "both"))
    errors.check_count("grid_resolution", grid_resolution, 2)
    ends = errors.check_finite("percentiles", percentiles)
    if ends.shape != (2,) or not 0 <= ends[0] < ends[1] <= 1:
        rule, advice = "must be two rising shares from 0 to 1", "Try (0.05, 0.95)."
        raise course_error("percentiles", rule, repr(percentiles), advice)
    from sklearn.base import BaseEstimator, RegressorMixin  # slow to import
    from sklearn.inspection import partial_dependence

    class FittedModel(RegressorMixin, BaseEstimator):
        """The prediction function in the form that scikit-learn takes for a fitted model."""

        def fit(self, X, y=None):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, X):
            return function(X.assign(**{n: v.take(X[n].astype(int)) for n, v in kinds.items()}))

    try:
        grid = partial_dependence(
            FittedModel(),
            data.assign(**typed),
            names,
            categorical_features=list(kinds) or None,
            percentiles=tuple(ends),
            grid_resolution=grid_resolution,
            method="brute",
            kind=kind,
        )
    except ValueError as error:
        if "percentiles" not in str(error):
            raise
        rule, advice = "must leave a grid in each feature", "Try percentiles=(0, 1)."
        raise course_error("percentiles", rule, error, advice) from None
    points = pd.MultiIndex.from_product(grid["grid_values"], names=names).to_frame(index=False)
    points = points.assign(**{n: v.take(points[n].astype(int)) for n, v in kinds.items()})
    tables = []
    if "average" in grid:
        mean = grid["average"].ravel()
        tables.append(points.assign(kind="average", row=None, prediction=mean))
    if "individual" in grid:
        lines = points.iloc[np.tile(np.arange(len(points)), len(data))]
        lines = lines.assign(kind="individual", row=data.index.repeat(len(points)))
        tables.append(lines.assign(prediction=grid["individual"].ravel()))
    return pd.concat(tables, ignore_index=True)
