"""Whether one mixed model contains another, and what the larger one adds.

Models are compared by what they span, not by their text: fixed columns by their column space,
grouping factors by how they split the rows, random terms bar by bar. A bar whose effects may
correlate contains every bar whose columns it spans; a ``||`` model contains no correlated one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course_lib.errors import course_error, listing
from course_lib.mixed.design import GroupFactor
from course_lib.mixed.result import LmerResult

__all__ = ["Added", "added_by", "check_same_rows", "same_fixed_part"]

# Two columns of mean square one that differ by less than this are the same; rounding is 1e-16
# times the ratio of a predictor's offset to its spread.
SAME = 1e-6


@dataclass(frozen=True)
class Added:
    """What the full model has more: parameters, fixed and random columns.

    ``one_to_one``: no two terms of the reduced model were joined by a correlation.
    """

    df: int
    fixed: int
    columns: int
    one_to_one: bool


def check_same_rows(argument: str, one: LmerResult, other: LmerResult) -> None:
    """Raise unless `other`, passed as `argument`, has the rows and the response of `one`."""
    if one.nobs != other.nobs or not one.frame.index.equals(other.frame.index):
        got = f"{other.nobs} rows with other labels than those of the other model"
        if one.nobs != other.nobs:
            dropped = f"{other.n_dropped} and {one.n_dropped} incomplete ones"
            got = f"{other.nobs} rows against {one.nobs}, after dropping {dropped}"
        raise course_error(
            argument,
            "must use the same rows as the other model, in the same order",
            got,
            "Fit both to the rows complete in both: data.dropna(subset=[all used columns]).",
        )
    if not np.array_equal(one.frame.y, other.frame.y):
        names = [fit.frame.parsed.response for fit in (one, other)]
        how = " with other values" if names[0] == names[1] else ""
        rule = "must have the same response as the other model"
        advice = "Likelihoods of different responses (y and log(y), say) are not comparable."
        raise course_error(argument, rule, f"'{names[1]}' against '{names[0]}'{how}", advice)


def same_fixed_part(one: LmerResult, other: LmerResult) -> bool:
    """Whether column space and log|X'X| agree, on which the REML criterion depends."""
    a, b = one.standardised, other.standardised
    if a.X.shape != b.X.shape or not _within(a.X, b.X):
        return False
    logdets = [np.log(np.abs(s.x_root.diagonal())).sum() for s in (a, b)]
    return bool(abs(logdets[0] - logdets[1]) < 1e-9 * max(1.0, abs(logdets[0])))


def added_by(reduced: LmerResult, full: LmerResult) -> Added:
    """Check that `full` contains `reduced`, and count what it adds.

    Parameters
    ----------
    reduced, full : LmerResult
        Fits to the same rows.

    Returns
    -------
    Added

    Raises
    ------
    CourseError
        If the models are not nested, are swapped, or are the same.
    """
    missing = _missing(reduced, full)
    if missing:
        advice = "Use compare_models for models that are not nested."
        if not _missing(full, reduced):
            advice = "They are swapped: pass the smaller model first."
        rule = "must be nested: every term of the reduced model also in the full one"
        got = f"'{reduced.formula}' and '{full.formula}', where the second lacks {missing}"
        raise course_error("reduced, full", rule, got, advice)
    df = full.npar - reduced.npar
    if df == 0:
        rule = "must have more parameters than the reduced model"
        got = f"{full.npar} in both ('{reduced.formula}' and '{full.formula}')"
        advice = "These are the same model; there is nothing to test."
        raise course_error("full", rule, got, advice)
    homes = _homes(reduced, full)
    columns = [sum(len(f.terms) for f in fit.frame.factors) for fit in (reduced, full)]
    return Added(
        df=df,
        fixed=full.frame.X.shape[1] - reduced.frame.X.shape[1],
        columns=columns[1] - columns[0],
        one_to_one=len(set(homes)) == len(homes),
    )


def _missing(inner: LmerResult, outer: LmerResult) -> str:
    """Name what `outer` lacks to contain `inner`; empty if nothing."""
    space = outer.standardised.X
    if not _within(inner.standardised.X, space):
        columns = inner.frame.X / np.sqrt((inner.frame.X**2).mean(axis=0))
        names = zip(inner.frame.fixed_names, columns.T, strict=True)
        lacking = [name for name, column in names if not _within(column[:, None], space)]
        return f"the fixed effects {listing(lacking or inner.frame.fixed_names)}"
    for home, (i, block) in zip(_homes(inner, outer), _bars(inner), strict=True):
        if home is None:
            factor = inner.frame.factors[i]
            return f"the random term ({listing(factor.terms[block])} | {factor.name})"
    return ""


def _bars(fit: LmerResult) -> list[tuple[int, slice]]:
    """Factor and columns of each set of correlated random effects."""
    bars = []
    for i, factor in enumerate(fit.frame.factors):
        q = len(factor.terms)
        starts = [0] + [k for k in range(1, q) if not factor.mask[k, k - 1]]
        ends = [*starts[1:], q]
        bars += [(i, slice(a, b)) for a, b in zip(starts, ends, strict=True)]
    return bars


def _homes(inner: LmerResult, outer: LmerResult) -> list[int | None]:
    """For each bar of `inner`, which bar of `outer` has its groups and spans its columns."""
    homes = []
    for i, block in _bars(inner):
        columns = inner.standardised.factors[i].columns[:, block]
        fitting = (
            k
            for k, (j, other) in enumerate(_bars(outer))
            if _same_groups(inner.frame.factors[i], outer.frame.factors[j])
            and _within(columns, outer.standardised.factors[j].columns[:, other])
        )
        homes.append(next(fitting, None))
    return homes


def _same_groups(one: GroupFactor, other: GroupFactor) -> bool:
    """Whether two factors split the rows alike, whatever their names."""
    pairs = np.unique(one.codes.astype(np.int64) * len(other.keys) + other.codes)
    return len(pairs) == len(one.keys) == len(other.keys)


def _within(columns: np.ndarray, space: np.ndarray) -> bool:
    """Whether every column lies in the span of `space`, whose columns are orthogonal."""
    outside = columns - space @ (space.T @ columns / len(space))
    return bool((np.sqrt((outside**2).mean(axis=0)) < SAME).all())
