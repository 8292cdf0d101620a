r"""What single groups do to a fit: leave each out in turn.

Leaving out a group changes Z'Z, Z'[X y] and [X y]'[X y] by the cross-products of its rows. They
are subtracted, and the search starts at the full fit: no design matrix is built again. A group
without rows has A_j = I and mode 0, so it drops out of the deviance by itself.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from course_lib.errors import course_error, listing, suggestion
from course_lib.mixed.cross_products import cross_products
from course_lib.mixed.design import GroupFactor
from course_lib.mixed.result import LmerResult, check_fit
from course_lib.mixed.scaling import Standardised, places
from course_lib.mixed.search import Estimate, estimate

__all__ = ["influence"]

LOST = 1e-10  # share of a direction's sum of squares that is left: below, rounding


def influence(fit: LmerResult, by: str | None = None) -> pd.DataFrame:
    r"""Leave out one group at a time, refit, and say what changes.

    .. math:: D_j = \frac{J - p}{J}\;\frac{1}{p}\,
              (\hat\beta_{(j)} - \hat\beta)' \hat V^{-1} (\hat\beta_{(j)} - \hat\beta)

    is Cook's distance of group j of J, V the covariance of the p fixed effects of the full fit.
    The first fraction is lme4's convention (``cooks.distance(influence(fit, by))``); without it
    the distance is the one of Cook (1977, doi:10.2307/1268249), larger by J/(J - p).

    Parameters
    ----------
    fit : LmerResult
        The fit to all rows; refits use its criterion (REML or ML).
    by : str, optional
        The grouping factor whose groups are left out, as in ``fit.ngroups``. Needed only where
        the model has several.

    Returns
    -------
    DataFrame
        One row per group, in the order of ``fit.random_effects[by]``: cooks_distance, n_rows
        (left out), then the change of every estimate, without the group minus with it, in the
        units of the estimate: ``fixed: Days`` for a coefficient, ``vcov: Subject Days`` for a
        variance, ``vcov: Subject Intercept, Days`` for a covariance, ``vcov: Residual``.

    Raises
    ------
    CourseError
        If `by` is no grouping factor of the fit, the factor has too few groups, or a
        coefficient cannot be estimated without one of them.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> round(float(influence(fit)["cooks_distance"].max()), 2)
    0.13

    See Also
    --------
    course_lib.diagnostics.residual_frame : Residuals and leverages of single rows.
    """
    check_fit("fit", fit)
    factor = _factor(fit, by)
    J, p = len(factor.keys), fit.frame.X.shape[1]
    _check_groups(factor, J, p)
    rows = _rows_by_group(factor)
    _check_estimable(fit, factor, rows)
    # From a singular fit the likelihood without a group may have its peak far away: then the
    # search tries all of its usual starts.
    start = None if fit.is_singular else fit.estimate.optimum.theta
    # Where the variances and covariances stand, in the order of `LmerResult.varcorr`
    where = places(fit.standardised.products.masks)
    before = _parameters(fit.estimate, where)
    changes, unfinished = [], []
    for level, left_out in zip(factor.levels, rows, strict=True):
        without = _without(fit, left_out)
        found = estimate(without, fit.reml, start)
        changes.append(_parameters(found, where) - before)
        if not found.optimum.converged:
            unfinished.append(level)
    if unfinished:
        warnings.warn(
            f"influence: without {listing(unfinished)} the search stopped before the gradient "
            "vanished; do not trust these rows.",
            stacklevel=2,
        )
    table = pd.DataFrame(changes, factor.levels, _parameter_names(fit))
    fixed = np.array(changes)[:, :p]
    weighted = np.linalg.solve(fit.estimate.cov_beta, fixed.T).T
    cooks_distance = (J - p) / (J * p) * (fixed * weighted).sum(axis=1)
    table.insert(0, "cooks_distance", cooks_distance)
    table.insert(1, "n_rows", [len(left_out) for left_out in rows])
    return table


def _factor(fit: LmerResult, by: str | None) -> GroupFactor:
    factors = {factor.name: factor for factor in fit.frame.factors}
    if by is None and len(factors) == 1:
        return next(iter(factors.values()))
    if not isinstance(by, str) or by not in factors:
        rule = "must name a grouping factor of the fit"
        raise course_error("by", rule, repr(by), suggestion(by, factors))
    return factors[by]


def _check_groups(factor: GroupFactor, J: int, p: int) -> None:
    if p == 0:
        rule = "must have a fixed effect whose change can be measured"
        advice = "Keep the intercept in the formula."
        raise course_error("fit", rule, "a model without fixed effects", advice)
    if max(p, 2) >= J:
        rule = "must have at least three groups, and more groups than there are fixed effects"
        got = f"{J} groups in '{factor.name}' for {p} fixed effects"
        advice = "With so few groups look at each of them, or fit with fewer predictors."
        raise course_error("by", rule, got, advice)


def _rows_by_group(factor: GroupFactor) -> list[np.ndarray]:
    """Row numbers of every group."""
    order = np.argsort(factor.codes, kind="stable")
    ends = np.cumsum(np.bincount(factor.codes, minlength=len(factor.keys)))
    return np.split(order, ends[:-1])


def _check_estimable(fit: LmerResult, factor: GroupFactor, rows: list[np.ndarray]) -> None:
    """Raise if the fixed effects lose their full rank without one of the groups."""
    X = fit.standardised.X
    gram = X.T @ X
    for level, left_out in zip(factor.levels, rows, strict=True):
        part = gram - X[left_out].T @ X[left_out]
        values, vectors = np.linalg.eigh(part)
        # Standard columns have X'X = n I; what is left of a lost direction is rounding.
        if values[0] <= LOST * len(X):
            original = np.linalg.solve(fit.standardised.x_root, vectors[:, 0])
            size = np.abs(original) * np.sqrt((fit.frame.X**2).mean(axis=0))
            name = fit.frame.fixed_names[int(size.argmax())]
            rule = "must leave every coefficient estimable when a group is left out"
            got = f"'{name}', which only the group {level} of '{factor.name}' tells"
            advice = "Leave that predictor or that group out of the model first."
            raise course_error("by", rule, got, advice)


def _without(fit: LmerResult, left_out: np.ndarray) -> Standardised:
    """Return the model without some rows: cross-products subtracted, same units."""
    full, X = fit.standardised, fit.standardised.X
    y = (fit.frame.y - fit.frame.X @ full.offset[0]) / full.y_scale[0]
    layout = full.layout.rows(left_out)
    part = cross_products(X[left_out], y[left_out], full.factors, layout)
    levels = [
        replace(level, gram=level.gram - less.gram, cross=level.cross - less.cross)
        for level, less in zip(full.products.levels, part.levels, strict=True)
    ]
    products = replace(
        full.products,
        levels=tuple(levels),
        K=full.products.K - part.K,
        n=full.products.n - part.n,
    )
    return replace(full, products=products)


def _parameters(estimate: Estimate, places: list[tuple[int, int, int]]) -> np.ndarray:
    vcov = [estimate.cov_re[i][row, column] for i, row, column in places]
    return np.concatenate([estimate.beta, vcov, [estimate.sigma**2]])


def _parameter_names(fit: LmerResult) -> list[str]:
    names = [f"fixed: {name}" for name in fit.frame.fixed_names]
    for group, one, other in fit.varcorr()[["group", "term1", "term2"]].to_numpy():
        terms = ", ".join(term for term in (one, other) if term)
        names.append(f"vcov: {group} {terms}".rstrip())
    return names
