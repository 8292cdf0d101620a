r"""The numerical core: the profiled deviance of a linear mixed model and its exact gradient.

Arrays in, numbers out. The model for n rows is

.. math:: y = X\beta + Z b + \varepsilon, \quad b \sim N(0, \sigma^2 \Lambda\Lambda'),
          \quad \varepsilon \sim N(0, \sigma^2 I).

For a given relative covariance factor Λ(θ), the best β and σ have closed forms, so only θ has
to be searched (Bates, Mächler, Bolker & Walker 2015, doi:10.18637/jss.v067.i01). All that is
needed from the data are cross-products: G and C of every group, K = W'W (see `cross_products`).

**Up.** Level by level, innermost first, the random effects of every group are eliminated, as in
Gaussian elimination. With C = [C_L | C_W], the columns of the group's parents and those of W,

* A = Λ'GΛ + I,  P = ΛA⁻¹,  M = PΛ',  logdet += Σ log|A|
* K -= Σ C_W' M C_W
* D = Σ C_L' M [C_L | C_W] over the groups of one parent is taken from what the parent has: its
  own rows from G and C at the next level, the rest at the levels after that.

A crossed factor is then one group with many columns: G and C are its rows of K, and what is
eliminated there leaves K smaller.

**Top.** K is left, for X and y. With K = LL', and r the last diagonal entry of L,

* ML:   d = logdet + n (1 + log(2πr²/n))
* REML: d = logdet + 2 log|L_X| + (n-p) (1 + log(2πr²/(n-p)))

where L_X is the part of L that belongs to X.

**Down.** V = ∂d/∂K starts the way back, outermost first. A group knows V for all that lies
above it, its parents and W, and

* F = C V C',  ∂d/∂Λ = 2 Σ [G - (I - GM) F] P, or Λ'∂d/∂Λ = 2 Σ (I - A⁻¹ - P'FP)
* for the groups below it, V_own,own = M + MFM and V_own,rest = -M C V.

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

# Axes: a, b own coefficients; s responses; c any columns, l those of the parents, w those of W;
# j groups; k copies.

WIDE = 8  # from so many columns on matrix products group by group pay
LARGE = 50  # and from so many on LAPACK's routines for symmetric matrices


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


def _scaled(A: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Return Λ'A, Λ being the same for every copy: (r q, S, c, J) by (S, q, q)."""
    copies = A.reshape(-1, lam.shape[-1], *A.shape[1:])
    scaled = np.einsum("sab,kascj->kbscj", lam, copies)
    return scaled.reshape(len(A), -1, *A.shape[2:])


def _inverse_root(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return R = L⁻¹ and log|A|, (S, J), of symmetric A = LL' ≥ I, (q, S, q, J).

    Small ones are computed column by column, for all groups together.
    """
    q = len(A)
    if q > 4:
        L = _cholesky(A.transpose(1, 3, 0, 2))
        return np.linalg.inv(L).transpose(2, 0, 3, 1), _logdet(L)
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


def _logdet(L: np.ndarray) -> np.ndarray:
    return 2 * np.log(np.einsum("sjaa->sja", L)).sum(axis=-1)


def _inverted(A: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A⁻¹, L⁻¹C and log|A| of a large A = LL', by LAPACK for symmetric matrices."""
    from scipy.linalg.lapack import dpotri, dtrtrs  # slow to import, and fast where large

    L, C = _cholesky(A.transpose(1, 3, 0, 2)), C.transpose(1, 3, 0, 2)
    S, J, q, _ = L.shape
    inverse, H = np.empty_like(L), np.empty((S, J, q, C.shape[3]))
    for s, j in np.ndindex(S, J):
        upper = dpotri(L[s, j].T)[0]  # what is below stays zero
        inverse[s, j] = upper + upper.T - np.diag(upper.diagonal())
        H[s, j] = dtrtrs(L[s, j].T, C[s if len(C) > 1 else 0, j], trans=1)[0]
    return inverse.transpose(2, 0, 3, 1), H.transpose(2, 0, 3, 1), _logdet(L)


def _cholesky(A: np.ndarray) -> np.ndarray:
    """Return L with A = LL'; NaN for a matrix that rounding has left indefinite."""
    try:
        return np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        if A.ndim == 2:
            return np.full_like(A, np.nan)
        return np.array([_cholesky(one) for one in A])


@dataclass(frozen=True)
class _Step:
    """What the way up leaves at one level for the way down, shapes as in `LevelProducts`.

    ``gram`` and ``cross`` are G and C without what the levels below have taken.
    """

    factor: int
    gram: np.ndarray
    cross: np.ndarray
    inverse: np.ndarray  # A⁻¹
    P: np.ndarray
    M: np.ndarray
    level: LevelProducts | None  # None for a crossed factor


def _eliminate(
    f: int, lam: np.ndarray, G: np.ndarray, C: np.ndarray, level: LevelProducts | None = None
) -> tuple[_Step, np.ndarray, np.ndarray]:
    """Return the step, H with H'H = C'MC for every group, and Σ log|A|, (S,).

    With A⁻¹ = R'R and B = RΛ', M is B'B and H is BC: differences of squares keep more digits.
    """
    A = _scaled(_swap(_scaled(G, lam)), lam)
    A[np.arange(len(A)), :, np.arange(len(A))] += 1.0
    back = lam.swapaxes(1, 2)
    if len(A) < LARGE:
        R, logdet = _inverse_root(A)
        B = _swap(_scaled(_swap(R), back))
        inverse, H = _times(_swap(R), R), _times(B, C)
        P, M = _times(_swap(B), R), _times(_swap(B), B)
    else:
        inverse, H, logdet = _inverted(A, _scaled(C, lam))
        P = _scaled(inverse, back)
        M = _scaled(_swap(P), back)
    return _Step(f, G, C, inverse, P, M, level), H, logdet.sum(axis=-1)


def _up(
    lambdas: list[np.ndarray], products: CrossProducts
) -> tuple[list[_Step], np.ndarray, np.ndarray]:
    """Eliminate all levels: steps, what is left of K, (S, p + 1, p + 1), and logdet, (S,)."""
    steps, K, logdet, carried = [], products.K, 0.0, None
    for level in products.levels:
        G, C, q, L = level.gram, level.cross, len(level.gram), level.n_above
        if carried is not None:
            G, C, carried = G - carried[:q, :, :q], C - carried[:q, :, q:], carried[q:, :, q:]
        step, H, more = _eliminate(level.factor, lambdas[level.factor], G, C, level)
        if level.overlaps is not None:
            K = K - _overlapping(H, step.M, level.overlaps)
        else:
            K = K - (H[:, :, L:] @ H[:, :, L:].swapaxes(2, 3)).sum(axis=0)
        if L:
            D = _summed_for_parents(H, L, level.parent)
            carried = D if carried is None else D + _family_sums(carried, level.parent)
        steps.append(step)
        logdet = logdet + more
    for f in products.crossed:
        n = products.n_levels[f] * lambdas[f].shape[-1]
        rows = K[:, :n].swapaxes(0, 1)[..., None]
        step, H, more = _eliminate(f, lambdas[f], rows[:, :, :n], rows[:, :, n:])
        K = K[:, n:, n:] - (H @ H.swapaxes(2, 3)).sum(axis=0)
        steps.append(step)
        logdet = logdet + more
    return steps, K, logdet


def _overlapping(H: np.ndarray, M: np.ndarray, overlaps: sparse.csc_array) -> np.ndarray:
    """Σ C'MC over all groups, (S, w, w), where most entries of C are zero."""
    _, S, w, _ = H.shape
    k = round(overlaps.shape[0] ** 0.5)
    taken = np.empty((S, w, w))
    taken[:, :, k:] = (H @ H[:, :, k:].swapaxes(2, 3)).sum(axis=0)
    taken[:, k:, :k] = taken[:, :k, k:].swapaxes(1, 2)
    by_pair = overlaps @ M.transpose(0, 2, 3, 1).reshape(-1, S)
    taken[:, :k, :k] = by_pair.T.reshape(S, k, k)
    return taken


def _overlapping_forms(C: np.ndarray, V: np.ndarray, overlaps: sparse.csc_array) -> np.ndarray:
    """C V C' for every group, (q, S, q, groups), where most entries of C are zero."""
    q, k, J = len(C), round(overlaps.shape[0] ** 0.5), C.shape[-1]
    F = (overlaps.T @ V[:, :k, :k].reshape(len(V), -1).T).reshape(q, q, J, -1)
    half = V[:, k:, :k] @ C[:, :, :k]
    other = half + V[:, k:, k:] @ C[:, :, k:]
    F = F.transpose(0, 3, 1, 2) + np.einsum("ascj,bscj->asbj", other, C[:, :, k:])
    return F + np.einsum("ascj,bscj->asbj", C[:, :, k:], half)


def _families(parent: np.ndarray) -> list[slice]:
    """Return the groups of each parent."""
    starts = np.flatnonzero(np.diff(parent, prepend=-1, append=parent[-1] + 1)).tolist()
    return [slice(a, b) for a, b in zip(starts[:-1], starts[1:], strict=True)]


def _family_sums(A: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Sum over the groups of each parent, along the last axis."""
    starts = np.flatnonzero(np.diff(parent, prepend=-1))
    return np.add.reduceat(A, starts, axis=-1) if len(starts) < A.shape[-1] else A


def _summed_for_parents(H: np.ndarray, L: int, parent: np.ndarray) -> np.ndarray:
    """D = Σ H_L'H over the groups of each parent, (L, S, L + w, parents)."""
    if L < WIDE:
        return _family_sums(np.einsum("aslj,ascj->lscj", H[:, :, :L], H), parent)
    sums = [
        (H[:, :, :L, family] @ H[..., family].swapaxes(2, 3)).sum(axis=0)
        for family in _families(parent)
    ]
    return np.array(sums).transpose(2, 1, 3, 0)


def _down(
    steps: list[_Step], V_W: np.ndarray
) -> Iterator[tuple[_Step, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Go back down from V of X and y, (S, p + 1, p + 1).

    Yields each step with V of W, (S, w, w), what its groups' parents know, V of themselves and
    of what lies above them, (L, S, L + w, parents), or None, and U = CV.
    """
    V = None
    for i in reversed(range(len(steps))):
        step = steps[i]
        sparse_step = step.level is not None and step.level.overlaps is not None
        U = None if sparse_step else _along(step, V_W, V)
        yield step, U, V_W, V
        if i and step.level is None:
            below = _joined(step, U, None)[..., 0].swapaxes(0, 1)  # (S, n, n + w)
            n = below.shape[1]
            V_W = np.concatenate(
                [below, np.concatenate([below[:, :, n:].swapaxes(1, 2), V_W], axis=2)], axis=1
            )
        elif i:
            V = _joined(step, U, V)


def _along(step: _Step, V_W: np.ndarray, V: np.ndarray | None) -> np.ndarray:
    """U = CV for every group, (q, S, L + w, groups)."""
    C, L = step.cross, 0 if step.level is None else step.level.n_above
    U = V_W[None] @ C[:, :, L:]
    if not L:
        return U
    U = np.concatenate([np.zeros((*U.shape[:2], L, U.shape[3])), U], axis=2)
    parent = step.level.parent
    if L < WIDE:
        V = np.take(V, parent, axis=-1)
        U += np.einsum("aslj,lscj->ascj", C[:, :, :L], V)
        U[:, :, :L] += np.einsum("aswj,lswj->aslj", C[:, :, L:], V[:, :, L:])
        return U
    for k, family in enumerate(_families(parent)):
        known = V[..., k].transpose(1, 2, 0)  # (S, L + w, L)
        U[..., family] += known @ C[:, :, :L, family]
        U[:, :, :L, family] += known[:, L:].swapaxes(1, 2) @ C[:, :, L:, family]
    return U


def _own(step: _Step, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V of a group's own effects, (q, S, q, J), and of these with all above them."""
    rest = -_times(step.M, U)
    return step.M - _times(rest, _swap(_times(step.M, step.cross))), rest


def _joined(step: _Step, U: np.ndarray, V: np.ndarray | None) -> np.ndarray:
    """V of a group's own effects and its parents': (q + L, S, q + L + w, groups)."""
    own, rest = _own(step, U)
    joined = np.concatenate([own, rest], axis=2)
    if V is None:
        return joined
    V = np.take(V, step.level.parent, axis=-1)
    above = np.concatenate([_swap(rest[:, :, : len(V)]), V], axis=2)
    return np.concatenate([joined, above])


@dataclass(frozen=True)
class Evaluation:
    """The deviance at S points, with all that a search asks for.

    Attributes
    ----------
    deviance : ndarray, shape (S,)
        -2 log-likelihood (ML) or the REML criterion; NaN where rounding leaves nothing.
    r2 : ndarray, shape (S,)
        Penalised residual sum of squares, r² of the module docstring.
    slopes : list of ndarray, each (S, q, q)
        Derivative with respect to every entry of Λ, one array per factor.
    precisions : list of ndarray, each (q, S, q, groups)
        One per factor, if asked for: what the data know about the effects of each group, all
        other effects being known but those below, (G⁻¹ + ΛΛ')⁻¹.
    """

    deviance: np.ndarray
    r2: np.ndarray
    slopes: list[np.ndarray]
    precisions: list[np.ndarray]


def evaluate(
    theta: np.ndarray,
    products: CrossProducts,
    reml: bool,
    sigma: np.ndarray | None = None,
    precisions: bool = False,
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
    precisions : bool
        Whether the expected information will be asked for.

    Returns
    -------
    Evaluation

    Notes
    -----
    With c = [-β, 1], ∂d/∂K is w cc'/r² with w = ν, or r²/σ² when σ is given; for REML it has
    also the inverse of the X part.
    """
    lambdas = lambda_matrices(theta, products.masks)
    steps, K, logdet = _up(lambdas, products)
    L, contrast, inverse = _fixed_part(K)
    p = products.p
    nu = products.n - p if reml else products.n
    r2 = L[:, -1] ** 2
    if sigma is None:
        deviance, weight = logdet + nu * (1 + np.log(2 * np.pi * r2 / nu)), nu / r2
    else:
        deviance = logdet + nu * np.log(2 * np.pi * sigma**2) + r2 / sigma**2
        weight = np.ones_like(r2) / sigma**2
    V = weight[:, None, None] * contrast[:, :, None] * contrast[:, None, :]
    if reml:
        deviance = deviance + 2 * np.log(L[:, :-1]).sum(axis=1)
        V[:, :p, :p] += inverse
    slopes, known = [None] * len(products.masks), [None] * len(products.masks)
    for step, U, V_W, _ in _down(steps, V):
        slopes[step.factor] = _slope(step, U, V_W, lambdas[step.factor])
        if precisions:
            known[step.factor] = _precision(step.gram, lambdas[step.factor])
    return Evaluation(deviance, r2, slopes, known)


def _fixed_part(K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagonal of L, contrast [-β, 1], (S, p + 1), and inverse of the X part, (S, p, p)."""
    L = _cholesky(K)
    root = np.linalg.inv(L)
    inverse = root[:, :-1, :-1].swapaxes(1, 2) @ root[:, :-1, :-1]
    return np.einsum("sww->sw", L), root[:, -1] * L[:, -1:, -1], inverse


def _slope(step: _Step, U: np.ndarray | None, V_W: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """2 Σ [G - (I - GM) F] P over all groups and copies, (S, q, q)."""
    G, C, M, P = step.gram, step.cross, step.M, step.P
    if U is not None and len(G) >= WIDE:
        return 2 * _copy_sums(G - _times(U - _times(G, _times(M, U)), _swap(C)), P, lam)
    if U is None:
        F = _overlapping_forms(C, V_W, step.level.overlaps)
    else:
        F = np.einsum("ascj,bscj->asbj", U, C)
    slope = 2 * _copy_sums(G - F + _times(G, _times(M, F)), P, lam)
    # Where Λ is large I - GM is the small difference of large numbers. It is not needed where
    # Λ has an inverse: then Λ' times the slope is 2 Σ (I - A⁻¹ - P'FP).
    size = np.abs(np.einsum("saa->sa", lam))
    large = (size.min(axis=1) > 1) & (size.max(axis=1) > 100)
    if large.any() and len(G) == lam.shape[-1]:
        lost = step.inverse + _times(_swap(P), _times(F, P))
        kept = G.shape[-1] * np.eye(len(G)) - lost.sum(axis=-1).swapaxes(0, 1)
        slope[large] = 2 * np.linalg.solve(lam.swapaxes(1, 2)[large], kept[large])
    return slope


def _copy_sums(A: np.ndarray, B: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Sum the diagonal blocks of A B, one per copy, over all groups."""
    q = lam.shape[-1]
    A = A.reshape(-1, q, *A.shape[1:])
    B = B.reshape(*B.shape[:2], -1, q, B.shape[3])
    return np.einsum("kasmj,mskbj->sab", A, B)


def _precision(G: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """(G⁻¹ + ΛΛ')⁻¹ for every group, each copy taken by itself: (q, S, q, copies × groups)."""
    q = lam.shape[-1]
    G = np.einsum("kaskbj->asbkj", G.reshape(-1, q, G.shape[1], len(G) // q, q, G.shape[3]))
    G = G.reshape(q, -1, q, G.shape[3] * G.shape[4])
    D = (lam @ lam.swapaxes(1, 2)).transpose(1, 0, 2)
    A = np.einsum("asb,bscj->ascj", D, G)
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
    lambdas = lambda_matrices(theta, products.masks)
    steps, K, _ = _up(lambdas, products)
    L, contrast, inverse = _fixed_part(K)
    nu = products.n - products.p if reml else products.n
    modes, covariances = _random_effects(steps, contrast, products) if random else ([], [])
    return Solution(
        beta=-contrast[:, :-1],
        sigma=L[:, -1] / np.sqrt(nu),
        unscaled_cov_beta=inverse,
        modes=modes,
        unscaled_cov_modes=covariances,
    )


def _random_effects(
    steps: list[_Step], contrast: np.ndarray, products: CrossProducts
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Modes and their covariances of all factors.

    b = M C v, where v holds what is taken off y above: minus the parents' modes and [-β, 1].
    The covariances, β being known, are the way down from V = 0.
    """
    modes, covariances = [None] * len(products.masks), [None] * len(products.masks)
    v_W, v = contrast, np.empty((0, len(contrast), 1))
    for step, U, V_W, V in _down(steps, np.zeros((len(contrast), *contrast.shape[1:] * 2))):
        C, L = step.cross, len(v)
        sums = np.einsum("aswj,sw->asj", C[:, :, L:], v_W)
        if L:
            parents = np.take(v, step.level.parent, axis=-1)
            sums += np.einsum("aslj,lsj->asj", C[:, :, :L], parents)
        b = np.einsum("asbj,bsj->asj", step.M, sums)
        if step.level is None:
            v_W = np.hstack([-b[:, :, 0].T, v_W])
        else:
            v = np.concatenate([-b, parents]) if L else -b
        own, _ = _own(step, _along(step, V_W, V) if U is None else U)
        f, q = step.factor, len(products.masks[step.factor])
        S, J = b.shape[1:]
        r, place = len(b) // q, products.places[f]
        by_group = b.reshape(r, q, S, J).transpose(2, 3, 0, 1).reshape(S, -1, q)
        modes[f] = by_group[:, place]
        own = np.einsum("kaskbj->sjkab", own.reshape(r, q, -1, r, q, J))
        covariances[f] = own.reshape(S, -1, q, q)[:, place]
    return modes, covariances


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
    theta = np.asarray(theta, dtype=float)[None]
    steps, K, _ = _up(lambda_matrices(theta, products.masks), products)
    V = np.zeros_like(K)
    V[:, :-1, :-1] = _fixed_part(K)[2]
    *_, (step, U, V_W, V) = _down(steps, V)
    U = _along(step, V_W, V) if U is None else U
    return _joined(step, U, V)[:, 0], V_W[0]
