"""How much of the variance each part of a mixed model carries: ICC and R²."""

from __future__ import annotations

import numpy as np
import pandas as pd

from course_lib.diagnostics.residuals import random_variances
from course_lib.mixed.result import LmerResult, check_fit

__all__ = ["icc", "r2", "variance_parts"]


def variance_parts(fit: LmerResult) -> pd.Series:
    r"""Split the variance of the response into its parts, averaged over the rows.

    Fixed part: variance of Xβ̂ over the rows. Each grouping factor: the mean of z_i'Σz_i over
    the rows, which counts random slopes where the data lie (Johnson 2014,
    doi:10.1111/2041-210X.12225). Residual: σ².

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    Series
        fixed, the grouping factors by name, Residual; in squared units of the response.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> variance_parts(fit).round(0).to_dict()
    {'fixed': 909.0, 'Subject': 1698.0, 'Residual': 655.0}

    See Also
    --------
    icc, r2
    """
    check_fit("fit", fit)
    fixed = float(np.var(fit.frame.X @ fit.estimate.beta, ddof=1))
    names = [factor.name for factor in fit.frame.factors]
    random = [float(values.mean()) for values in random_variances(fit)]
    values = [fixed, *random, fit.scale]
    return pd.Series(values, ["fixed", *names, "Residual"], name="variance")


def icc(fit: LmerResult) -> pd.Series:
    """Intraclass correlation: the share of the random effects in the variance.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    Series
        adjusted: random / (random + residual); unadjusted: random / (fixed + random +
        residual); as in R's ``performance::icc`` and Nakagawa, Johnson & Schielzeth 2017,
        doi:10.1098/rsif.2017.0213. Parts as in `variance_parts`.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> icc(fit).round(4).to_dict()
    {'adjusted': 0.7217, 'unadjusted': 0.5206}

    See Also
    --------
    r2, variance_parts
    """
    parts = variance_parts(fit)
    random, residual = parts.iloc[1:-1].sum(), parts.iloc[-1]
    shares = {"adjusted": random / (random + residual), "unadjusted": random / parts.sum()}
    return pd.Series(shares, name="icc")


def r2(fit: LmerResult) -> pd.Series:
    """R² of a mixed model: explained by the fixed part, and by fixed and random part together.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    Series
        marginal: fixed / total; conditional: (fixed + random) / total (Nakagawa & Schielzeth
        2013, doi:10.1111/j.2041-210x.2012.00261.x). Parts as in `variance_parts`.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> r2(fit).round(4).to_dict()
    {'marginal': 0.2787, 'conditional': 0.7992}

    See Also
    --------
    icc, variance_parts
    """
    parts = variance_parts(fit)
    shares = {
        "marginal": parts.iloc[0] / parts.sum(),
        "conditional": parts.iloc[:-1].sum() / parts.sum(),
    }
    return pd.Series(shares, name="r2")
