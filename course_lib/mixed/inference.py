r"""Inference on a fitted deviance: Satterthwaite df, profile intervals, parametric bootstrap.

The upper half works on arrays in standard units (see `search`) and returns arrays; the lower
half puts them into labelled tables. The variance parameters are ψ = (θ, log σ), and

.. math:: d(\psi) = d(\theta, \sigma) = \text{logdet}(\theta) + 2\nu\log\sigma
          + r^2(\theta)/\sigma^2 + \text{const}
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from course_lib.errors import check_choice, check_count, check_probability, check_rng
from course_lib.mixed.cross_products import CrossProducts, recombine
from course_lib.mixed.design import ModelFrame
from course_lib.mixed.deviance import deviance_and_gradient, lambda_matrices, pack, solve
from course_lib.mixed.prediction import response_sampler
from course_lib.mixed.scaling import Standardised, with_response
from course_lib.mixed.search import Estimate, estimate_standardised, minimise_deviance

STEP = 1e-4  # for differences of exact gradients: error about STEP² relative


def _deviance(psi: np.ndarray, products: CrossProducts, reml: bool) -> tuple[float, np.ndarray]:
    """d(ψ) and its gradient."""
    theta, sigma = psi[:-1], np.exp(psi[-1])
    value, gradient = deviance_and_gradient(theta, products, reml, sigma)
    nu = products.n - products.p if reml else products.n
    r2 = nu * solve(theta, products, reml, covariances=False).sigma ** 2
    return value, np.append(gradient, 2 * nu - 2 * r2 / sigma**2)


def _psi(theta: np.ndarray, products: CrossProducts, reml: bool) -> np.ndarray:
    return np.append(theta, np.log(solve(theta, products, reml, covariances=False).sigma))


def _slopes(function: Callable, psi: np.ndarray) -> np.ndarray:
    """Central differences of `function` at ψ, one row per parameter."""
    steps = STEP * np.eye(len(psi))
    rises = [function(psi + step) - function(psi - step) for step in steps]
    return np.array(rises) / (2 * STEP)


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
        unscaled = solve(psi[:-1], products, reml, covariances=False).unscaled_cov_beta
        return np.exp(2 * psi[-1]) * np.einsum("ki,ij,kj->k", standard, unscaled, standard)

    values, vectors = np.linalg.eigh(deviance_hessian(psi, products, reml))
    positive = values > 1e-8 * values.max()
    along = (vectors[:, positive].T @ _slopes(variances, psi)) ** 2
    return 2 * variances(psi) ** 2 / (2 * along / values[positive, None]).sum(axis=0)


def sd_cor(
    theta: np.ndarray, sigma: float, standardised: Standardised
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Return standard deviations and correlations of the random effects in original units.

    Parameters
    ----------
    theta : ndarray
        In standard units.
    sigma : float
        Residual standard deviation, original units.
    standardised : Standardised
        The data.

    Returns
    -------
    values : ndarray
        Estimates, factor by factor: standard deviations first, then correlations.
    places : list of (factor, row, column)
        Where each stands; row = column marks a standard deviation.
    """
    values, places = [], []
    factors = standardised.relative_factors(theta)
    for i, (factor, mask) in enumerate(zip(factors, standardised.products.masks, strict=True)):
        norms = np.linalg.norm(factor, axis=1)
        for row, column in _free_pairs(mask):
            if row == column:
                values.append(sigma * norms[row])
            else:
                length = norms[row] * norms[column]
                values.append(factor[row] @ factor[column] / length if length else np.nan)
            places.append((i, row, column))
    return np.array(values), places


def _free_pairs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Diagonal first, then the free entries below it column by column: lme4's order."""
    below = [(r, c) for c in range(len(mask)) for r in range(c + 1, len(mask)) if mask[r, c]]
    return [(k, k) for k in range(len(mask))] + below


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
        As `sd_cor` gives it; None for σ.
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
    lowest = _deviance(best, products, reml=False)[0]
    hessian = deviance_hessian(best, products, reml=False)
    curvature = np.linalg.pinv(hessian, rcond=1e-8, hermitian=True)

    def parameter(psi):
        if place is None:
            return psi[-1], np.eye(len(psi))[-1]
        return _variance_parameter(psi, place, standardised)

    last = {}

    def room(psi):
        key = psi.tobytes()  # SLSQP asks for value and gradient in two calls
        if key not in last:
            last.clear()
            value, gradient = _deviance(psi, products, reml=False)
            last[key] = rise + lowest - value, -gradient
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
        ends.append(sign * _constrained_minimum(parameter, room, sign / size, starts) * size)
    if place is None:
        lower, upper = np.exp(ends) * standardised.y_scale
    elif place[1] == place[2]:
        lower, upper = np.sqrt(np.maximum(ends, 0)) * standardised.y_scale
        lower = 0.0 if lower < 1e-4 * upper else lower
    else:
        lower, upper = (np.sign(v) if abs(v) > 1 - 1e-5 else v for v in ends)
    return float(lower), float(upper)


def _constrained_minimum(parameter, room, factor, starts) -> float:
    """Smallest factor × parameter where there is room left, over all starts (SLSQP)."""
    from scipy.optimize import minimize  # slow to import, and not needed for a fit

    # Steps are kept within a factor e⁶ of the start in σ and within fifty times the spread of
    # the data in θ, far beyond any interval.
    values = [np.nan]
    for start in starts:
        free = [(-50 - 5 * abs(v), 50 + 5 * abs(v)) for v in start[:-1]]
        found = minimize(
            lambda psi: factor * parameter(psi)[0],
            start,
            jac=lambda psi: factor * parameter(psi)[1],
            method="SLSQP",
            bounds=[*free, (start[-1] - 6, start[-1] + 6)],
            constraints={
                "type": "ineq",
                "fun": lambda psi: room(psi)[0],
                "jac": lambda psi: room(psi)[1],
            },
            options={"ftol": 1e-13, "maxiter": 300},
        )
        if room(found.x)[0] > -1e-5:
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


def profile_fixed(
    column: int, standardised: Standardised, fit: Estimate, rise: float
) -> tuple[float, float]:
    """Profile-likelihood interval of a fixed effect.

    Parameters
    ----------
    column : int
        Which fixed effect.
    standardised : Standardised
        The data.
    fit : Estimate
        The ML fit.
    rise : float
        Quantile of χ² with one degree of freedom.

    Returns
    -------
    lower, upper : float
        In original units.
    """
    from scipy.optimize import brentq  # slow to import, and not needed for a fit

    products, p = standardised.products, standardised.products.p
    # With β_k = v the response is y - v x_k, up to multiples of the other columns:
    # in standard units y_s - X_s R_k (v - offset_k) / y_scale.
    x_column = standardised.x_root[:, column] / standardised.y_scale
    mix = np.zeros((p + 1, p))
    mix[-1, -1] = 1.0
    # An orthonormal basis of the other columns keeps the search well scaled.
    mix[:-1, :-1] = np.linalg.qr(np.delete(standardised.x_root, column, axis=1))[0]

    def excess(value):
        mix[:-1, -1] = -x_column * (value - standardised.offset[column])
        found = minimise_deviance(recombine(products, mix), False, fit.optimum.theta)
        return found.deviance - fit.optimum.deviance - rise

    centre, error = fit.beta[column], np.sqrt(fit.cov_beta[column, column])
    ends = []
    for side in (-1, 1):
        far = centre + side * 2 * error
        while excess(far) < 0:
            far += side * error
        ends.append(brentq(excess, centre, far, xtol=1e-9 * error + 1e-300, rtol=1e-12))
    return float(ends[0]), float(ends[1])


def parameter_vector(theta: np.ndarray, standardised: Standardised, reml: bool) -> np.ndarray:
    """Return standard deviations and correlations, σ, and β at θ, in original units."""
    found = solve(theta, standardised.products, reml, covariances=False)
    sigma = standardised.y_scale * found.sigma
    spread, _ = sd_cor(theta, sigma, standardised)
    return np.concatenate([spread, [sigma], standardised.beta(found.beta)])


def bootstrap_parameters(
    standardised: Standardised,
    responses: Callable[[], np.ndarray],
    n_sim: int,
    reml: bool,
    theta: np.ndarray,
    progress: bool,
) -> np.ndarray:
    """Refit the model to simulated responses; only cross-products with y are made anew.

    Parameters
    ----------
    standardised : Standardised
        The data.
    responses : callable
        Returns one simulated response, shape (n,).
    n_sim : int
        How many.
    reml : bool
        Criterion.
    theta : ndarray
        Estimate in standard units, from which each search starts.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    ndarray, shape (n_sim, k)
        One row per refit, in the order of `parameter_vector`.
    """
    from tqdm import trange  # not tqdm.auto, which warns where ipywidgets is missing

    # Zero is a stationary point of the deviance: a search must not start there.
    start = np.where(theta == 0, 0.1, theta)
    draws = []
    for _ in trange(n_sim, desc="bootstrap", disable=not progress):
        drawn = with_response(standardised, responses())
        found = minimise_deviance(drawn.products, reml, start)
        draws.append(parameter_vector(found.theta, drawn, reml))
    return np.array(draws)


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
    values, places = sd_cor(estimate.optimum.theta, estimate.sigma, standardised)
    rows = []
    for sdcor, (i, row, column) in zip(values, places, strict=True):
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
    from scipy import stats  # slow to import, and not needed for a fit

    check_choice("ddf", ddf, ("satterthwaite", "normal"))
    check_probability("alpha", alpha)
    beta, p = estimate.beta, len(estimate.beta)
    std_error = np.sqrt(estimate.cov_beta.diagonal())
    df = np.full(p, np.inf)
    if ddf == "satterthwaite" and p:
        df = satterthwaite_df(np.eye(p), standardised, estimate.optimum.theta, reml)
    t = beta / std_error
    half = stats.t.ppf(1 - alpha / 2, df) * std_error
    columns = {
        "estimate": beta,
        "std_error": std_error,
        "df": df,
        "t": t,
        "p": 2 * stats.t.sf(np.abs(t), df),
        "lower": beta - half,
        "upper": beta + half,
    }
    return pd.DataFrame(columns, list(frame.fixed_names))


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
    table = varcorr(frame, standardised, estimate).iloc[:-1]
    spread = [
        f"cor({row.term1}, {row.term2} | {row.group})"
        if row.term2
        else f"sd({row.term1} | {row.group})"
        for row in table.itertuples()
    ]
    if method == "bootstrap":
        check_count("n_sim", n_sim, 2)
        check_rng("rng", rng)
        relative = standardised.relative_factors(theta)
        sampler = response_sampler(frame, estimate, relative, rng)
        draws = bootstrap_parameters(standardised, sampler, n_sim, reml, theta, progress)
        # A correlation is undefined in a draw whose standard deviation is zero.
        ends = np.nanquantile(draws, [alpha / 2, 1 - alpha / 2], axis=0).T
    elif method == "profile":
        ends = _profile(standardised, estimate, reml, alpha)
    else:
        fixed = fixed_table(frame, standardised, estimate, reml, "normal", alpha)
        unknown = np.full((len(spread) + 1, 2), np.nan)
        ends = np.vstack([unknown, fixed[["lower", "upper"]]])
    names = [*spread, "sigma", *frame.fixed_names]
    intervals = pd.DataFrame(ends, names, ["lower", "upper"])
    intervals.insert(0, "estimate", parameter_vector(theta, standardised, reml))
    return intervals


def _profile(
    standardised: Standardised, estimate: Estimate, reml: bool, alpha: float
) -> np.ndarray:
    from scipy.stats import chi2  # slow to import, and not needed for a fit

    rise = chi2.ppf(1 - alpha, 1)
    ml = estimate_standardised(standardised, False) if reml else estimate
    theta = ml.optimum.theta
    _, places = sd_cor(theta, ml.sigma, standardised)
    ends = [profile_variance(p, standardised, theta, rise) for p in [*places, None]]
    ends += [profile_fixed(k, standardised, ml, rise) for k in range(len(ml.beta))]
    return np.array(ends)
