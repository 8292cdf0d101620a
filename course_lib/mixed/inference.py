r"""Inference on a fitted deviance: Satterthwaite df, profile intervals, parametric bootstrap.

The upper half works on arrays in standard units (see `search`) and returns arrays; the lower
half puts them into labelled tables. The variance parameters are ψ = (θ, log σ), and

.. math:: d(\psi) = d(\theta, \sigma) = \text{logdet}(\theta) + 2\nu\log\sigma
          + r^2(\theta)/\sigma^2 + \text{const}
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_count,
    check_probability,
    check_rng,
    listing,
)
from course_lib.mixed import search
from course_lib.mixed.bootstrap import refit_all
from course_lib.mixed.cross_products import CrossProducts, recombine
from course_lib.mixed.design import ModelFrame
from course_lib.mixed.deviance import evaluate, lambda_matrices, pack, solve
from course_lib.mixed.prediction import response_sampler
from course_lib.mixed.scaling import Standardised, places, sd_cor
from course_lib.mixed.search import Estimate, minimise_deviance, parameter_vector

REACH = 60  # standard errors: farther than any end of an interval
STEP = 1e-4  # for differences of exact gradients: error about STEP² relative


def _deviance(psi: np.ndarray, products: CrossProducts, reml: bool) -> tuple[np.ndarray, ...]:
    """d(ψ), shape (S,), and its gradient, (S, k), at ψ of shape (S, k)."""
    sigma = np.exp(psi[:, -1])
    found = evaluate(psi[:, :-1], products, reml, sigma)
    nu = products.n - products.p if reml else products.n
    by_log_sigma = 2 * nu - 2 * found.r2 / sigma**2
    slopes = pack(found.slopes, products.masks)
    return found.deviance, np.column_stack([slopes, by_log_sigma])


def _psi(theta: np.ndarray, products: CrossProducts, reml: bool) -> np.ndarray:
    sigma = solve(theta[None], products, reml, random=False).sigma
    return np.append(theta, np.log(sigma))


def _slopes(function: Callable, psi: np.ndarray) -> np.ndarray:
    """Central differences of `function` at ψ, one row per parameter; all points at once."""
    steps = STEP * np.eye(len(psi))
    values = function(np.concatenate([psi + steps, psi - steps]))
    return (values[: len(psi)] - values[len(psi) :]) / (2 * STEP)


def deviance_hessian(psi: np.ndarray, products: CrossProducts, reml: bool) -> np.ndarray:
    """Hessian of d(ψ), by central differences of the exact gradient.

    Parameters
    ----------
    psi : ndarray, shape (k,)
        θ in standard units and log σ.
    products : CrossProducts
        The data.
    reml : bool
        REML criterion instead of the ML deviance.

    Returns
    -------
    ndarray, shape (k, k)
    """
    hessian = _slopes(lambda psi: _deviance(psi, products, reml)[1], psi)
    return (hessian + hessian.T) / 2


def satterthwaite_df(
    contrasts: np.ndarray, standardised: Standardised, theta: np.ndarray, reml: bool
) -> np.ndarray:
    r"""Satterthwaite degrees of freedom of linear combinations of the fixed effects.

    .. math:: \text{df} = \frac{2 (c'Vc)^2}{g' A g}, \quad
              g = \frac{\partial c'V(\psi)c}{\partial\psi}, \quad A = 2 H^{-1}

    with V the covariance of β and H the Hessian of d(ψ) at the estimate (Kuznetsova, Brockhoff
    & Christensen 2017, doi:10.18637/jss.v082.i13). Directions in which H is not positive (flat,
    as in a singular fit) are left out, as lmerTest does.

    Parameters
    ----------
    contrasts : ndarray, shape (k, p)
        One combination per row, in original units.
    standardised : Standardised
        The data.
    theta : ndarray
        θ at the estimate, standard units.
    reml : bool
        Which criterion was minimised.

    Returns
    -------
    ndarray, shape (k,)
    """
    products = standardised.products
    psi = _psi(theta, products, reml)
    standard = np.linalg.solve(standardised.x_root.T, np.asarray(contrasts, dtype=float).T).T

    def variances(psi):
        unscaled = solve(psi[:, :-1], products, reml, random=False).unscaled_cov_beta
        values = np.einsum("ki,sij,kj->sk", standard, unscaled, standard)
        return np.exp(2 * psi[:, -1:]) * values

    values, vectors = np.linalg.eigh(deviance_hessian(psi, products, reml))
    positive = values > 1e-8 * values.max()
    along = (vectors[:, positive].T @ _slopes(variances, psi)) ** 2
    return 2 * variances(psi[None])[0] ** 2 / (2 * along / values[positive, None]).sum(axis=0)


def _variance_parameter(
    psi: np.ndarray, place: tuple[int, int, int], standardised: Standardised
) -> tuple[float, np.ndarray]:
    """Variance (standard units of y) or correlation at `place`, and its gradient in ψ."""
    i, row, column = place
    masks = standardised.products.masks
    transform = standardised.z_transforms[i]
    factor = transform @ lambda_matrices(psi[:-1], masks)[i]
    a, b = factor[row], factor[column]
    gradient = np.zeros(len(psi))
    if row == column:
        scale = np.exp(2 * psi[-1])
        value = scale * a @ a
        by_lambda = 2 * scale * np.outer(transform[row], a)
        gradient[-1] = 2 * value
    else:
        length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
        value = a @ b / (length_a * length_b)
        by_a = b / (length_a * length_b) - value * a / length_a**2
        by_b = a / (length_a * length_b) - value * b / length_b**2
        by_lambda = np.outer(transform[row], by_a) + np.outer(transform[column], by_b)
    by_factor = [np.zeros(mask.shape) for mask in masks]
    by_factor[i] = by_lambda
    gradient[:-1] = pack(by_factor, masks)
    return float(value), gradient


def profile_variance(
    place: tuple[int, int, int] | None,
    standardised: Standardised,
    theta: np.ndarray,
    rise: float,
) -> tuple[float, float]:
    """Profile-likelihood interval of a standard deviation, a correlation, or σ.

    The ends are the smallest and the largest value that the parameter takes where the ML
    deviance is at most `rise` above its minimum, found directly as two constrained
    optimisations (Neale & Miller 1997, doi:10.1023/A:1025681223921).

    Parameters
    ----------
    place : (factor, row, column) or None
        One of `course_lib.mixed.scaling.places`; None for σ.
    standardised : Standardised
        The data.
    theta : ndarray
        θ at the ML estimate, standard units.
    rise : float
        Quantile of χ² with one degree of freedom.

    Returns
    -------
    lower, upper : float
        In original units. A standard deviation that may be zero has lower end 0; where it may
        be zero, its correlations may be anything: -1, 1.
    """
    products = standardised.products
    if place is not None and place[1] != place[2]:
        spreads = [(place[0], k, k) for k in place[1:]]
        if any(profile_variance(s, standardised, theta, rise)[0] == 0 for s in spreads):
            return -1.0, 1.0
    best = _psi(theta, products, reml=False)
    lowest = _deviance(best[None], products, reml=False)[0][0]
    hessian = deviance_hessian(best, products, reml=False)
    curvature = np.linalg.pinv(hessian, rcond=1e-8, hermitian=True)

    # About the standard errors of ψ: in these units the room is round, as SLSQP likes it.
    units = np.clip(np.sqrt(2 * curvature.diagonal()), 1e-6, 0.3)

    def parameter(psi):
        if place is None:
            return psi[-1], np.eye(len(psi))[-1]
        return _variance_parameter(psi, place, standardised)

    last = {}

    def room(psi):
        key = psi.tobytes()  # SLSQP asks for value and gradient in two calls
        if key not in last:
            last.clear()
            value, gradient = _deviance(psi[None], products, reml=False)
            last[key] = rise + lowest - value[0], -gradient[0]
        return last[key]

    value, slope = parameter(best)
    size = 1.0
    if place is not None and place[1] == place[2]:
        size = max(value, 0.1 * _unit_variance(place, standardised))
    reach = np.sqrt(2 * rise / max(slope @ curvature @ slope, 1e-300)) * curvature @ slope
    ends = []
    for sign in (1, -1):  # +1 minimises the parameter: its lower end
        starts = [best - sign * share * reach for share in (0.9, 0.4)]
        if place is not None:
            starts.append(_far_start(best, place, sign, standardised))
        end = _constrained_minimum(parameter, room, sign / size, best, units, starts)
        ends.append(sign * size * end)
    if place is None:
        lower, upper = np.exp(ends) * standardised.y_scale[0]
    elif place[1] == place[2]:
        lower, upper = np.sqrt(np.maximum(ends, 0)) * standardised.y_scale[0]
        lower = 0.0 if lower < 1e-4 * upper else lower
    else:
        lower, upper = (np.sign(v) if abs(v) > 1 - 1e-5 else v for v in ends)
    return float(lower), float(upper)


def _constrained_minimum(parameter, room, factor, best, units, starts) -> float:
    """Smallest factor × parameter where there is room left, over all starts (SLSQP)."""
    from scipy.optimize import minimize  # slow to import, and not needed for a fit

    values = [np.nan]
    for start in starts:
        found = minimize(
            lambda z: factor * parameter(best + units * z)[0],
            np.clip((start - best) / units, -REACH, REACH),
            jac=lambda z: factor * units * parameter(best + units * z)[1],
            method="SLSQP",
            bounds=[(-REACH, REACH)] * len(best),
            constraints={
                "type": "ineq",
                "fun": lambda z: room(best + units * z)[0],
                "jac": lambda z: units * room(best + units * z)[1],
            },
            options={"ftol": 1e-9, "maxiter": 100},
        )
        if room(best + units * found.x)[0] > -1e-5:
            values.append(found.fun)
    return float(np.nanmin(values)) if len(values) > 1 else np.nan


def _unit_variance(place, standardised) -> float:
    """Variance of the effect at `place` that Λ = I stands for: the scale of its units."""
    return float(np.sum(standardised.z_transforms[place[0]][place[1]] ** 2))


def _far_start(psi, place, sign, standardised) -> np.ndarray:
    """ψ with the parameter at `place` moved far towards the end that is searched.

    A correlation may be free up to ±1 with the way there blocked by higher ground: the search
    needs a start on the far side too.
    """
    i, row, column = place
    masks = standardised.products.masks
    lambdas = lambda_matrices(psi[:-1], masks)
    factor = standardised.z_transforms[i] @ lambdas[i]
    sd = np.linalg.norm(factor, axis=1)
    cov = factor @ factor.T
    if row == column:
        stretch = np.ones(len(sd))
        stretch[row] = 0.1 if sign > 0 else 3.0
        cov = cov * np.outer(stretch, stretch)
        if sign < 0:  # up from zero, where the slope of a variance vanishes
            cov[row, row] = max(cov[row, row], 0.1 * _unit_variance(place, standardised))
    else:
        cov[row, column] = cov[column, row] = -sign * 0.98 * sd[row] * sd[column]
    back = np.linalg.inv(standardised.z_transforms[i])
    values, vectors = np.linalg.eigh(back @ cov @ back.T)
    root = np.sqrt(np.maximum(values, 1e-6 * values.max()))[:, None] * vectors.T
    lambdas[i] = np.linalg.qr(root, mode="r").T
    return np.append(pack(lambdas, masks), psi[-1])


def profile_fixed(standardised: Standardised, fit: Estimate, rise: float) -> np.ndarray:
    """Profile-likelihood intervals of the fixed effects, all of them side by side.

    With β_k = v the response is y - v x_k. The root of the excess deviance is nearly linear in
    v, so a secant search for its value √rise takes few steps.

    Parameters
    ----------
    standardised : Standardised
        The data.
    fit : Estimate
        The ML fit.
    rise : float
        Quantile of χ² with one degree of freedom.

    Returns
    -------
    ndarray, shape (p, 2)
        Lower and upper ends, in original units; NaN where the search does not find one.
    """
    p = standardised.products.p
    if not p:
        return np.empty((0, 2))
    sides = np.tile([-1.0, 1.0], p)
    centre = np.repeat(fit.beta, 2)
    error = np.repeat(np.sqrt(fit.cov_beta.diagonal()), 2)
    # In standard units y - v x_k is y_s - X_s R_k (v - offset_k) / y_scale, and an orthonormal
    # basis of the other columns keeps the search well scaled.
    root, scale = standardised.x_root, standardised.y_scale[0]
    mix = np.zeros((2 * p, p + 1, p))
    mix[:, -1, -1] = 1.0
    for k in range(p):
        mix[2 * k : 2 * k + 2, :-1, :-1] = np.linalg.qr(np.delete(root, k, axis=1))[0]
    x_column, offset = (
        np.repeat(root.T, 2, axis=0) / scale,
        np.repeat(standardised.offset[0], 2),
    )
    theta = np.tile(fit.optimum.theta, (2 * p, 1))

    def height(distance):
        """Root of the excess deviance, `distance` standard errors from the estimate."""
        nonlocal theta
        value = centre + sides * distance * error
        mix[:, :-1, -1] = -x_column * (value - offset)[:, None]
        found = minimise_deviance(recombine(standardised.products, mix), False, theta)
        theta = found.theta
        return np.sqrt(np.maximum(found.deviance - fit.optimum.deviance, 0))

    target = np.sqrt(rise)
    before, now = np.zeros(2 * p), np.full(2 * p, target)
    height_before, height_now = np.zeros(2 * p), height(now)
    for _ in range(30):
        change = np.where(height_now == height_before, 1.0, height_now - height_before)
        step = (target - height_now) * (now - before) / change
        step = np.clip(step, -0.5 * now, now)
        before, height_before = now, height_now
        now = now + step
        if (np.abs(step) < 1e-10 * now).all():
            break
        height_now = height(now)
    now = np.where(np.abs(height_now - target) < 1e-5 * target, now, np.nan)
    return (centre + sides * now * error).reshape(p, 2)


def varcorr(frame: ModelFrame, standardised: Standardised, estimate: Estimate) -> pd.DataFrame:
    """Tabulate variances and covariances; see `LmerResult.varcorr`.

    Parameters
    ----------
    frame : ModelFrame
        Names.
    standardised : Standardised
        The data.
    estimate : Estimate
        The estimates.

    Returns
    -------
    DataFrame
        Columns group, term1, term2, vcov, sdcor; the last row is the residual.
    """
    sigma = np.array([estimate.sigma])
    values = sd_cor(estimate.optimum.theta[None], sigma, standardised)[0]
    rows = []
    for sdcor, (i, row, column) in zip(
        values, places(standardised.products.masks), strict=True
    ):
        factor, cov = frame.factors[i], estimate.cov_re[i]
        other = "" if row == column else factor.terms[row]
        rows.append((factor.name, factor.terms[column], other, cov[row, column], sdcor))
    rows.append(("Residual", "", "", estimate.sigma**2, estimate.sigma))
    return pd.DataFrame(rows, columns=["group", "term1", "term2", "vcov", "sdcor"])


def fixed_table(
    frame: ModelFrame,
    standardised: Standardised,
    estimate: Estimate,
    reml: bool,
    ddf: str,
    alpha: float,
) -> pd.DataFrame:
    """Tabulate the fixed effects; see `LmerResult.fixed_table`.

    Parameters
    ----------
    frame, standardised, estimate, reml
        The fit.
    ddf : {"satterthwaite", "normal"}
        Degrees of freedom.
    alpha : float
        One minus the confidence level.

    Returns
    -------
    DataFrame
        One row per fixed effect: estimate, std_error, df, t, p, lower, upper.
    """
    from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats is slow to import

    check_choice("ddf", ddf, ("satterthwaite", "normal"))
    check_probability("alpha", alpha)
    beta, p = estimate.beta, len(estimate.beta)
    std_error = np.sqrt(estimate.cov_beta.diagonal())
    df = np.full(p, np.inf)
    if ddf == "satterthwaite" and p:
        df = satterthwaite_df(np.eye(p), standardised, estimate.optimum.theta, reml)
    t = beta / std_error
    half = stdtrit(df, 1 - alpha / 2) * std_error
    columns = {
        "estimate": beta,
        "std_error": std_error,
        "df": df,
        "t": t,
        "p": 2 * stdtr(df, -np.abs(t)),
        "lower": beta - half,
        "upper": beta + half,
    }
    return pd.DataFrame(columns, list(frame.fixed_names))


def parameter_names(frame: ModelFrame, standardised: Standardised) -> list[str]:
    """Name the entries of `parameter_vector`: sd(…), cor(…), sigma, fixed effects."""
    names = []
    for i, row, column in places(standardised.products.masks):
        factor = frame.factors[i]
        if row == column:
            names.append(f"sd({factor.terms[row]} | {factor.name})")
        else:
            pair = f"{factor.terms[column]}, {factor.terms[row]}"
            names.append(f"cor({pair} | {factor.name})")
    return [*names, "sigma", *frame.fixed_names]


def conf_int(
    frame: ModelFrame,
    standardised: Standardised,
    estimate: Estimate,
    reml: bool,
    method: str,
    alpha: float,
    n_sim: int,
    rng: np.random.Generator | None,
    progress: bool,
) -> pd.DataFrame:
    """Confidence intervals of all parameters; see `LmerResult.conf_int`.

    Parameters
    ----------
    frame, standardised, estimate, reml
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
        One row per parameter: estimate, lower, upper.
    """
    check_choice("method", method, ("wald", "profile", "bootstrap"))
    check_probability("alpha", alpha)
    theta = estimate.optimum.theta
    if method == "bootstrap":
        check_count("n_sim", n_sim, 2)
        check_rng("rng", rng)
        relative = standardised.relative_factors(theta)
        sampler = response_sampler(frame, estimate, relative, rng)

        def drawn(batch):
            return np.array([sampler() for _ in range(batch.start, batch.stop)])

        draws = refit_all(standardised, drawn, n_sim, reml, progress).parameters
        # A correlation is undefined in a draw whose standard deviation is zero.
        ends = np.nanquantile(draws, [alpha / 2, 1 - alpha / 2], axis=0).T
    elif method == "profile":
        ends = _profile(standardised, estimate, reml, alpha)
    else:
        fixed = fixed_table(frame, standardised, estimate, reml, "normal", alpha)
        unknown = np.full((standardised.products.n_theta + 1, 2), np.nan)
        ends = np.vstack([unknown, fixed[["lower", "upper"]]])
    names = parameter_names(frame, standardised)
    if method == "profile" and np.isnan(ends).any():
        lost = [names[k] for k in np.flatnonzero(np.isnan(ends).any(axis=1))]
        warnings.warn(
            f"conf_int: no profile limit was found for {listing(lost)}; the likelihood has no "
            "clear end there. Look at method='bootstrap'.",
            stacklevel=3,
        )
    intervals = pd.DataFrame(ends, names, ["lower", "upper"])
    intervals.insert(0, "estimate", parameter_vector(theta[None], standardised, reml)[0])
    return intervals


def _profile(
    standardised: Standardised, estimate: Estimate, reml: bool, alpha: float
) -> np.ndarray:
    from scipy.special import chdtri  # quantile of χ²; scipy.stats is slow to import

    rise = chdtri(1, alpha)
    ml = search.estimate(standardised, False) if reml else estimate
    theta = ml.optimum.theta
    parameters = [*places(standardised.products.masks), None]
    ends = [profile_variance(p, standardised, theta, rise) for p in parameters]
    return np.vstack([ends, profile_fixed(standardised, ml, rise)])
