"""Fit linear mixed models with lme4's formula, by ML or REML, whatever the units.

`lmer` returns a frozen `LmerResult`. Names follow statsmodels where it has one
(``fe_params``, ``cov_re``, ``scale``, ``llf``) and lme4 for the rest. Two conventions are
lme4's: ``npar`` counts the residual variance, and for a REML fit ``llf``, ``aic`` and ``bic``
are computed from the REML criterion.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from course_lib.errors import check_finite, course_error, listing
from course_lib.mixed import inference, intervals, prediction
from course_lib.mixed.cross_products import FactorArrays
from course_lib.mixed.design import ModelFrame, model_frame
from course_lib.mixed.scaling import CollinearError, Standardised, standardise, with_response
from course_lib.mixed.search import Estimate, estimate_standardised
from course_lib.mixed.summary import html_summary, text_summary

__all__ = ["LmerResult", "lmer"]


def lmer(formula: str, data: pd.DataFrame, reml: bool = True) -> LmerResult:
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
        One row an observation. Rows with a missing value in a used column are left out and
        counted in ``n_dropped``.
    reml : bool
        Restricted maximum likelihood (the default) or maximum likelihood.

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
    """
    if not isinstance(reml, bool | np.bool_):
        raise course_error("reml", "must be True or False", repr(reml), "Try reml=True.")
    frame = model_frame(formula, data)
    return _fit(frame, _standardise(frame), bool(reml))


def _standardise(frame: ModelFrame) -> Standardised:
    n, p = frame.X.shape
    if n <= p:
        raise course_error(
            "data",
            "must have more rows than fixed effects",
            f"{n} rows for {p} fixed effects",
            "Leave out predictors or use more data.",
        )
    factors = tuple(
        FactorArrays(f.codes, len(f.keys), f.columns, f.mask) for f in frame.factors
    )
    try:
        standardised = standardise(frame.X, frame.y, factors)
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
    _check_residual(standardised.y_scale, frame)
    return standardised


def _check_residual(sigma: float, frame: ModelFrame) -> None:
    """Raise where nothing random is left: the likelihood has no maximum."""
    if sigma <= 1e-7 * np.std(frame.y):
        raise course_error(
            "data",
            "must leave some residual variation",
            f"'{frame.parsed.response}' reproduced exactly by the model",
            "Check whether a predictor is the response in disguise.",
        )


def _fit(
    frame: ModelFrame, standardised: Standardised, reml: bool, start: np.ndarray | None = None
) -> LmerResult:
    try:
        estimate = estimate_standardised(standardised, reml, start)
    except np.linalg.LinAlgError:  # S has lost its last digit: θ runs off as σ goes to zero
        estimate = None
    _check_residual(0.0 if estimate is None else estimate.sigma, frame)
    if not estimate.optimum.converged:
        warnings.warn(
            "lmer: the search stopped before the gradient vanished (largest component "
            f"{np.abs(estimate.optimum.gradient).max():.2g}); do not trust this fit. "
            "A simpler random part may help.",
            stacklevel=3,
        )
    return LmerResult(frame, standardised, estimate, reml)


@dataclass(frozen=True, repr=False, eq=False)
class LmerResult:
    """A fitted linear mixed model; nothing in it is rounded, and nothing can be reassigned.

    `random_effects`, `random_effects_se`, `cov_re` and `ngroups` are dicts, one entry a factor.

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
        return len(self.frame.y)

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
            One row a coefficient: estimate, std_error, df, t, p, lower, upper.
        """
        return intervals.fixed_table(self, ddf, alpha)

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
        values, places = inference.sd_cor(
            self.estimate.optimum.theta, self.estimate.sigma, self.standardised
        )
        rows = []
        for sdcor, (i, row, column) in zip(values, places, strict=True):
            factor, cov = self.frame.factors[i], self.estimate.cov_re[i]
            other = "" if row == column else factor.terms[row]
            rows.append((factor.name, factor.terms[column], other, cov[row, column], sdcor))
        rows.append(("Residual", "", "", self.scale, self.estimate.sigma))
        return pd.DataFrame(rows, columns=["group", "term1", "term2", "vcov", "sdcor"])

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
        return pd.Series(self.frame.y, self.frame.index, name="resid") - self.fittedvalues

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        random: bool = True,
        new_levels: str = "error",
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

        Returns
        -------
        Series
            With the index of `newdata`.
        """
        return prediction.predict(self, newdata, random, new_levels)

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
        """
        return prediction.simulate(self, n, rng)

    def refit(self, y: object) -> LmerResult:
        """Fit the same model to another response.

        Parameters
        ----------
        y : array_like, shape (nobs,)
            New response for the rows used.

        Returns
        -------
        LmerResult
        """
        y = check_finite("y", y)
        if y.shape != (self.nobs,) or np.ptp(y) == 0:
            raise course_error(
                "y",
                f"must have one value a row used in the fit ({self.nobs}), not all equal",
                f"shape {y.shape}" if y.shape != (self.nobs,) else f"{y[0]:g} throughout",
                "Take it from simulate(), or in the order of frame.index.",
            )
        frame = ModelFrame(**{**self.frame.__dict__, "y": y})
        return _fit(frame, with_response(self.standardised, y), self.reml)

    def conf_int(
        self,
        method: str = "wald",
        alpha: float = 0.05,
        n_sim: int = 1000,
        rng: np.random.Generator | None = None,
        progress: bool = True,
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

        Returns
        -------
        DataFrame
            Columns estimate, lower, upper; one row a parameter.
        """
        return intervals.conf_int(self, method, alpha, n_sim, rng, progress)

    def to_statsmodels(self):
        """Return the same fit as a statsmodels ``MixedLMResults``; see `to_statsmodels`."""
        from course_lib.mixed.to_statsmodels import (
            to_statsmodels,  # statsmodels is slow to import
        )

        return to_statsmodels(self)

    def summary(self) -> str:
        """Return the fit as text, in lme4's order."""
        return text_summary(self)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return html_summary(self)
