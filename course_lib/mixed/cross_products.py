"""What the deviance needs from the data, accumulated once over all rows.

One grouping factor, the *block factor*, is kept group by group; the columns of all others
("dense" ones) stand with X and y in one matrix W = [Z₂, X, y]. No later step depends on n:

=============== ======================================================================
``block_gram``  Z_j'Z_j for each group j of the block factor, shape (J, q, q)
``block_cross`` Z_j'W for each group j, one below the other, shape (J q, m)
``gram``        W'W, shape (m, m), m = (dense random columns) + p + 1
=============== ======================================================================

Where two factors are crossed and large, most groups of one never meet most groups of the
other: then ``block_cross`` is a SciPy sparse array, and is used in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["CrossProducts", "FactorArrays", "bars", "cross_products", "recombine"]


@dataclass(frozen=True)
class FactorArrays:
    """One grouping factor as arrays.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        Group of each row, 0 … n_levels-1.
    n_levels : int
        Number of groups.
    columns : ndarray, shape (n, q)
        The columns that get a random coefficient in every group.
    mask : ndarray of bool, shape (q, q)
        Lower triangle; True where Λ has a free entry.
    """

    codes: np.ndarray
    n_levels: int
    columns: np.ndarray
    mask: np.ndarray

    @property
    def n_columns(self) -> int:
        """Number of columns of Z: groups times random coefficients per group."""
        return self.n_levels * self.columns.shape[1]


def bars(mask: np.ndarray) -> list[slice]:
    """Columns of each bar of a factor: runs of columns whose effects may correlate.

    Parameters
    ----------
    mask : ndarray of bool, shape (q, q)
        As in `FactorArrays`.

    Returns
    -------
    list of slice

    Examples
    --------
    >>> bars(np.tril(np.ones((2, 2), dtype=bool)))  # (x | g)
    [slice(0, 2, None)]
    >>> bars(np.eye(2, dtype=bool))  # (x || g)
    [slice(0, 1, None), slice(1, 2, None)]
    """
    starts = [0] + [k for k in range(1, len(mask)) if not mask[k, k - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(mask)], strict=True)]


@dataclass(frozen=True)
class CrossProducts:
    """All that the deviance needs from the data; see the module docstring for shapes.

    The first entry of `masks` and `n_levels` belongs to the block factor, the others to the
    dense factors in the order of their columns in W. Within W a dense factor's columns run
    group by group.
    """

    block_gram: np.ndarray
    block_cross: np.ndarray
    gram: np.ndarray
    n: int
    p: int
    masks: tuple[np.ndarray, ...]
    n_levels: tuple[int, ...]

    @property
    def q(self) -> int:
        """Number of random coefficients of the block factor."""
        return self.block_gram.shape[1]

    @property
    def n_dense(self) -> int:
        """Number of dense random columns."""
        return self.gram.shape[0] - self.p - 1

    @property
    def n_theta(self) -> int:
        """Number of free entries of Λ over all factors."""
        return sum(int(mask.sum()) for mask in self.masks)

    def with_response(self, block_y: np.ndarray, dense_y: np.ndarray) -> CrossProducts:
        """Swap the response: `block_y` is Z_j'y, (J q,); `dense_y` is W'y, (m,)."""
        gram = self.gram.copy()
        gram[-1, :] = gram[:, -1] = dense_y
        if isinstance(self.block_cross, np.ndarray):
            block_cross = self.block_cross.copy()
            block_cross[:, -1] = block_y
        else:
            from scipy import sparse

            block_cross = sparse.hstack([self.block_cross[:, :-1], block_y[:, None]], "csr")
        return replace(self, block_cross=block_cross, gram=gram)


def cross_products(
    X: np.ndarray, y: np.ndarray, factors: tuple[FactorArrays, ...]
) -> CrossProducts:
    """Accumulate the cross-products, once, over all rows.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Fixed-effects columns.
    y : ndarray, shape (n,)
        Response.
    factors : tuple of FactorArrays
        The block factor first.

    Returns
    -------
    CrossProducts
    """
    block, *dense = factors
    fixed = np.column_stack([X, y])
    n_fixed = fixed.shape[1]
    n_dense = sum(factor.n_columns for factor in dense)
    gram = np.empty((n_dense + n_fixed, n_dense + n_fixed))
    gram[n_dense:, n_dense:] = fixed.T @ fixed
    block_cross = np.empty((block.n_columns, n_dense + n_fixed))
    block_cross[:, n_dense:] = _grouped(block, fixed).reshape(block.n_columns, n_fixed)

    start = 0
    for i, factor in enumerate(dense):
        here = slice(start, start + factor.n_columns)
        block_cross[:, here] = _crossed(block, factor)
        gram[here, n_dense:] = _grouped(factor, fixed).reshape(factor.n_columns, n_fixed)
        gram[n_dense:, here] = gram[here, n_dense:].T
        other_start = start
        for other in dense[i:]:
            there = slice(other_start, other_start + other.n_columns)
            gram[here, there] = _crossed(factor, other)
            gram[there, here] = gram[here, there].T
            other_start = there.stop
        start = here.stop
    return CrossProducts(
        block_gram=_grouped(block, block.columns),
        block_cross=_sparse_if_worth_it(block_cross),
        gram=gram,
        n=len(y),
        p=X.shape[1],
        masks=tuple(factor.mask for factor in factors),
        n_levels=tuple(factor.n_levels for factor in factors),
    )


def _grouped(factor: FactorArrays, matrix: np.ndarray) -> np.ndarray:
    """Z_j'(rows of `matrix` in group j) for every group j, shape (J, q, columns)."""
    q, k = factor.columns.shape[1], matrix.shape[1]
    sums = np.empty((factor.n_levels, q, k))
    for a in range(q):
        for b in range(k):
            weights = factor.columns[:, a] * matrix[:, b]
            sums[:, a, b] = np.bincount(factor.codes, weights, factor.n_levels)
    return sums


def _crossed(one: FactorArrays, other: FactorArrays) -> np.ndarray:
    """Z_j' times the expanded columns of another factor, shape (J q, other.n_columns)."""
    q, k = one.columns.shape[1], other.columns.shape[1]
    cell = one.codes.astype(np.int64) * other.n_levels + other.codes
    n_cells = one.n_levels * other.n_levels
    sums = np.empty((one.n_levels, q, other.n_levels, k))
    for a in range(q):
        for b in range(k):
            weights = one.columns[:, a] * other.columns[:, b]
            cells = np.bincount(cell, weights, n_cells)
            sums[:, a, :, b] = cells.reshape(one.n_levels, other.n_levels)
    return sums.reshape(one.n_columns, other.n_columns)


def _sparse_if_worth_it(matrix: np.ndarray):
    if matrix.shape[1] < 100 or np.count_nonzero(matrix) > 0.2 * matrix.size:
        return matrix
    from scipy import sparse  # slow to import, and rarely needed

    return sparse.csr_array(matrix)


def recombine(products: CrossProducts, fixed_columns: np.ndarray) -> CrossProducts:
    """Cross-products after replacing [X, y] by [X, y] @ `fixed_columns`.

    Fixing β_k at a value v means dropping column k and taking y - v x_k as the response; both
    are such a recombination, so profiling a fixed effect needs no pass over the rows.

    Parameters
    ----------
    products : CrossProducts
        Of the full model.
    fixed_columns : ndarray, shape (p + 1, p_new + 1)
        Each column says how a new column is made of the old columns [X, y].

    Returns
    -------
    CrossProducts
    """
    n_dense = products.n_dense
    mix = np.zeros((products.gram.shape[0], n_dense + fixed_columns.shape[1]))
    mix[:n_dense, :n_dense] = np.eye(n_dense)
    mix[n_dense:, n_dense:] = fixed_columns
    return replace(
        products,
        block_cross=products.block_cross @ mix,
        gram=mix.T @ products.gram @ mix,
        p=fixed_columns.shape[1] - 1,
    )
