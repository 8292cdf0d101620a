"""Predict and simulate from a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_count,
    check_dataframe,
    check_rng,
    course_error,
    listing,
)
from course_lib.mixed.design import GroupFactor

if TYPE_CHECKING:
    from course_lib.mixed.result import LmerResult

__all__ = ["predict", "response_sampler", "simulate"]


def predict(
    fit: LmerResult, newdata: pd.DataFrame | None, random: bool, new_levels: str
) -> pd.Series:
    """Predict the response; see `LmerResult.predict`.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    newdata : DataFrame or None
        Rows to predict.
    random : bool
        Include the random effects.
    new_levels : {"error", "population"}
        What to do with a group that the fit has not seen.

    Returns
    -------
    Series
    """
    check_choice("new_levels", new_levels, ("error", "population"))
    frame, factors = fit.frame, fit.frame.factors if random else ()
    if newdata is None:
        index, X = frame.index, frame.X
        parts = [(factor.columns, factor.codes) for factor in factors]
    else:
        index = check_dataframe("newdata", newdata).index
        X = frame.fixed_matrix(newdata)
        parts = [
            (frame.factor_matrix(factor, newdata), _codes(fit, factor, newdata, new_levels))
            for factor in factors
        ]
    predicted = X @ fit.estimate.beta
    for (columns, codes), modes in zip(parts, fit.estimate.modes, strict=False):
        effects = np.where(codes[:, None] >= 0, modes[codes], 0.0)
        predicted = predicted + np.einsum("nq,nq->n", columns, effects)
    return pd.Series(predicted, index, name="predicted")


def _codes(
    fit: LmerResult, factor: GroupFactor, data: pd.DataFrame, new_levels: str
) -> np.ndarray:
    codes = fit.frame.factor_codes(factor, data)
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


def response_sampler(fit: LmerResult, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Return a function that draws one response, shape (nobs,), from the fitted model."""
    check_rng("rng", rng)
    mean, sigma = fit.frame.X @ fit.estimate.beta, fit.estimate.sigma
    relative = fit.standardised.relative_factors(fit.estimate.optimum.theta)
    parts = [(f, sigma * root.T) for f, root in zip(fit.frame.factors, relative, strict=True)]

    def draw() -> np.ndarray:
        y = mean + sigma * rng.standard_normal(len(mean))
        for factor, root in parts:
            effects = rng.standard_normal((len(factor.keys), len(root))) @ root
            y += np.einsum("nq,nq->n", factor.columns, effects[factor.codes])
        return y

    return draw


def simulate(fit: LmerResult, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` responses, shape (n, nobs); see `LmerResult.simulate`."""
    check_count("n", n)
    draw = response_sampler(fit, rng)
    return np.array([draw() for _ in range(n)])
