r"""Test the assumptions of a fit: residuals on two levels, normality, influence, ICC and R².

One place for the reader; the parts live in `residuals` (tables of residuals and
random effects), `envelope` (what they would look like if the model were true) and
`influence` (leaving out groups).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from course_lib.diagnostics.envelope import (
    binned_means,
    binned_spreads,
    group_slope_spread,
    simulated_envelope,
    sorted_modes,
    sorted_residuals,
)
from course_lib.diagnostics.influence import influence
from course_lib.diagnostics.residuals import (
    random_effects_frame,
    random_variances,
    residual_frame,
)
from course_lib.mixed.compare import check_fit
from course_lib.mixed.result import LmerResult

__all__ = [
    "binned_means",
    "binned_spreads",
    "group_slope_spread",
    "icc",
    "influence",
    "normality_tests",
    "r2",
    "random_effects_frame",
    "residual_frame",
    "simulated_envelope",
    "sorted_modes",
    "sorted_residuals",
    "variance_parts",
]

SHAPIRO_MOST = 5000  # values for which Royston's p-value of Shapiro–Wilk was worked out


def normality_tests(fit: LmerResult) -> pd.DataFrame:
    """Test standardised residuals and standardised modes for normality.

    Read with care. Modes are shrunken towards a normal distribution, so that a test finds too
    little in them; of thousands of residuals a test finds what does not matter. A Q–Q plot with
    a `simulated_envelope` says more.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    DataFrame
        One row for the residuals and one a group and term: n, skewness, excess_kurtosis (both
        0 if normal), shapiro_w and shapiro_p (Shapiro & Wilk 1965, doi:10.2307/2333709; Royston
        1995, doi:10.2307/2986146), k2 and k2_p (D'Agostino & Pearson 1973,
        doi:10.2307/2335012; NaN below 20 values), note. NaN where nothing varies.
    """
    residuals = residual_frame(fit)["resid_std"]
    rows = [_normality("residuals", residuals)]
    effects = random_effects_frame(fit).groupby(["group", "term"], sort=False)
    rows += [_normality(f"{group} {term}", e["mode_std"]) for (group, term), e in effects]
    return pd.DataFrame(rows).set_index("what")


def _normality(what: str, values: pd.Series) -> dict[str, object]:
    x = values.dropna().to_numpy()
    n = len(x)
    row = {"what": what, "n": n, "skewness": np.nan, "excess_kurtosis": np.nan}
    row |= dict.fromkeys(["shapiro_w", "shapiro_p", "k2", "k2_p"], np.nan)
    if n < 3 or np.ptp(x) < 1e-10:
        return row | {"note": "no variation: the estimated variance is zero, or too few values"}
    with warnings.catch_warnings():
        # SciPy warns above 5,000 values; the note says the same.
        warnings.filterwarnings("ignore", message=".*p-value may not be accurate.*")
        row["shapiro_w"], row["shapiro_p"] = (float(v) for v in stats.shapiro(x))
    row["skewness"] = float(stats.skew(x))
    row["excess_kurtosis"] = float(stats.kurtosis(x))
    if n >= 20:
        row["k2"], row["k2_p"] = (float(v) for v in stats.normaltest(x))
    beyond = f"shapiro_p is extrapolated beyond {SHAPIRO_MOST:,} values; k2_p is not"
    return row | {"note": beyond if n > SHAPIRO_MOST else ""}


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
    """
    parts = variance_parts(fit)
    shares = {
        "marginal": parts.iloc[0] / parts.sum(),
        "conditional": parts.iloc[:-1].sum() / parts.sum(),
    }
    return pd.Series(shares, name="r2")
