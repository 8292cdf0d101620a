r"""Residuals and random effects as tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from course_lib.mixed.cross_products import Part
from course_lib.mixed.deviance import chain_covariances
from course_lib.mixed.result import LmerResult, check_fit

__all__ = [
    "random_effects_frame",
    "random_variances",
    "residual_frame",
]

NOTHING = 1e-10  # a share of a variance below this is rounding
CHUNK = 2_000_000  # numbers held at a time by `_leverages`: 16 MB


def residual_frame(fit: LmerResult) -> pd.DataFrame:
    r"""Residuals of both kinds, raw and standardised, with group and fitted value.

    Conditional: y - Xβ̂ - Zb̂, what is left of a row within its group. Marginal: y - Xβ̂, which
    still contains the group's random effects. Each is standardised by its own standard error,

    .. math:: \operatorname{Var}(y_i - \hat y_i) = \sigma^2(1 - h_i), \qquad
              \operatorname{Var}(y_i - x_i'\hat\beta) = z_i'\Sigma z_i + \sigma^2
              - x_i'\hat V x_i

    with h the leverage, Σ the covariance of the random effects and V that of β̂ (Nobre & Singer
    2007, doi:10.1002/bimj.200610341); the first is lme4's ``rstudent``.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    DataFrame
        Indexed as ``fit.resid``: one column per grouping factor, then fitted, fitted_marginal,
        resid, resid_marginal (units of the response), resid_std, resid_marginal_std (no unit;
        NaN for a row that the model reproduces whatever its value) and leverage.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> residual_frame(fit)[["resid", "leverage"]].round(3).iloc[0].tolist()
    [-4.104, 0.229]

    See Also
    --------
    random_effects_frame : The same for the groups.
    """
    check_fit("fit", fit)
    frame, leverage = fit.frame, _leverages(fit)
    marginal = frame.X @ fit.estimate.beta
    from_beta = np.einsum("np,pq,nq->n", frame.X, fit.estimate.cov_beta, frame.X)
    total = fit.scale + sum(random_variances(fit))
    groups = {f.name: f.levels.to_numpy()[f.codes] for f in frame.factors}
    columns = {
        **groups,
        "fitted": fit.fittedvalues.to_numpy(),
        "fitted_marginal": marginal,
        "resid": fit.resid.to_numpy(),
        "resid_marginal": frame.y - marginal,
        "resid_std": standardised(fit, leverage),
        "resid_marginal_std": _divided(frame.y - marginal, total - from_beta, total),
        "leverage": leverage,
    }
    return pd.DataFrame(columns, index=frame.index)


def random_variances(fit: LmerResult) -> list[np.ndarray]:
    """Return z_i'Σz_i of every row, factor by factor, each of shape (n,)."""
    pairs = zip(fit.frame.factors, fit.estimate.cov_re, strict=True)
    return [np.einsum("na,ab,nb->n", f.columns, cov, f.columns) for f, cov in pairs]


def standardised(fit: LmerResult, leverage: np.ndarray | None = None) -> np.ndarray:
    """Return the column resid_std of `residual_frame` alone, shape (n,)."""
    leverage = _leverages(fit) if leverage is None else leverage
    return _divided(fit.resid.to_numpy(), fit.scale * (1 - leverage), fit.scale)


def _divided(values: np.ndarray, variance: np.ndarray, scale: float | np.ndarray):
    """Values over their standard deviation; NaN where the variance is rounding only."""
    real = variance > NOTHING * scale
    return np.where(real, values / np.sqrt(np.where(real, variance, 1.0)), np.nan)


def random_effects_frame(fit: LmerResult) -> pd.DataFrame:
    r"""Random effects of every group, one row each.

    With s the conditional standard error of mode b̂ and τ² its variance in the population,
    Var(b̂) = τ² - s² (given β), and the shrinkage factor is the share that survives,

    .. math:: 1 - s^2/\tau^2 = \frac{n_j \tau^2}{n_j \tau^2 + \sigma^2}

    where the right side is the special case of a random intercept alone: 1 leaves a group's own
    deviation as it is, 0 pools it away.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    DataFrame
        Columns group (the factor), level, term, mode, se (both in the units of the
        coefficient), shrinkage_factor, mode_std (mode over the square root of τ² - s²) and
        n_rows. Where τ² is zero the factor is 0 and mode_std NaN.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> random_effects_frame(fit)["mode"].round(2).tolist()[:2]  # of the first subject
    [2.26, 9.2]

    See Also
    --------
    residual_frame : The same for the rows.
    """
    check_fit("fit", fit)
    parts = []
    estimate = fit.estimate
    arrays = zip(
        fit.frame.factors, estimate.modes, estimate.cov_modes, estimate.cov_re, strict=True
    )
    for factor, modes, cov_modes, cov in arrays:
        population = np.maximum(cov.diagonal(), 0.0)
        squared = np.clip(np.einsum("jaa->ja", cov_modes), 0.0, population)
        share = 1 - squared / np.where(population > 0, population, 1.0)
        share = np.where(population > 0, share, 0.0)
        J, q = modes.shape
        columns = {
            "group": factor.name,
            "level": np.repeat(factor.levels.to_numpy(), q),
            "term": list(factor.terms) * J,
            "mode": modes.ravel(),
            "se": np.sqrt(squared).ravel(),
            "shrinkage_factor": share.ravel(),
            "mode_std": _divided(modes, population * share, population).ravel(),
            "n_rows": np.repeat(np.bincount(factor.codes, minlength=J), q),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _leverages(fit: LmerResult) -> np.ndarray:
    r"""Leverage of each row: how far its fitted value follows its own response.

    .. math:: h_i = \frac{\partial \hat y_i}{\partial y_i}, \qquad
              \operatorname{Var}(y_i - \hat y_i) = \sigma^2 (1 - h_i)

    at the estimated θ, with ŷ = Xβ̂ + Zb̂; lme4's ``hatvalues``. The second identity is exact for
    a mixed model too, since the residual is σ²Py and PVP = P (P projects as in REML).

    With a the row's entries in Z and X, and V the joint covariance of b̂ - b and β̂ divided by σ²
    (`course_lib.mixed.deviance.chain_covariances`), h = a'Va.
    """
    model = fit.standardised
    chain, top = chain_covariances(fit.estimate.optimum.theta, model.products)
    levels, k = model.layout.levels, len(chain)
    leverage = np.empty(fit.nobs)
    for rows in np.array_split(np.arange(fit.nobs), fit.nobs * chain.shape[1] // CHUNK + 1):
        z = np.hstack([_spread(level.part.rows(rows)) for level in levels])
        crossed = [_spread(part.rows(rows)) for _, part in model.layout.crossed]
        w = np.hstack([*crossed, model.X[rows], np.zeros((len(rows), 1))])
        V = chain[..., levels[0].codes[rows]]
        leverage[rows] = (
            np.einsum("na,abn,nb->n", z, V[:, :k], z)
            + 2 * np.einsum("na,abn,nb->n", z, V[:, k:], w)
            + np.einsum("na,na->n", w @ top, w)
        )
    return leverage


def _spread(part: Part) -> np.ndarray:
    """Columns of a part in full, shape (rows, width): zero but for each row's own copy."""
    columns = np.zeros((len(part.copies), part.n_copies, part.columns.shape[1]))
    columns[np.arange(len(columns)), part.copies] = part.columns
    return columns.reshape(len(columns), -1)
