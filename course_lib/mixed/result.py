"""Fit linear mixed models with lme4's formula, by ML or REML, whatever the units.

`lmer` returns a frozen `LmerResult`. Names follow statsmodels where it has one
(``fe_params``, ``cov_re``, ``scale``, ``llf``) and lme4 for the rest. Two conventions are
lme4's: ``npar`` counts the residual variance, and for a REML fit ``llf``, ``aic`` and ``bic``
are computed from the REML criterion.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_finite,
    check_flag,
    check_type,
    course_error,
    listing,
    suggestion,
)
from course_lib.mixed import inference, prediction, search
from course_lib.mixed.bootstrap import batches, refit_all
from course_lib.mixed.cross_products import FactorArrays, TooLargeError
from course_lib.mixed.design import GroupFactor, ModelFrame, model_frame
from course_lib.mixed.scaling import CollinearError, Standardised, standardise, with_responses
from course_lib.mixed.search import Estimate
from course_lib.mixed.summary import Facts, html_summary, text_summary

__all__ = ["LmerResult", "check_fit", "lmer", "refitted_by_ml"]

# Words of lme4 and statsmodels: what to write here instead.
_WEIGHTS = "Unequal weights are not here; R's lme4 fits such a model."
_OFFSET = "Subtract it from the response: 'y - known ~ …'."
_CONTROL = "There is nothing to set; other optimisers: course_lib.diagnostics.all_optimizers."
_START = "The search needs no start; course_lib.diagnostics.check_convergence judges its end."
_MISSING = "Incomplete rows are left out and counted in fit.n_dropped."
_SUBSET = "Filter the table first: lmer(formula, data[data['age'] > 10])."
_CONTRASTS = "Write them into the formula, for example C(sex, contr.sum)."
_GROUPS = "Write the groups into the formula: 'Reaction ~ Days + (Days | Subject)'."


def lmer(
    formula: str,
    data: pd.DataFrame,
    reml: bool = True,
    *,
    progress: bool = True,
    REML: None = None,  # noqa: N803
    weights: None = None,
    offset: None = None,
    control: None = None,
    start: None = None,
    na_action: None = None,
    subset: None = None,
    contrasts: None = None,
    groups: None = None,
    re_formula: None = None,
) -> LmerResult:
    r"""Fit a linear mixed model.

    .. math:: y = X\beta + Zb + \varepsilon, \quad b \sim N(0, \sigma^2\Lambda\Lambda'), \quad
              \varepsilon \sim N(0, \sigma^2 I)

    by minimising the profiled deviance (Bates, Mächler, Bolker & Walker 2015,
    doi:10.18637/jss.v067.i01) after an exact change to units in which every column has mean
    square one.

    Parameters
    ----------
    formula : str
        As in lme4: ``"Reaction ~ Days + (Days | Subject)"``; see `course_lib.mixed.formula`.
    data : DataFrame
        One row per observation. Rows with a missing value in a used column are left out and
        counted in ``n_dropped``. Also a lazy table that narwhals takes (a DuckDB relation, a
        Polars LazyFrame, …): then the rows stay where they are, and what asks for them raises
        (see `course_lib.mixed.from_database`). An eager Polars or Arrow table is converted.
    reml : bool
        Restricted maximum likelihood (the default) or maximum likelihood.
    progress : bool
        Show a progress line while a database works.
    REML, weights, offset, control, start, na_action, subset, contrasts, groups, re_formula
        Words of lme4 and statsmodels, here only to say what to write instead.

    Returns
    -------
    LmerResult

    Raises
    ------
    CourseError
        If the formula or the data cannot give a fit; the message says what to do.

    Examples
    --------
    >>> from course_lib import lmer, load
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    >>> round(fit.deviance, 3)
    1743.628

    See Also
    --------
    course_lib.compare_models : Compare fits by AIC and BIC.
    course_lib.lr_test : Test a model against a larger one.
    """
    _refuse(
        {
            "REML": (REML, "Write reml=False in small letters."),
            "weights": (weights, _WEIGHTS),
            "offset": (offset, _OFFSET),
            "control": (control, _CONTROL),
            "start": (start, _START),
            "na_action": (na_action, _MISSING),
            "subset": (subset, _SUBSET),
            "contrasts": (contrasts, _CONTRASTS),
            "groups": (groups, _GROUPS),
            "re_formula": (re_formula, _GROUPS),
        }
    )
    reml, progress = check_flag("reml", reml), check_flag("progress", progress)
    if not isinstance(data, pd.DataFrame):
        from course_lib.mixed import from_database  # on use: it is needed by few

        data = from_database.opened(data)
        if isinstance(data, from_database.Table):
            frame, sums = from_database.summed(formula, data, progress)
            return _fit(frame, _checked_standard(frame, sums.standardised), reml)
    frame = model_frame(formula, data)
    return _fit(frame, _standardise(frame), reml)


def _refuse(foreign: dict[str, tuple[object, str]]) -> None:
    """Raise for the first argument that was given and belongs to another program."""
    for name, (value, advice) in foreign.items():
        if value is not None:
            rule = "is a word of another program and not known here"
            raise course_error(name, rule, f"{value!r:.60}", advice)


def _standardise(frame: ModelFrame) -> Standardised:
    factors = tuple(
        FactorArrays(f.codes, len(f.keys), f.columns, f.mask) for f in frame.factors
    )
    return _checked_standard(frame, lambda: standardise(frame.X, frame.y, factors))


def _checked_standard(frame: ModelFrame, make: Callable[[], Standardised]) -> Standardised:
    """Return the model in standard units, or say in the formula's words why there is none."""
    n, p = frame.n, len(frame.fixed_names)
    if n <= p:
        raise course_error(
            "data",
            "must have more rows than fixed effects",
            f"{n} rows for {p} fixed effects",
            "Leave out predictors or use more data.",
        )
    try:
        standardised = make()
    except TooLargeError as error:
        counts = [
            f"{len(part.keys) * len(part.terms):,} of '{part.name}'" for part in frame.factors
        ]
        raise course_error(
            "formula",
            "must ask for no more random effects than memory holds",
            f"{listing(counts)}, which take {error.needed / 1e9:,.1f} GB of "
            f"{error.available / 1e9:,.1f}",
            "Leave out a factor, or let fewer coefficients vary; crossed factors are costly, "
            "nested ones are not.",
        ) from None
    except CollinearError as error:
        part = None if error.factor is None else frame.factors[error.factor]
        names = frame.fixed_names if part is None else part.terms
        where = "fixed effects" if part is None else f"random effects of '{part.name}'"
        raise course_error(
            "formula",
            "must not have a column that is a combination of the others",
            f"'{names[error.column]}' among the {where} ({listing(names)})",
            "Leave it out; a constant predictor or a repeated one is the usual reason.",
        ) from None
    _check_residual(standardised.y_scale[0], frame)
    return standardised


def _check_residual(sigma: float, frame: ModelFrame) -> None:
    """Raise where nothing random is left: the likelihood has no maximum."""
    if sigma <= 1e-7 * frame.y_spread:
        raise course_error(
            "data",
            "must leave some residual variation",
            f"'{frame.parsed.response}' reproduced exactly by the model",
            "Check whether a predictor is the response in disguise.",
        )


def _fit(
    frame: ModelFrame, standardised: Standardised, reml: bool, start: np.ndarray | None = None
) -> LmerResult:
    estimate = search.estimate(standardised, reml, start)
    return _checked(LmerResult(frame, standardised, estimate, reml))


def _checked(fit: LmerResult) -> LmerResult:
    """Return the fit; raise where nothing random is left, warn where the search went astray."""
    # NaN: S has lost its last digit, because θ runs off as σ goes to zero
    _check_residual(np.nan_to_num(fit.estimate.sigma), fit.frame)
    if not fit.converged:
        warnings.warn(
            "lmer: the search stopped before the gradient vanished (largest component "
            f"{np.abs(fit.estimate.optimum.gradient).max():.2g}); do not trust this fit. "
            "A simpler random part may help.",
            stacklevel=4,
        )
    return fit


@dataclass(frozen=True, repr=False, eq=False)
class LmerResult:
    """A fitted linear mixed model; nothing in it is rounded, and nothing can be reassigned.

    `random_effects`, `random_effects_se`, `cov_re`, `ngroups`: dicts with one entry per factor.

    Attributes
    ----------
    frame : ModelFrame
        Design matrices and the way to make them from new data.
    standardised : Standardised
        Cross-products in standard units, from which refits are made.
    estimate : Estimate
        Estimates as arrays.
    reml : bool
        Whether the fit is by REML.
    """

    frame: ModelFrame = field(repr=False)
    standardised: Standardised = field(repr=False)
    estimate: Estimate = field(repr=False)
    reml: bool

    @property
    def formula(self) -> str:
        """The formula, as given."""
        return self.frame.parsed.text

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.frame.n

    @property
    def n_dropped(self) -> int:
        """Rows left out because of a missing value."""
        return self.frame.n_dropped

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of groups of each factor."""
        return {factor.name: len(factor.keys) for factor in self.frame.factors}

    @property
    def deviance(self) -> float:
        """-2 log-likelihood; for a REML fit the REML criterion."""
        return float(self.estimate.deviance)

    @property
    def llf(self) -> float:
        """Log-likelihood; for a REML fit the restricted one."""
        return -self.deviance / 2

    @property
    def npar(self) -> int:
        """Fixed effects, variance parameters, and the residual variance."""
        return len(self.frame.fixed_names) + len(self.theta) + 1

    @property
    def aic(self) -> float:
        """-2 llf + 2 npar."""
        return self.deviance + 2 * self.npar

    @property
    def bic(self) -> float:
        """-2 llf + npar log(nobs)."""
        return self.deviance + self.npar * float(np.log(self.nobs))

    @property
    def theta(self) -> np.ndarray:
        """Free entries of Λ column by column, in the units of the data."""
        return self.estimate.theta.copy()

    @property
    def scale(self) -> float:
        """Residual variance σ²."""
        return float(self.estimate.sigma**2)

    @property
    def converged(self) -> bool:
        """Whether the gradient vanished at the end of the search."""
        return self.estimate.optimum.converged

    @property
    def is_singular(self) -> bool:
        """Whether a variance is zero or a correlation ±1 (relative sd below 1e-4)."""
        return self.estimate.is_singular

    @property
    def n_evaluations(self) -> int:
        """Evaluations of deviance and gradient."""
        return self.estimate.optimum.n_evaluations

    @cached_property
    def fe_params(self) -> pd.Series:
        """Fixed effects."""
        return pd.Series(self.estimate.beta, list(self.frame.fixed_names), name="fe_params")

    @cached_property
    def cov_fe(self) -> pd.DataFrame:
        """Covariance of the fixed effects."""
        names = list(self.frame.fixed_names)
        return pd.DataFrame(self.estimate.cov_beta, names, names)

    @cached_property
    def bse_fe(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        errors = np.sqrt(self.estimate.cov_beta.diagonal())
        return pd.Series(errors, list(self.frame.fixed_names), name="bse_fe")

    def fixed_table(self, ddf: str = "satterthwaite", alpha: float = 0.05) -> pd.DataFrame:
        """Return the fixed effects with tests and intervals.

        Parameters
        ----------
        ddf : {"satterthwaite", "normal"}
            Degrees of freedom of the t statistic; "normal" takes them as infinite.
        alpha : float
            One minus the confidence level.

        Returns
        -------
        DataFrame
            One row per fixed effect: estimate, std_error, df, t, p, lower, upper.

        Examples
        --------
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> fit.fixed_table()["std_error"].round(3).to_dict()
        {'Intercept': 6.825, 'Days': 1.546}

        See Also
        --------
        conf_int : Intervals of all parameters, by three methods.
        """
        return inference.fixed_table(*self._parts, ddf, alpha)

    def _by_factor(self, arrays: list[np.ndarray]) -> dict[str, pd.DataFrame]:
        pairs = zip(self.frame.factors, arrays, strict=True)
        return {f.name: pd.DataFrame(a, f.levels, list(f.terms)) for f, a in pairs}

    @cached_property
    def random_effects(self) -> dict[str, pd.DataFrame]:
        """Conditional modes (BLUPs), levels × terms."""
        return self._by_factor(self.estimate.modes)

    @cached_property
    def random_effects_se(self) -> dict[str, pd.DataFrame]:
        """Conditional standard errors of the modes, given the other estimates."""
        diagonals = [np.einsum("jaa->ja", cov) for cov in self.estimate.cov_modes]
        return self._by_factor([np.sqrt(np.maximum(d, 0)) for d in diagonals])

    @cached_property
    def cov_re(self) -> dict[str, pd.DataFrame]:
        """Covariance matrix of the random effects, terms × terms."""
        pairs = zip(self.frame.factors, self.estimate.cov_re, strict=True)
        return {f.name: pd.DataFrame(c, list(f.terms), list(f.terms)) for f, c in pairs}

    def coef(self) -> dict[str, pd.DataFrame]:
        """Coefficients of each group: fixed effect plus conditional mode, levels × names."""
        coefficients = {}
        for name, modes in self.random_effects.items():
            names = [*self.frame.fixed_names, *modes.columns.difference(self.fe_params.index)]
            fixed = self.fe_params.reindex(names, fill_value=0.0)
            coefficients[name] = modes.reindex(columns=names, fill_value=0.0) + fixed
        return coefficients

    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances as lme4 prints them.

        Returns
        -------
        DataFrame
            Columns group, term1, term2, vcov (variance or covariance) and sdcor (standard
            deviation or correlation); the last row is the residual.
        """
        return inference.varcorr(self.frame, self.standardised, self.estimate)

    def sd(self, group: str, term: str | None = None) -> float:
        """Return the standard deviation of a random effect, in response units per unit of term.

        Parameters
        ----------
        group : str
            Grouping factor as written in the formula (``"school/class"``) or as lme4 names it
            (``"class:school"``); ``"Residual"`` for σ.
        term : str, optional
            Random coefficient, such as ``"Intercept"`` or ``"Days"``; may be left out where
            there is only one.

        Returns
        -------
        float

        Raises
        ------
        CourseError
            If there is no such factor or term.

        Examples
        --------
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> round(fit.sd("Subject", "Days"), 2)
        5.92

        See Also
        --------
        correlation, varcorr
        """
        if isinstance(group, str) and group == "Residual" and term is None:
            return float(self.estimate.sigma)
        factor, cov = self._factor(group)
        k = self._term(factor, "term", term)
        return float(np.sqrt(cov[k, k]))

    def correlation(self, group: str, a: str, b: str) -> float:
        """Return the correlation of two random effects of one grouping factor.

        Parameters
        ----------
        group : str
            As in `sd`.
        a, b : str
            Random coefficients.

        Returns
        -------
        float
            NaN where one of the two variances is zero; 0 where the model fixes it (``||``).

        Raises
        ------
        CourseError
            If there is no such factor or term.

        Examples
        --------
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> round(fit.correlation("Subject", "Intercept", "Days"), 3)
        0.066

        See Also
        --------
        sd, varcorr
        """
        factor, cov = self._factor(group)
        i, j = self._term(factor, "a", a), self._term(factor, "b", b)
        product = cov[i, i] * cov[j, j]
        return float(cov[i, j] / np.sqrt(product)) if product > 0 else float("nan")

    def _factor(self, group: str) -> tuple[GroupFactor, np.ndarray]:
        """Return the grouping factor of that name and the covariance of its effects."""
        name = ":".join(str(group).replace(" ", "").split("/")[::-1])
        names = [factor.name for factor in self.frame.factors]
        for candidate in (group, name, str(group).replace(" ", "")):
            if isinstance(candidate, str) and candidate in names:
                k = names.index(candidate)
                return self.frame.factors[k], self.estimate.cov_re[k]
        rule = "must name a grouping factor of the model"
        raise course_error("group", rule, f"{group!r:.60}", suggestion(group, names))

    def _term(self, factor: GroupFactor, argument: str, term: str | None) -> int:
        """Return the place of a random coefficient in its factor."""
        terms = list(factor.terms)
        if term is None and len(terms) == 1:
            return 0
        plain = {"(Intercept)": "Intercept", "1": "Intercept"}.get(str(term), term)
        if not isinstance(plain, str) or plain not in terms:
            rule = f"must name a random coefficient of '{factor.name}'"
            raise course_error(argument, rule, f"{term!r:.60}", suggestion(term, terms))
        return terms.index(plain)

    @cached_property
    def fittedvalues(self) -> pd.Series:
        """Fixed part plus random effects, for the rows used."""
        fitted = self.frame.X @ self.estimate.beta
        for factor, modes in zip(self.frame.factors, self.estimate.modes, strict=True):
            fitted += np.einsum("nq,nq->n", factor.columns, modes[factor.codes])
        return pd.Series(fitted, self.frame.index, name="fittedvalues")

    @cached_property
    def resid(self) -> pd.Series:
        """Response minus fitted values."""
        return (self.frame.y - self.fittedvalues).rename("resid")

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        random: bool = True,
        new_levels: str = "error",
        *,
        re_form: None = None,
        allow_new_levels: None = None,
    ) -> pd.Series:
        """Predict the response.

        Parameters
        ----------
        newdata : DataFrame, optional
            Rows to predict; by default those of the fit. A row with a missing predictor gets
            NaN.
        random : bool
            Include the random effects (a prediction for the groups named in the rows) or not
            (the population line; no group column needed).
        new_levels : {"error", "population"}
            What to do with a group that the fit has not seen: raise, or use 0 for its effects.
        re_form, allow_new_levels
            Words of lme4, here only to say what to write instead.

        Returns
        -------
        Series
            With the index of `newdata`.

        Raises
        ------
        CourseError
            If a column is missing, an option is unknown, or a group is new and not allowed.

        Examples
        --------
        >>> from course_lib import lmer, load
        >>> sleep = load("sleepstudy")
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.predict(sleep.head(2), random=False).round(1).tolist()
        [251.4, 261.9]

        See Also
        --------
        fittedvalues : The same for the rows of the fit.
        coef : The coefficients of each group.
        """
        _refuse(
            {
                "re_form": (re_form, "Write random=False for re.form = NA."),
                "allow_new_levels": (allow_new_levels, "Write new_levels='population'."),
            }
        )
        return prediction.predict(self.frame, self.estimate, newdata, random, new_levels)

    def simulate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw responses from the fitted model, with new random effects and residuals.

        Parameters
        ----------
        n : int
            How many responses.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray, shape (n, nobs)

        Raises
        ------
        CourseError
            If `n` is no count or `rng` no generator.

        Examples
        --------
        >>> import numpy as np
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> fit.simulate(3, np.random.default_rng(1)).shape
        (3, 180)

        See Also
        --------
        refit : Fit the model to one of them.
        refit_many : Fit the model to all of them.
        """
        return prediction.simulate(self.frame, self.estimate, self._relative_factors(), n, rng)

    def refit(self, y: object) -> LmerResult:
        """Fit the same model to another response.

        Parameters
        ----------
        y : array_like, shape (nobs,)
            New response for the rows used.

        Returns
        -------
        LmerResult

        Raises
        ------
        CourseError
            If `y` has another length, is constant, or is not finite.

        Examples
        --------
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> seconds = fit.refit(fit.frame.y / 1000)
        >>> round(seconds.sd("Subject", "Days"), 5)
        0.00592

        See Also
        --------
        simulate : Draw responses from the fitted model.
        refit_many : Many of them at once, as a table.
        """
        y = self._check_responses("y", y, 1)
        frame = replace(self.frame, y=y)
        return _fit(frame, with_responses(self.standardised, y[None]), self.reml)

    def refit_many(self, responses: object, progress: bool = True) -> pd.DataFrame:
        """Fit the same model to many other responses, side by side.

        Parameters
        ----------
        responses : array_like, shape (S, nobs)
            One new response per row, for the rows used in the fit.
        progress : bool
            Show a progress bar.

        Returns
        -------
        DataFrame
            One row per response: deviance, the fixed effects by name, ``sd(term | group)``,
            ``cor(term, term | group)``, sigma, is_singular and converged.

        Raises
        ------
        CourseError
            If a response has another length, is constant, or is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> draws = fit.simulate(200, np.random.default_rng(1))
        >>> table = fit.refit_many(draws, progress=False)
        >>> table.shape
        (200, 9)
        >>> round(float(table["Days"].std()), 1)  # the standard error that the fit gives is 1.5
        1.5

        See Also
        --------
        simulate : Draw responses from the fitted model.
        refit : One response, as a whole fit.
        conf_int : Bootstrap intervals from such refits.
        """
        responses = self._check_responses("responses", responses, 2)
        check_flag("progress", progress)
        found = refit_all(
            self.standardised, responses.__getitem__, len(responses), self.reml, progress
        )
        names = inference.parameter_names(self.frame, self.standardised)
        table = pd.DataFrame(found.parameters, columns=names)
        fixed = list(self.frame.fixed_names)
        table = table[[*fixed, *names[: len(names) - len(fixed)]]]
        table.insert(0, "deviance", found.deviance)
        return table.assign(is_singular=found.is_singular, converged=found.converged)

    def refits(self, responses: object) -> Iterator[LmerResult]:
        """Fit the same model to many other responses, one whole fit after the other.

        Parameters
        ----------
        responses : array_like, shape (S, nobs)
            One new response per row, for the rows used in the fit.

        Returns
        -------
        iterator of LmerResult
            One fit per response. They are searched side by side, a batch at a time, so that no
            more than a batch is held in memory.

        Raises
        ------
        CourseError
            If a response has another length, is constant, or is not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> draws = fit.simulate(3, np.random.default_rng(1))
        >>> [again.nobs for again in fit.refits(draws)]
        [180, 180, 180]

        See Also
        --------
        refit : One response.
        refit_many : The parameters of all fits, as a table.
        """
        return self._refits(self._check_responses("responses", responses, 2))

    def _refits(self, responses: np.ndarray) -> Iterator[LmerResult]:
        for batch in batches(self.standardised, len(responses)):
            drawn = with_responses(self.standardised, responses[batch])
            for i, estimate in enumerate(search.estimates(drawn, self.reml)):
                frame = replace(self.frame, y=responses[batch][i])
                yield _checked(LmerResult(frame, drawn.of(i), estimate, self.reml))

    def _check_responses(self, argument: str, values: object, ndim: int) -> np.ndarray:
        """Return one response or many, finite, as long as the data, and not constant."""
        values = check_finite(argument, values)
        what = "one value" if ndim == 1 else "rows with one value"
        rule = f"must have {what} per row used in the fit ({self.nobs}), not all equal"
        advice = "Take it from simulate(), or in the order of frame.index."
        if values.ndim != ndim or values.shape[-1] != self.nobs or not values.size:
            raise course_error(argument, rule, f"shape {values.shape}", advice)
        constant = np.ptp(values, axis=-1) == 0
        if constant.any():
            first = values[constant].flat[0] if ndim > 1 else values[0]
            raise course_error(argument, rule, f"{first:g} throughout", advice)
        return values

    def conf_int(
        self,
        method: str = "wald",
        alpha: float = 0.05,
        n_sim: int = 1000,
        rng: np.random.Generator | None = None,
        progress: bool = True,
        *,
        level: None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of standard deviations, correlations and fixed effects.

        Parameters
        ----------
        method : {"wald", "profile", "bootstrap"}
            "wald" is estimate ± normal quantile × standard error, for fixed effects only (the
            others get NaN: a standard deviation is not near normal). "profile" inverts the
            likelihood-ratio test and is computed from the ML fit, as in lme4. "bootstrap"
            takes percentiles of refits to simulated responses.
        alpha : float
            One minus the confidence level.
        n_sim : int
            Bootstrap refits.
        rng : numpy.random.Generator
            Needed for the bootstrap.
        progress : bool
            Show a progress bar during the bootstrap.
        level
            A word of lme4, here only to say what to write instead.

        Returns
        -------
        DataFrame
            Columns estimate, lower, upper; one row per parameter.

        Raises
        ------
        CourseError
            If an option is unknown or the bootstrap has no generator.

        Examples
        --------
        >>> from course_lib import lmer, load
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
        >>> fit.conf_int().loc["Days"].round(2).tolist()
        [10.47, 7.44, 13.5]

        See Also
        --------
        fixed_table : Tests of the fixed effects with Satterthwaite's degrees of freedom.
        """
        _refuse({"level": (level, "Write alpha=0.05 for level = 0.95.")})
        check_flag("progress", progress)
        return inference.conf_int(*self._parts, method, alpha, n_sim, rng, progress)

    @property
    def _parts(self) -> tuple[ModelFrame, Standardised, Estimate, bool]:
        return self.frame, self.standardised, self.estimate, self.reml

    def _relative_factors(self) -> list[np.ndarray]:
        return self.standardised.relative_factors(self.estimate.optimum.theta)

    def _facts(self) -> Facts:
        return Facts(
            formula=self.formula,
            reml=self.reml,
            deviance=self.deviance,
            aic=self.aic,
            bic=self.bic,
            npar=self.npar,
            nobs=self.nobs,
            n_dropped=self.n_dropped,
            ngroups=self.ngroups,
            is_singular=self.is_singular,
            converged=self.converged,
            varcorr=self.varcorr(),
            fixed_table=self.fixed_table(),
            cov_fe=self.cov_fe,
        )

    def summary(self) -> str:
        """Return the fit as text, in lme4's order."""
        return text_summary(self._facts())

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return html_summary(self._facts())


def check_fit(argument: str, fit: object) -> LmerResult:
    """Return `fit` if it is a fitted model.

    Raises
    ------
    CourseError
        If it is anything else.
    """
    advice = "Write fit = lmer('Reaction ~ Days + (Days | Subject)', data) and pass fit."
    return check_type(argument, fit, LmerResult, "must be a model fitted by lmer", advice)


def refitted_by_ml(fit: LmerResult) -> LmerResult:
    """Return the ML fit of the same model; `fit` itself if it is one."""
    if not fit.reml:
        return fit
    return replace(fit, estimate=search.estimate(fit.standardised, False), reml=False)
