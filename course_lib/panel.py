"""Fixed effects, random effects and Mundlak's regression of one panel, side by side.

An entity (a person, a firm) is observed in several periods. In

    y_it = α + x_it'β + z_i'γ + u_i + e_it

*fixed effects* (FE) estimate one intercept per entity and so use only what varies within
entities; *random effects* (RE) treat u_i as drawn independently of x_it, and so use what varies
between entities too. Mundlak's regression (1978, Econometrica 46(1), doi:10.2307/1913646)
drops that assumption and keeps both: it gives x a coefficient within entities and another one
between them. Estimates and the Hausman test are those of linearmodels; nothing is rewritten.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from formulaic import Formula
from formulaic.errors import DataMismatchWarning, FormulaicError
from linearmodels.panel import PanelOLS, PooledOLS, RandomEffects
from linearmodels.panel.results import PanelResults, RandomEffectsResults
from linearmodels.shared.hypotheses import WaldTestStatistic
from scipy.linalg import eigh

from course_lib.errors import (
    CourseError,
    check_dataframe,
    check_finite,
    check_flag,
    check_labels,
    check_no_missing,
    course_error,
    listing,
)
from course_lib.mixed.formula import (
    check_known,
    check_quoting,
    coded_names,
    formula_error,
    names_in,
    reading_error,
    two_sides,
)
from course_lib.mixed.typed_frame import typed_frame
from course_lib.reshape import variance_by_level, within_between

__all__ = ["HausmanTest", "PanelComparison", "WaldTest", "compare_fe_re", "hausman"]

NEGLIGIBLE = 1e-8  # share of V_FE below which a direction of V_FE − V_RE is rounding
COLLINEAR = 1e-10  # share of a column, not explained by earlier columns, that is rounding
SENSITIVE = 1.25  # ratio of the two Hausman statistics from which a note says that they differ
KEY = "entity key"  # the entity's column beside the regressors; no formula can name it


@dataclass(frozen=True)
class WaldTest:
    """A Wald test: χ² with `df` degrees of freedom if the hypothesis holds."""

    statistic: float
    df: int
    pvalue: float


@dataclass(frozen=True, eq=False)
class HausmanTest(WaldTest):
    """A Hausman test, with linearmodels' table of what it compares.

    Attributes
    ----------
    estimates : DataFrame
        One row per coefficient: ``b0`` (FE), ``b1`` (RE), ``b0-b1`` and its ``Std. Err.``.
    """

    estimates: pd.DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class PanelComparison:
    """What :func:`compare_fe_re` returns.

    Attributes
    ----------
    formula, entity, nobs, n_entities, balanced
        What was compared; all models use the same rows.
    fe, re, pooled, mundlak : linearmodels results
        Fixed effects, random effects (Swamy–Arora), pooled OLS, and random effects with
        ``<term>_within`` and ``<term>_between``. Conventional covariances.
    table : DataFrame
        One row per term: ``term``, then ``pooled``, ``fe``, ``re``, and Mundlak's ``within``
        and ``between``, each followed by its standard error (``fe_se``); missing where a
        model has no such coefficient. The FE intercept is the mean of the entities' intercepts.
    hausman, hausman_sigmamore : HausmanTest
        The classical test, without the constant (Hausman 1978, Econometrica 46(6),
        doi:10.2307/1913827), and with the error variance of RE in both covariances.
    mundlak_test, mundlak_test_clustered : WaldTest
        Of "between equals within for every regressor that has both", with the conventional
        covariance and with the one clustered by entity.
    smallest_eigenvalue : float
        Of V_FE − V_RE over the coefficients of `hausman`, which needs it to be positive.
    positive_definite : bool
        Whether V_FE − V_RE is positive definite by more than rounding, relative to V_FE (so
        that units do not matter). If not, do not trust `hausman`.
    time_invariant : tuple of str
        Terms that do not vary within an entity: in RE and Mundlak's regression, not in FE.
    within_only : tuple of str
        Terms with one mean in every entity, as year dummies in a balanced panel: they have no
        between part, so the two levels cannot disagree about them.
    """

    formula: str
    entity: str
    nobs: int
    n_entities: int
    balanced: bool
    fe: PanelResults
    re: RandomEffectsResults
    pooled: PanelResults
    mundlak: RandomEffectsResults
    table: pd.DataFrame
    hausman: HausmanTest
    hausman_sigmamore: HausmanTest
    mundlak_test: WaldTest
    mundlak_test_clustered: WaldTest
    smallest_eigenvalue: float
    positive_definite: bool
    time_invariant: tuple[str, ...]
    within_only: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Every warning about this comparison, as a sentence; ``repr`` shows them too."""
        who, plain = self.entity, self.hausman.statistic
        more = self.hausman_sigmamore.statistic
        found = []
        if self.time_invariant:
            found.append(f"{listing(self.time_invariant)}: constant within {who}, not in FE.")
        if self.within_only:
            found.append(f"{listing(self.within_only)}: same mean in every {who}, only within.")
        if not self.positive_definite:
            why = f"not positive definite (smallest eigenvalue {self.smallest_eigenvalue:.3g})"
            found.append(f"V_FE - V_RE is {why}: read mundlak_test, not hausman.")
        if max(plain, more) > SENSITIVE * min(plain, more):
            why = "V_FE - V_RE is near zero in some direction"
            found.append(f"hausman {plain:.4g}, sigmamore {more:.4g}: {why}.")
        if self.re.variance_decomposition["Effects"] == 0:
            found.append(f"The variance between {who} is estimated as 0: RE is pooled OLS.")
        return tuple(found)

    def __repr__(self) -> str:
        """Say what was compared, and every warning."""
        head = (
            f"PanelComparison: {self.formula}; {self.nobs} rows, {self.n_entities} entities "
            f"({self.entity}), {'balanced' if self.balanced else 'unbalanced'}"
        )
        return "\n".join([head, *(f"  note: {note}" for note in self.notes)])


def compare_fe_re(
    formula: str, data: pd.DataFrame, *, entity: str, time: str
) -> PanelComparison:
    """Fit fixed effects, random effects, pooled OLS and Mundlak's regression to one panel.

    The within coefficients of Mundlak's regression are those of FE exactly, up to rounding, in
    balanced and in unbalanced panels: entity means are over the rows of the model, deviations
    from them are orthogonal to all that is constant in an entity, and quasi-demeaning only
    multiplies the latter by 1 − θ_i (Wooldridge 2019, J. Econometrics 211(1),
    doi:10.1016/j.jeconom.2018.12.010). Their standard errors differ a little.

    In unbalanced panels RE takes the harmonic mean of the entities' numbers of periods, as
    Stata's ``xtreg, re`` does; R's plm uses Baltagi and Chang's (1994) variance instead, which
    linearmodels calls ``small_sample=True``.

    Parameters
    ----------
    formula : str
        Such as ``"lwage ~ union + married + C(year)"``, in formulaic's grammar. It keeps the
        constant and does not name the entity effect.
    data : DataFrame
        One row per entity and period, with both as columns; no missing values in used columns.
    entity, time : str
        The columns that name the entity and the period (numbers or dates).

    Returns
    -------
    PanelComparison
        Estimates, tests and warnings.

    Raises
    ------
    CourseError
        If the panel or the formula cannot be used: a column missing, a value missing or not
        finite, one entity, one period, an entity twice in a period, no regressor that varies
        both within and between entities, collinear regressors, or too few rows or entities.

    Examples
    --------
    >>> from course_lib import load
    >>> firms = load("grunfeld")
    >>> compared = compare_fe_re("invest ~ value + capital", firms, entity="firm", time="year")
    >>> round(compared.hausman.statistic, 4), round(compared.hausman.pvalue, 4)
    (2.3304, 0.3119)

    See Also
    --------
    hausman : The test alone, for two fits of linearmodels.
    course_lib.reshape.within_between : The parts that Mundlak's regression uses.
    """
    _check_panel(data, entity, time)
    if isinstance(data[entity].dtype, pd.CategoricalDtype):
        data = data.assign(**{entity: data[entity].cat.remove_unused_categories()})
    response, regressors = _design(formula, data)
    keyed = regressors.drop(columns="Intercept").assign(**{KEY: data[entity].to_numpy()})
    invariant, varying, within_only = _by_level(keyed, response, entity)
    both = [term for term in varying if term not in within_only]
    within = [f"{term}_within" for term in varying]
    between = [f"{term}_between" for term in both]
    parts = within_between(keyed, varying, by=KEY).assign(Intercept=1.0)
    split = parts[["Intercept", *invariant, *within, *between]]
    periods = data[entity].value_counts()
    _check_estimable(regressors, split, within, len(periods))

    index = pd.MultiIndex.from_arrays([data[entity], data[time]], names=["entity", "time"])
    y, x, x_split = (frame.set_axis(index) for frame in (response, regressors, split))
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # see _size_error
            fe = PanelOLS(y, x[["Intercept", *varying]], entity_effects=True).fit()
            re, pooled = RandomEffects(y, x).fit(), PooledOLS(y, x).fit()
            mundlak = RandomEffects(y, x_split).fit()
            clustered = RandomEffects(y, x_split).fit(cov_type="clustered", cluster_entity=True)
    except ValueError as error:  # ranks and squares depend on units
        raise _size_error(y.join(x)) from error
    if not (np.isfinite(fe.cov).all(axis=None) and np.isfinite(re.cov).all(axis=None)):
        raise _size_error(y.join(x))
    with warnings.catch_warnings():
        # An indefinite difference is a field and a note of the result instead
        warnings.filterwarnings("ignore", message=r"Var\(b0\) - Var\(b1\) is not positive")
        classical = hausman(fe, re)
        sigmamore = hausman(fe, re, sigmamore=True)
    v_fe, v_re = (result.cov.loc[varying, varying].to_numpy() for result in (fe, re))
    return PanelComparison(
        formula=formula,
        entity=entity,
        nobs=len(data),
        n_entities=len(periods),
        balanced=bool((periods == data[time].nunique()).all()),
        fe=fe,
        re=re,
        pooled=pooled,
        mundlak=mundlak,
        table=_table(list(regressors), invariant, pooled, fe, re, mundlak),
        hausman=classical,
        hausman_sigmamore=sigmamore,
        mundlak_test=_between_equals_within(mundlak, both),
        mundlak_test_clustered=_between_equals_within(clustered, both),
        smallest_eigenvalue=float(np.linalg.eigvalsh(v_fe - v_re)[0]),
        positive_definite=bool(eigh(v_fe - v_re, v_fe, eigvals_only=True)[0] > NEGLIGIBLE),
        time_invariant=tuple(invariant),
        within_only=tuple(within_only),
    )


def hausman(
    fe: PanelResults, re: RandomEffectsResults, *, sigmamore: bool = False
) -> HausmanTest:
    """Run linearmodels' Hausman test ``re.hausman(fe)``; say what to do where it refuses.

    Parameters
    ----------
    fe, re : linearmodels results
        Of ``PanelOLS(..., entity_effects=True)`` and of ``RandomEffects``.
    sigmamore : bool
        Use the error variance of `re` in both covariances.

    Returns
    -------
    HausmanTest

    Raises
    ------
    CourseError
        If an argument is no such result, a covariance is not the conventional one, the rows
        differ, or no coefficient is in both.

    Examples
    --------
    >>> from course_lib import load
    >>> firms = load("grunfeld")
    >>> compared = compare_fe_re("invest ~ value + capital", firms, entity="firm", time="year")
    >>> round(hausman(compared.fe, compared.re, sigmamore=True).statistic, 4)
    2.1299

    See Also
    --------
    compare_fe_re : Both fits, both tests, and Mundlak's regression.
    """
    if not (isinstance(fe, PanelResults) and isinstance(re, RandomEffectsResults)):
        got = f"{type(fe).__name__} and {type(re).__name__}"
        advice = "Hand over what .fit() returned, the fixed effects first."
        rule = "must be results of PanelOLS and RandomEffects"
        raise course_error("fe, re", rule, got, advice)
    check_flag("sigmamore", sigmamore)
    try:
        result = re.hausman(fe, sigmamore=sigmamore)
    except TypeError as error:
        rule = "must have the conventional covariance: the test needs RE to be efficient"
        advice = "Use compare_fe_re(...).mundlak_test_clustered: it tests the same hypothesis."
        raise course_error("fe, re", rule, "a clustered or robust one", advice) from error
    except ValueError as error:
        rule = "must be fitted to the same rows with at least one regressor in common"
        advice = "Fit both to the same data, with a regressor that varies within entities."
        raise course_error("fe, re", rule, f"'{error}'", advice) from error
    return HausmanTest(*_wald(result.statistic), estimates=result.estimates)


def _check_panel(data: pd.DataFrame, entity: str, time: str) -> None:
    """Raise unless `data` is a panel: several entities and periods, each pair once."""
    check_dataframe("data", data)
    for argument, column in (("entity", entity), ("time", time)):
        if not isinstance(column, str):
            rule, advice = "must be the name of a column", f"Write {argument}='...'."
            raise course_error(argument, rule, repr(column), advice)
        check_no_missing(argument, data, [column])
        check_labels(argument, data, [column])
        if data[column].nunique() < 2:
            rule = "must name a column with at least two different values"
            advice = "FE and RE need several entities, each in several periods."
            got = f"'{column}', always {data[column].iloc[0]}"
            raise course_error(argument, rule, got, advice)
    if entity == time:
        advice = f"There is: {listing(data.columns)}."
        raise course_error("time", "must name another column than entity", f"'{time}'", advice)
    kind = data[time].dtype
    if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
        advice = f"Convert it, for example with pandas.to_numeric(data['{time}'])."
        raise course_error("time", "must hold numbers or dates", f"type {kind}", advice)
    twice = data[data.duplicated([entity, time]).to_numpy()]
    if len(twice):
        got = f"{entity} {twice[entity].iloc[0]} more than once in {time} {twice[time].iloc[0]}"
        advice = "Drop the copies, or aggregate them to one row."
        raise course_error("data", "must have each entity once per period", got, advice)


_EXAMPLE = "Write it as 'lwage ~ union + married + C(year)'."


def _design(formula: str, data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build response and regressors, n × 1 and n × (1 + k), with the constant."""
    if isinstance(formula, str):
        check_quoting(formula, data.columns)
    left, right = two_sides(formula, _EXAMPLE)
    for sign in ("|", "EntityEffects", "TimeEffects"):
        if sign in formula:
            rule = "must not name the entity effect, which is added"
            raise formula_error(formula, rule, repr(formula), _EXAMPLE, sign)
    names = list(dict.fromkeys(name.text for name in names_in(formula) if name.is_column))
    check_known(formula, names, data.columns)
    if left.strip("`") not in names:  # arithmetic on columns, never formula algebra
        left = f"I({left})"
    check_no_missing("formula", data, names)
    typed = typed_frame("formula", data, names, coded_names(formula))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # log(0): see below
            warnings.simplefilter("error", DataMismatchWarning)
            built = Formula(f"{left} ~ {right}").get_model_matrix(typed, na_action="ignore")
        response, regressors = pd.DataFrame(built.lhs), pd.DataFrame(built.rhs)
    except (FormulaicError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise reading_error(formula, error) from error
    except DataMismatchWarning as warning:
        raise reading_error(formula, warning) from None
    for frame in (response, regressors):
        for term in frame:
            check_finite(f"formula, term {term}", frame[term])
    if response.shape[1] != 1:
        rule = "must have one numeric response"
        raise course_error("formula", rule, listing(response.columns), _EXAMPLE)
    if "Intercept" not in regressors:
        rule, advice = "must keep the constant", "Drop '0 +' or '- 1'."
        raise course_error("formula", rule, repr(formula), advice)
    return response.astype(float), regressors.astype(float)


def _size_error(columns: pd.DataFrame) -> CourseError:
    """Say which columns are so large or small that their products are lost."""
    sizes = np.abs(columns.drop(columns="Intercept")).max()
    rule = "must have columns of a size that linearmodels can compute with"
    got = f"'{sizes.idxmin()}' up to {sizes.min():g}, '{sizes.idxmax()}' to {sizes.max():g}"
    return course_error("formula", rule, got, "Take other units for one of them.")


def _by_level(
    keyed: pd.DataFrame, response: pd.DataFrame, entity: str
) -> tuple[list[str], list[str], list[str]]:
    """Sort the terms: those that do not vary within entities, those that do, only within."""
    frame = keyed.assign(response=response.iloc[:, 0])
    where = variance_by_level(frame, list(frame.columns.drop(KEY)), by=KEY)
    where = dict(zip(where["column"], where["varies_at"], strict=True))
    if where.pop("response") in ("between", "neither"):
        rule = f"must have a response that varies within {entity}"
        raise course_error("formula", rule, response.columns[0], _EXAMPLE)
    if "both" not in where.values():
        rule = f"must have a regressor that varies both within and between {entity}"
        got = listing(f"{term} (only {level})" for term, level in where.items())
        advice = "Add one, or FE and RE have no coefficient in common that could differ."
        raise course_error("formula", rule, got or "the constant alone", advice)
    invariant = [term for term, level in where.items() if level == "between"]
    varying = [term for term, level in where.items() if level != "between"]
    return invariant, varying, [term for term in varying if where[term] == "within"]


def _check_estimable(
    regressors: pd.DataFrame, split: pd.DataFrame, within: list[str], n_entities: int
) -> None:
    """Raise if there are too few entities or rows, or if terms are collinear at a level."""
    among = split.columns.drop(within)
    entities, rows = len(among) + 1, n_entities + len(within) + 1
    if n_entities < entities or len(split) < rows:
        rule = f"must have at least {entities} entities and {rows} rows for this formula"
        got = f"{n_entities} entities, {len(split)} rows"
        raise course_error("data", rule, got, "Take more of them or fewer regressors.")
    advice = "Leave out one of them; within a person, experience is a sum of year dummies."
    levels = ((regressors, ""), (split[within], " within"), (split[among], " between"))
    for frame, level in levels:
        # The part of each column that the columns before it do not explain
        length = np.linalg.norm(frame, axis=0)
        values = frame.to_numpy() / np.where(length > 0, length, 1.0)
        left = np.abs(np.diag(np.linalg.qr(values, mode="r")))
        if (left < COLLINEAR).any():
            rule = f"must have terms that are not collinear{level and level + ' entities'}"
            got = f"{listing(frame.columns[left < COLLINEAR])}, a sum of earlier terms"
            raise course_error("formula", rule, got, advice)


def _between_equals_within(result: RandomEffectsResults, terms: list[str]) -> WaldTest:
    """Test that between minus within is zero for all `terms`, with the covariance given."""
    restriction = pd.DataFrame(0.0, index=terms, columns=result.params.index)
    for term in terms:
        restriction.loc[term, [f"{term}_between", f"{term}_within"]] = 1.0, -1.0
    return WaldTest(*_wald(result.wald_test(restriction)))


def _wald(test: WaldTestStatistic) -> tuple[float, int, float]:
    """Statistic, degrees of freedom and p-value of linearmodels' test."""
    return float(test.stat), int(test.df), float(test.pval)


def _table(terms: list[str], invariant: list[str], *results: PanelResults) -> pd.DataFrame:
    """One row per term, an estimate and a standard error per model."""
    pooled, fe, re, mundlak = results
    # What does not vary within entities has its coefficient between them, under its own name
    plain = ("Intercept", *invariant)
    within = [f"{term}_within" for term in terms]
    between = [term if term in plain else f"{term}_between" for term in terms]
    table = pd.DataFrame({"term": terms})
    columns = {"pooled": (pooled, terms), "fe": (fe, terms), "re": (re, terms)}
    columns |= {"within": (mundlak, within), "between": (mundlak, between)}
    for name, (result, labels) in columns.items():
        table[name] = result.params.reindex(labels).to_numpy()
        table[f"{name}_se"] = result.std_errors.reindex(labels).to_numpy()
    return table
