r"""Residuals that remember: a mixed model whose residuals are AR(1) within each group.

With R the correlation of the residuals of one group, :math:`R_{ij} = \varphi^{|t_i - t_j|}`,
subtracting from each row φ^d times the row before it, d steps ago, leaves independent noise:

.. math:: y^*_i = \frac{y_i - \varphi^d\, y_{i-1}}{\sqrt{1 - \varphi^{2d}}}, \qquad
          -2\ell(\varphi) = -2\ell^*(\varphi) + \sum_i \log(1 - \varphi^{2d_i})

where ℓ* is the log-likelihood of an ordinary mixed model for y*, X*, Z*, and the first row of
a group stays as it is. So one search over φ around the course's own engine is enough (Pinheiro
& Bates 2000, doi:10.1007/b98882, section 5.3).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from course_lib.errors import check_finite, course_error
from course_lib.mixed import inference, search
from course_lib.mixed.cross_products import FactorArrays
from course_lib.mixed.design import ModelFrame
from course_lib.mixed.result import LmerResult, check_fit
from course_lib.mixed.scaling import Standardised, standardise

__all__ = ["Ar1Fit", "fit_ar1"]

_LIMIT = 0.995  # of |φ|: beyond it AR(1) cannot be told from a random intercept
_GRID = np.linspace(-_LIMIT, _LIMIT, 11)


@dataclass(frozen=True, eq=False)
class Ar1Fit:
    """A mixed model with AR(1) residuals within groups, beside the one without.

    Attributes
    ----------
    phi : float
        Correlation of two residuals of one group that are one step apart; a step is the
        smallest distance in time in the data.
    interval : tuple of float
        Where the likelihood-ratio test at 5 % does not reject φ; ±1 where it never does.
    deviance : float
        ML deviance or REML criterion, as of the fit that was given.
    lr, p_value : float
        Likelihood-ratio test of φ = 0: statistic and p value from χ² with one degree of
        freedom.
    table : DataFrame
        One row per parameter; columns independent, independent_se, ar1, ar1_se. Standard
        errors belong to the fixed effects.
    residuals : Series
        What is left after the memory is subtracted, with the index of the rows of the fit.
    is_singular, converged : bool
        As in `LmerResult`.
    profile : callable
        The criterion at the best other parameters for a given φ.
    """

    phi: float
    deviance: float
    lr: float
    p_value: float
    table: pd.DataFrame = field(repr=False)
    residuals: pd.Series = field(repr=False)
    is_singular: bool
    converged: bool
    profile: _Profile = field(repr=False)

    @functools.cached_property
    def interval(self) -> tuple[float, float]:
        """Both ends, found when they are first asked for: half of the time of a fit."""
        from scipy.special import chdtri

        limit = self.deviance + chdtri(1, 0.05)
        return _interval(self.profile, self.phi, limit, self.profile.steps.whole)


@dataclass(frozen=True)
class _Profile:
    """The criterion at the best other parameters for each φ."""

    frame: ModelFrame
    steps: _Steps
    reml: bool

    def __call__(self, phi: float) -> float:
        return float(self.fits(phi)[1].deviance + self.steps.log_det(phi))

    def fits(self, phi: float) -> tuple[Standardised, search.Estimate]:
        standardised = _whitened(self.frame, self.steps, phi)
        return standardised, search.estimate(standardised, self.reml)


@dataclass(frozen=True)
class _Steps:
    """Rows in the order of group and time, and how far each is from the row before it.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
    distance : ndarray, shape (n,)
        In steps; inf for the first row of a group.
    whole : bool
        Whether all distances are whole numbers, so that φ may be negative.
    """

    order: np.ndarray
    distance: np.ndarray
    whole: bool

    def whiten(self, values: np.ndarray, phi: float) -> np.ndarray:
        """Subtract the memory from every column, rows in the order of the data."""
        ordered = values[self.order]
        power, divisor = self._power(phi)
        shape = (-1,) + (1,) * (values.ndim - 1)
        before = np.roll(ordered, 1, axis=0)
        white = np.empty_like(ordered)
        white[self.order] = (ordered - power.reshape(shape) * before) / divisor.reshape(shape)
        return white

    def log_det(self, phi: float) -> float:
        """Return log |R| of all groups."""
        return float(2 * np.log(self._power(phi)[1]).sum())

    def _power(self, phi: float) -> tuple[np.ndarray, np.ndarray]:
        power = np.zeros(len(self.distance))
        later = np.isfinite(self.distance)
        power[later] = np.power(phi, self.distance[later])
        return power, np.sqrt(1 - power**2)


def fit_ar1(fit: LmerResult, time: object) -> Ar1Fit:
    """Fit the same model with residuals that remember the row before.

    Parameters
    ----------
    fit : LmerResult
        A fit with one grouping factor. Its criterion, ML or REML, is kept.
    time : array_like, shape (nobs,)
        When each row used in the fit was measured, a number. A Series is matched by its index
        where that is possible, so a column of the data may be given as it is.

    Returns
    -------
    Ar1Fit

    Raises
    ------
    CourseError
        If there are several grouping factors, no group has two rows, or a group has two rows
        at one time.

    Notes
    -----
    Where distances are whole multiples of the smallest one, φ lies in (-1, 1); otherwise time
    is continuous and φ lies in [0, 1), where half of the χ² tail is closer to the truth.

    Examples
    --------
    >>> from course_lib import fit_ar1, lmer, load
    >>> sleep = load("sleepstudy")
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    >>> memory = fit_ar1(fit, sleep["Days"])
    >>> round(memory.phi, 2), round(memory.lr, 1)
    (0.49, 19.5)

    See Also
    --------
    lmer : The model without memory.
    course_lib.diagnostics.residual_frame : The residuals in which one sees it.
    """
    frame = check_fit("fit", fit).frame
    if len(frame.factors) != 1:
        rule = "must have one grouping factor"
        names = ", ".join(factor.name for factor in frame.factors)
        advice = "R's nlme fits nested ones: lme(…, correlation = corAR1())."
        raise course_error("fit", rule, names, advice)
    steps = _steps(frame, _times(time, fit))
    profile = _Profile(frame, steps, fit.reml)
    phi = _minimum(profile, steps.whole)
    standardised, estimate = profile.fits(phi)
    deviance = float(estimate.deviance + steps.log_det(phi))
    if not estimate.optimum.converged:
        warnings.warn(
            "fit_ar1: the search stopped before the gradient vanished; do not trust this fit.",
            stacklevel=2,
        )
    if abs(phi) > _LIMIT - 1e-3:
        warnings.warn(
            f"fit_ar1: φ runs to its end ({phi:.3f}): the groups wander and do not come back, "
            "and their variance cannot be told from that of the intercepts. Look at the "
            "curves, or add a predictor of time.",
            stacklevel=2,
        )
    from scipy.special import chdtrc  # tail of χ²; scipy.stats is slow to import

    lr = max(fit.deviance - deviance, 0.0)
    return Ar1Fit(
        phi=phi,
        deviance=deviance,
        lr=lr,
        p_value=float(chdtrc(1, lr)),
        table=_table(fit, standardised, estimate, phi),
        residuals=_residuals(frame, steps, phi, estimate),
        is_singular=estimate.is_singular,
        converged=estimate.optimum.converged,
        profile=profile,
    )


def _times(time: object, fit: LmerResult) -> np.ndarray:
    """Return one finite time per row used."""
    index = fit.frame.index
    if isinstance(time, pd.Series) and time.index.is_unique and index.isin(time.index).all():
        time = time.loc[index]
    values = check_finite("time", time)
    if values.shape != (fit.nobs,):
        rule = f"must have one value per row used in the fit ({fit.nobs})"
        advice = "Give the column: fit_ar1(fit, data['Days'])."
        raise course_error("time", rule, f"shape {values.shape}", advice)
    return values


def _steps(frame: ModelFrame, times: np.ndarray) -> _Steps:
    codes = frame.factors[0].codes
    order = np.lexsort((times, codes))
    same_group = np.diff(codes[order]) == 0
    distance = np.full(len(times), np.inf)
    distance[1:][same_group] = np.diff(times[order])[same_group]
    advice = "AR(1) needs groups that were measured at several times, once at each."
    if not same_group.any():
        rule = "must belong to groups with at least two rows"
        raise course_error("time", rule, "one row per group", advice)
    if not distance.min() > 0:
        row = order[int(np.argmin(distance))]
        rule = "must not repeat within a group"
        got = f"{times[row]:g} twice in group {frame.factors[0].keys[codes[row]]!r}"
        raise course_error("time", rule, got, advice)
    distance /= distance.min()
    finite = distance[np.isfinite(distance)]
    whole = bool(np.all(np.abs(finite - np.rint(finite)) < 1e-6))
    return _Steps(order, np.rint(distance) if whole else distance, whole)


def _whitened(frame: ModelFrame, steps: _Steps, phi: float) -> Standardised:
    factor = frame.factors[0]
    columns = steps.whiten(factor.columns, phi)
    arrays = FactorArrays(factor.codes, len(factor.keys), columns, factor.mask)
    return standardise(steps.whiten(frame.X, phi), steps.whiten(frame.y, phi), (arrays,))


def _minimum(at: Callable[[float], float], whole: bool) -> float:
    """Return the best φ: of a grid first, because there can be two valleys."""
    from scipy.optimize import minimize_scalar

    grid = _GRID if whole else _GRID[_GRID >= 0]
    best = int(np.argmin([at(phi) for phi in grid]))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(minimize_scalar(at, bounds=ends, method="bounded", options={"xatol": 1e-7}).x)


def _interval(
    at: Callable[[float], float], phi: float, limit: float, whole: bool
) -> tuple[float, float]:
    """Return where the criterion has risen to `limit` on either side of φ."""
    from scipy.optimize import brentq

    ends = []
    for bound, beyond in ((-_LIMIT if whole else 0.0, -1.0 if whole else 0.0), (_LIMIT, 1.0)):
        if at(bound) <= limit:
            ends.append(beyond)
        else:
            between = sorted((phi, bound))
            ends.append(float(brentq(lambda p: at(p) - limit, *between, xtol=1e-6)))
    return ends[0], ends[1]


def _table(
    fit: LmerResult, standardised: Standardised, estimate: search.Estimate, phi: float
) -> pd.DataFrame:
    names = inference.parameter_names(fit.frame, standardised)
    columns = {}
    for name, arrays, found in (
        ("independent", fit.standardised, fit.estimate),
        ("ar1", standardised, estimate),
    ):
        theta = found.optimum.theta[None]
        columns[name] = search.parameter_vector(theta, arrays, fit.reml)[0]
        errors = np.full(len(names), np.nan)
        errors[len(names) - len(found.beta) :] = np.sqrt(found.cov_beta.diagonal())
        columns[f"{name}_se"] = errors
    table = pd.DataFrame(columns, names)
    fixed = list(fit.frame.fixed_names)
    table = table.loc[[*fixed, *names[: len(names) - len(fixed)]]]
    table.loc["phi"] = [0.0, np.nan, phi, np.nan]
    return table


def _residuals(
    frame: ModelFrame, steps: _Steps, phi: float, estimate: search.Estimate
) -> pd.Series:
    factor = frame.factors[0]
    fitted = frame.X @ estimate.beta
    fitted += np.einsum("nq,nq->n", factor.columns, estimate.modes[0][factor.codes])
    return pd.Series(steps.whiten(frame.y - fitted, phi), frame.index, name="residuals")
