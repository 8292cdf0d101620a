r"""Deviances of one model refitted to many responses at once: the inner loop of a bootstrap.

A new response changes only Z_j'y, X'y and y'y (notation of `profiled_deviance`). With one
grouping factor the group sums enter the deviance only through Z_j'Z_j and outer products of
C_j = Z_j'[X, y], so groups with equal Z_j'Z_j = F_u (all of them in a balanced design) can be
added up beforehand. With A_u = Λ'F_uΛ + I and M_u = ΛA_u⁻¹Λ',

.. math:: S = [X y]'[X y] - \sum_u \sum_{j \in u} C_j' M_u C_j, \qquad
          \frac{\partial d}{\partial Λ} = 2 \sum_u \Big[ J_u F_u ΛA_u^{-1}
          - (I - F_u M_u) \Big(\sum_{j \in u} C_j G C_j'\Big) ΛA_u^{-1} \Big]

where J_u counts the groups of kind u. All responses are searched side by side. Several
grouping factors are refitted one response at a time by `minimise_deviance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from course_lib.mixed.scaling import Standardised, with_response
from course_lib.mixed.search import minimise_deviance

__all__ = ["batch_size", "refit_deviances"]

BUDGET = 4_000_000  # numbers held at a time: 32 MB


def refit_deviances(
    standardised: Standardised, responses: np.ndarray, reml: bool
) -> np.ndarray:
    """Minimise the deviance for each of many responses.

    Parameters
    ----------
    standardised : Standardised
        The model.
    responses : ndarray, shape (B, n)
        One response per row.
    reml : bool
        REML criterion instead of the ML deviance.

    Returns
    -------
    ndarray, shape (B,)
        Minimised deviances in the units of the responses.
    """
    if len(standardised.factors) > 1:
        return np.array([_refit_one(standardised, y, reml) for y in responses])
    batch, log_scale = _make_batch(standardised, responses)
    deviances, converged = _minimise(batch, reml)
    nu = batch.n - batch.p if reml else batch.n
    deviances += 2 * nu * log_scale
    if reml:
        deviances += 2 * np.log(np.abs(standardised.x_root.diagonal())).sum()
    for i in np.flatnonzero(~converged):
        deviances[i] = _refit_one(standardised, responses[i], reml)
    return deviances


def batch_size(standardised: Standardised) -> int:
    """How many responses to refit at a time, so that memory stays small."""
    products = standardised.products
    groups, q = products.block_gram.shape[:2]
    m = products.p + 1
    return int(np.clip(BUDGET // max(groups * (q * m) ** 2, products.n), 1, 250))


def _refit_one(standardised: Standardised, y: np.ndarray, reml: bool) -> float:
    drawn = with_response(standardised, y)
    return minimise_deviance(drawn.products, reml).deviance + drawn.jacobian(reml)


@dataclass(frozen=True)
class _Batch:
    """Cross-products of B responses in standard units; U kinds of groups.

    ``kinds`` (U, q, q) are the distinct Z_j'Z_j and ``counts`` (U,) how often each occurs;
    ``outer`` (B, U q q, m m) holds Σ C_j C_j' by kind; ``gram`` (B, m, m) is [X y]'[X y];
    ``rows`` and ``columns`` say where in Λ the entries of θ stand.
    """

    kinds: np.ndarray
    counts: np.ndarray
    outer: np.ndarray
    gram: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    n: int
    p: int

    def part(self, which: np.ndarray) -> _Batch:
        """Return some of the responses only."""
        return replace(self, outer=self.outer[which], gram=self.gram[which])


def _make_batch(standardised: Standardised, responses: np.ndarray) -> tuple[_Batch, np.ndarray]:
    """Cross-products with every response, and the log of each response's scale."""
    products, factor, X = standardised.products, standardised.factors[0], standardised.X
    size, (n, p) = len(responses), X.shape
    y = responses - (responses @ X / n) @ X.T
    scale = np.sqrt(np.einsum("bn,bn->b", y, y) / n)
    y /= scale[:, None]
    order = np.argsort(factor.codes, kind="stable")
    starts = np.searchsorted(factor.codes[order], np.arange(factor.n_levels))
    groups, q = products.block_gram.shape[:2]
    m = p + 1
    cross = np.empty((size, groups, q, m))
    cross[:] = products.block_cross.reshape(groups, q, m)
    for k in range(q):
        cross[:, :, k, -1] = np.add.reduceat((y * factor.columns[:, k])[:, order], starts, 1)
    gram = np.empty((size, m, m))
    gram[:] = products.gram
    gram[:, -1, :-1] = gram[:, :-1, -1] = y @ X
    gram[:, -1, -1] = n

    # Sums in another order may differ in the last digits: equal up to rounding is equal.
    flat = products.block_gram.reshape(groups, -1)
    rounded = np.round(flat / np.abs(flat).max(), 11) + 0.0
    _, first, kind = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    kind = kind.reshape(-1)
    outer = np.empty((size, len(first), q, q, m, m))
    for u in range(len(first)):
        C = cross[:, kind == u].reshape(size, -1, q * m)
        sums = (C.transpose(0, 2, 1) @ C).reshape(size, q, m, q, m)
        outer[:, u] = sums.transpose(0, 1, 3, 2, 4)
    columns, rows = np.nonzero(factor.mask.T)
    batch = _Batch(
        kinds=products.block_gram[first],
        counts=np.bincount(kind),
        outer=outer.reshape(size, -1, m * m),
        gram=gram,
        rows=rows,
        columns=columns,
        n=n,
        p=p,
    )
    return batch, np.log(scale)


def _deviance_and_gradient(
    theta: np.ndarray, batch: _Batch, reml: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Deviances (B,) and gradients (B, k) at θ (B, k): see the module docstring."""
    size, p = len(theta), batch.p
    U, q = batch.kinds.shape[:2]
    m, nu = p + 1, batch.n - p if reml else batch.n
    lam = np.zeros((size, 1, q, q))
    lam[:, 0, batch.rows, batch.columns] = theta
    A = lam.transpose(0, 1, 3, 2) @ batch.kinds @ lam + np.eye(q)
    logdet = np.linalg.slogdet(A)[1] @ batch.counts
    P = lam @ np.linalg.inv(A)
    M = P @ lam.transpose(0, 1, 3, 2)
    S = batch.gram - (M.reshape(size, 1, -1) @ batch.outer).reshape(size, m, m)
    beta = np.linalg.solve(S[:, :p, :p], S[:, :p, p:])
    r2 = S[:, p, p] - np.einsum("bi,bi->b", S[:, p, :p], beta[:, :, 0])
    contrast = np.concatenate([-beta, np.ones((size, 1, 1))], axis=1)
    G = (nu / r2)[:, None, None] * contrast @ contrast.transpose(0, 2, 1)
    if reml:
        logdet += np.linalg.slogdet(S[:, :p, :p])[1]
        G[:, :p, :p] += np.linalg.inv(S[:, :p, :p])
    H = (batch.outer @ G.reshape(size, -1, 1)).reshape(size, U, q, q)
    weight = batch.counts[:, None, None] * batch.kinds
    slope = 2 * ((weight - H + batch.kinds @ M @ H) @ P).sum(axis=1)
    deviance = logdet + nu * (1 + np.log(2 * np.pi * r2 / nu))
    return deviance, slope[:, batch.rows, batch.columns]


def _minimise(batch: _Batch, reml: bool) -> tuple[np.ndarray, np.ndarray]:
    """Minimised deviances and whether each search converged; see `minimise_deviance`."""
    diagonal = np.flatnonzero(batch.rows == batch.columns)
    start = np.zeros((len(batch.gram), len(batch.rows)))
    start[:, diagonal] = 0.5
    theta, best, converged = _search(start, batch, reml)
    # A search that ends at a zero ends at an optimum or, by symmetry, at a saddle.
    for k in diagonal:
        near = np.flatnonzero(np.abs(theta[:, k]) < 1e-2)
        few = batch.part(near)
        for trial in (0.05, 0.3) if len(near) else ():
            moved = theta[near]
            moved[:, k] = trial
            lower = _deviance_and_gradient(moved, few, reml)[0] < best[near] - 1e-6
            if lower.any():
                again, at = _search(moved[lower], few.part(lower), reml), near[lower]
                theta[at], best[at], converged[at] = again
    return best, converged


def _search(
    theta: np.ndarray, batch: _Batch, reml: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BFGS with backtracking on every response at once; each has its own step and curvature.

    Stops where the largest gradient component is below 1e-5 a group: the deviance is then
    within about 1e-9 of its minimum.
    """
    n_groups, k = batch.counts.sum(), theta.shape[1]
    theta = theta.copy()
    value, slope = _deviance_and_gradient(theta, batch, reml)
    inverse = np.tile(np.eye(k) / n_groups, (len(theta), 1, 1))
    step = np.ones(len(theta))
    for _ in range(200):
        on = np.flatnonzero((np.abs(slope).max(axis=1) > 1e-5 * n_groups) & (step > 1e-10))
        if not len(on):
            break
        g = slope[on]
        direction = -np.einsum("bij,bj->bi", inverse[on], g)
        length = np.linalg.norm(direction, axis=1)
        move = (step[on] * np.minimum(1, 1 / length))[:, None] * direction
        few = batch if len(on) == len(theta) else batch.part(on)
        new_value, new_slope = _deviance_and_gradient(theta[on] + move, few, reml)
        good = new_value <= value[on] + 1e-4 * np.einsum("bi,bi->b", g, move)
        step[on] = np.where(good, 1.0, 0.3 * step[on])
        at, s, y = on[good], move[good], (new_slope - g)[good]
        inverse[at] = _update(inverse[at], s, y)
        theta[at], value[at], slope[at] = theta[at] + s, new_value[good], new_slope[good]
    return theta, value, np.abs(slope).max(axis=1) <= 1e-5 * n_groups


def _update(inverse: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """BFGS update of inverse Hessians (B, k, k): steps s changed the gradients by y."""
    sy = np.einsum("bi,bi->b", s, y)
    curved = sy > 1e-10 * np.linalg.norm(s, axis=1) * np.linalg.norm(y, axis=1)
    rho = np.where(curved, 1 / np.where(curved, sy, 1.0), 0.0)[:, None, None]
    left = np.eye(s.shape[1]) - rho * s[:, :, None] * y[:, None, :]
    return left @ inverse @ left.transpose(0, 2, 1) + rho * s[:, :, None] * s[:, None, :]
