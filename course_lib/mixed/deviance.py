r"""The numerical core: the profiled deviance of a linear mixed model and its exact gradient.

Arrays in, numbers out. The model for n rows is

.. math:: y = X\beta + Z b + \varepsilon, \quad b \sim N(0, \sigma^2 \Lambda\Lambda'),
          \quad \varepsilon \sim N(0, \sigma^2 I).

For a given relative covariance factor Λ(θ), the best β and σ have closed forms, so only θ has
to be searched (Bates, Mächler, Bolker & Walker 2015, doi:10.18637/jss.v067.i01). All that is
needed from the data are cross-products: G and C of every group, K = W'W (see `cross_products`).

**Up.** Level by level, innermost first, the random effects of every group are eliminated, as in
Gaussian elimination. With C = [C_L | C_W], the columns of the group's parents and those of W,

* A = Λ'GΛ + I = R⁻¹R'⁻¹,  B = RΛ',  M = B'B = ΛA⁻¹Λ',  logdet += Σ log|A|
* K -= Σ C_W' M C_W
* D = Σ C_L' M [C_L | C_W] over the groups of one parent is taken from what the parent has: its
  own rows from G and C at the next level, the rest at the levels after that.

**Top.** K is left, for the crossed factors, X and y. With Δ = diag(Λ of the crossed, I) and
S = Δ'KΔ + diag(I, 0) = LL', and r the last diagonal entry of L,

* ML:   d = logdet + log|S₂₂| + n (1 + log(2πr²/n))
* REML: d = logdet + log|S₂₂| + 2 log|L_X| + (n-p) (1 + log(2πr²/(n-p)))

where S₂₂ belongs to the crossed columns and L_X is the part of L that belongs to X.

**Down.** V = ∂d/∂K = Δ ∂d/∂S Δ' starts the way back, outermost first. A group knows V for all
that lies above it, its parents and W, and

* F = C V C',  T = I - MG,  Q = Σ (GT - T'FT),  ∂d/∂Λ = 2QΛ
* its own part of V, for the groups below it: V_own,own = M + MFM and V_own,rest = -M C V.

The same way down, started from other V, gives the covariances of the random effects. θ = 0
needs no inverse of Λ, so a singular fit is just a fit. θ may hold many points, and the
cross-products many responses: all are evaluated at once. NumPy only; nothing here knows about
formulas or data frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from course_lib.mixed.cross_products import CrossProducts, LevelProducts

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "Evaluation",
    "Solution",
    "chain_covariances",
    "deviance_and_gradient",
    "diagonal",
    "evaluate",
    "lambda_matrices",
    "pack",
    "solve",
]

LARGE = 50  # from this size on LAPACK's own routine for a symmetric inverse pays
WIDE = 8  # from so many columns on matrix products group by group pay


def lambda_matrices(theta: np.ndarray, masks: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Fill the free entries of each Λ with θ, column by column as lme4 does.

    Parameters
    ----------
    theta : ndarray, shape (..., n_theta)
        Free entries of all Λ.
    masks : tuple of ndarray of bool
        One per factor, shape (q, q): where Λ has a free entry.

    Returns
    -------
    list of ndarray, each (..., q, q)

    Examples
    --------
    >>> lambda_matrices(np.array([1.0, 2.0, 3.0]), (np.tril(np.ones((2, 2), dtype=bool)),))
    [array([[1., 0.],
           [2., 3.]])]

    See Also
    --------
    pack : The way back.
    """
    matrices, start = [], 0
    for mask in masks:
        columns, rows = np.nonzero(mask.T)
        matrix = np.zeros((*theta.shape[:-1], *mask.shape))
        matrix[..., rows, columns] = theta[..., start : start + len(rows)]
        matrices.append(matrix)
        start += len(rows)
    return matrices


def pack(matrices: list[np.ndarray], masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the free entries of one matrix per factor as one vector in the order of θ.

    Parameters
    ----------
    matrices : list of ndarray, each (..., q, q)
    masks : tuple of ndarray of bool
        As in `lambda_matrices`.

    Returns
    -------
    ndarray, shape (..., n_theta)

    Examples
    --------
    >>> mask = np.tril(np.ones((2, 2), dtype=bool))
    >>> pack([np.array([[1.0, 9.0], [2.0, 3.0]])], (mask,))
    array([1., 2., 3.])

    See Also
    --------
    lambda_matrices : The way back.
    """
    entries = []
    for matrix, mask in zip(matrices, masks, strict=True):
        columns, rows = np.nonzero(mask.T)
        entries.append(matrix[..., rows, columns])
    return np.concatenate(entries, axis=-1)


def diagonal(masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return which entries of θ stand on a diagonal of Λ, shape (n_theta,)."""
    return pack([np.eye(len(mask), dtype=bool) for mask in masks], masks)


def _times(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return A B for every response and group: (a, S, b, J) times (b, S, c, J)."""
    if len(A) < WIDE:
        return np.einsum("asbj,bscj->ascj", A, B)
    return (A.transpose(1, 3, 0, 2) @ B.transpose(1, 3, 0, 2)).transpose(2, 0, 3, 1)


def _swap(A: np.ndarray) -> np.ndarray:
    """Transpose for every response and group."""
    return A.transpose(2, 1, 0, 3)


def _inverse_root(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R lower triangular with R'R = A⁻¹, (q, S, q, J), and log|A|, (S, J), of symmetric A ≥ I.

    R is the inverse of the Cholesky factor. Small ones are computed column by column, for all
    groups together.
    """
    q = len(A)
    if q > 4:
        L = np.linalg.cholesky(A.transpose(1, 3, 0, 2))
        logdet = 2 * np.log(np.einsum("sjaa->sja", L)).sum(axis=-1)
        return np.linalg.inv(L).transpose(2, 0, 3, 1), logdet
    if q == 1:
        return 1 / np.sqrt(A), np.log(A[0, :, 0])
    L, R, logdet = np.zeros_like(A), np.zeros_like(A), 0.0
    for k in range(q):
        pivot = A[k, :, k] - (L[k, :, :k] ** 2).sum(axis=1)
        logdet = logdet + np.log(pivot)
        R[k, :, k] = 1 / np.sqrt(pivot)
        for i in range(k + 1, q):
            L[i, :, k] = (A[i, :, k] - (L[i, :, :k] * L[k, :, :k]).sum(axis=1)) * R[k, :, k]
        for i in range(k):
            R[k, :, i] = -R[k, :, k] * (L[k, :, i:k] * R[i:k, :, i].swapaxes(0, 1)).sum(axis=1)
    return R, logdet


def _times_lambda(A: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Multiply A, (k, S, r q, J), by Λ, (S, q, q), in each of the r copies."""
    blocks = A.reshape(*A.shape[:2], -1, lam.shape[-1], A.shape[3])
    product = np.einsum("ksrbj,sbc->ksrcj", blocks, lam)
    return product.reshape(len(A), -1, *A.shape[2:])


@dataclass(frozen=True)
class _Step:
    """What the way up leaves at one level for the way down, shapes as in `LevelProducts`."""

    level: LevelProducts
    gram: np.ndarray  # G and
    cross: np.ndarray  # C without what the levels below take
    M: np.ndarray


def _up(
    lambdas: list[np.ndarray], products: CrossProducts
) -> tuple[list[_Step], np.ndarray, np.ndarray]:
    """Eliminate the levels: steps, what is left of K, (S, w, w), and Σ log|A|, (S,)."""
    steps, K, logdet, carried = [], products.K, 0.0, None
    for level in products.levels:
        G, C, q, L = level.gram, level.cross, len(level.gram), level.n_above
        if carried is not None:
            G = G - carried[:q, :, :q]
            C = C - carried[:q, :, q:]
            carried = carried[q:, :, q:]
        lam = lambdas[level.factor]
        A = _times_lambda(_swap(_times_lambda(G, lam)), lam)
        A[np.arange(q), :, np.arange(q)] += 1.0
        R, logdets = _inverse_root(A)
        B = _times_lambda(R, lam.swapaxes(1, 2))
        M, BC = _times(_swap(B), B), _times(B, C)
        K = K - _taken_from_K(BC[:, :, L:], M, level)
        logdet = logdet + logdets.sum(axis=-1)
        if L:
            D = _summed_for_parents(BC, L, level.parent)
            carried = D if carried is None else D + _family_sums(carried, level.parent)
        steps.append(_Step(level, G, C, M))
    return steps, K, logdet


def _taken_from_K(BC: np.ndarray, M: np.ndarray, level: LevelProducts) -> np.ndarray:
    """Σ C_W' M C_W over all groups, (S, w, w), from BC_W where M = B'B."""
    if level.overlaps is None:
        return (BC @ BC.swapaxes(2, 3)).sum(axis=0)
    _, S, w, _ = BC.shape
    k = round(level.overlaps.shape[0] ** 0.5)
    taken = np.empty((S, w, w))
    taken[:, :, k:] = (BC @ BC[:, :, k:].swapaxes(2, 3)).sum(axis=0)
    taken[:, k:, :k] = taken[:, :k, k:].swapaxes(1, 2)
    by_pair = level.overlaps @ M.transpose(0, 2, 3, 1).reshape(-1, S)
    taken[:, :k, :k] = by_pair.T.reshape(S, k, k)
    return taken


def _sparse_forms(C: np.ndarray, V_W: np.ndarray, overlaps: sparse.csc_array) -> np.ndarray:
    """C V C' for every group of the only level, (q, S, q, groups)."""
    q, k, J = len(C), round(overlaps.shape[0] ** 0.5), C.shape[-1]
    F = (overlaps.T @ V_W[:, :k, :k].reshape(len(V_W), -1).T).reshape(q, q, J, -1)
    F = F.transpose(0, 3, 1, 2)
    half = V_W[:, k:, :k] @ C[:, :, :k]
    U_F = half + V_W[:, k:, k:] @ C[:, :, k:]
    F = F + np.einsum("ascj,bscj->asbj", U_F, C[:, :, k:])
    return F + np.einsum("ascj,bscj->asbj", C[:, :, k:], half)


def _families(parent: np.ndarray) -> np.ndarray:
    """Where the groups of each parent begin."""
    return np.flatnonzero(np.diff(parent, prepend=-1))


def _slices(parent: np.ndarray) -> list[slice]:
    starts = [*_families(parent).tolist(), len(parent)]
    return [slice(a, b) for a, b in zip(starts[:-1], starts[1:], strict=True)]


def _family_sums(A: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Sum over the groups of each parent, along the last axis."""
    starts = _families(parent)
    return np.add.reduceat(A, starts, axis=-1) if len(starts) < A.shape[-1] else A


def _summed_for_parents(BC: np.ndarray, L: int, parent: np.ndarray) -> np.ndarray:
    """D = Σ C_L' M C over the groups of each parent, (L, S, L + w, parents); M = B'B."""
    if L < WIDE:
        return _family_sums(np.einsum("aslj,ascj->lscj", BC[:, :, :L], BC), parent)
    families = _slices(parent)
    D = np.empty((L, *BC.shape[1:3], len(families)))
    for k, here in enumerate(families):
        family = BC[..., here]
        product = family[:, :, :L] @ family.swapaxes(2, 3)  # (q, S, L, L + w)
        D[..., k] = product.sum(axis=0).swapaxes(0, 1)
    return D


def _down(
    steps: list[_Step], V_W: np.ndarray
) -> Iterator[tuple[_Step, np.ndarray, np.ndarray | None]]:
    """Go back down from V of W, (S, w, w): yield each step, its F = CVC', and V of its parents.

    The last is what they know of themselves and of what lies above them,
    (L, S, L + w, parents).
    """
    V = None
    for i in reversed(range(len(steps))):
        step = steps[i]
        if step.level.overlaps is not None:
            yield step, _sparse_forms(step.cross, V_W, step.level.overlaps), None
            return
        U = _along(step, V_W, V)
        F = np.einsum("ascj,bscj->asbj", U, step.cross)
        yield step, F, V
        if i:
            V = _joined(step, F, U, V)


def _along(step: _Step, V_W: np.ndarray, V: np.ndarray | None) -> np.ndarray:
    """U = CV for every group, (q, S, L + w, groups)."""
    C, L = step.cross, step.level.n_above
    U = V_W[None] @ C[:, :, L:]
    if L:
        U = np.concatenate([np.zeros((*U.shape[:2], L, U.shape[3])), U], axis=2)
        U += _known_from_parents(C, V, step.level)
    return U


def _known_from_parents(C: np.ndarray, V: np.ndarray, level: LevelProducts) -> np.ndarray:
    """C V without the part of W with itself: what a group learns from its parents' V."""
    L = level.n_above
    if L < WIDE:
        V = np.take(V, level.parent, axis=-1)
        U = np.einsum("aslj,lscj->ascj", C[:, :, :L], V)
        U[:, :, :L] += np.einsum("aswj,lswj->aslj", C[:, :, L:], V[:, :, L:])
        return U
    U = np.empty((len(C), max(C.shape[1], V.shape[1]), *C.shape[2:]))
    for k, here in enumerate(_slices(level.parent)):
        known = V[..., k].transpose(1, 2, 0)  # (S, L + w, L)
        U[..., here] = known @ C[:, :, :L, here]
        U[:, :, :L, here] += known[:, L:].swapaxes(1, 2) @ C[:, :, L:, here]
    return U


def _joined(step: _Step, F: np.ndarray, U: np.ndarray, V: np.ndarray | None) -> np.ndarray:
    """V of a group's own effects and its parents': (q + L, S, q + L + w, groups)."""
    rest = -_times(step.M, U)
    own = np.concatenate([_own_covariance(step.M, F), rest], axis=2)
    if V is None:
        return own
    V = np.take(V, step.level.parent, axis=-1)
    above = np.concatenate([_swap(rest[:, :, : step.level.n_above]), V], axis=2)
    return np.concatenate([own, above])


def _own_covariance(M: np.ndarray, F: np.ndarray) -> np.ndarray:
    return M + _times(M, _times(F, M))


@dataclass(frozen=True)
class _Top:
    """The end of the way up: S = LL' with its inverse parts, for every response."""

    root_diagonal: np.ndarray  # (S, w), the diagonal of L
    contrast: np.ndarray  # (S, w), [-u, -β, 1]: W Δ contrast = y - Z₂b₂ - Xβ
    inverse: np.ndarray  # (S, m, m), of the crossed columns (ML), and of X too (REML)


def _top(S: np.ndarray, m: int) -> _Top:
    """Factorise S, (responses, w, w); a matrix that rounding left indefinite gives NaN."""
    L = _cholesky(S)
    if S.shape[-1] < LARGE:
        root = np.linalg.inv(L)
        contrast = root[:, -1] * L[:, -1:, -1]
        inverse = root[:, :m, :m].transpose(0, 2, 1) @ root[:, :m, :m]
    else:
        from scipy.linalg.lapack import dpotri, dtrtrs  # slow to import

        # L' is upper triangular as LAPACK stores it; what is below stays zero.
        last = [dtrtrs(one[:-1, :-1].T, one[-1, :-1])[0] for one in L]
        contrast = np.hstack([-np.array(last), np.ones((len(L), 1))])
        inverse = np.empty((len(L), m, m))
        for i, one in enumerate(L):
            upper = dpotri(one[:m, :m].T)[0]
            np.add(upper, upper.T, out=inverse[i])
            inverse[i, np.arange(m), np.arange(m)] /= 2
    return _Top(np.einsum("sww->sw", L), contrast, inverse)


def _cholesky(S: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        if len(S) == 1:
            return np.full_like(S, np.nan)
        return np.concatenate([_cholesky(one[None]) for one in S])


def _crossed_scale(lambdas: list[np.ndarray], products: CrossProducts, matrix: np.ndarray):
    """Multiply the crossed columns of `matrix`, (S, k, w), from the right by Δ."""
    if not products.crossed:
        return matrix
    shape = (max(len(matrix), len(lambdas[0])), *matrix.shape[1:])
    scaled, start = np.broadcast_to(matrix, shape).copy(), 0
    for f in products.crossed:
        lam, J = lambdas[f], products.n_levels[f]
        stop = start + J * lam.shape[-1]
        blocks = matrix[:, :, start:stop].reshape(len(matrix), -1, lam.shape[-1])
        product = np.einsum("skb,sbc->skc", blocks, lam)
        scaled[:, :, start:stop] = product.reshape(shape[0], shape[1], -1)
        start = stop
    return scaled


def _transposed(lambdas: list[np.ndarray]) -> list[np.ndarray]:
    return [lam.swapaxes(-1, -2) for lam in lambdas]


@dataclass(frozen=True)
class _Factorisation:
    lambdas: list[np.ndarray]  # (S, q, q) each
    steps: list[_Step]
    K: np.ndarray  # (S, w, w)
    top: _Top
    logdet: np.ndarray  # (S,)


def _factorise(theta: np.ndarray, products: CrossProducts, reml: bool) -> _Factorisation:
    """Go up and factorise what is left; θ is (S, n_theta)."""
    lambdas = lambda_matrices(theta, products.masks)
    steps, K, logdet = _up(lambdas, products)
    n_crossed = products.n_crossed
    half = _crossed_scale(lambdas, products, K)
    S = _crossed_scale(lambdas, products, half.swapaxes(1, 2))
    if n_crossed:
        S[:, np.arange(n_crossed), np.arange(n_crossed)] += 1.0
    top = _top(S, n_crossed + (products.p if reml else 0))
    logdet = logdet + 2 * np.log(top.root_diagonal[:, :n_crossed]).sum(axis=1)
    return _Factorisation(lambdas, steps, K, top, logdet)


@dataclass(frozen=True)
class Evaluation:
    """The deviance at S points, with all that a search asks for.

    Attributes
    ----------
    deviance : ndarray, shape (S,)
        -2 log-likelihood (ML) or the REML criterion.
    r2 : ndarray, shape (S,)
        Penalised residual sum of squares, r² of the module docstring.
    slopes : list of ndarray, each (S, q, q)
        Derivative with respect to every entry of Λ, one array per factor.
    marginal : list of ndarray
        One per factor, (q, S, q, groups or 1): the precision that the data have about its
        effects once the levels below are eliminated, T = G - GMG, kept for the expected
        information. Copies are counted in q.
    """

    deviance: np.ndarray
    r2: np.ndarray
    slopes: list[np.ndarray]
    marginal: list[np.ndarray]


def evaluate(
    theta: np.ndarray, products: CrossProducts, reml: bool, sigma: np.ndarray | None = None
) -> Evaluation:
    r"""Evaluate the deviance at many θ, or one θ per response, or both.

    Parameters
    ----------
    theta : ndarray, shape (S, n_theta)
        Free entries of Λ; one point per response where there is more than one response.
    products : CrossProducts
        The data.
    reml : bool
        REML criterion instead of the ML deviance.
    sigma : ndarray, shape (S,), optional
        Residual standard deviation. By default it is profiled out; given, the value is
        logdet + ν log(2πσ²) + r²/σ², with ν = n (ML) or n - p (REML).

    Returns
    -------
    Evaluation

    Notes
    -----
    ∂d/∂S is the inverse of S₂₂ (ML) or of the [Z₂, X] part of S (REML), padded with zeros, plus
    the rank-one term w cc'/r² with c = [-u, -β, 1] and w = ν, or r²/σ² when σ is given. For a
    crossed factor the derivative is the sum over its groups of the diagonal blocks of
    2KΔ ∂d/∂S.
    """
    f = _factorise(theta, products, reml)
    nu = products.n - products.p if reml else products.n
    n_crossed, m = products.n_crossed, f.top.inverse.shape[1]
    r2 = f.top.root_diagonal[:, -1] ** 2
    deviance = f.logdet
    if reml:
        deviance = deviance + 2 * np.log(f.top.root_diagonal[:, n_crossed:-1]).sum(axis=1)
    if sigma is None:
        deviance = deviance + nu * (1 + np.log(2 * np.pi * r2 / nu))
        weight = nu / r2
    else:
        deviance = deviance + nu * np.log(2 * np.pi * sigma**2) + r2 / sigma**2
        weight = 1 / sigma**2 * np.ones_like(r2)
    slope = weight[:, None, None] * f.top.contrast[:, :, None] * f.top.contrast[:, None, :]
    slope[:, :m, :m] += f.top.inverse
    half = _crossed_scale(_transposed(f.lambdas), products, slope)  # ∂d/∂S Δ'
    V = _crossed_scale(_transposed(f.lambdas), products, half.swapaxes(1, 2))

    slopes, marginal = [None] * len(products.masks), [None] * len(products.masks)
    for step, F, _ in _down(f.steps, V):
        T = -_times(step.M, step.gram)
        T[np.arange(len(T)), :, np.arange(len(T))] += 1.0
        GT = _times(step.gram, T)
        Q = GT.sum(axis=-1) - _times(_swap(T), _times(F, T)).sum(axis=-1)
        r = step.level.n_copies
        blocks = Q.reshape(r, -1, Q.shape[1], r, len(Q) // r)
        Q = np.einsum("kaskb->sab", blocks)
        slopes[step.level.factor] = 2 * Q @ f.lambdas[step.level.factor]
        marginal[step.level.factor] = GT
    start = 0
    for factor in products.crossed:
        J, q = products.n_levels[factor], len(products.masks[factor])
        rows = slice(start, start + J * q)
        left = f.K[:, rows].reshape(len(f.K), J, q, -1)
        right = half[:, rows].reshape(len(half), J, q, -1)
        slopes[factor] = 2 * np.einsum("sjaw,sjbw->sab", left, right)
        marginal[factor] = _crossed_marginal(f.K[:, rows, rows], f.lambdas[factor])
        start = rows.stop
    return Evaluation(deviance, r2, slopes, marginal)


def _crossed_marginal(K: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """G - GMG from the diagonal blocks of K, as if the groups were a level of their own."""
    S, q = len(K), lam.shape[-1]
    J = K.shape[-1] // q
    G = np.einsum("sjajb->asbj", K.reshape(S, J, q, J, q))
    covariance = (lam @ lam.swapaxes(1, 2)).transpose(1, 0, 2)
    A = np.einsum("asb,bscj->ascj", covariance, G)
    A[np.arange(q), :, np.arange(q)] += 1.0
    return _times(G, np.linalg.inv(A.transpose(1, 3, 0, 2)).transpose(2, 0, 3, 1))


def deviance_and_gradient(
    theta: np.ndarray, products: CrossProducts, reml: bool, sigma: float | None = None
) -> tuple[float, np.ndarray]:
    """Evaluate the deviance (or REML criterion) and its gradient at one θ.

    Parameters
    ----------
    theta : ndarray, shape (n_theta,)
        Free entries of Λ.
    products, reml, sigma
        As in `evaluate`.

    Returns
    -------
    deviance : float
        -2 log-likelihood (ML) or the REML criterion; NaN where rounding leaves no positive
        definite matrix.
    gradient : ndarray, shape (n_theta,)
    """
    sigmas = None if sigma is None else np.array([sigma])
    found = evaluate(np.asarray(theta, dtype=float)[None], products, reml, sigmas)
    return float(found.deviance[0]), pack(found.slopes, products.masks)[0]


@dataclass(frozen=True)
class Solution:
    """Estimates at S given θ.

    Attributes
    ----------
    beta : ndarray, shape (S, p)
        Fixed effects.
    sigma : ndarray, shape (S,)
        Residual standard deviation.
    unscaled_cov_beta : ndarray, shape (S, p, p)
        Covariance of β divided by σ².
    modes : list of ndarray, each (S, n_levels, q)
        Conditional modes b of the random effects, factor by factor.
    unscaled_cov_modes : list of ndarray, each (S, n_levels, q, q)
        Conditional covariance of b given y at β̂ and θ, divided by σ²: Λ(Λ'Z'ZΛ + I)⁻¹Λ'.
    """

    beta: np.ndarray
    sigma: np.ndarray
    unscaled_cov_beta: np.ndarray
    modes: list[np.ndarray]
    unscaled_cov_modes: list[np.ndarray]


def solve(
    theta: np.ndarray, products: CrossProducts, reml: bool, random: bool = True
) -> Solution:
    """Back-substitute: fixed effects, random effects and their covariances at θ.

    θ may have zeros (a singular fit): no inverse of Λ is taken.

    Parameters
    ----------
    theta : ndarray, shape (S, n_theta)
    products, reml
        As in `evaluate`.
    random : bool
        Whether to compute the random effects and their covariances.

    Returns
    -------
    Solution
    """
    f = _factorise(theta, products, reml=True)
    p, n_crossed = products.p, products.n_crossed
    nu = products.n - p if reml else products.n
    contrast, inverse = f.top.contrast, f.top.inverse
    modes, covariances = [], []
    if random:
        modes, covariances = _random_effects(f, products)
    return Solution(
        beta=-contrast[:, n_crossed : n_crossed + p],
        sigma=f.top.root_diagonal[:, -1] / np.sqrt(nu),
        unscaled_cov_beta=inverse[:, n_crossed:, n_crossed:],
        modes=modes,
        unscaled_cov_modes=covariances,
    )


def _random_effects(
    f: _Factorisation, products: CrossProducts
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Modes and their covariances of all factors: the way down with V = vv' and with S₂₂⁻¹."""
    modes, covariances = [None] * len(products.masks), [None] * len(products.masks)
    back = _transposed(f.lambdas)
    v_W = _crossed_scale(back, products, f.top.contrast[:, None])[:, 0]
    V_W = _top_covariance(f, products, products.n_crossed)
    below, v = {}, None
    for step, F, _ in _down(f.steps, V_W):
        below[step.level.factor] = _own_covariance(step.M, F)
    for i in reversed(range(len(f.steps))):
        step = f.steps[i]
        L = step.level.n_above
        sums = np.einsum("aswj,sw->asj", step.cross[:, :, L:], v_W)
        if L:
            sums += np.einsum("aslj,lsj->asj", step.cross[:, :, :L], v)
        b = np.einsum("asbj,bsj->asj", step.M, sums)
        factor, r = step.level.factor, step.level.n_copies
        place, q = products.places[factor], len(b) // r
        S, J = b.shape[1:]
        spread = b.reshape(r, q, S, J).transpose(2, 3, 0, 1).reshape(S, J * r, q)
        modes[factor] = spread[:, place]
        own = np.einsum("kaskbj->sjkab", below[factor].reshape(r, q, S, r, q, J))
        covariances[factor] = own.reshape(S, J * r, q, q)[:, place]
        v = -b if not L else np.concatenate([-b, v])
        if i:
            v = v[..., f.steps[i - 1].level.parent]
    start = 0
    for factor in products.crossed:
        J, q = products.n_levels[factor], len(products.masks[factor])
        here = slice(start, start + J * q)
        modes[factor] = -v_W[:, here].reshape(-1, J, q)
        blocks = V_W[:, here, here].reshape(-1, J, q, J, q)
        covariances[factor] = np.einsum("sjajb->sjab", blocks)
        start = here.stop
    return modes, covariances


def _top_covariance(f: _Factorisation, products: CrossProducts, m: int) -> np.ndarray:
    """Δ S⁻¹ Δ' of the first m columns of W, the others fixed; (S, w, w)."""
    S, w = f.top.contrast.shape
    V = np.zeros((S, w, w))
    V[:, :m, :m] = f.top.inverse[:, :m, :m]
    if m < f.top.inverse.shape[1]:
        extra = f.top.inverse[:, :m, m:]
        corner = np.linalg.inv(f.top.inverse[:, m:, m:])
        V[:, :m, :m] -= extra @ corner @ extra.swapaxes(1, 2)
    back = _transposed(f.lambdas)
    half = _crossed_scale(back, products, V).swapaxes(1, 2)
    return _crossed_scale(back, products, half)


def chain_covariances(
    theta: np.ndarray, products: CrossProducts
) -> tuple[np.ndarray, np.ndarray]:
    """Joint covariance of what a row depends on, divided by σ², β being estimated too.

    Parameters
    ----------
    theta : ndarray, shape (n_theta,)
    products : CrossProducts

    Returns
    -------
    chain : ndarray, shape (k, k + w, groups of the innermost level)
        Of the k random effects of a group and all its parents, innermost first, with each
        other and with W. The column of y is zero.
    top : ndarray, shape (w, w)
        Of the crossed random effects and β.
    """
    f = _factorise(np.asarray(theta, dtype=float)[None], products, reml=True)
    V_W = _top_covariance(f, products, f.top.inverse.shape[1])
    *_, (step, F, V) = _down(f.steps, V_W)
    return _joined(step, F, _along(step, V_W, V), V)[:, 0], V_W[0]
