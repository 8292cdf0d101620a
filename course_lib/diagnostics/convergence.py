r"""Whether a search ended at the optimum.

A fit is found by searching the profiled deviance d(θ). Four things are asked of it: that the
gradient has vanished, that the surface is curved upwards in every direction, that θ does not
lie on the boundary of the possible covariance matrices (a *singular* fit), and that other
optimisers end at the same place. All are asked in standard units (see
`course_lib.mixed.scaling`), so that no answer depends on the units of the data.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from course_lib.errors import check_flag
from course_lib.mixed.cross_products import CrossProducts
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
    "all_optimizers",
    "check_convergence",
    "random_effects_pca",
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
    products = fit.standardised.products
    shift = float(fit.standardised.jacobian(fit.reml)[0])  # into the units of the data
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
