"""Tests and confidence intervals of a fit, as labelled tables.

The arithmetic is in `inference`, on arrays; this module gives it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from course_lib.errors import check_choice, check_count, check_probability, check_rng
from course_lib.mixed import inference
from course_lib.mixed.prediction import response_sampler
from course_lib.mixed.search import estimate_standardised

if TYPE_CHECKING:
    from course_lib.mixed.result import LmerResult

__all__ = ["conf_int", "fixed_table"]


def fixed_table(fit: LmerResult, ddf: str, alpha: float) -> pd.DataFrame:
    """Tabulate the fixed effects; see `LmerResult.fixed_table`.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    ddf : {"satterthwaite", "normal"}
        Degrees of freedom.
    alpha : float
        One minus the confidence level.

    Returns
    -------
    DataFrame
    """
    from scipy import stats  # slow to import, and not needed for a fit

    check_choice("ddf", ddf, ("satterthwaite", "normal"))
    check_probability("alpha", alpha)
    p = len(fit.fe_params)
    df = np.full(p, np.inf)
    if ddf == "satterthwaite" and p:
        theta = fit.estimate.optimum.theta
        df = inference.satterthwaite_df(np.eye(p), fit.standardised, theta, fit.reml)
    t = fit.fe_params / fit.bse_fe
    half = stats.t.ppf(1 - alpha / 2, df) * fit.bse_fe
    columns = {
        "estimate": fit.fe_params,
        "std_error": fit.bse_fe,
        "df": df,
        "t": t,
        "p": 2 * stats.t.sf(np.abs(t), df),
        "lower": fit.fe_params - half,
        "upper": fit.fe_params + half,
    }
    return pd.DataFrame(columns)


def conf_int(
    fit: LmerResult,
    method: str,
    alpha: float,
    n_sim: int,
    rng: np.random.Generator | None,
    progress: bool,
) -> pd.DataFrame:
    """Confidence intervals of all parameters; see `LmerResult.conf_int`.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    method : {"wald", "profile", "bootstrap"}
        How.
    alpha : float
        One minus the confidence level.
    n_sim, rng, progress
        For the bootstrap.

    Returns
    -------
    DataFrame
        Columns estimate, lower, upper.
    """
    check_choice("method", method, ("wald", "profile", "bootstrap"))
    check_probability("alpha", alpha)
    if method == "bootstrap":
        check_count("n_sim", n_sim, 2)
        check_rng("rng", rng)
        sampler = response_sampler(fit, rng)
        data, theta = fit.standardised, fit.estimate.optimum.theta
        draws = inference.bootstrap_parameters(data, sampler, n_sim, fit.reml, theta, progress)
        # A correlation is undefined in a draw whose standard deviation is zero.
        ends = np.nanquantile(draws, [alpha / 2, 1 - alpha / 2], axis=0).T
    else:
        ends = _profile(fit, alpha) if method == "profile" else _wald(fit, alpha)
    table = pd.DataFrame(ends, _names(fit), ["lower", "upper"])
    theta = fit.estimate.optimum.theta
    estimates = inference.parameter_vector(theta, fit.standardised, fit.reml)
    table.insert(0, "estimate", estimates)
    return table


def _names(fit: LmerResult) -> list[str]:
    spread = [
        f"cor({row.term1}, {row.term2} | {row.group})"
        if row.term2
        else f"sd({row.term1} | {row.group})"
        for row in fit.varcorr().iloc[:-1].itertuples()
    ]
    return [*spread, "sigma", *fit.frame.fixed_names]


def _wald(fit: LmerResult, alpha: float) -> np.ndarray:
    table = fixed_table(fit, "normal", alpha)
    n_spread = len(_names(fit)) - len(table)
    return np.vstack([np.full((n_spread, 2), np.nan), table[["lower", "upper"]]])


def _profile(fit: LmerResult, alpha: float) -> np.ndarray:
    from scipy.stats import chi2  # slow to import, and not needed for a fit

    rise = chi2.ppf(1 - alpha, 1)
    data = fit.standardised
    ml = estimate_standardised(data, False) if fit.reml else fit.estimate
    theta = ml.optimum.theta
    _, places = inference.sd_cor(theta, ml.sigma, data)
    ends = [inference.profile_variance(p, data, theta, rise) for p in [*places, None]]
    ends += [inference.profile_fixed(k, data, ml, rise) for k in range(len(ml.beta))]
    return np.array(ends)
