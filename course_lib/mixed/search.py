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
        return search.settled(np.array(start, dtype=float), np.arange(len(start)))
    on_diagonal = diagonal(products.masks)
    identity = on_diagonal.astype(float)
    S = len(products.K)
    best = search.settled(search.scored(np.tile(identity, (S, 1))), np.arange(S))
    pairs = zip(products.masks, products.n_levels, strict=True)
    few = any(len(mask) > 1 and n_levels <= FEW_GROUPS for mask, n_levels in pairs)
    doubtful = (best.theta[:, on_diagonal] < SINGULAR).any(axis=1) | few
    again = np.flatnonzero(doubtful)
    if not len(again) or len(identity) == 1 or products.n_crossed > MANY_COLUMNS:
        return best
    starts = [0.1 * identity, 10 * identity]
    if not on_diagonal.all():
        starts += [np.where(on_diagonal, 0.5, sign) for sign in (1.0, -1.0)]
    which = np.repeat(again, len(starts))
    others = search.settled(np.tile(starts, (len(again), 1)), which)
    theta, deviance = best.theta.copy(), best.deviance.copy()
    gradient, converged = best.gradient.copy(), best.converged.copy()
    by_start = others.deviance.reshape(len(again), -1)
    lowest = np.nanargmin(np.where(np.isnan(by_start), np.inf, by_start), axis=1)
    lowest += np.arange(len(again)) * len(starts)
    lower = others.deviance[lowest] < deviance[again]
    at, of = again[lower], lowest[lower]
    theta[at], deviance[at] = others.theta[of], others.deviance[of]
    gradient[at], converged[at] = others.gradient[of], others.converged[of]
    return Optimum(theta, deviance, gradient, converged, search.n_evaluations)


class _Search:
    """The searches of one model; counts the evaluations."""

    def __init__(self, products: CrossProducts, reml: bool):
        self.products, self.reml = products, reml
        self.nu = products.n - products.p if reml else products.n
        self.masks = products.masks
        self.size = max(products.n_levels)
        self.on_diagonal = diagonal(products.masks)
        self.n_evaluations = 0

    def evaluate(self, theta: np.ndarray, which: np.ndarray) -> Evaluation:
        self.n_evaluations += 1
        return evaluate(theta, self.products.responses(which), self.reml)

    def scored(self, theta: np.ndarray) -> np.ndarray:
        """Two steps of Fisher scoring on D = ΛΛ'; θ with the lowest deviance on the way."""
        which = np.arange(len(theta))
        directions = [np.array(_symmetric_units(mask)) for mask in self.masks]
        best, lowest = theta, np.full(len(theta), np.inf)
        for step in range(3):
            found = self.evaluate(theta, which)
            lower = found.deviance < lowest
            best = np.where(lower[:, None], theta, best)
            lowest = np.where(lower, found.deviance, lowest)
            if step == 2:
                break
            lambdas = lambda_matrices(theta, self.masks)
            units = [np.broadcast_to(E, (len(theta), *E.shape)) for E in directions]
            slope = _along(_by_covariance(found, lambdas), units)
            moves = _solve(self._information(found, units), slope)
            theta, start = [], 0
            for lam, E in zip(lambdas, directions, strict=True):
                move = np.einsum("sk,kab->sab", moves[:, start : start + len(E)], E)
                theta.append(_root(lam @ lam.swapaxes(1, 2) - move))
                start += len(E)
            theta = pack(theta, self.masks)
        return best

    def _information(self, found: Evaluation, units: list[np.ndarray]) -> np.ndarray:
        """Return expected second derivatives of d along directions of D, σ² being profiled out.

        Σ tr(T E T E') for one factor, its groups taken as independent, less what σ² shares.
        """
        S = len(found.deviance)
        k = sum(E.shape[1] for E in units)
        information, shared, start = np.zeros((S, k, k)), np.zeros((S, k)), 0
        for T, E, mask in zip(found.marginal, units, self.masks, strict=True):
            here = slice(start, start + E.shape[1])
            q = len(mask)
            r, J = len(T) // q, T.shape[-1]
            T = T.reshape(r, q, -1, r, q, J)
            moments = np.einsum("kasmbj,mcskdj->sabcd", T, T)
            information[:, here, here] = np.einsum("sabcd,sebc,sfda->sef", moments, E, E)
            shared[:, here] = np.einsum("kaskbj,seba->se", T, E)
            start = here.stop
        return information - shared[:, :, None] * shared[:, None, :] / self.nu

    def _curvature(self, found: Evaluation, theta: np.ndarray) -> np.ndarray:
        """Return the expected information on θ, with the curvature that ΛΛ' has by itself."""
        lambdas = lambda_matrices(theta, self.masks)
        units = []
        for lam, mask in zip(lambdas, self.masks, strict=True):
            half = np.array(_units(mask)) @ lam.swapaxes(1, 2)[:, None]
            units.append(half + half.swapaxes(2, 3))
        curvature, start = self._information(found, units), 0
        for Q, mask in zip(_by_covariance(found, lambdas), self.masks, strict=True):
            values, vectors = np.linalg.eigh((Q + Q.swapaxes(1, 2)) / 2)
            Q = (vectors * np.maximum(values, 0)[:, None]) @ vectors.swapaxes(1, 2)
            columns, rows = np.nonzero(mask.T)
            here = slice(start, start + len(rows))
            same = columns[:, None] == columns
            curvature[:, here, here] += 2 * same * Q[:, rows[:, None], rows]
            start = here.stop
        return curvature

    def settled(self, theta: np.ndarray, which: np.ndarray) -> Optimum:
        """Search by BFGS, look away from zeros, and put what vanishes at zero."""
        theta, deviance, gradient = self._bfgs(theta, which)
        for k in np.flatnonzero(self.on_diagonal):
            # A search that ends at a zero ends at an optimum or, by symmetry, at a saddle.
            near = np.flatnonzero(np.abs(theta[:, k]) < 0.01)
            for trial in (0.05, 0.3) if len(near) else ():
                moved = theta[near]
                moved[:, k] = trial
                lower = self.evaluate(moved, which[near]).deviance < deviance[near] - 1e-6
                if lower.any():
                    at = near[lower]
                    again = self._bfgs(moved[lower], which[at])
                    better = again[1] < deviance[at]
                    at = at[better]
                    theta[at], deviance[at], gradient[at] = (part[better] for part in again)
            tiny = np.flatnonzero((np.abs(theta[:, k]) < SINGULAR) & (theta[:, k] != 0))
            if len(tiny):
                moved = theta[tiny]
                moved[:, k] = 0.0
                found = self.evaluate(moved, which[tiny])
                same = found.deviance <= deviance[tiny] + 1e-7
                at = tiny[same]
                theta[at], deviance[at] = moved[same], found.deviance[same]
                gradient[at] = pack(found.slopes, self.masks)[same]
        lambdas = lambda_matrices(theta, self.masks)
        signs = [np.where(np.einsum("saa->sa", lam) < 0, -1.0, 1.0) for lam in lambdas]
        flips = [
            np.ones_like(lam) * sign[:, None] for lam, sign in zip(lambdas, signs, strict=True)
        ]
        flips = pack(flips, self.masks)
        scaled = gradient * np.maximum(1.0, np.abs(theta))
        converged = (scaled**2 < 4e-7 * self.size).all(axis=1)
        return Optimum(theta * flips, deviance, gradient * flips, converged, self.n_evaluations)

    def _bfgs(
        self, theta: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """BFGS with backtracking on every response; each has its own step and curvature.

        Ends where the decrease that the next step promises, and the gradient, are lost in
        rounding, or where no shorter step goes down any more.
        """
        found = self.evaluate(theta, which)
        value, slope = found.deviance.copy(), pack(found.slopes, self.masks)
        inverse = _inverse(self._curvature(found, theta))
        theta, step = theta.copy(), np.ones(len(theta))
        done = np.isnan(value)
        for _ in range(200):
            on = np.flatnonzero(~done & (step > 1e-9))
            if not len(on):
                break
            g = slope[on]
            direction = -np.einsum("sab,sb->sa", inverse[on], g)
            promised = -np.einsum("sa,sa->s", g, direction)
            steep = (np.abs(g) * np.maximum(1.0, np.abs(theta[on]))).max(axis=1)
            small = promised < 1e-12
            flat = small & (steep**2 < 4e-8 * self.size)
            done[on[flat]] = True
            lost = on[small & ~flat]  # the curvature cannot be right: begin it anew
            inverse[lost] = np.eye(theta.shape[1]) / self.size
            on = on[~small]
            if not len(on):
                continue
            g, direction = g[~small], direction[~small]
            length = np.linalg.norm(direction, axis=1)
            longest = 2 + 2 * np.linalg.norm(theta[on], axis=1)
            move = (step[on] * np.minimum(1, longest / length))[:, None] * direction
            new = self.evaluate(theta[on] + move, which[on])
            new_slope = pack(new.slopes, self.masks)
            allowed = value[on] + 1e-4 * np.einsum("sa,sa->s", g, move)
            good = new.deviance <= allowed
            # Near the end a decrease drowns in rounding, and the slope along the step decides.
            before, after = (np.einsum("sa,sa->s", k, move) for k in (g, new_slope))
            noise = ROUNDING * np.abs(value[on]) * (1 + (theta[on] ** 2).max(axis=1))
            level = new.deviance <= value[on] + noise
            good |= level & (np.abs(after) <= 0.9 * np.abs(before))
            step[on] = np.where(good, 1.0, 0.3 * step[on])
            at, s, y = on[good], move[good], (new_slope - g)[good]
            inverse[at] = _updated(inverse[at], s, y)
            theta[at] += s
            value[at], slope[at] = new.deviance[good], new_slope[good]
        return theta, value, slope


def _units(mask: np.ndarray) -> list[np.ndarray]:
    """Return the q × q matrices with a one at each free entry of Λ, in the order of θ."""
    columns, rows = np.nonzero(mask.T)
    unit = np.eye(len(mask))
    return [np.outer(unit[r], unit[c]) for r, c in zip(rows, columns, strict=True)]


def _symmetric_units(mask: np.ndarray) -> list[np.ndarray]:
    return [(unit + unit.T) / 2 for unit in _units(mask)]


def _by_covariance(found: Evaluation, lambdas: list[np.ndarray]) -> list[np.ndarray]:
    """Return Q = ∂d/∂D with D = ΛΛ', from ∂d/∂Λ = 2QΛ, Λ kept from being singular."""
    derivatives = []
    for slope, lam in zip(found.slopes, lambdas, strict=True):
        safe = lam.copy()
        k = np.arange(lam.shape[-1])
        small = np.abs(safe[:, k, k]) < 1e-3
        safe[:, k, k] = np.where(small, 1e-3, safe[:, k, k])
        Q = np.linalg.solve(safe.swapaxes(1, 2), slope.swapaxes(1, 2)) / 2
        derivatives.append((Q + Q.swapaxes(1, 2)) / 2)
    return derivatives


def _along(matrices: list[np.ndarray], units: list[np.ndarray]) -> np.ndarray:
    pairs = zip(matrices, units, strict=True)
    return np.concatenate([np.einsum("sab,skab->sk", Q, E) for Q, E in pairs], axis=1)


def _inverse(curvature: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix, its eigenvalues kept away from zero and positive."""
    curvature = np.where(np.isfinite(curvature), curvature, 0.0)
    values, vectors = np.linalg.eigh(curvature)
    floor = np.maximum(1e-4 * values[:, -1:], 1e-8)
    return (vectors / np.maximum(values, floor)[:, None]) @ vectors.swapaxes(1, 2)


def _solve(information: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.einsum("sab,sb->sa", _inverse(information), slope)


def _root(D: np.ndarray) -> np.ndarray:
    """Lower-triangular root of D, (S, q, q), after lifting eigenvalues to 1e-4 or more."""
    values, vectors = np.linalg.eigh(np.where(np.isfinite(D), D, np.eye(D.shape[-1])))
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
