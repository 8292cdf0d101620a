r"""What a diagnostic would look like if the model were true: statistics and their envelopes.

A *statistic* is a function from a fit to numbers. `simulated_envelope` compares it with what
it is in refits to responses simulated from the fit.

================== =====================================================================
statistic          finds
================== =====================================================================
sorted_residuals   heavy tails, single wild rows (the points of a Q–Q plot)
binned_means       a curve that the fixed part misses
binned_spreads     a variance that changes with the fitted value
group_slope_spread a slope that varies between groups while the model has only one
sorted_modes       groups that do not belong to a normal population
================== =====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from course_lib.diagnostics.residuals import random_effects_frame, standardised
from course_lib.errors import (
    check_count,
    check_finite,
    check_probability,
    check_rng,
    check_type,
    course_error,
)
from course_lib.mixed.result import LmerResult, check_fit

__all__ = [
    "binned_means",
    "binned_spreads",
    "check_up",
    "group_slope_spread",
    "simulated_envelope",
    "sorted_modes",
    "sorted_residuals",
]

NOTHING = 1e-10  # a share below this is rounding


def sorted_residuals(fit: LmerResult) -> np.ndarray:
    """Standardised conditional residuals in increasing order.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    ndarray, shape (nobs,)
        No unit; 0 for a row that the model reproduces whatever its value.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> sorted_residuals(fit).shape
    (180,)

    See Also
    --------
    simulated_envelope
    """
    check_fit("fit", fit)
    return np.sort(np.nan_to_num(standardised(fit)))


def sorted_modes(fit: LmerResult) -> np.ndarray:
    """Random effects in increasing order, standardised, term after term.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    ndarray, shape (number of random effects,)
        ``mode_std`` of `random_effects_frame`, no unit; 0 where the variance is zero.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> sorted_modes(fit).shape
    (36,)

    See Also
    --------
    simulated_envelope
    """
    effects = random_effects_frame(fit).groupby(["group", "term"], sort=False)
    return np.concatenate([np.sort(np.nan_to_num(e["mode_std"])) for _, e in effects])


def _bin_means(fit: LmerResult, n_bins: int, power: int) -> np.ndarray:
    """Mean power of the standardised residuals in bins by the fitted value without modes.

    Fitted values with modes would follow the residuals. Rows with equal values share a bin.
    """
    check_count("n_bins", n_bins, 2)
    check_fit("fit", fit)
    fitted = pd.Series(fit.frame.X @ fit.estimate.beta)
    spread = max(float(fitted.std()), np.sqrt(fit.scale))
    rank = (fitted / spread).round(9).rank(method="average").to_numpy()
    codes = np.minimum((n_bins * (rank - 0.5) / fit.nobs).astype(int), n_bins - 1)
    values = np.nan_to_num(standardised(fit)) ** power
    counts = np.bincount(codes, minlength=n_bins)
    return np.bincount(codes, values, n_bins) / np.maximum(counts, 1)


def binned_means(fit: LmerResult, n_bins: int = 8) -> np.ndarray:
    """Mean standardised residual in bins of equal size along the fixed part's fitted value.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    n_bins : int
        Number of bins.

    Returns
    -------
    ndarray, shape (n_bins,)
        0 for a bin that stays empty because many rows share a fitted value.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`, or `n_bins` no whole number of at least 2.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> binned_means(fit).shape
    (8,)

    See Also
    --------
    simulated_envelope, binned_spreads
    """
    return _bin_means(fit, n_bins, 1)


def binned_spreads(fit: LmerResult, n_bins: int = 5) -> np.ndarray:
    """Root mean square of the standardised residuals in the bins of `binned_means`.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    n_bins : int
        Number of bins.

    Returns
    -------
    ndarray, shape (n_bins,)
        No unit; 0 for an empty bin.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`, or `n_bins` no whole number of at least 2.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> binned_spreads(fit).shape
    (5,)

    See Also
    --------
    simulated_envelope, binned_means
    """
    return np.sqrt(_bin_means(fit, n_bins, 2))


def group_slope_spread(fit: LmerResult) -> np.ndarray:
    r"""How much the slopes of the residuals differ between groups, predictor by predictor.

    .. math:: \sqrt{\frac{1}{J}\sum_j t_j^2}, \qquad t_j =
              \frac{\sum_i (x_{ij} - \bar x_j) r_{ij}}{\sqrt{\sum_i (x_{ij} - \bar x_j)^2}}

    with r the standardised conditional residuals: near or below 1 if all slopes that vary are
    in the model.

    Parameters
    ----------
    fit : LmerResult
        With at least one fixed effect whose column varies within groups.

    Returns
    -------
    ndarray
        One value for every such pair of grouping factor and fixed effect, in their order.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`, or no column of its fixed part varies within groups.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (1 | Subject)", load("sleepstudy"))
    >>> group_slope_spread(fit).shape
    (1,)

    See Also
    --------
    simulated_envelope
    """
    check_fit("fit", fit)
    residuals = np.nan_to_num(standardised(fit))
    spreads = []
    for factor in fit.frame.factors:
        counts = np.bincount(factor.codes)
        for x in fit.standardised.X.T:
            within = x - (np.bincount(factor.codes, x) / counts)[factor.codes]
            size = np.bincount(factor.codes, within**2)
            varies = size > NOTHING * counts
            if varies.any():
                along = np.bincount(factor.codes, within * residuals)[varies]
                spreads.append(np.sqrt(((along / np.sqrt(size[varies])) ** 2).mean()))
    if not spreads:
        rule = "must have a fixed effect whose column varies within groups"
        advice = "Without such a predictor there is no slope that could vary between groups."
        raise course_error("fit", rule, f"'{fit.formula}'", advice)
    return np.array(spreads)


def simulated_envelope(
    fit: LmerResult,
    statistic: Callable[[LmerResult], np.ndarray],
    n_sim: int,
    rng: np.random.Generator,
    alpha: float = 0.05,
) -> pd.DataFrame:
    r"""Compare a statistic of a fit with what it would be if the model were true.

    Responses are simulated from the fit and refitted; the statistic of each refit is computed
    (Atkinson 1985). All of its entries are judged together by the largest distance

    .. math:: T = \max_k |s_k - \bar s_k| / \operatorname{sd}(s_k),

    mean and sd over the n_sim + 1 curves, so that a true model strays outside the simultaneous
    band with probability `alpha` at most, not at some point almost surely (Myllymäki et al.
    2017, doi:10.1111/rssb.12172).

    Parameters
    ----------
    fit : LmerResult
        The fit.
    statistic : callable
        From an `LmerResult` to one number or an array of fixed length, such as
        `sorted_residuals`; see the module docstring.
    n_sim : int
        How many responses to simulate; at least 1/alpha - 1.
    rng : numpy.random.Generator
        Source of randomness.
    alpha : float
        One minus the level of both bands.

    Returns
    -------
    DataFrame
        One row per entry of the statistic: observed, lower, median, upper (pointwise quantiles
        of the simulated ones), lower_all, upper_all (simultaneous band), outside (whether
        observed leaves it). ``attrs["pvalue"]`` is the share of the n_sim + 1 values of T that
        are at least the observed one.

    Raises
    ------
    CourseError
        If an argument is of the wrong kind, or the statistic is not finite or changes length.

    Examples
    --------
    >>> import numpy as np
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> band = simulated_envelope(fit, sorted_modes, n_sim=39, rng=np.random.default_rng(1))
    >>> list(band.columns[:4])
    ['observed', 'lower', 'median', 'upper']

    See Also
    --------
    check_up : Several statistics at once.
    course_lib.plots.envelope_plot : Draw it.
    sorted_residuals, sorted_modes, binned_means, binned_spreads, group_slope_spread
    """
    check_fit("fit", fit)
    if not callable(statistic):
        rule = "must be a function from a fit to numbers"
        advice = "Pass course_lib.diagnostics.sorted_residuals, without brackets."
        raise course_error("statistic", rule, repr(statistic), advice)
    alpha = check_probability("alpha", alpha)
    check_count("n_sim", n_sim, int(np.ceil(1 / alpha - 1e-9)) - 1)
    check_rng("rng", rng)
    observed = _statistic(statistic, fit)
    simulated = np.array(
        [
            _statistic(statistic, refitted, len(observed))
            for refitted in fit.refits(fit.simulate(n_sim, rng))
        ]
    )
    curves = np.vstack([observed, simulated])
    centre, sd = curves.mean(axis=0), curves.std(axis=0)
    sd[sd <= NOTHING * np.abs(curves).max()] = np.inf  # an entry that never varies
    distance = (np.abs(curves - centre) / sd).max(axis=1)
    largest = np.sort(distance)[::-1][int(alpha * (n_sim + 1) + 1e-9)]
    reach = largest * np.where(np.isinf(sd), 0.0, sd)
    lower, median, upper = np.quantile(simulated, [alpha / 2, 0.5, 1 - alpha / 2], axis=0)
    table = pd.DataFrame(
        {
            "observed": observed,
            "lower": lower,
            "median": median,
            "upper": upper,
            "lower_all": centre - reach,
            "upper_all": centre + reach,
            "outside": np.abs(observed - centre) / sd > largest,
        }
    )
    table.attrs["pvalue"] = float((distance >= distance[0]).mean())
    return table


def check_up(
    fit: LmerResult,
    questions: Mapping[str, Callable[[LmerResult], np.ndarray]],
    n_sim: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Ask a fit several questions, each by a statistic and its 95 % band.

    With seven bands a true model leaves at least one of them far more often than in one study
    of twenty.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    questions : dict
        From a question to its statistic, as for `simulated_envelope`.
    n_sim : int
        How many responses to simulate for each; at least 19.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DataFrame
        One row per question: outside (values outside the simultaneous band), of (values in
        all), p (share of the n_sim + 1 curves that are as far from the average curve).

    Raises
    ------
    CourseError
        If `questions` is no dict, and as `simulated_envelope`.

    Examples
    --------
    >>> import numpy as np
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> questions = {"people outside?": sorted_modes}
    >>> check_up(fit, questions, 19, np.random.default_rng(1))["of"].tolist()
    [36]

    See Also
    --------
    simulated_envelope : One question, with its band.
    """
    advice = 'Write {"tails?": sorted_residuals}, for example.'
    check_type("questions", questions, Mapping, "must be a dict of statistics", advice)
    bands = {name: simulated_envelope(fit, s, n_sim, rng) for name, s in questions.items()}
    found = {
        name: (int(band["outside"].sum()), len(band), band.attrs["pvalue"])
        for name, band in bands.items()
    }
    return pd.DataFrame.from_dict(found, "index", columns=["outside", "of", "p"])


def _statistic(
    statistic: Callable[[LmerResult], np.ndarray], fit: LmerResult, length: int | None = None
) -> np.ndarray:
    """Return the statistic as a vector, or raise if it is not one of finite numbers."""
    values = check_finite("statistic", statistic(fit))
    if values.ndim > 1 or values.size == 0 or (length or values.size) != values.size:
        rule = "must return one number or a vector of the same length for every fit"
        got = f"shape {values.shape}" + (f" after length {length}" if length else "")
        advice = "Summarise the rows or groups in a fixed number of values."
        raise course_error("statistic", rule, got, advice)
    return values.reshape(-1)
