"""From a standardised model to estimates: search θ, solve, transform back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course_lib.cross_products import CrossProducts, FactorArrays
from course_lib.profiled_deviance import deviance_and_gradient, lambda_matrices, solve
from course_lib.standardise import Standardised, standardise

__all__ = ["Estimate", "Optimum", "estimate", "estimate_standardised", "minimise_deviance"]

# A relative standard deviation below this counts as zero, as in lme4's isSingular().
SINGULAR = 1e-4


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
    """Estimates in original units, one list entry a grouping factor.

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


def _diagonal(masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Which entries of θ lie on a diagonal of Λ."""
    return np.concatenate([np.eye(len(mask), dtype=bool).T[mask.T] for mask in masks])


def minimise_deviance(
    products: CrossProducts, reml: bool, start: np.ndarray | None = None
) -> Optimum:
    """Search θ by L-BFGS with the exact gradient, from Λ = I unless told otherwise.

    The signs of the columns of Λ are free during the search and made positive at its end. A
    bound at zero would be a trap: by symmetry the gradient of a diagonal entry vanishes there,
    so that a long first step that lands on the bound looks like an optimum (hsb82 does this).

    Parameters
    ----------
    products : CrossProducts
        In standard units.
    reml : bool
        REML criterion instead of the ML deviance.
    start : ndarray, optional
        Where to start.

    Returns
    -------
    Optimum
        ``converged`` is decided by the gradient, not by the optimiser's own word: its largest
        component is below 1e-5 a group (information on θ grows with the number of groups, so
        the deviance is then within about 1e-9 of its minimum).
    """
    from scipy.optimize import minimize  # slow to import, and needed only for a fit

    diagonal = _diagonal(products.masks)
    theta = diagonal.astype(float) if start is None else np.asarray(start, dtype=float)
    size = max(products.n_levels)
    n_evaluations, converged = 0, False
    for _ in range(4):
        found = minimize(
            _per_group,
            theta,
            args=(products, reml, size),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-6, "maxiter": 500},
        )
        n_evaluations += found.nfev
        converged = bool(np.abs(found.jac).max() < 1e-5)
        theta, deviance, gradient, looked = _settle(found, diagonal, products, reml, size)
        n_evaluations += looked
        if converged and deviance <= size * found.fun + 1e-7:
            break  # otherwise an abnormal line search, or a stop at a zero that is no optimum
    return Optimum(theta, deviance, gradient, n_evaluations, converged)


def _per_group(theta, products, reml, size):
    """Deviance and gradient divided by the number of groups: first steps of fitting length."""
    deviance, gradient = deviance_and_gradient(theta, products, reml)
    return deviance / size, gradient / size


def _settle(found, diagonal, products, reml, size):
    """Make signs positive; put each all but vanished entry at zero, or away from it.

    Returns θ, deviance, gradient and the number of evaluations. The deviance is lower than
    the one that was found only if a standard deviation that the search left near zero wants
    to be larger, in which case the search should go on from there.
    """
    theta, deviance, gradient = _positive(found.x, products.masks), size * found.fun, found.jac
    tiny = np.flatnonzero(diagonal & (theta < SINGULAR))
    looked = 0
    for k in tiny:
        for trial in (0.0, 0.03, 0.3):
            candidate = theta.copy()
            candidate[k] = trial
            value, slope = deviance_and_gradient(candidate, products, reml)
            looked += 1
            if value < deviance - 1e-6 or (trial == 0 and value <= deviance + 1e-7):
                theta, deviance, gradient = candidate, value, slope / size
    if not len(tiny) and not (found.x[diagonal] < 0).any():
        return theta, deviance, size * gradient, looked
    deviance, gradient = deviance_and_gradient(theta, products, reml)
    return theta, deviance, gradient, looked + 1


def _positive(theta: np.ndarray, masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Flip columns of Λ so that its diagonal is not negative; ΛΛ' stays the same."""
    flipped = [
        (lam * np.where(lam.diagonal() < 0, -1.0, 1.0)).T[mask.T]
        for lam, mask in zip(lambda_matrices(theta, masks), masks, strict=True)
    ]
    return np.concatenate(flipped)


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
        theta=_pack_lower(factors, products.masks),
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
        is_singular=bool((optimum.theta[_diagonal(products.masks)] < SINGULAR).any()),
        optimum=optimum,
    )


def _pack_lower(factors: list[np.ndarray], masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Free entries of the lower-triangular square roots of ΛΛ', column by column."""
    entries = []
    for factor, mask in zip(factors, masks, strict=True):
        # (TΛ)' = QR, so TΛ(TΛ)' = R'R with R' lower triangular, also when Λ is singular.
        R = np.linalg.qr(factor.T, mode="r")
        lower = (R * np.where(R.diagonal() < 0, -1.0, 1.0)[:, None]).T
        entries.append(lower.T[mask.T])
    return np.concatenate(entries)
