r"""From arrays to estimates: standardise, search θ, transform back.

Standardising is what makes the fit immune to units. Each random-effects bar's columns Z are
replaced by Z R⁻¹√n with Z = QR taken over all rows: for an unstructured Λ this is only another
parametrisation of the same model, but the search now runs in a space where every column has
mean square one and no two are correlated. Columns of a ``||`` bar are scaled one by one,
because mixing them would change the model. The fixed part is treated alike, and the response
is replaced by its least-squares residual divided by its root mean square. All three are undone
exactly: β, Λ and σ by back-substitution, the deviance by its Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from course_lib.profiled_deviance import (
    CrossProducts,
    FactorArrays,
    cross_products,
    deviance_and_gradient,
    lambda_matrices,
    solve,
)

__all__ = [
    "CollinearError",
    "Estimate",
    "Optimum",
    "Standardised",
    "estimate",
    "estimate_standardised",
    "minimise_deviance",
    "standardise",
    "with_response",
]

# A relative standard deviation below this counts as zero, as in lme4's isSingular().
SINGULAR = 1e-4
# A column whose part that the columns before it do not explain is smaller than this share of
# its length is rounding noise. A predictor of spread 1e-6 at an offset of 1,000 has 1e-9.
COLLINEAR = 1e-11


class CollinearError(ArithmeticError):
    """Column `column` of the fixed part (`factor` None) or of a factor depends on others."""

    def __init__(self, factor: int | None, column: int):
        super().__init__(factor, column)
        self.factor, self.column = factor, column


@dataclass(frozen=True)
class Standardised:
    """The model in standard units, and the way back.

    Attributes
    ----------
    products : CrossProducts
        Of the standardised columns.
    X, factors
        The standardised columns themselves; a new response needs them.
    x_root : ndarray, shape (p, p)
        Upper triangular: original X = standardised X @ x_root.
    offset : ndarray, shape (p,)
        Least-squares coefficients that were taken out of the response.
    y_scale : float
        Root mean square of the least-squares residual.
    z_transforms : list of ndarray, each (q, q)
        Standardised Z = original Z @ transform, so original b = transform @ standardised b.
    """

    products: CrossProducts
    X: np.ndarray
    factors: tuple[FactorArrays, ...]
    x_root: np.ndarray
    offset: np.ndarray
    y_scale: float
    z_transforms: list[np.ndarray]

    def jacobian(self, reml: bool) -> float:
        """Return what turns the standardised deviance into the original one, by adding it."""
        n, p = self.products.n, self.products.p
        if not reml:
            return 2 * n * np.log(self.y_scale)
        logdet = np.log(np.abs(self.x_root.diagonal())).sum()
        return 2 * (n - p) * np.log(self.y_scale) + 2 * logdet

    def relative_factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Return Λ of each factor in original units, not yet triangular: transform @ Λ(θ)."""
        lambdas = lambda_matrices(theta, self.products.masks)
        return [t @ lam for t, lam in zip(self.z_transforms, lambdas, strict=True)]

    def beta(self, standard_beta: np.ndarray) -> np.ndarray:
        """Return the fixed effects in original units."""
        return self.offset + self.y_scale * np.linalg.solve(self.x_root, standard_beta)


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


def _blocks(mask: np.ndarray) -> list[slice]:
    """Split the columns of a factor into its bars: runs that share off-diagonal entries."""
    starts = [0] + [i for i in range(1, len(mask)) if not mask[i, i - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(mask)], strict=True)]


def _root(columns: np.ndarray, factor: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return Q√n and R/√n of the QR decomposition, R with a positive diagonal."""
    Q, R = np.linalg.qr(columns)
    dependent = np.abs(R.diagonal()) <= COLLINEAR * np.linalg.norm(R, axis=0)
    if dependent.any():
        raise CollinearError(factor, int(dependent.argmax()))
    signs = np.where(R.diagonal() < 0, -1.0, 1.0)
    size = np.sqrt(len(columns))
    Q *= signs * size
    return Q, signs[:, None] * R / size


def standardise(
    X: np.ndarray, y: np.ndarray, factors: tuple[FactorArrays, ...]
) -> Standardised:
    """Standardise the columns and accumulate their cross-products.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Full column rank; p may be zero.
    y : ndarray, shape (n,)
        Response; not an exact linear function of X.
    factors : tuple of FactorArrays
        The factor with the most columns first.

    Returns
    -------
    Standardised

    Raises
    ------
    CollinearError
        If a column is a linear combination of the columns before it.
    """
    standard_X, x_root = _root(X)
    offset, standard_y, y_scale = _standard_response(standard_X, x_root, y)
    transforms, standard_factors = [], []
    for i, factor in enumerate(factors):
        columns = np.empty_like(factor.columns)
        transform = np.zeros((columns.shape[1], columns.shape[1]))
        for block in _blocks(factor.mask):
            columns[:, block], root = _root(factor.columns[:, block], i)
            transform[block, block] = np.linalg.inv(root)
        transforms.append(transform)
        standard_factors.append(
            FactorArrays(factor.codes, factor.n_levels, columns, factor.mask)
        )
    standard_factors = tuple(standard_factors)
    products = cross_products(standard_X, standard_y, standard_factors)
    return Standardised(
        products, standard_X, standard_factors, x_root, offset, y_scale, transforms
    )


def _standard_response(standard_X, x_root, y):
    coefficients = standard_X.T @ y / len(y)
    residual = y - standard_X @ coefficients
    y_scale = float(np.sqrt(residual @ residual / len(y)))
    return np.linalg.solve(x_root, coefficients), residual / y_scale, y_scale


def with_response(standardised: Standardised, y: np.ndarray) -> Standardised:
    """Swap the response; nothing else is computed again.

    Parameters
    ----------
    standardised : Standardised
        Of the same rows.
    y : ndarray, shape (n,)
        New response.

    Returns
    -------
    Standardised
    """
    X, factors = standardised.X, standardised.factors
    offset, standard_y, y_scale = _standard_response(X, standardised.x_root, y)
    per_factor = [
        np.column_stack(
            [
                np.bincount(f.codes, f.columns[:, k] * standard_y, f.n_levels)
                for k in range(f.columns.shape[1])
            ]
        )
        for f in factors
    ]
    fixed = [X.T @ standard_y, [standard_y @ standard_y]]
    dense_y = np.concatenate([*(sums.ravel() for sums in per_factor[1:]), *fixed])
    return Standardised(
        standardised.products.with_response(per_factor[0], dense_y),
        X,
        factors,
        standardised.x_root,
        offset,
        y_scale,
        standardised.z_transforms,
    )


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
            options={"ftol": 1e-15, "gtol": 1e-7, "maxiter": 500},
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
