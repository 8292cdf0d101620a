r"""The numerical core: the profiled deviance of a linear mixed model and its exact gradient.

Arrays in, numbers out. The model for n rows is

.. math:: y = X\beta + Z b + \varepsilon, \quad b \sim N(0, \sigma^2 \Lambda\Lambda'),
          \quad \varepsilon \sim N(0, \sigma^2 I).

For a given relative covariance factor Λ(θ), the best β and σ have closed forms, so only θ has
to be searched (Bates, Mächler, Bolker & Walker 2015, doi:10.18637/jss.v067.i01). One grouping
factor, the *block factor*, is eliminated group by group; the columns of all other grouping
factors ("dense" ones) are carried along with X and y in one matrix W = [Z₂, X, y]. Everything
that is needed from the data are cross-products (see `cross_products`).

With C_j = Z_j'W, A_j = Λ₁'Z_j'Z_jΛ₁ + I and M_j = Λ₁A_j⁻¹Λ₁', the block factor leaves
K = W'W - Σ C_j'M_jC_j. Put S = Δ'KΔ + diag(I, 0), where Δ = diag(Λ₂, I) scales the dense
random columns. With S = LL', r the last diagonal entry of L, and L_X the part of L that
belongs to X,

* ML:   d = Σ log|A_j| + log|S₂₂| + n (1 + log(2πr²/n))
* REML: d = Σ log|A_j| + log|S₂₂| + 2 log|L_X| + (n-p) (1 + log(2πr²/(n-p)))

With one grouping factor Z₂ is empty, Δ = I and log|S₂₂| = 0: one implementation serves both.
NumPy only; nothing here knows about formulas or data frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course_lib.mixed.cross_products import CrossProducts

__all__ = [
    "Solution",
    "deviance_and_gradient",
    "diagonal",
    "lambda_matrices",
    "pack",
    "solve",
]


def lambda_matrices(theta: np.ndarray, masks: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Fill the free entries of each Λ with θ, column by column as lme4 does.

    Parameters
    ----------
    theta : ndarray, shape (n_theta,)
        Free entries of all Λ.
    masks : tuple of ndarray of bool
        One per factor, shape (q, q): where Λ has a free entry.

    Returns
    -------
    list of ndarray, each (q, q)

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
        stop = start + int(mask.sum())
        transposed = np.zeros(mask.shape)
        transposed[mask.T] = theta[start:stop]
        matrices.append(transposed.T)
        start = stop
    return matrices


def pack(matrices: list[np.ndarray], masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the free entries of one matrix per factor as one vector in the order of θ.

    Examples
    --------
    >>> mask = np.tril(np.ones((2, 2), dtype=bool))
    >>> pack([np.array([[1.0, 9.0], [2.0, 3.0]])], (mask,))
    array([1., 2., 3.])

    See Also
    --------
    lambda_matrices : The way back.
    """
    pairs = zip(matrices, masks, strict=True)
    return np.concatenate([matrix.T[mask.T] for matrix, mask in pairs])


def diagonal(masks: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return which entries of θ stand on a diagonal of Λ, shape (n_theta,)."""
    return pack([np.eye(len(mask), dtype=bool) for mask in masks], masks)


def _scale_dense(matrix: np.ndarray, lambdas: list[np.ndarray], levels: tuple[int, ...]):
    """Multiply the dense random columns of `matrix`, (k, m), from the right by Δ."""
    if not lambdas:
        return matrix
    scaled, start = matrix.copy(), 0
    for lam, n_levels in zip(lambdas, levels, strict=True):
        stop = start + n_levels * len(lam)
        blocks = matrix[:, start:stop].reshape(len(matrix), n_levels, len(lam))
        scaled[:, start:stop] = (blocks @ lam).reshape(len(matrix), -1)
        start = stop
    return scaled


@dataclass(frozen=True)
class _Factorisation:
    """What one evaluation at θ computes, shared by the deviance and the solution."""

    lambdas: list[np.ndarray]
    inverse: np.ndarray  # A_j⁻¹, (J, q, q)
    M: np.ndarray  # Λ₁A_j⁻¹Λ₁', (J, q, q)
    K: np.ndarray  # (m, m)
    L: np.ndarray  # Cholesky factor of S, (m, m)
    logdet: float  # Σ log|A_j| + log|S₂₂|
    contrast: np.ndarray  # [-u₂, -β, 1]: W @ Δ @ contrast = y - Z₂b₂ - Xβ


def _factorise(theta: np.ndarray, products: CrossProducts) -> _Factorisation:
    lambdas = lambda_matrices(theta, products.masks)
    C, m, n_dense = products.block_cross, products.gram.shape[0], products.n_dense
    A = lambdas[0].T @ products.block_gram @ lambdas[0] + np.eye(products.q)
    inverse = np.linalg.inv(A)
    M = lambdas[0] @ inverse @ lambdas[0].T
    K = products.gram - _array(C.T @ _blocks_times(M, C))
    S = K
    if n_dense:
        half = _scale_dense(K, lambdas[1:], products.n_levels[1:])
        S = _scale_dense(half.T, lambdas[1:], products.n_levels[1:])
        S.flat[: n_dense * (m + 1) : m + 1] += 1.0
    L = np.linalg.cholesky(S)
    logdet = np.linalg.slogdet(A)[1].sum() + 2 * np.log(L.diagonal()[:n_dense]).sum()
    contrast = np.append(-np.linalg.solve(L[:-1, :-1].T, L[-1, :-1]), 1.0)
    return _Factorisation(lambdas, inverse, M, K, L, logdet, contrast)


def _array(product) -> np.ndarray:
    return product if isinstance(product, np.ndarray) else product.toarray()


def _blocks_times(blocks: np.ndarray, C):
    """Multiply the rows of each group, C_j, by that group's block, (J, q, q)."""
    n_levels, q, _ = blocks.shape
    if isinstance(C, np.ndarray):
        return (blocks @ C.reshape(n_levels, q, -1)).reshape(C.shape)
    from scipy import sparse

    places = np.arange(n_levels), np.arange(n_levels + 1)
    return sparse.bsr_array((blocks, *places)).tocsr() @ C


def _inverse_of_product(L: np.ndarray) -> np.ndarray:
    """(LL')⁻¹ for lower-triangular L."""
    if len(L) < 50:
        root = np.linalg.inv(L)
        return root.T @ root
    from scipy.linalg.lapack import dpotri  # six times fewer operations, but slow to import

    inverse = np.tril(dpotri(L, lower=1)[0])
    return inverse + np.tril(inverse, -1).T


def _quadratic_forms(C, G: np.ndarray, q: int) -> np.ndarray:
    """C_j G C_j' for every group, shape (J, q, q)."""
    CG = (C @ G).reshape(-1, q, len(G))
    if isinstance(C, np.ndarray):
        return CG @ C.reshape(-1, q, len(G)).transpose(0, 2, 1)
    columns = [[C[b::q].multiply(CG[:, a]).sum(axis=1) for b in range(q)] for a in range(q)]
    return np.moveaxis(np.array(columns), -1, 0)


def deviance_and_gradient(
    theta: np.ndarray, products: CrossProducts, reml: bool, sigma: float | None = None
) -> tuple[float, np.ndarray]:
    r"""Evaluate the deviance (or REML criterion) and its gradient with respect to θ.

    Parameters
    ----------
    theta : ndarray, shape (n_theta,)
        Free entries of Λ.
    products : CrossProducts
        The data.
    reml : bool
        REML criterion instead of the ML deviance.
    sigma : float, optional
        Residual standard deviation. By default it is profiled out; given, the value is
        logdet + ν log(2πσ²) + r²/σ², with ν = n (ML) or n - p (REML).

    Returns
    -------
    deviance : float
        -2 log-likelihood (ML) or the REML criterion.
    gradient : ndarray, shape (n_theta,)

    Notes
    -----
    With G = ∂d/∂S, the derivative is, for the block factor,

    .. math:: \sum_j 2 Z_j'Z_jΛ₁A_j^{-1} - 2 (I - Z_j'Z_jM_j)\, C_j (ΔGΔ') C_j' \,Λ₁A_j^{-1}

    and for a dense factor the sum over its groups of the diagonal blocks of 2KΔG. G is the
    inverse of S₂₂ (ML) or of the [Z₂, X] part of S (REML), padded with zeros, plus the
    rank-one term w cc'/r² with c = [-u₂, -β, 1] and w = ν, or r²/σ² when σ is given.
    """
    f = _factorise(theta, products)
    nu = products.n - products.p if reml else products.n
    n_dense, m = products.n_dense, products.gram.shape[0]
    r2 = f.L[-1, -1] ** 2
    deviance = f.logdet
    if reml:
        deviance += 2 * np.log(f.L.diagonal()[n_dense:-1]).sum()
    if sigma is None:
        deviance += nu * (1 + np.log(2 * np.pi * r2 / nu))
        weight = nu / r2
    else:
        deviance += nu * np.log(2 * np.pi * sigma**2) + r2 / sigma**2
        weight = 1 / sigma**2

    n_padded = m - 1 if reml else n_dense
    G = weight * np.outer(f.contrast, f.contrast)
    if n_padded:
        G[:n_padded, :n_padded] += _inverse_of_product(f.L[:n_padded, :n_padded])

    levels = products.n_levels[1:]
    DG = _scale_dense(G, [lam.T for lam in f.lambdas[1:]], levels).T
    DGD = _scale_dense(DG, [lam.T for lam in f.lambdas[1:]], levels)
    forms = _quadratic_forms(products.block_cross, DGD, products.q)
    gram, right = products.block_gram, f.lambdas[0] @ f.inverse
    per_group = gram @ right - (np.eye(products.q) - gram @ f.M) @ forms @ right
    gradients = [2 * per_group.sum(axis=0)]
    start = 0
    for lam, n_levels in zip(f.lambdas[1:], levels, strict=True):
        q = len(lam)
        rows = slice(start, start + n_levels * q)
        left = f.K[rows].reshape(n_levels, q, m)
        gradients.append(
            2 * np.einsum("lam,mlb->ab", left, DG[:, rows].reshape(m, n_levels, q))
        )
        start = rows.stop
    return float(deviance), pack(gradients, products.masks)


@dataclass(frozen=True)
class Solution:
    """Estimates at a given θ.

    Attributes
    ----------
    beta : ndarray, shape (p,)
        Fixed effects.
    sigma : float
        Residual standard deviation.
    unscaled_cov_beta : ndarray, shape (p, p)
        Covariance of β divided by σ².
    modes : list of ndarray, each (n_levels, q)
        Conditional modes b of the random effects, factor by factor.
    unscaled_cov_modes : list of ndarray, each (n_levels, q, q)
        Conditional covariance of b given y at β̂ and θ, divided by σ²: Λ(Λ'Z'ZΛ + I)⁻¹Λ'.
    """

    beta: np.ndarray
    sigma: float
    unscaled_cov_beta: np.ndarray
    modes: list[np.ndarray]
    unscaled_cov_modes: list[np.ndarray]


def solve(
    theta: np.ndarray, products: CrossProducts, reml: bool, covariances: bool = True
) -> Solution:
    """Back-substitute: fixed effects, random effects and their covariances at θ.

    θ may have zeros (a singular fit): no inverse of Λ is taken.

    Parameters
    ----------
    theta, products, reml
        As in `deviance_and_gradient`.
    covariances : bool
        Whether to compute the conditional covariances of the random effects.

    Returns
    -------
    Solution
    """
    f = _factorise(theta, products)
    n_dense, p = products.n_dense, products.p
    nu = products.n - p if reml else products.n
    root = np.linalg.inv(f.L[n_dense:-1, n_dense:-1])
    scaled_contrast = _scale_dense(
        f.contrast[None, :], [lam.T for lam in f.lambdas[1:]], products.n_levels[1:]
    )[0]
    group_sums = (products.block_cross @ scaled_contrast).reshape(-1, products.q, 1)
    modes, covs = [(f.M @ group_sums)[:, :, 0]], []
    start = 0
    for lam, n_levels in zip(f.lambdas[1:], products.n_levels[1:], strict=True):
        u = -f.contrast[start : start + n_levels * len(lam)].reshape(n_levels, len(lam))
        modes.append(u @ lam.T)
        start += n_levels * len(lam)
    if covariances:
        covs = _mode_covariances(f, products)
    return Solution(
        beta=-f.contrast[n_dense : n_dense + p],
        sigma=float(f.L[-1, -1] / np.sqrt(nu)),
        unscaled_cov_beta=root.T @ root,
        modes=modes,
        unscaled_cov_modes=covs,
    )


def _mode_covariances(f: _Factorisation, products: CrossProducts) -> list[np.ndarray]:
    """Diagonal blocks of Λ(Λ'Z'ZΛ + I)⁻¹Λ' for every factor (block inverse formula)."""
    n_dense, levels = products.n_dense, products.n_levels[1:]
    block, covs = f.M, []
    if n_dense:
        root = np.linalg.inv(f.L[:n_dense, :n_dense])
        scaled_root = _scale_dense(root, [lam.T for lam in f.lambdas[1:]], levels)
        half = products.block_cross[:, :n_dense] @ scaled_root.T
        half = f.M @ half.reshape(-1, products.q, n_dense)
        block = block + half @ half.transpose(0, 2, 1)
        start = 0
        for lam, n_levels in zip(f.lambdas[1:], levels, strict=True):
            q = len(lam)
            columns = scaled_root[:, start : start + n_levels * q].reshape(-1, n_levels, q)
            covs.append(np.einsum("mla,mlb->lab", columns, columns))
            start += n_levels * q
    return [block, *covs]
