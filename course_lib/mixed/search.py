"""From a standardised model to estimates: search θ, solve, transform back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from course_lib.mixed.cross_products import CrossProducts, FactorArrays
from course_lib.mixed.deviance import (
    deviance_and_gradient,
    diagonal,
    lambda_matrices,
    pack,
    solve,
)
from course_lib.mixed.scaling import Standardised, standardise

__all__ = ["Estimate", "Optimum", "estimate", "estimate_standardised", "minimise_deviance"]

# A relative standard deviation below this counts as zero, as in lme4's isSingular().
SINGULAR = 1e-4
FEW_GROUPS = 10
MANY_COLUMNS = 200


@dataclass(frozen=True)
class Optimum:
    """Where the search ended: θ, deviance and gradient in standard units."""

    theta: np.ndarray
    deviance: float
    gradient: np.ndarray
    n_evaluations: int
    converged: bool


@dataclass(frozen=True)
class Estimate:
    """Estimates in original units, one list entry per grouping factor.

    Attributes
    ----------
    theta : ndarray
        Free entries of Λ in original units.
    deviance : float
        ML deviance or REML criterion.
    beta, cov_beta : ndarray
        Fixed effects, shape (p,), and their covariance, (p, p).
    sigma : float
        Residual standard deviation.
    cov_re : list of ndarray, each (q, q)
        Covariance of the random effects, σ²ΛΛ'.
    modes, cov_modes : list of ndarray
        Conditional modes (n_levels, q) and conditional covariances (n_levels, q, q).
    is_singular : bool
        Whether a relative standard deviation is below 1e-4 in standard units.
    optimum : Optimum
        In standard units.
    """

    theta: np.ndarray
    deviance: float
    beta: np.ndarray
    cov_beta: np.ndarray
    sigma: float
    cov_re: list[np.ndarray]
    modes: list[np.ndarray]
    cov_modes: list[np.ndarray]
    is_singular: bool
    optimum: Optimum


def minimise_deviance(
    products: CrossProducts, reml: bool, start: np.ndarray | None = None
) -> Optimum:
    """Search θ by L-BFGS with the exact gradient, from Λ = I unless told otherwise.

    The likelihood can have more than one peak, mostly where groups are few or the fit is
    singular: then the search is repeated from smaller and larger Λ and from correlations near
    ±1, and the best result is kept. (Not with hundreds of crossed groups, where a search is
    slow and the data speak clearly.)

    Parameters
    ----------
    products : CrossProducts
        In standard units.
    reml : bool
        REML criterion instead of the ML deviance.
    start : ndarray, optional
        The only place to start from.

    Returns
    -------
    Optimum
        ``converged`` is decided by the gradient, not by the optimiser's own word: with g the
        gradient in units of θ (or of 1 where θ is smaller), g² < 4e-7 × groups. The deviance
        is curved by about 2 per group, so it is then within about 1e-7 of its minimum.
    """
    if start is not None:
        return _search(products, reml, np.asarray(start, dtype=float))
    on_diagonal = diagonal(products.masks)
    identity = on_diagonal.astype(float)
    optima = [_search(products, reml, identity)]
    pairs = zip(products.masks, products.n_levels, strict=True)
    few = any(len(mask) > 1 and n_levels <= FEW_GROUPS for mask, n_levels in pairs)
    singular = (optima[0].theta[on_diagonal] < SINGULAR).any()
    if (few or singular) and len(identity) > 1 and products.n_dense <= MANY_COLUMNS:
        starts = [0.1 * identity, 10 * identity]
        if not on_diagonal.all():
            starts += [np.where(on_diagonal, 0.5, sign) for sign in (1.0, -1.0)]
        optima += [_search(products, reml, start) for start in starts]
    best = min(optima, key=lambda optimum: optimum.deviance)
    return replace(best, n_evaluations=sum(optimum.n_evaluations for optimum in optima))


def _search(products: CrossProducts, reml: bool, theta: np.ndarray) -> Optimum:
    """Search from one start.

    The signs of the columns of Λ are free during the search and made positive at its end. A
    bound at zero would be a trap: by symmetry the gradient of a diagonal entry vanishes there,
    so that a long first step that lands on the bound looks like an optimum (hsb82 does this).
    """
    from scipy.optimize import minimize  # slow to import, and needed only for a fit

    masks = products.masks
    groups = np.repeat(products.n_levels, [int(mask.sum()) for mask in masks])
    size = groups.max()

    def per_group(weighted, weights):
        deviance, gradient = deviance_and_gradient(weighted / weights, products, reml)
        return deviance / size, gradient / weights / size

    # Information on an entry grows with the number of its groups and, where the entry is
    # large, falls with its square: in these units all directions are about equally curved.
    weights = np.sqrt(groups / size)
    n_evaluations = 0
    for _ in range(6):
        found = minimize(
            per_group,
            theta * weights,
            args=(weights,),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-14, "gtol": 3e-6, "maxiter": 500, "maxls": 10},
        )
        theta = _positive(found.x / weights, masks)
        tiny = np.flatnonzero(diagonal(masks) & (theta < SINGULAR))
        theta, lower, looked = _settle_zeros(theta, tiny, size * found.fun, products, reml)
        deviance, gradient = size * found.fun, size * found.jac * weights
        if looked or not np.array_equal(theta, found.x / weights):
            deviance, gradient = deviance_and_gradient(theta, products, reml)
            looked += 1
        n_evaluations += found.nfev + looked
        weights = np.sqrt(groups / size) / np.maximum(1.0, np.abs(theta))
        converged = bool(((gradient / weights) ** 2 < 4e-7 * size).all())
        if converged and not lower:
            break  # else: an abnormal line search, a large θ, or a zero that is no optimum
    return Optimum(theta, deviance, gradient, n_evaluations, converged)


def _settle_zeros(theta, tiny, deviance, products, reml):
    """Put each all but vanished entry at zero if that costs nothing, or away from it.

    Returns θ, whether a place away from zero has a lower deviance (then the search should go
    on from there), and the number of evaluations.
    """
    lower, looked = False, 0
    for k in tiny:
        for trial in (0.0, 0.03, 0.3):
            candidate = theta.copy()
            candidate[k] = trial
            value, _ = deviance_and_gradient(candidate, products, reml)
            looked += 1
            if trial == 0 and value <= deviance + 1e-7:
                theta = candidate
            elif trial > 0 and value < deviance - 1e-6:
                theta, deviance, lower = candidate, value, True
    return theta, lower, looked


def _positive(theta: np.ndarray, masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Flip columns of Λ so that its diagonal is not negative; ΛΛ' stays the same."""
    lambdas = lambda_matrices(theta, masks)
    return pack([lam * np.where(lam.diagonal() < 0, -1.0, 1.0) for lam in lambdas], masks)


def estimate(
    X: np.ndarray, y: np.ndarray, factors: tuple[FactorArrays, ...], reml: bool
) -> tuple[Estimate, Standardised]:
    """Standardise, fit and transform back; see `standardise` for the arguments."""
    standardised = standardise(X, y, factors)
    return estimate_standardised(standardised, reml), standardised


def estimate_standardised(
    standardised: Standardised, reml: bool, start: np.ndarray | None = None
) -> Estimate:
    """Fit a standardised model.

    Parameters
    ----------
    standardised : Standardised
        The data.
    reml : bool
        REML criterion instead of the ML deviance.
    start : ndarray, optional
        θ in standard units to start from.

    Returns
    -------
    Estimate
    """
    products = standardised.products
    optimum = minimise_deviance(products, reml, start)
    found = solve(optimum.theta, products, reml)
    sigma = standardised.y_scale * found.sigma
    factors = standardised.relative_factors(optimum.theta)
    x_inverse = np.linalg.inv(standardised.x_root)
    scale, variance = standardised.y_scale, sigma**2
    transforms = standardised.z_transforms
    return Estimate(
        theta=pack([_lower(factor) for factor in factors], products.masks),
        deviance=optimum.deviance + standardised.jacobian(reml),
        beta=standardised.beta(found.beta),
        cov_beta=variance * x_inverse @ found.unscaled_cov_beta @ x_inverse.T,
        sigma=sigma,
        cov_re=[variance * factor @ factor.T for factor in factors],
        modes=[scale * b @ t.T for b, t in zip(found.modes, transforms, strict=True)],
        cov_modes=[
            variance * t @ cov @ t.T
            for cov, t in zip(found.unscaled_cov_modes, transforms, strict=True)
        ],
        is_singular=bool((optimum.theta[diagonal(products.masks)] < SINGULAR).any()),
        optimum=optimum,
    )


def _lower(factor: np.ndarray) -> np.ndarray:
    """Lower-triangular square root of TΛ(TΛ)', its diagonal not negative."""
    # (TΛ)' = QR, so TΛ(TΛ)' = R'R with R' lower triangular, also when Λ is singular.
    R = np.linalg.qr(factor.T, mode="r")
    return (R * np.where(R.diagonal() < 0, -1.0, 1.0)[:, None]).T
