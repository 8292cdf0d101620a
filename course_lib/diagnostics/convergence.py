r"""Whether a search ended at the optimum, and whether it would have without standard units.

A fit is found by searching the profiled deviance d(θ). Four things are asked of it: that the
gradient has vanished, that the surface is curved upwards in every direction, that θ does not
lie on the boundary of the possible covariance matrices (a *singular* fit), and that other
optimisers end at the same place. All are asked in standard units (see
`course_lib.mixed.scaling`), so that no answer depends on the units of the data.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from course_lib.errors import (
    check_finite,
    check_flag,
    course_error,
)
from course_lib.mixed.cross_products import CrossProducts, FactorArrays, cross_products
from course_lib.mixed.deviance import (
    deviance_and_gradient,
    diagonal,
    evaluate,
    lambda_matrices,
    pack,
    solve,
)
from course_lib.mixed.result import LmerResult, check_fit, lmer
from course_lib.mixed.search import SINGULAR

__all__ = [
    "ScaleReport",
    "all_optimizers",
    "check_convergence",
    "deviance_at",
    "optimizer_trace",
    "random_effects_pca",
    "scale_report",
]

GRADIENT = 2e-3  # lme4's check.conv.grad
FLAT = 1e-6  # smallest over largest curvature; differences of gradients are good to 1e-8
STEP = 1e-4  # for differences of exact gradients
# All searches minimise the deviance per group: their tolerances mean the same for all sizes.
LBFGS = {"ftol": 1e-15, "gtol": 1e-6, "maxiter": 500}
# name: (needs the gradient, options). Tight, so that they are compared by where they end.
OPTIMIZERS = {
    "L-BFGS-B": (True, LBFGS),
    "BFGS": (True, {"gtol": 1e-6}),
    "CG": (True, {"gtol": 1e-6}),
    "TNC": (True, {"ftol": 1e-15, "gtol": 1e-7, "maxfun": 2000}),
    "Nelder-Mead": (False, {"xatol": 1e-6, "fatol": 1e-10, "maxfev": 5000, "maxiter": 5000}),
    "Powell": (False, {"xtol": 1e-6, "ftol": 1e-12}),
}


def check_convergence(fit: LmerResult) -> pd.DataFrame:
    r"""Ask a fit four questions about its optimum.

    ================== ==================================================================
    check              value
    ================== ==================================================================
    scaled_gradient    largest entry of H^(-1/2) ∇d, H the Hessian; half of its square is what
                       the deviance could still fall in that direction (as lme4's
                       ``check.conv.grad``); passed below 0.002
    hessian            smallest eigenvalue of H over its largest; passed above 1e-6
    relative_theta     smallest relative standard deviation, the diagonal of Λ in standard
                       units (lme4's ``isSingular``); passed above 1e-4
    pca: *group*       standard deviation of the last principal component of the group's
                       random effects over that of the first; passed above 1e-4
    ================== ==================================================================

    A fit that fails only in the last two is *singular*: the search did reach the optimum, and
    the optimum has a variance of zero or a correlation of ±1.

    Parameters
    ----------
    fit : LmerResult
        The fit.

    Returns
    -------
    DataFrame
        One row per check: value, threshold, verdict ("passed" or "failed"), advice.

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> check_convergence(fit)["verdict"].tolist()
    ['passed', 'passed', 'passed', 'passed']

    See Also
    --------
    all_optimizers : Whether other optimisers end at the same place.
    """
    check_fit("fit", fit)
    products, theta = fit.standardised.products, fit.estimate.optimum.theta
    gradient = deviance_and_gradient(theta, products, fit.reml)[1]
    curvatures, directions = np.linalg.eigh(_hessian(theta, products, fit.reml))
    along = directions.T @ gradient
    # A flat direction has no scale; its gradient counts as it stands, as in lme4.
    flat = curvatures <= FLAT * curvatures.max()
    steps = along / np.where(flat, 1.0, np.sqrt(np.abs(curvatures)))
    standard = lambda_matrices(theta, products.masks)
    smallest_theta = min(lam.diagonal().min() for lam in standard)
    largest_step = np.abs(directions @ steps).max()
    flattest = curvatures.min() / np.abs(curvatures).max()
    rows = [
        _check("scaled_gradient", largest_step, GRADIENT, largest_step < GRADIENT, _SEARCH),
        _check("hessian", flattest, FLAT, flattest > FLAT, _FLAT),
        _check(
            "relative_theta", smallest_theta, SINGULAR, smallest_theta > SINGULAR, _SINGULAR
        ),
    ]
    for factor, lam in zip(fit.frame.factors, standard, strict=True):
        sd = np.linalg.svd(lam, compute_uv=False)
        ratio = sd[-1] / sd[0] if sd[0] > 0 else 0.0
        rows.append(_check(f"pca: {factor.name}", ratio, SINGULAR, ratio > SINGULAR, _FEWER))
    return pd.DataFrame(rows).set_index("check")


def _check(
    check: str, value: float, threshold: float, passed: bool, advice: str
) -> dict[str, object]:
    """One row of `check_convergence`; advice stands only where the check failed."""
    return {
        "check": check,
        "value": value,
        "threshold": threshold,
        "verdict": "passed" if passed else "failed",
        "advice": "" if passed else advice,
    }


_SEARCH = "The search stopped early: try all_optimizers, or a simpler random part."
_FLAT = (
    "The deviance is flat in some direction: the data do not tell these parameters apart. "
    "Look at relative_theta and pca; drop a random term."
)
_SINGULAR = (
    "A variance is zero or a correlation is ±1: the optimum, but on the boundary. Keep it and "
    "say so, drop the term, use ||, or test it with lr_test(method='boundary')."
)
_FEWER = (
    "The random effects vary in fewer directions than the formula has terms: see "
    "random_effects_pca, and drop a term or use ||."
)


def _hessian(theta: np.ndarray, products: CrossProducts, reml: bool) -> np.ndarray:
    """Hessian of the profiled deviance, by central differences of its exact gradient."""
    steps = STEP * np.eye(len(theta))
    found = evaluate(np.concatenate([theta + steps, theta - steps]), products, reml)
    above, below = np.split(pack(found.slopes, products.masks), 2)
    hessian = (above - below) / (2 * STEP)
    return (hessian + hessian.T) / 2


def random_effects_pca(fit: LmerResult, scaled: bool = True) -> pd.DataFrame:
    r"""Principal components of the random effects of each grouping factor.

    Scaled, they are those of Λ in standard units. Their squares are the eigenvalues of
    ΛΛ'Z'Z/n, and add up to the random-effects variance of an average row over σ². Not scaled,
    they are those of Λ in the units of the data: lme4's ``rePCA``, which changes with the units
    and the origin of a predictor.

    Parameters
    ----------
    fit : LmerResult
        The fit.
    scaled : bool
        In standard units.

    Returns
    -------
    DataFrame
        One row per component: group, component (1, 2, …), sd (over σ), share of the group's
        variance (NaN where that is zero).

    Raises
    ------
    CourseError
        If `fit` is not an `LmerResult`, or `scaled` neither True nor False.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> random_effects_pca(fit)["share"].round(2).tolist()
    [0.93, 0.07]

    See Also
    --------
    check_convergence : Whether the fit is singular.
    """
    check_fit("fit", fit)
    check_flag("scaled", scaled)
    theta = fit.estimate.optimum.theta
    standard = lambda_matrices(theta, fit.standardised.products.masks)
    roots = standard if scaled else fit.standardised.relative_factors(theta)
    parts = []
    for factor, root in zip(fit.frame.factors, roots, strict=True):
        sd = np.linalg.svd(root, compute_uv=False)
        total = (sd**2).sum()
        share = sd**2 / total if total > 0 else np.full(len(sd), np.nan)
        columns = {"group": factor.name, "component": np.arange(1, len(sd) + 1)}
        parts.append(pd.DataFrame({**columns, "sd": sd, "share": share}))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False)
class ScaleReport:
    """How well scaled a model is, as given and in the units of the search.

    Attributes
    ----------
    columns : DataFrame
        One row per column of the fixed part and of each grouping factor: part, column, mean,
        sd, offset (|mean| / sd; NaN for a constant column).
    conditions : DataFrame
        One row per part: condition (largest over smallest singular value of its columns; digits
        are lost when its square nears 1e16) and condition_scaled, after the internal scaling.
    """

    columns: pd.DataFrame
    conditions: pd.DataFrame


def scale_report(formula: str, data: pd.DataFrame) -> ScaleReport:
    """Report spread and offset of each column, and condition numbers before and after scaling.

    Parameters
    ----------
    formula : str
        As for `course_lib.mixed.result.lmer`.
    data : DataFrame
        One row per observation.

    Returns
    -------
    ScaleReport

    Raises
    ------
    CourseError
        As `lmer` does, for a model that cannot be fitted.

    Examples
    --------
    >>> from course_lib import load
    >>> report = scale_report("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> list(report.conditions.index)
    ['fixed', 'Subject']

    See Also
    --------
    check_convergence : Whether the search ended at the optimum.
    """
    fit = lmer(formula, data)
    frame, standardised = fit.frame, fit.standardised
    parts = [("fixed", frame.fixed_names, frame.X, standardised.X)] if frame.X.size else []
    for factor, scaled in zip(frame.factors, standardised.factors, strict=True):
        parts.append((factor.name, factor.terms, factor.columns, scaled.columns))
    columns, conditions = [], []
    for part, names, before, after in parts:
        mean, sd = before.mean(axis=0), before.std(axis=0)
        sd[np.ptp(before, axis=0) == 0] = 0.0
        with np.errstate(divide="ignore"):
            offset = np.where(sd > 0, np.abs(mean) / sd, np.nan)
        table = {"part": part, "column": names, "mean": mean, "sd": sd, "offset": offset}
        columns.append(pd.DataFrame(table))
        conditions.append((part, np.linalg.cond(before), np.linalg.cond(after)))
    names = ["part", "condition", "condition_scaled"]
    return ScaleReport(
        columns=pd.concat(columns, ignore_index=True),
        conditions=pd.DataFrame(conditions, columns=names).set_index("part"),
    )


def optimizer_trace(
    formula: str, data: pd.DataFrame, scaled: bool = True, reml: bool = True
) -> pd.DataFrame:
    """Follow the search for θ, evaluation by evaluation.

    The search is L-BFGS with the exact gradient from Λ = I, plainer than that of `lmer`, which
    begins with Fisher scoring and ends at the same place. With ``scaled=False`` it works on the
    columns as they stand in the data, which `lmer` never does; where such a search ends on
    badly scaled data depends on rounding, and so on the machine.

    Parameters
    ----------
    formula : str
        As for `course_lib.mixed.result.lmer`.
    data : DataFrame
        One row per observation.
    scaled : bool
        In standard units.
    reml : bool
        REML criterion instead of the ML deviance.

    Returns
    -------
    DataFrame
        One row per evaluation: deviance (in the units of the data), excess (over the optimum
        that `lmer` finds), gradient_norm (with respect to the θ that is searched), then that θ
        entry by entry. An evaluation that breaks down (a matrix no longer positive definite in
        floating point) is the last row, with NaN. ``attrs["ending"]`` says how the search
        ended.

    Raises
    ------
    CourseError
        As `lmer` does, for a model that cannot be fitted; if `scaled` is neither True nor
        False.

    Examples
    --------
    >>> from course_lib import load
    >>> trace = optimizer_trace("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> bool(abs(trace["excess"].iloc[-1]) < 1e-6)
    True

    See Also
    --------
    deviance_at : The surface that it walks on.
    """
    check_flag("scaled", scaled)
    fit = lmer(formula, data, reml)
    products, shift = _problem(fit, scaled)
    start, evaluations = diagonal(products.masks).astype(float), []

    def objective(theta):
        evaluations.append([np.nan, np.nan, np.nan, *theta])
        deviance, gradient = deviance_and_gradient(theta, products, fit.reml)
        if np.isnan(deviance):
            raise np.linalg.LinAlgError("Matrix is not positive definite")
        excess = deviance + shift - fit.deviance
        evaluations[-1][:3] = deviance + shift, excess, np.linalg.norm(gradient)
        size = max(products.n_levels)
        return deviance / size, gradient / size

    try:
        # What overflows on the way down is part of what is shown.
        with np.errstate(all="ignore"):
            found = minimize(objective, start, jac=True, method="L-BFGS-B", options=LBFGS)
        ending = str(found.message)
    except np.linalg.LinAlgError as error:
        ending = f"broke down: {error}"
    names = [f"theta{k}" for k in range(products.n_theta)]
    trace = pd.DataFrame(evaluations, columns=["deviance", "excess", "gradient_norm", *names])
    trace.index = pd.RangeIndex(1, len(trace) + 1, name="evaluation")
    trace.attrs["ending"] = ending
    return trace


def deviance_at(
    formula: str, data: pd.DataFrame, theta: object, scaled: bool = True, reml: bool = True
) -> np.ndarray:
    """Evaluate the deviance at given θ, to draw the surface that `optimizer_trace` walks on.

    Parameters
    ----------
    formula : str
        As for `course_lib.mixed.result.lmer`.
    data : DataFrame
        One row per observation.
    theta : array_like, shape (..., n_theta)
        Free entries of Λ, column by column, in standard units or (``scaled=False``) in those of
        the data.
    scaled : bool
        In standard units.
    reml : bool
        REML criterion instead of the ML deviance.

    Returns
    -------
    ndarray, shape (...)
        In the units of the data; NaN where the evaluation breaks down in floating point.

    Raises
    ------
    CourseError
        As `lmer` does, for a model that cannot be fitted; if `theta` is not finite or
        its last axis has not one entry per free entry of Λ.

    Examples
    --------
    >>> from course_lib import load
    >>> formula = "Reaction ~ Days + (1 | Subject)"
    >>> deviance_at(formula, load("sleepstudy"), [[0.0], [1.0]]).round(1).tolist()
    [1893.7, 1787.4]

    See Also
    --------
    optimizer_trace : The walk on this surface.
    """
    check_flag("scaled", scaled)
    theta = check_finite("theta", theta)
    fit = lmer(formula, data, reml)
    products, shift = _problem(fit, scaled)
    if theta.shape[-1:] != (products.n_theta,):
        rule = f"must have the {products.n_theta} free entries of Λ along its last axis"
        advice = "Stack a grid with numpy.stack([...], axis=-1)."
        raise course_error("theta", rule, f"shape {theta.shape}", advice)
    deviances = np.full(theta.shape[:-1], np.nan)
    for place in np.ndindex(deviances.shape):
        with contextlib.suppress(np.linalg.LinAlgError), np.errstate(all="ignore"):
            deviances[place] = shift + deviance_and_gradient(theta[place], products, reml)[0]
    return deviances


def _problem(fit: LmerResult, scaled: bool) -> tuple[CrossProducts, float]:
    """Cross-products in standard or in raw units, and what turns d into units of the data."""
    if scaled:
        return fit.standardised.products, float(fit.standardised.jacobian(fit.reml)[0])
    factors = tuple(
        FactorArrays(factor.codes, len(factor.keys), factor.columns, factor.mask)
        for factor in fit.frame.factors
    )
    return cross_products(fit.frame.X, fit.frame.y, factors), 0.0


def all_optimizers(formula: str, data: pd.DataFrame, reml: bool = True) -> pd.DataFrame:
    """Fit by several SciPy optimisers, all from Λ = I in standard units; lme4's ``allFit``.

    Parameters
    ----------
    formula : str
        As for `course_lib.mixed.result.lmer`.
    data : DataFrame
        One row per observation.
    reml : bool
        REML criterion instead of the ML deviance.

    Returns
    -------
    DataFrame
        One row per optimiser: deviance (where it ended), above_best (over the lowest of them),
        n_evaluations, gradient_norm (where it ended), converged (its own word), then the fixed
        effects there, in the units of the data.

    Raises
    ------
    CourseError
        As `lmer` does, for a model that cannot be fitted.

    Examples
    --------
    >>> from course_lib import load
    >>> ends = all_optimizers("Reaction ~ Days + (1 | Subject)", load("sleepstudy"))
    >>> bool((ends["above_best"] < 1e-4).all())
    True

    See Also
    --------
    check_convergence : Four questions about the optimum.
    """
    fit = lmer(formula, data, reml)
    products, shift = _problem(fit, True)
    rows = []
    for name in OPTIMIZERS:
        found = _search(name, products, fit.reml)
        deviance, gradient = deviance_and_gradient(found.x, products, fit.reml)
        beta = solve(found.x[None], products, fit.reml, random=False).beta
        effects = fit.standardised.beta(beta)[0]
        size = float(np.linalg.norm(gradient))
        rows.append([deviance + shift, found.nfev, size, bool(found.success), *effects])
    columns = ["deviance", "n_evaluations", "gradient_norm", "converged"]
    index = pd.Index(list(OPTIMIZERS), name="optimizer")
    table = pd.DataFrame(rows, index, [*columns, *fit.frame.fixed_names])
    table.insert(1, "above_best", table["deviance"] - table["deviance"].min())
    return table


def _search(name: str, products: CrossProducts, reml: bool):
    """Minimise the deviance per group with one of `OPTIMIZERS`."""
    with_gradient, options = OPTIMIZERS[name]
    size = max(products.n_levels)

    def objective(theta):
        deviance, gradient = deviance_and_gradient(theta, products, reml)
        return (deviance / size, gradient / size) if with_gradient else deviance / size

    start = diagonal(products.masks).astype(float)
    jac = True if with_gradient else None
    return minimize(objective, start, jac=jac, method=name, options=options)
