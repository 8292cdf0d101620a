r"""Choose between fitted models: information criteria and likelihood-ratio tests.

A likelihood-ratio statistic is the drop in deviance from the reduced to the full model. What
it is compared with is the question:

=========== ========================================================================
method      null distribution
=========== ========================================================================
chi2        χ² with one degree of freedom per parameter; right where no variance is tested
boundary    ½χ²_q + ½χ²_{q+1} for one added random effect with q covariances: its variance
            cannot be negative, so half of the time it is estimated at its boundary (Stram
            & Lee 1994, doi:10.2307/2533455; Self & Liang 1987, doi:10.2307/2289471)
bootstrap   refits of both models to responses simulated from the reduced one
=========== ========================================================================

For one variance against none at all `exact_rlrt` needs no refits: for one set of independent
random effects with variance λσ², against the linear model without it, the null distribution of
the restricted likelihood-ratio statistic is known for any sample size (Crainiceanu & Ruppert
2004, doi:10.1111/j.1467-9868.2004.00438.x). With μ_1 … μ_K the eigenvalues of
Z'(I - X(X'X)⁻¹X')Z and w_s independent standard normal,

.. math:: RLRT \sim \sup_{\lambda \ge 0} \Big\{ (n-p) \log\frac{\sum_{s=1}^{n-p} w_s^2}
          {\sum_{s \le K} w_s^2/(1+\lambda\mu_s) + \sum_{s>K} w_s^2}
          - \sum_{s \le K} \log(1+\lambda\mu_s) \Big\}

which is simulated from χ² variates. In a balanced one-way layout (J groups, n rows) all μ are
equal, and the test is the F test of the groups: F > 1 gives λ̂ > 0, so the probability of a
statistic of exactly zero is P(F_{J-1, n-J} ≤ 1).

Whether one model contains another is decided by what they span, not by their text: fixed
columns by their column space, grouping factors by how they split the rows, random terms bar by
bar. A bar whose effects may correlate contains every bar whose columns it spans; a ``||`` model
contains no correlated one. Two fits from a database, whose rows are not here, are compared by
the names of their columns and grouping columns, and by number, mean and spread of the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from course_lib.errors import (
    check_choice,
    check_count,
    check_flag,
    check_rng,
    course_error,
    listing,
)
from course_lib.mixed.bootstrap import batches, refit
from course_lib.mixed.cross_products import bars
from course_lib.mixed.design import GroupFactor, ModelFrame
from course_lib.mixed.deviance import deviance_and_gradient
from course_lib.mixed.result import LmerResult, check_fit, refitted_by_ml
from course_lib.mixed.search import estimate

__all__ = [
    "LRTest",
    "added_by",
    "check_same_rows",
    "compare_models",
    "exact_rlrt",
    "lr_test",
    "restricted_null",
    "same_fixed_part",
    "simulation_test",
]

# Searches end within about 1e-9 of the minimum: a smaller difference of deviances is zero.
PRECISION = 1e-6
# Two columns of mean square one that differ by less than this are the same; rounding is 1e-16
# times the ratio of a predictor's offset to its spread.
SAME = 1e-6
GOLDEN = (np.sqrt(5) - 1) / 2
CHUNK = 2_000_000  # numbers held at a time


@dataclass(frozen=True, eq=False)
class LRTest:
    """Outcome of a likelihood-ratio test.

    Attributes
    ----------
    statistic : float
        Deviance of the reduced model minus deviance of the full model, at least 0.
    df : int
        Number of parameters that the full model has more.
    pvalue : float
        Probability of a statistic this large or larger under the reduced model.
    method : str
        "chi2", "boundary", "bootstrap" or "exact".
    n_sim : int
        Simulated statistics; 0 where none were needed.
    pvalue_se : float
        Monte-Carlo standard error of the p-value; 0 where nothing was simulated.
    criterion : {"ML", "REML"}
        Which deviance was compared.
    note : str
        What was done and what to keep in mind.
    simulated : ndarray, shape (n_sim,)
        The simulated statistics.
    """

    statistic: float
    df: int
    pvalue: float
    method: str
    n_sim: int = 0
    pvalue_se: float = 0.0
    criterion: str = "ML"
    note: str = ""
    simulated: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)


def compare_models(models: Mapping[str, LmerResult], refit: bool = True) -> pd.DataFrame:
    r"""Compare models by AIC and BIC.

    .. math:: AIC = -2\ell + 2k, \quad BIC = -2\ell + k \log n, \quad
              w_i = \frac{e^{-\Delta_i/2}}{\sum_j e^{-\Delta_j/2}}, \quad
              \Delta_i = AIC_i - \min_j AIC_j

    with k parameters (fixed effects, (co)variances, residual variance) and n rows, as in lme4.

    Parameters
    ----------
    models : dict of str to LmerResult
        At least two fits to the same rows of the same response, by name.
    refit : bool
        Restricted likelihoods can be compared only if all models are fitted by REML and have
        the same fixed part. Where that does not hold, refit the REML fits by ML and say so
        (True), or raise (False).

    Returns
    -------
    DataFrame
        One row per model, in the order given: criterion ("ML" or "REML"), refitted (whether by
        ML for this table), npar, llf, aic, bic, delta_aic, weight. ``attrs["bic_n"]`` is n,
        and ``attrs["note"]`` says which n BIC uses and what was refitted.

    Raises
    ------
    CourseError
        If the models cannot be compared.

    Examples
    --------
    >>> from course_lib import compare_models, lmer, load
    >>> sleep = load("sleepstudy")
    >>> fits = {
    ...     "intercept": lmer("Reaction ~ Days + (1 | Subject)", sleep),
    ...     "slope": lmer("Reaction ~ Days + (Days | Subject)", sleep),
    ... }
    >>> compare_models(fits)["delta_aic"].round(1).to_dict()
    {'intercept': 38.8, 'slope': 0.0}

    See Also
    --------
    lr_test : Test one model against a larger one.
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        got = f"{len(models)} of them" if isinstance(models, Mapping) else repr(type(models))
        rule = "must be a dict of at least two fitted models"
        advice = 'Write compare_models({"intercept": fit1, "slope": fit2}).'
        raise course_error("models", rule, got, advice)
    for name, fit in models.items():
        check_fit(f"models[{name!r}]", fit)
    check_flag("refit", refit)
    fits = list(models.values())
    for name, fit in models.items():
        check_same_rows(f"models[{name!r}]", fits[0], fit)
    problem = _criterion_problem(fits)
    if problem and not refit:
        rule = "must all be ML fits, or REML fits with the same fixed part"
        advice = "Pass refit=True, or fit with lmer(..., reml=False)."
        raise course_error("models", rule, problem, advice)
    used = [refitted_by_ml(fit) for fit in fits] if problem else fits
    table = pd.DataFrame(
        {
            "criterion": ["REML" if fit.reml else "ML" for fit in used],
            "refitted": [new is not old for new, old in zip(used, fits, strict=True)],
            **{key: [getattr(f, key) for f in used] for key in ("npar", "llf", "aic", "bic")},
        },
        index=pd.Index(list(models), name="model"),
    )
    table["delta_aic"] = table["aic"] - table["aic"].min()
    likelihood = np.exp(-table["delta_aic"] / 2)
    table["weight"] = likelihood / likelihood.sum()
    n = fits[0].nobs
    note = f"BIC uses n = {n}, the number of rows; the number of groups is another choice."
    table.attrs["bic_n"] = n
    table.attrs["note"] = f"{_refit_note(problem)}{note}"
    return table


def lr_test(
    reduced: LmerResult,
    full: LmerResult,
    method: str = "chi2",
    n_sim: int = 1000,
    rng: np.random.Generator | None = None,
    progress: bool = True,
) -> LRTest:
    r"""Test a model against a larger one that contains it.

    REML fits with the same fixed part are compared by their REML criteria; otherwise REML fits
    are refitted by ML, and the note says so.

    Parameters
    ----------
    reduced, full : LmerResult
        Fits to the same rows; every fixed column and random effect of `reduced` must also be
        in `full`.
    method : {"chi2", "boundary", "bootstrap"}
        See the module docstring. The bootstrap p-value is (1 + #{T* ≥ T}) / (n_sim + 1)
        (Davison & Hinkley 1997, doi:10.1017/CBO9780511802843).
    n_sim : int
        Bootstrap draws.
    rng : numpy.random.Generator
        Needed for the bootstrap.
    progress : bool
        Show a progress bar during the bootstrap.

    Returns
    -------
    LRTest

    Raises
    ------
    CourseError
        If the models are not nested, or "boundary" does not apply to what is added.

    Examples
    --------
    >>> from course_lib import lmer, load, lr_test
    >>> sleep = load("sleepstudy")
    >>> small = lmer("Reaction ~ Days + (1 | Subject)", sleep, reml=False)
    >>> large = lmer("Reaction ~ Days + (Days | Subject)", sleep, reml=False)
    >>> test = lr_test(small, large, method="boundary")
    >>> round(test.statistic, 4), f"{test.pvalue:.3e}"
    (42.1393, '3.961e-10')

    See Also
    --------
    exact_rlrt : The exact test of the only variance of a model.
    compare_models : AIC and BIC, also of models that are not nested.
    """
    check_fit("reduced", reduced)
    check_fit("full", full)
    check_choice("method", method, ("chi2", "boundary", "bootstrap"))
    check_flag("progress", progress)
    if method == "bootstrap":
        check_count("n_sim", n_sim)
        check_rng("rng", rng)
    check_same_rows("full", reduced, full)
    added = added_by(reduced, full)
    if method == "boundary":
        _check_boundary(added)
    problem = _criterion_problem([reduced, full])
    if problem:
        reduced, full = refitted_by_ml(reduced), refitted_by_ml(full)
    statistic = reduced.deviance - full.deviance
    if statistic < -PRECISION:
        rule = "must fit at least as well as the model inside it"
        advice = "Its search has not found the optimum: look at full.converged."
        raise course_error("full", rule, f"a deviance {-statistic:.2g} higher", advice)
    statistic = statistic if statistic > PRECISION else 0.0
    test = LRTest(statistic, added.df, np.nan, method, criterion="REML" if full.reml else "ML")
    if method == "bootstrap":
        simulated = _bootstrap(reduced, full, n_sim, rng, progress)
        return simulation_test(test, simulated, _refit_note(problem))
    pvalue, note = _asymptotic_pvalue(test, added)
    if method == "boundary" and reduced.is_singular:
        note += " The reduced model is singular itself, where this rule is only rough."
    return replace(test, pvalue=pvalue, note=f"{_refit_note(problem)}{note}")


def _asymptotic_pvalue(test: LRTest, added: Added) -> tuple[float, str]:
    from scipy.stats import chi2  # slow to import

    upper = float(chi2.sf(test.statistic, test.df))
    if test.method == "boundary":
        q = test.df - 1
        # χ²_0 is a point mass at zero.
        lower = float(chi2.sf(test.statistic, q)) if q else float(test.statistic <= 0)
        return (lower + upper) / 2, f"Compared with ½χ²_{q} + ½χ²_{test.df}."
    note = f"Compared with χ²_{test.df}."
    if added.columns:
        note += (
            " A variance is tested at its boundary, zero, so this p-value is too large: "
            "see method='boundary' or 'bootstrap'."
        )
    return upper, note


def simulation_test(test: LRTest, simulated: np.ndarray, before: str = "") -> LRTest:
    """Fill in p-value, its standard error and note from simulated null statistics.

    Parameters
    ----------
    test : LRTest
        With the observed statistic.
    simulated : ndarray
        Statistics under the null hypothesis.
    before : str
        What the note has to say first.

    Returns
    -------
    LRTest
    """
    n_sim = len(simulated)
    reached = int((simulated >= test.statistic).sum())
    p = (1 + reached) / (n_sim + 1)
    note = f"{reached} of {n_sim} simulated statistics reached the observed one."
    if reached == 0:
        note += f" The p-value is the smallest that {n_sim} draws can give."
    return replace(
        test,
        pvalue=p,
        n_sim=n_sim,
        pvalue_se=float(np.sqrt(p * (1 - p) / n_sim)),
        note=f"{before}{note}",
        simulated=simulated,
    )


def _bootstrap(reduced, full, n_sim, rng, progress) -> np.ndarray:
    """Statistics of `n_sim` responses drawn from the reduced model; only deviances are made."""
    models = [reduced.standardised, full.standardised]
    statistics = np.empty(n_sim)
    with tqdm(total=n_sim, desc="bootstrap", disable=not progress) as bar:
        for batch in batches(full.standardised, n_sim):
            drawn = reduced.simulate(batch.stop - batch.start, rng)
            smaller, larger = (refit(m, drawn, full.reml).deviance for m in models)
            statistics[batch] = smaller - larger
            bar.update(len(drawn))
    return np.where(statistics > PRECISION, statistics, 0.0)


def _criterion_problem(fits: list[LmerResult]) -> str:
    """Why the deviances as they are cannot be compared; empty if they can."""
    if not any(fit.reml for fit in fits):
        return ""
    if not all(fit.reml for fit in fits):
        return "REML and ML fits mixed"
    if not all(same_fixed_part(fits[0], fit) for fit in fits[1:]):
        return "REML fits with different fixed parts"
    return ""


def _refit_note(problem: str) -> str:
    return f"REML fits are refitted by ML, because these are {problem}. " if problem else ""


def _check_boundary(added: Added) -> None:
    """Raise unless exactly one random effect, with its covariances, is added."""
    if added.fixed:
        problem, advice = f"{added.fixed} fixed effect(s) added", "Add them in separate steps"
    elif added.columns == 0:
        problem, advice = "no variance added, only correlations", "Use method='chi2'"
    elif added.columns > 1:
        problem = f"{added.columns} variances added"
        advice = "Their mixture has no simple weights: use method='bootstrap'"
    elif not added.one_to_one:
        problem = "correlations between effects of the reduced model added too"
        advice = "Test the two steps one after the other"
    else:
        return
    rule = "'boundary' applies where exactly one random effect is added and nothing else"
    also = "" if "bootstrap" in advice else ", or use method='bootstrap'"
    raise course_error("method", rule, problem, f"{advice}{also}.")


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
    if one.frame.has_rows != other.frame.has_rows:
        rule = "must have its rows in memory if the other model has, and only then"
        advice = "Fit both from the database, or both from a table in memory."
        raise course_error(argument, rule, "one fit of each kind", advice)
    if one.nobs != other.nobs or not one.frame.same_index(other.frame):
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
    if not one.frame.same_response(other.frame):
        names = [fit.frame.parsed.response for fit in (one, other)]
        how = " with other values" if names[0] == names[1] else ""
        rule = "must have the same response as the other model"
        advice = "Likelihoods of different responses (y and log(y), say) are not comparable."
        raise course_error(argument, rule, f"'{names[1]}' against '{names[0]}'{how}", advice)


def same_fixed_part(one: LmerResult, other: LmerResult) -> bool:
    """Whether column space and log|X'X| agree, on which the REML criterion depends."""
    if len(one.frame.fixed_names) != len(other.frame.fixed_names) or _lacking(one, other):
        return False
    roots = [fit.standardised.x_root for fit in (one, other)]
    logdets = [np.log(np.abs(root.diagonal())).sum() for root in roots]
    return bool(np.isclose(*logdets, rtol=1e-9, atol=1e-9))


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
        fixed=len(full.frame.fixed_names) - len(reduced.frame.fixed_names),
        columns=columns[1] - columns[0],
        one_to_one=len(set(homes)) == len(homes),
    )


def _missing(inner: LmerResult, outer: LmerResult) -> str:
    """Name what `outer` lacks to contain `inner`; empty if nothing."""
    if lacking := _lacking(inner, outer):
        return f"the fixed effects {listing(lacking)}"
    for home, (i, block) in zip(_homes(inner, outer), _bars(inner), strict=True):
        if home is None:
            factor = inner.frame.factors[i]
            return f"the random term ({listing(factor.terms[block])} | {factor.name})"
    return ""


def _lacking(inner: LmerResult, outer: LmerResult) -> list[str]:
    """Return the fixed columns of `inner` that those of `outer` do not span."""
    names = inner.frame.fixed_names
    if not inner.frame.has_rows:
        return [name for name in names if name not in outer.frame.fixed_names]
    space = outer.standardised.X
    if _within(inner.standardised.X, space):
        return []
    columns = inner.frame.X / np.sqrt((inner.frame.X**2).mean(axis=0))
    pairs = zip(names, columns.T, strict=True)
    return [name for name, column in pairs if not _within(column[:, None], space)] or [*names]


def _bars(fit: LmerResult) -> list[tuple[int, slice]]:
    """Factor and columns of each set of correlated random effects."""
    return [(i, bar) for i, f in enumerate(fit.frame.factors) for bar in bars(f.mask)]


def _homes(inner: LmerResult, outer: LmerResult) -> list[int | None]:
    """For each bar of `inner`, which bar of `outer` has its groups and spans its columns."""
    homes = []
    for i, block in _bars(inner):
        fitting = (
            k
            for k, (j, other) in enumerate(_bars(outer))
            if _same_groups(inner.frame.factors[i], outer.frame.factors[j], inner.frame)
            and _spanned(inner, i, block, outer, j, other)
        )
        homes.append(next(fitting, None))
    return homes


def _spanned(inner, i, block, outer, j, other) -> bool:
    """Whether a bar of `outer` spans the columns of a bar of `inner`."""
    if not inner.frame.has_rows:
        names = [
            fit.frame.factors[f].terms[b]
            for fit, f, b in ((inner, i, block), (outer, j, other))
        ]
        return set(names[0]) <= set(names[1])
    columns = inner.standardised.factors[i].columns[:, block]
    return _within(columns, outer.standardised.factors[j].columns[:, other])


def _same_groups(one: GroupFactor, other: GroupFactor, frame: ModelFrame) -> bool:
    """Whether two factors split the rows alike, whatever their names."""
    if not frame.has_rows:
        return set(one.group) == set(other.group)
    pairs = np.unique(one.codes.astype(np.int64) * len(other.keys) + other.codes)
    return len(pairs) == len(one.keys) == len(other.keys)


def _within(columns: np.ndarray, space: np.ndarray) -> bool:
    """Whether every column lies in the span of `space`, whose columns are orthogonal."""
    outside = columns - space @ (space.T @ columns / len(space))
    return bool((np.sqrt((outside**2).mean(axis=0)) < SAME).all())


def exact_rlrt(
    fit: LmerResult, n_sim: int = 10_000, rng: np.random.Generator | None = None
) -> LRTest:
    """Test the only variance of a mixed model against the linear model without it.

    Parameters
    ----------
    fit : LmerResult
        With one grouping factor and one random effect per group, as ``(1 | g)`` or
        ``(0 + x | g)``. An ML fit is refitted by REML, and the note says so.
    n_sim : int
        Draws from the null distribution.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    LRTest
        With ``method="exact"``, ``df=1``, and the p-value (1 + #{T* ≥ T}) / (n_sim + 1).

    Raises
    ------
    CourseError
        If the model has more than one random effect per group or grouping factor.

    Examples
    --------
    >>> import numpy as np
    >>> from course_lib import exact_rlrt, lmer, load
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff"))
    >>> test = exact_rlrt(fit, n_sim=2000, rng=np.random.default_rng(1))
    >>> test.df, test.pvalue < 0.01
    (1, True)

    See Also
    --------
    lr_test : Tests of one of several variances.
    """
    check_fit("fit", fit)
    check_count("n_sim", n_sim)
    check_rng("rng", rng)
    if len(fit.theta) != 1:
        raise course_error(
            "fit",
            "must have a single variance component besides the residual",
            f"'{fit.formula}' with {len(fit.theta)} variance parameters",
            "Use lr_test(reduced, full, method='bootstrap') to test one of several.",
        )
    note = "" if fit.reml else "Refitted by REML, which this test is about. "
    if not fit.reml:
        fit = replace(fit, estimate=estimate(fit.standardised, True), reml=True)
    products = fit.standardised.products
    at_zero = deviance_and_gradient(np.zeros(1), products, True)[0]
    statistic = float(at_zero - fit.estimate.optimum.deviance)
    statistic = statistic if statistic > PRECISION else 0.0
    residual_df = products.n - products.p
    simulated = restricted_null(_eigenvalues(fit), residual_df, n_sim, rng)
    test = LRTest(statistic, 1, np.nan, "exact", criterion="REML")
    return simulation_test(test, simulated, note)


def _eigenvalues(fit: LmerResult) -> np.ndarray:
    """μ: eigenvalues of Z'Z minus the part that the fixed effects explain."""
    products = fit.standardised.products
    # In standard units X'X = n I; with one effect per group, cross is Z'[X y].
    level = products.levels[0]
    cross = level.cross[0, 0, :-1]
    return np.linalg.eigvalsh(np.diag(level.gram[0, 0, 0]) - cross.T @ cross / products.n)


def restricted_null(
    eigenvalues: np.ndarray, residual_df: int, n_sim: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw from the null distribution of the restricted likelihood-ratio statistic.

    Parameters
    ----------
    eigenvalues : ndarray, shape (K,)
        μ of the module docstring; zeros are allowed.
    residual_df : int
        n - p.
    n_sim : int
        How many draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (n_sim,)
        Statistics, at least zero.
    """
    # Equal eigenvalues share one λ-dependent weight: draw the sum of their w² at once.
    top = eigenvalues.max()
    rounded = np.round(np.where(eigenvalues < 1e-9 * top, 0, eigenvalues) / top, 10)
    mu, counts = np.unique(rounded[rounded > 0], return_counts=True)
    rest_df = residual_df - int(counts.sum())
    draws = []
    size = max(1, CHUNK // (len(mu) + 100))
    for start in range(0, n_sim, size):
        n_now = min(size, n_sim - start)
        squares = rng.chisquare(counts, (n_now, len(mu)))
        rest = rng.chisquare(rest_df, n_now) if rest_df else np.zeros(n_now)
        draws.append(_supremum(mu, counts, squares, rest, residual_df))
    return np.concatenate(draws)


def _supremum(mu, counts, squares, rest, residual_df) -> np.ndarray:
    """Largest value over λ for each draw: a grid, then golden-section search around its best.

    λ is in units of 1 / the largest eigenvalue.
    """
    total = squares.sum(axis=1) + rest

    def value(lam):  # lam has shape (draws, 1)
        inside = (squares / (1 + lam * mu)).sum(axis=1) + rest
        return residual_df * np.log(total / inside) - np.log1p(lam * mu) @ counts

    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1e8, 80)])
    shrunk = squares @ (1 / (1 + np.outer(mu, grid))) + rest[:, None]
    heights = residual_df * np.log(total[:, None] / shrunk)
    heights -= counts @ np.log1p(np.outer(mu, grid))
    best = heights.argmax(axis=1)
    low = grid[np.maximum(best - 1, 0)][:, None]
    high = grid[np.minimum(best + 1, len(grid) - 1)][:, None]
    for _ in range(30):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        rises = (value(right) > value(left))[:, None]
        low, high = np.where(rises, left, low), np.where(rises, high, right)
    found = np.maximum(heights.max(axis=1), value((low + high) / 2))
    # Where λ = 0 is best the search creeps towards it from above and leaves rounding error.
    return np.where(found > 1e-10, found, 0.0)
