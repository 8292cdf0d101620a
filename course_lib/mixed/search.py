"""From a standardised model to estimates: search θ, solve, transform back.

The search runs side by side for many responses, and for many starts. It begins with two steps
of Fisher scoring on the covariance D = ΛΛ', in which the deviance is nearly quadratic, and goes
on with BFGS on θ from the expected information.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course_lib.mixed.cross_products import CrossProducts
from course_lib.mixed.deviance import (
    Evaluation,
    diagonal,
    evaluate,
    lambda_matrices,
    pack,
    solve,
)
from course_lib.mixed.scaling import Standardised, sd_cor

__all__ = [
    "Estimate",
    "Optimum",
    "estimate",
    "estimates",
    "minimise_deviance",
    "parameter_vector",
]

# A relative standard deviation below this counts as zero, as in lme4's isSingular().
SINGULAR = 1e-4
FEW_GROUPS = 10
ROUNDING = 1e-15  # of a deviance, relative to it and to the largest ratio of variances
MANY_COLUMNS = 200


@dataclass(frozen=True)
class Optimum:
    """Where the search ended, in standard units, for every response.

    Attributes
    ----------
    theta : ndarray, shape (S, n_theta)
    deviance : ndarray, shape (S,)
    gradient : ndarray, shape (S, n_theta)
    converged : ndarray of bool, shape (S,)
    n_evaluations : int
        Of all responses together: one evaluation serves all of them.
    """

    theta: np.ndarray
    deviance: np.ndarray
    gradient: np.ndarray
    converged: np.ndarray
    n_evaluations: int

    def of(self, i: int) -> Optimum:
        """Return that of response i alone, without the axis of responses."""
        parts = (
            self.theta[i],
            float(self.deviance[i]),
            self.gradient[i],
            bool(self.converged[i]),
        )
        return Optimum(*parts, self.n_evaluations)


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
    """Search θ for every response, from Λ = I unless told otherwise.

    The signs of the columns of Λ are free during the search and made positive at its end. A
    bound at zero would be a trap: by symmetry the gradient of a diagonal entry vanishes there,
    so that a long first step that lands on the bound looks like an optimum (hsb82 does this).

    The likelihood can have more than one peak where a slope varies over few groups: then the
    search is repeated from a large Λ and from correlations near -1, and the best result is
    kept. (Of 1,520 small fits, all other starts found a lower place for two.)

    Parameters
    ----------
    products : CrossProducts
        In standard units.
    reml : bool
        REML criterion instead of the ML deviance.
    start : ndarray, shape (S, n_theta), optional
        The only places to start from.

    Returns
    -------
    Optimum
        ``converged`` is decided by the gradient: with g the gradient in units of θ (or of 1
        where θ is smaller), g² < 4e-7 × groups. The deviance is curved by about 2 per group, so
        it is then within about 1e-7 of its minimum.
    """
    search = _Search(products, reml)
    if start is not None:
        everyone = np.arange(len(start))
        search.descend(np.array(start, dtype=float), everyone)
        return search.settled(everyone)
    on_diagonal = diagonal(products.masks)
    identity = on_diagonal.astype(float)
    everyone = np.arange(len(products.K))
    search.descend(*search.scored(np.tile(identity, (len(everyone), 1)), everyone))
    best = search.settled(everyone)
    pairs = zip(products.masks, products.n_levels, strict=True)
    few = any(len(mask) > 1 and n_levels <= FEW_GROUPS for mask, n_levels in pairs)
    if not few or products.n_crossed > MANY_COLUMNS:
        return best
    starts = [10 * identity]
    if not on_diagonal.all():
        starts.append(np.where(on_diagonal, 0.5, -1.0))
    which = np.repeat(everyone, len(starts))
    search.descend(*search.scored(np.tile(starts, (len(everyone), 1)), which))
    return search.settled(everyone)


class _Search:
    """The search of one model: the best place known for every response, and how it was found.

    A place is tried for the response of that number in `which`, which may name one repeatedly.
    """

    def __init__(self, products: CrossProducts, reml: bool):
        self.products, self.reml, self.masks = products, reml, products.masks
        self.on_diagonal = diagonal(products.masks)
        self.size = max(products.n_levels)
        self.n_evaluations = 0
        self.theta = self.gradient = np.empty((0, products.n_theta))
        self.deviance = np.empty(0)

    def evaluate(
        self, theta: np.ndarray, which: np.ndarray, precisions: bool = False
    ) -> Evaluation:
        self.n_evaluations += 1
        products = self.products.responses(which)
        return evaluate(theta, products, self.reml, precisions=precisions)

    def scaled(self, gradient: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Return the gradient in units of θ, or of 1 where θ is smaller."""
        return gradient * np.maximum(1.0, np.abs(theta))

    def keep(
        self,
        which: np.ndarray,
        theta: np.ndarray,
        deviance: np.ndarray,
        gradient: np.ndarray,
        worse: float = 0.0,
    ) -> None:
        """Take places that are lower than the best known, or not more than `worse` above."""
        missing = which.max() + 1 - len(self.deviance)
        if missing > 0:
            unknown = np.full((missing, theta.shape[1]), np.nan)
            self.theta = np.concatenate([self.theta, unknown])
            self.gradient = np.concatenate([self.gradient, unknown])
            self.deviance = np.append(self.deviance, np.full(missing, np.inf))
        order = np.lexsort((deviance, which))
        order = order[np.unique(which[order], return_index=True)[1]]  # the lowest for each
        order = order[~(deviance[order] > self.deviance[which[order]] + worse)]
        at = which[order]
        self.theta[at], self.deviance[at] = theta[order], deviance[order]
        self.gradient[at] = gradient[order]

    def scored(
        self, theta: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Evaluation]:
        """Return the lowest place that two steps of Fisher scoring on D = ΛΛ' come by.

        With the arguments for `descend` that belong to it.
        """
        found = self.evaluate(theta, which, precisions=True)
        best, lowest = theta, found.deviance
        for _ in range(2):
            lambdas = lambda_matrices(theta, self.masks)
            units = _units(lambdas, self.masks)
            inverse = _inverse(self.information(found, units))
            move = np.einsum("sab,sb->sa", inverse, pack(found.slopes, self.masks))
            moves = np.split(move, np.cumsum([E.shape[1] for E in units])[:-1], axis=1)
            roots = [
                _root(lam @ lam.swapaxes(1, 2) - np.einsum("sk,skab->sab", x, E))
                for lam, x, E in zip(lambdas, moves, units, strict=True)
            ]
            theta = pack(roots, self.masks)
            found = self.evaluate(theta, which, precisions=True)
            lower = found.deviance < lowest
            best = np.where(lower[:, None], theta, best)
            lowest = np.where(lower, found.deviance, lowest)
        if not lower.all():
            found = self.evaluate(best, which, precisions=True)
        return best, which, found

    def information(self, found: Evaluation, units: list[np.ndarray]) -> np.ndarray:
        """Return expected second derivatives of d along directions of D, σ² being profiled out.

        Σ tr(T E T E') for one factor, its groups taken as independent, less what σ² shares.
        """
        nu = self.products.n - self.products.p if self.reml else self.products.n
        k = self.products.n_theta
        information = np.zeros((len(found.deviance), k, k))
        shared = np.zeros((len(found.deviance), k))
        start = 0
        for T, E in zip(found.precisions, units, strict=True):
            here = slice(start, start + E.shape[1])
            moments = np.einsum("asbj,csdj->sabcd", T, T)
            information[:, here, here] = np.einsum("sabcd,sebc,sfda->sef", moments, E, E)
            shared[:, here] = np.einsum("asbj,seba->se", T, E)
            start = here.stop
        return information - shared[:, :, None] * shared[:, None, :] / nu

    def bend(self, found: Evaluation, theta: np.ndarray) -> np.ndarray:
        """Return what ΛΛ' is curved by itself: 2Q within a column of Λ, with Q = ∂d/∂D.

        Where Λ goes to zero it is all the curvature there is; where it is negative it goes.
        """
        bend = np.zeros((*theta.shape, theta.shape[1]))
        lambdas, start = lambda_matrices(theta, self.masks), 0
        for lam, slope, mask in zip(lambdas, found.slopes, self.masks, strict=True):
            k = np.arange(len(mask))
            lam[:, k, k] = np.where(np.abs(lam[:, k, k]) < 1e-3, 1e-3, lam[:, k, k])
            Q = np.linalg.solve(lam.swapaxes(1, 2), slope.swapaxes(1, 2))  # twice Q
            values, vectors = np.linalg.eigh((Q + Q.swapaxes(1, 2)) / 2)
            Q = (vectors * np.maximum(values, 0)[:, None]) @ vectors.swapaxes(1, 2)
            columns, rows = np.nonzero(mask.T)
            here = slice(start, start + len(rows))
            bend[:, here, here] = (columns[:, None] == columns) * Q[:, rows[:, None], rows]
            start = here.stop
        return bend

    def descend(
        self, theta: np.ndarray, which: np.ndarray, found: Evaluation | None = None
    ) -> None:
        """BFGS with backtracking from every place; each has its own step and curvature.

        Ends where the decrease that the next step promises is lost in rounding, or where no
        shorter step goes down any more.
        """
        found = found or self.evaluate(theta, which, precisions=True)
        value, slope = found.deviance.copy(), pack(found.slopes, self.masks)
        units = _units(lambda_matrices(theta, self.masks), self.masks)
        inverse = _inverse(self.information(found, units) + self.bend(found, theta))
        theta, step = theta.copy(), np.ones(len(theta))
        for _ in range(200):
            direction = -np.einsum("sab,sb->sa", inverse, slope)
            promised = -np.einsum("sa,sa->s", slope, direction)
            on = np.flatnonzero((promised > 1e-12) & (step > 1e-9))
            if not len(on):
                break
            length = np.linalg.norm(direction[on], axis=1)
            longest = 2 + 2 * np.linalg.norm(theta[on], axis=1)
            move = (step[on] * np.minimum(1, longest / length))[:, None] * direction[on]
            new = self.evaluate(theta[on] + move, which[on])
            new_slope = pack(new.slopes, self.masks)
            before, after = (np.einsum("sa,sa->s", g, move) for g in (slope[on], new_slope))
            good = new.deviance <= value[on] + 1e-4 * before
            # Near the end a decrease drowns in rounding, and the slope along the step decides.
            noise = ROUNDING * np.abs(value[on]) * (1 + (theta[on] ** 2).max(axis=1))
            good |= (new.deviance <= value[on] + noise) & (
                np.abs(after) <= 0.9 * np.abs(before)
            )
            step[on] = np.where(good, 1.0, 0.3 * step[on])
            at, s, y = on[good], move[good], (new_slope - slope[on])[good]
            inverse[at] = _updated(inverse[at], s, y)
            theta[at] += s
            value[at], slope[at] = new.deviance[good], new_slope[good]
        self.keep(which, theta, value, slope)

    def settled(self, which: np.ndarray) -> Optimum:
        """Look away from zeros, put what vanishes at zero, and turn signs."""
        for k in np.flatnonzero(self.on_diagonal):
            # A search that ends at a zero ends at an optimum or, by symmetry, at a saddle.
            near = which[np.abs(self.theta[which, k]) < 0.01]
            for trial in (0.05, 0.3) if len(near) else ():
                moved = self.theta[near]
                moved[:, k] = trial
                lower = self.evaluate(moved, near).deviance < self.deviance[near] - 1e-6
                if lower.any():
                    self.descend(moved[lower], near[lower])
            tiny = which[np.abs(self.theta[which, k]) < SINGULAR]
            tiny = tiny[self.theta[tiny, k] != 0]
            if len(tiny):
                moved = self.theta[tiny]
                moved[:, k] = 0.0
                found = self.evaluate(moved, tiny)
                slope = pack(found.slopes, self.masks)
                self.keep(tiny, moved, found.deviance, slope, worse=1e-7)
        lambdas = lambda_matrices(self.theta, self.masks)
        signs = [np.where(np.einsum("saa->sa", lam) < 0, -1.0, 1.0) for lam in lambdas]
        flips = [np.ones_like(lam) * s[:, None] for lam, s in zip(lambdas, signs, strict=True)]
        flips = pack(flips, self.masks)
        scaled = self.scaled(self.gradient, self.theta)
        converged = (scaled**2 < 4e-7 * self.size).all(axis=1)
        theta, gradient = self.theta * flips, self.gradient * flips
        return Optimum(theta, self.deviance, gradient, converged, self.n_evaluations)


def _units(lambdas: list[np.ndarray], masks: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """How D = ΛΛ' moves with each free entry of Λ, one (S, entries, q, q) per factor."""
    units = []
    for lam, mask in zip(lambdas, masks, strict=True):
        columns, rows = np.nonzero(mask.T)
        half = np.zeros((len(lam), len(rows), *mask.shape))
        half[:, np.arange(len(rows)), rows] = lam.transpose(2, 0, 1)[columns].swapaxes(0, 1)
        units.append(half + half.swapaxes(2, 3))
    return units


def _inverse(curvature: np.ndarray) -> np.ndarray:
    """Inverse of symmetric matrices, eigenvalues lifted to 1e-4 in units of the diagonals."""
    curvature = np.nan_to_num(curvature)
    size = np.sqrt(np.maximum(np.einsum("skk->sk", curvature), 1e-8))
    units = size[:, :, None] * size[:, None, :]
    values, vectors = np.linalg.eigh(curvature / units)
    inverse = (vectors / np.maximum(values, 1e-4)[:, None]) @ vectors.swapaxes(1, 2)
    return inverse / units


def _root(D: np.ndarray) -> np.ndarray:
    """Lower-triangular root of D, (S, q, q), after lifting eigenvalues to 1e-4 or more."""
    values, vectors = np.linalg.eigh(np.nan_to_num(D))
    values = np.clip(values, 1e-4, 1e8)
    return np.linalg.cholesky((vectors * values[:, None]) @ vectors.swapaxes(1, 2))


def _updated(inverse: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """BFGS update of inverse Hessians (S, k, k): steps s changed the gradients by y."""
    sy = np.einsum("sa,sa->s", s, y)
    curved = sy > 1e-10 * np.linalg.norm(s, axis=1) * np.linalg.norm(y, axis=1)
    rho = np.where(curved, 1 / np.where(curved, sy, 1.0), 0.0)[:, None, None]
    left = np.eye(s.shape[1]) - rho * s[:, :, None] * y[:, None, :]
    return left @ inverse @ left.swapaxes(1, 2) + rho * s[:, :, None] * s[:, None, :]


def estimates(
    standardised: Standardised, reml: bool, start: np.ndarray | None = None
) -> list[Estimate]:
    """Fit a standardised model to each of its responses, and transform back.

    Parameters
    ----------
    standardised : Standardised
        The data, with S responses.
    reml : bool
        REML criterion instead of the ML deviance.
    start : ndarray, shape (S, n_theta), optional
        θ in standard units to start from.

    Returns
    -------
    list of Estimate
        One per response.
    """
    products = standardised.products
    optimum = minimise_deviance(products, reml, start)
    found = solve(optimum.theta, products, reml)
    beta, jacobian = standardised.beta(found.beta), standardised.jacobian(reml)
    x_inverse = np.linalg.inv(standardised.x_root)
    roots, transforms = standardised.relative_factors(optimum.theta), standardised.z_transforms
    small = optimum.theta[:, diagonal(products.masks)] < SINGULAR
    fits = []
    for i, scale in enumerate(standardised.y_scale):
        sigma = float(scale * found.sigma[i])
        factors = [root[i] for root in roots]
        fits.append(
            Estimate(
                theta=pack([_lower(factor) for factor in factors], products.masks),
                deviance=float(optimum.deviance[i] + jacobian[i]),
                beta=beta[i],
                cov_beta=sigma**2 * x_inverse @ found.unscaled_cov_beta[i] @ x_inverse.T,
                sigma=sigma,
                cov_re=[sigma**2 * factor @ factor.T for factor in factors],
                modes=[
                    scale * b[i] @ t.T for b, t in zip(found.modes, transforms, strict=True)
                ],
                cov_modes=[
                    sigma**2 * t @ cov[i] @ t.T
                    for cov, t in zip(found.unscaled_cov_modes, transforms, strict=True)
                ],
                is_singular=bool(small[i].any()),
                optimum=optimum.of(i),
            )
        )
    return fits


def estimate(
    standardised: Standardised, reml: bool, start: np.ndarray | None = None
) -> Estimate:
    """Fit a standardised model with one response; `start` has shape (n_theta,)."""
    return estimates(standardised, reml, None if start is None else start[None])[0]


def parameter_vector(theta: np.ndarray, standardised: Standardised, reml: bool) -> np.ndarray:
    """Return standard deviations and correlations, σ, and β at θ, in original units.

    Parameters
    ----------
    theta : ndarray, shape (S, n_theta)
        In standard units, one point per response.
    standardised : Standardised
    reml : bool
        As in `estimates`.

    Returns
    -------
    ndarray, shape (S, k)
        In the order of `sd_cor`, then σ, then β.
    """
    found = solve(theta, standardised.products, reml, random=False)
    sigma = standardised.y_scale * found.sigma
    spread = sd_cor(theta, sigma, standardised)
    return np.hstack([spread, sigma[:, None], standardised.beta(found.beta)])


def _lower(factor: np.ndarray) -> np.ndarray:
    """Lower-triangular square root of TΛ(TΛ)', its diagonal not negative."""
    # (TΛ)' = QR, so TΛ(TΛ)' = R'R with R' lower triangular, also when Λ is singular.
    R = np.linalg.qr(factor.T, mode="r")
    return (R * np.where(R.diagonal() < 0, -1.0, 1.0)[:, None]).T
