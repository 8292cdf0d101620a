"""What the deviance needs from the data, accumulated once over all rows.

Nested grouping factors make *levels*, innermost first: pupils in classes in schools. A group
of one level lies in one group of the next, its parent. What cannot be nested, the *crossed*
factors, stands with X and y in one matrix W = [Z_crossed, X, y]. No later step depends on n:

========= ===========================================================================
``gram``  Z_j'Z_j of every group j of a level
``cross`` Z_j'[columns of its own parents | W] of every group j of a level
``K``     W'W
========= ===========================================================================

Arrays keep the matrix axes apart: (rows, responses, columns, groups), so that one operation
serves all groups, and all responses of a bootstrap, at once.

A factor that is crossed with an inner level but nested in an outer one (teachers and pupils
within schools) is a level of its own: its groups are those of the outer factor, each with as
many *copies* of the factor's columns as the largest one needs. Spare copies are zero. A crossed
factor is the extreme case, with one group and a copy for every level.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "CrossProducts",
    "FactorArrays",
    "Layout",
    "TooLargeError",
    "bars",
    "check_memory",
    "cross_products",
    "recombine",
    "swap_responses",
]


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


class TooLargeError(ArithmeticError):
    """The cross-products take `needed` bytes; `available` are there."""

    def __init__(self, needed: int, available: int):
        super().__init__(needed, available)
        self.needed, self.available = needed, available


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
class Part:
    """Columns as they stand within the groups of a level: `n_copies` times `columns`.

    Row i has its numbers in copy ``copies[i]`` and zero in the others.
    """

    columns: np.ndarray  # (n, q)
    copies: np.ndarray  # (n,)
    n_copies: int

    @property
    def width(self) -> int:
        return self.n_copies * self.columns.shape[1]

    def rows(self, which: np.ndarray) -> Part:
        return replace(self, columns=self.columns[which], copies=self.copies[which])


@dataclass(frozen=True)
class Level:
    """One step of the elimination; `parent` is the group of the next level for each group."""

    factor: int
    codes: np.ndarray  # (n,), group of each row
    n_groups: int
    parent: np.ndarray  # (n_groups,), ascending
    part: Part


@dataclass(frozen=True)
class Layout:
    """Where every factor stands: in `levels`, innermost first, or among the crossed.

    Attributes
    ----------
    levels : tuple of Level
    crossed : tuple of (factor, Part)
        In the order of their columns in W.
    places : tuple of ndarray of int
        One per factor, shape (n_levels,): group × n_copies + copy of each of its levels.
    """

    levels: tuple[Level, ...]
    crossed: tuple[tuple[int, Part], ...]
    places: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, factors: tuple[FactorArrays, ...]) -> Layout:
        """Find the chain of nested factors with most columns; sort its groups by parent."""
        chains = [_chain(start, factors) for start in range(len(factors))]
        chain = max(chains, key=lambda chain: sum(factors[f].n_columns for f in chain))
        homes = [None if f in chain else _home(f, chain, factors) for f in range(len(factors))]
        levels, crossed, places = [], [], [np.empty(0, dtype=int)] * len(factors)
        codes = np.zeros(len(factors[0].codes), dtype=np.int64)
        for f in (f for f, home in enumerate(homes) if f not in chain and home is None):
            part = Part(factors[f].columns, factors[f].codes, factors[f].n_levels)
            crossed.append((f, part))
            places[f] = np.arange(part.n_copies)
        for outer in reversed(chain):
            rank, parent, _ = _within(factors[outer], codes)
            codes, n_groups, places[outer] = rank[factors[outer].codes], len(rank), rank
            part = Part(factors[outer].columns, np.zeros_like(codes), 1)
            levels.append(Level(outer, codes, n_groups, parent, part))
            for f in (f for f, home in enumerate(homes) if home == outer):
                rank, parent, copy = _within(factors[f], codes)
                part = Part(factors[f].columns, copy[factors[f].codes], int(copy.max()) + 1)
                places[f] = parent[rank] * part.n_copies + copy
                levels.append(Level(f, codes, n_groups, np.arange(n_groups), part))
        return cls(tuple(reversed(levels)), tuple(crossed), tuple(places))

    def rows(self, which: np.ndarray) -> Layout:
        """Return the same layout for some of the rows."""
        levels = [
            replace(level, codes=level.codes[which], part=level.part.rows(which))
            for level in self.levels
        ]
        crossed = [(f, part.rows(which)) for f, part in self.crossed]
        return replace(self, levels=tuple(levels), crossed=tuple(crossed))


def _nested(inner: FactorArrays, outer: FactorArrays) -> bool:
    """Whether every group of `inner` lies in one group of `outer`."""
    group = np.zeros(inner.n_levels, dtype=np.int64)
    group[inner.codes] = outer.codes
    return bool((group[inner.codes] == outer.codes).all())


def _chain(start: int, factors: tuple[FactorArrays, ...]) -> list[int]:
    """Factors that are nested one in the other, from `start` outwards."""
    chain = [start]
    for f in sorted(range(len(factors)), key=lambda f: -factors[f].n_levels):
        if f not in chain and _nested(factors[chain[-1]], factors[f]):
            chain.append(f)
    return chain


def _home(f: int, chain: list[int], factors: tuple[FactorArrays, ...]) -> int | None:
    """Return the innermost factor of the chain that holds `f`, if that makes `f` narrower."""
    for outer in chain:
        if _nested(factors[f], factors[outer]):
            copy = _within(factors[f], factors[outer].codes)[2]
            return outer if 2 * (copy.max() + 1) <= factors[f].n_levels else None
    return None


def _within(factor: FactorArrays, outer: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rank of each level sorted by parent, the sorted parents, and its number within one."""
    parent = np.zeros(factor.n_levels, dtype=np.int64)
    parent[factor.codes] = outer
    order = np.argsort(parent, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(factor.n_levels)
    first = np.searchsorted(parent[order], parent)
    return rank, parent[order], rank - first


@dataclass(frozen=True)
class LevelProducts:
    """Cross-products of one level; q counts all copies of its columns.

    Attributes
    ----------
    gram : ndarray, shape (q, responses or 1, q, groups)
        Z_j'Z_j.
    cross : ndarray, shape (q, responses or 1, n_above + w, groups)
        Z_j' times the columns of its own parents, then W.
    n_above : int
        Number of columns of the parents.
    parent : ndarray of int, shape (groups,)
        As in `Level`.
    factor, n_copies : int
        Which factor it is, and how many copies of its columns each group has.
    overlaps : scipy.sparse array, shape (k², q² groups), or None
        Where most groups of a large crossed factor never meet most groups of the only level:
        times M it is Σ C_c' M C_c, with C_c the k crossed columns of `cross`; its transpose
        times V is C_c V C_c' for every group.
    """

    gram: np.ndarray
    cross: np.ndarray
    n_above: int
    parent: np.ndarray
    factor: int
    n_copies: int
    overlaps: sparse.csc_array | None = None


@dataclass(frozen=True)
class CrossProducts:
    """All that the deviance needs from the data; see the module docstring for shapes.

    Attributes
    ----------
    levels : tuple of LevelProducts
        Innermost first.
    K : ndarray, shape (responses or 1, w, w)
        W'W.
    n, p : int
        Rows and fixed effects.
    crossed : tuple of int
        The factors whose columns W begins with, level by level.
    masks, n_levels, places : tuple
        One entry per factor, as in `FactorArrays` and `Layout`.
    """

    levels: tuple[LevelProducts, ...]
    K: np.ndarray
    n: int
    p: int
    crossed: tuple[int, ...]
    masks: tuple[np.ndarray, ...]
    n_levels: tuple[int, ...]
    places: tuple[np.ndarray, ...]

    @property
    def n_crossed(self) -> int:
        """Number of crossed random columns."""
        return self.K.shape[-1] - self.p - 1

    @property
    def n_theta(self) -> int:
        """Number of free entries of Λ over all factors."""
        return sum(int(mask.sum()) for mask in self.masks)

    def responses(self, which: np.ndarray) -> CrossProducts:
        """Return some of the responses; the products of a single one serve any number."""
        if len(self.K) == 1:
            return self
        levels = [
            replace(level, cross=np.ascontiguousarray(level.cross[:, which]))
            for level in self.levels
        ]
        return replace(self, levels=tuple(levels), K=self.K[which])


def cross_products(
    X: np.ndarray,
    y: np.ndarray,
    factors: tuple[FactorArrays, ...],
    layout: Layout | None = None,
) -> CrossProducts:
    """Accumulate the cross-products, once, over all rows.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Fixed-effects columns.
    y : ndarray, shape (n,)
        Response.
    factors : tuple of FactorArrays
        In any order.
    layout : Layout, optional
        Of these rows, if it is known.

    Returns
    -------
    CrossProducts

    Raises
    ------
    TooLargeError
        If they would not fit into memory; nothing has been allocated then.
    """
    layout = layout or Layout.of(factors)
    fixed = Part(np.column_stack([X, y]), np.zeros(len(y), dtype=np.int64), 1)
    W = [part for _, part in layout.crossed] + [fixed]
    check_memory(layout, sum(part.width for part in W))
    levels = []
    for i, level in enumerate(layout.levels):
        above = [other.part for other in layout.levels[i + 1 :]]
        sums = [_sums(level, level.part, other) for other in [level.part, *above, *W]]
        levels.append(
            LevelProducts(
                gram=sums[0][:, None],
                cross=np.concatenate(sums[1:], axis=1)[:, None],
                n_above=sum(part.width for part in above),
                parent=level.parent,
                factor=level.factor,
                n_copies=level.part.n_copies,
            )
        )
    if len(levels) == 1 and layout.crossed:
        crossed = levels[0].cross[:, 0, : -X.shape[1] - 1]
        levels[0] = replace(levels[0], overlaps=_overlaps(crossed))
    whole = Level(-1, fixed.copies, 1, np.zeros(1, int), fixed)
    return CrossProducts(
        levels=tuple(levels),
        K=np.block([[_sums(whole, one, other)[:, :, 0] for other in W] for one in W])[None],
        n=len(y),
        p=X.shape[1],
        crossed=tuple(f for f, _ in layout.crossed),
        masks=tuple(factor.mask for factor in factors),
        n_levels=tuple(factor.n_levels for factor in factors),
        places=layout.places,
    )


def _sums(level: Level, one: Part, other: Part) -> np.ndarray:
    """Sum one'other over the rows of every group, shape (one, other, groups)."""
    cell = (level.codes * one.n_copies + one.copies) * other.n_copies + other.copies
    shape = (level.n_groups, one.n_copies, other.n_copies)
    q, k = one.columns.shape[1], other.columns.shape[1]
    sums = np.empty((one.n_copies, q, other.n_copies, k, level.n_groups))
    for a in range(q):
        for b in range(k):
            weights = one.columns[:, a] * other.columns[:, b]
            cells = np.bincount(cell, weights, np.prod(shape)).reshape(shape)
            sums[:, a, :, b] = np.moveaxis(cells, 0, -1)
    return sums.reshape(one.width, other.width, level.n_groups)


def _overlaps(C: np.ndarray) -> sparse.csc_array | None:
    """Products of all pairs of entries that share a group, if few do; C is (q, k, groups)."""
    q, k, J = C.shape
    j, a, c = np.nonzero(C.transpose(2, 0, 1))
    counts = np.bincount(j, minlength=J)
    if k < 100 or (counts**2).sum() > 0.1 * J * (q * k) ** 2:
        return None
    from scipy import sparse  # slow to import, and rarely needed

    left = np.repeat(np.arange(len(j)), counts[j])
    first = np.cumsum(counts) - counts
    start = np.repeat(np.cumsum(counts[j]) - counts[j], counts[j])
    right = first[j[left]] + np.arange(len(left)) - start
    rows = c[left] * k + c[right]
    columns = (a[left] * q + a[right]) * J + j[left]
    values = C[a, c, j]
    shape = (k * k, q * q * J)
    return sparse.csc_array((values[left] * values[right], (rows, columns)), shape=shape)


def check_memory(layout: Layout, w: int) -> None:
    """Refuse what needs more than the machine has: about four arrays of each kind at a time."""
    numbers, above = w**2, w
    for level in reversed(layout.levels):
        above += level.part.width
        numbers += level.n_groups * level.part.width * above
    needed, available = 32 * numbers, _memory()
    if needed > available:
        raise TooLargeError(needed, available)


def _memory() -> int:
    """Bytes of memory that the machine has; unlimited where it does not tell."""
    if not hasattr(os, "sysconf"):
        return 2**63
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def swap_responses(
    products: CrossProducts, layout: Layout, X: np.ndarray, responses: np.ndarray
) -> CrossProducts:
    """Swap the response for one or many; what does not depend on it is shared.

    Parameters
    ----------
    products : CrossProducts
        Of the same rows.
    layout : Layout
        Of these rows.
    X : ndarray, shape (n, p)
        Fixed-effects columns.
    responses : ndarray, shape (S, n)

    Returns
    -------
    CrossProducts
        With S responses.
    """
    from scipy import sparse  # slow to import, and needed only here

    S, n = responses.shape
    whole = [
        Level(f, np.zeros(n, dtype=np.int64), 1, np.zeros(1, int), part)
        for f, part in layout.crossed
    ]
    levels, tops = [], []
    for level in [*layout.levels, *whole]:
        part, q = level.part, level.part.columns.shape[1]
        cell = (level.codes * part.n_copies + part.copies)[:, None] * q + np.arange(q)
        rows = np.arange(n + 1) * q
        size = (n, level.n_groups * part.width)
        Z = sparse.csr_array((part.columns.ravel(), cell.ravel(), rows), shape=size)
        sums = (responses @ Z).reshape(S, level.n_groups, part.width)
        tops.append(sums.transpose(2, 0, 1)[:, :, None])  # (q, S, 1, groups)
    for level, sums in zip(products.levels, tops, strict=False):
        shape = (len(level.cross), S, level.cross.shape[2] - 1, level.cross.shape[3])
        shared = np.broadcast_to(level.cross[:, :1, :-1], shape)
        levels.append(replace(level, cross=np.concatenate([shared, sums], axis=2)))
    K = np.repeat(products.K[:1], S, axis=0)
    crossed = [sums[:, :, 0, 0].T for sums in tops[len(levels) :]]
    last = np.hstack([*crossed, responses @ X])
    K[:, -1, :-1] = K[:, :-1, -1] = last
    K[:, -1, -1] = np.einsum("sn,sn->s", responses, responses)
    return replace(products, levels=tuple(levels), K=K)


def recombine(products: CrossProducts, mix: np.ndarray) -> CrossProducts:
    """Cross-products after replacing [X, y] by [X, y] @ `mix`.

    Fixing β_k at a value v means dropping column k and taking y - v x_k as the response; both
    are such a recombination, so profiling a fixed effect needs no pass over the rows.

    Parameters
    ----------
    products : CrossProducts
        Of the full model.
    mix : ndarray, shape (S, p + 1, p_new + 1)
        Each column says how a new column is made of the old columns [X, y]; one matrix per
        response.

    Returns
    -------
    CrossProducts
        With S responses.
    """
    n_crossed, p_new = products.n_crossed, mix.shape[2] - 1
    whole = np.zeros((len(mix), products.K.shape[-1], n_crossed + p_new + 1))
    whole[:, :n_crossed, :n_crossed] = np.eye(n_crossed)
    whole[:, n_crossed:, n_crossed:] = mix
    levels = []
    for level in products.levels:
        above, W = np.split(level.cross, [level.n_above], axis=2)
        W = np.einsum("asvj,svw->aswj", W, whole)
        above = np.broadcast_to(above, (len(above), len(mix), *above.shape[2:]))
        levels.append(replace(level, cross=np.concatenate([above, W], axis=2)))
    K = whole.transpose(0, 2, 1) @ products.K @ whole
    return replace(products, levels=tuple(levels), K=K, p=p_new)
