"""Predict and simulate from the design and the estimate of a fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_count,
    check_dataframe,
    check_flag,
    check_rng,
    course_error,
    listing,
)
from course_lib.mixed.design import GroupFactor, ModelFrame
from course_lib.mixed.search import Estimate

__all__ = ["predict", "response_sampler", "simulate"]


def predict(
    frame: ModelFrame,
    estimate: Estimate,
    newdata: pd.DataFrame | None,
    random: bool,
    new_levels: str,
) -> pd.Series:
    """Predict the response: Xβ, or Xβ + Zb.

    Parameters
    ----------
    frame : ModelFrame
        Design of the fit.
    estimate : Estimate
        Fixed effects and conditional modes.
    newdata, random, new_levels
        As in `LmerResult.predict`.

    Returns
    -------
    Series
        With the index of `newdata`, or of the rows of the fit.

    Raises
    ------
    CourseError
        If an option is unknown, a column is missing, or a group was not seen in fitting.
    """
    check_choice("new_levels", new_levels, ("error", "population"))
    factors = frame.factors if check_flag("random", random) else ()
    if newdata is None:
        index, X = frame.index, frame.X
        parts = [(factor.columns, factor.codes) for factor in factors]
    else:
        index = check_dataframe("newdata", newdata).index
        X = frame.fixed_matrix(newdata)
        parts = [
            (frame.factor_matrix(factor, newdata), _codes(frame, factor, newdata, new_levels))
            for factor in factors
        ]
    predicted = X @ estimate.beta
    for (columns, codes), modes in zip(parts, estimate.modes, strict=False):
        effects = np.where(codes[:, None] >= 0, modes[codes], 0.0)
        predicted = predicted + np.einsum("nq,nq->n", columns, effects)
    return pd.Series(predicted, index, name="predicted")


def _codes(
    frame: ModelFrame, factor: GroupFactor, data: pd.DataFrame, new_levels: str
) -> np.ndarray:
    codes = frame.factor_codes(factor, data)
    if (codes < 0).any() and new_levels == "error":
        unseen = data.loc[codes < 0, list(factor.group)].drop_duplicates().to_numpy()
        names = [":".join(str(part) for part in key) for key in unseen]
        raise course_error(
            "newdata",
            f"must use only groups of '{factor.name}' that the fit has seen",
            listing(names, 4),
            "Pass new_levels='population' to predict a new group by the fixed effects.",
        )
    return codes


def response_sampler(
    frame: ModelFrame,
    estimate: Estimate,
    relative_factors: list[np.ndarray],
    rng: np.random.Generator,
) -> Callable[[], np.ndarray]:
    """Return a function that draws one response from the fitted model.

    Parameters
    ----------
    frame : ModelFrame
        Design of the fit.
    estimate : Estimate
        Its β and σ.
    relative_factors : list of ndarray, each (q, q)
        Any square roots of the relative covariances: TT' = Cov(b)/σ².
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    callable
        Without arguments; returns an ndarray of shape (nobs,).
    """
    check_rng("rng", rng)
    mean, sigma = frame.X @ estimate.beta, estimate.sigma
    pairs = zip(frame.factors, relative_factors, strict=True)
    parts = [(factor, sigma * root.T) for factor, root in pairs]

    def draw() -> np.ndarray:
        y = mean + sigma * rng.standard_normal(len(mean))
        for factor, root in parts:
            effects = rng.standard_normal((len(factor.keys), len(root))) @ root
            y += np.einsum("nq,nq->n", factor.columns, effects[factor.codes])
        return y

    return draw


def simulate(
    frame: ModelFrame,
    estimate: Estimate,
    relative_factors: list[np.ndarray],
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw `n` responses, shape (n, nobs); see `response_sampler`."""
    check_count("n", n)
    draw = response_sampler(frame, estimate, relative_factors, rng)
    return np.array([draw() for _ in range(n)])
