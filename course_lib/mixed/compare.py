r"""Choose between fitted models: information criteria and likelihood-ratio tests.

A likelihood-ratio statistic is the drop in deviance from the reduced to the full model. What
it is compared with is the question:

=========== ========================================================================
method      null distribution
=========== ========================================================================
chi2        χ² with one degree of freedom a parameter; right where no variance is tested
boundary    ½χ²_q + ½χ²_{q+1} for one added random effect with q covariances: its variance
            cannot be negative, so half of the time it is estimated at its boundary (Stram
            & Lee 1994, doi:10.2307/2533455; Self & Liang 1987, doi:10.2307/2289471)
bootstrap   refits of both models to responses simulated from the reduced one
=========== ========================================================================

For one variance against none at all see `exact_test`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from course_lib.errors import check_choice, check_count, check_rng, check_type, course_error
from course_lib.mixed.bootstrap import batch_size, refit_deviances
from course_lib.mixed.nesting import Added, added_by, check_same_rows, same_fixed_part
from course_lib.mixed.result import LmerResult
from course_lib.mixed.search import estimate_standardised

__all__ = ["LRTest", "check_fit", "compare_models", "lr_test", "simulation_test"]

# Searches end within about 1e-9 of the minimum: a smaller difference of deviances is zero.
PRECISION = 1e-6


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
        One row a model, in the order given: criterion ("ML" or "REML"), refitted (whether by
        ML for this table), npar, llf, aic, bic, delta_aic, weight. ``attrs["bic_n"]`` is n,
        and ``attrs["note"]`` says which n BIC uses and what was refitted.

    Raises
    ------
    CourseError
        If the models cannot be compared.
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        got = f"{len(models)} of them" if isinstance(models, Mapping) else repr(type(models))
        rule = "must be a dict of at least two fitted models"
        advice = 'Write compare_models({"intercept": fit1, "slope": fit2}).'
        raise course_error("models", rule, got, advice)
    for name, fit in models.items():
        check_fit(f"models[{name!r}]", fit)
    check_choice("refit", refit, (True, False))
    fits = list(models.values())
    for name, fit in models.items():
        check_same_rows(f"models[{name!r}]", fits[0], fit)
    problem = _criterion_problem(fits)
    if problem and not refit:
        rule = "must all be ML fits, or REML fits with the same fixed part"
        advice = "Pass refit=True, or fit with lmer(..., reml=False)."
        raise course_error("models", rule, problem, advice)
    used = [_ml_fit(fit) for fit in fits] if problem else fits
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
    """
    check_fit("reduced", reduced)
    check_fit("full", full)
    check_choice("method", method, ("chi2", "boundary", "bootstrap"))
    if method == "bootstrap":
        check_count("n_sim", n_sim)
        check_rng("rng", rng)
    check_same_rows("full", reduced, full)
    added = added_by(reduced, full)
    if method == "boundary":
        _check_boundary(added)
    problem = _criterion_problem([reduced, full])
    if problem:
        reduced, full = _ml_fit(reduced), _ml_fit(full)
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
    size = min(batch_size(model) for model in models)
    statistics = np.empty(n_sim)
    with tqdm(total=n_sim, desc="bootstrap", disable=not progress) as bar:
        for start in range(0, n_sim, size):
            drawn = reduced.simulate(min(size, n_sim - start), rng)
            smaller, larger = (refit_deviances(m, drawn, full.reml) for m in models)
            statistics[start : start + len(drawn)] = smaller - larger
            bar.update(len(drawn))
    return np.where(statistics > PRECISION, statistics, 0.0)


def check_fit(argument: str, fit: object) -> LmerResult:
    """Return `fit` if it is a fitted model."""
    advice = "Write fit = lmer('Reaction ~ Days + (Days | Subject)', data) and pass fit."
    return check_type(argument, fit, LmerResult, "must be a model fitted by lmer", advice)


def _ml_fit(fit: LmerResult) -> LmerResult:
    """Return the ML fit of the same model; `fit` itself if it is one."""
    if not fit.reml:
        return fit
    estimate = estimate_standardised(fit.standardised, False)
    return replace(fit, estimate=estimate, reml=False)


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
