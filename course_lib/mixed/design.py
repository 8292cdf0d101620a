"""From a formula and a data frame to arrays, and again for new data.

formulaic builds each side and keeps its specification, so that new rows are coded, scaled and
expanded exactly as the fitted ones were.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from course_lib.errors import (
    CourseError,
    check_columns,
    check_dataframe,
    check_labels,
    course_error,
    listing,
)
from course_lib.mixed.formula import (
    ParsedFormula,
    check_known,
    check_quoting,
    coded_names,
    formula_error,
    names_in,
    other_calls,
    parse_formula,
    plain_terms,
    reading_error,
)
from course_lib.mixed.typed_frame import typed_frame

if TYPE_CHECKING:
    from formulaic import ModelSpec

__all__ = [
    "GroupFactor",
    "ModelFrame",
    "Reading",
    "Side",
    "build",
    "check_factor",
    "group_codes",
    "mask_of",
    "model_frame",
    "no_numeric_response",
    "plain_side",
    "read",
    "side_of",
    "warn_of_dropped",
]

# The rest (log, exp, poly, scale, C, np, …) formulaic knows
_OPTIONS = {"context": {"sqrt": np.sqrt}, "na_action": "ignore"}


@dataclass(frozen=True)
class Side:
    """One side of a formula: its columns, and how they are made from any rows.

    Attributes
    ----------
    names : tuple of str
        Of the columns.
    variables : tuple of str
        Columns of the data that they take.
    terms : tuple of (variables, places)
        Which columns stand for each term, and which variables that takes.
    spec : ModelSpec or None
        How formulaic makes the columns; None where each is a number of the data as it stands,
        or the intercept.
    coded : frozenset of str
        Variables that ``C(…)`` makes categories of.
    dropped : tuple of str
        Columns that formulaic makes and the model leaves out: combinations of categories
        without a row.
    """

    names: tuple[str, ...]
    variables: tuple[str, ...]
    terms: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
    spec: ModelSpec | None
    coded: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()

    def plain_matrix(self, rows: pd.DataFrame) -> np.ndarray:
        """Columns of a side without a spec, shape (rows, columns)."""
        matrix = np.ones((len(rows), len(self.names)))
        for used, (place,) in self.terms:
            if used:
                matrix[:, place] = rows[used[0]].to_numpy(dtype=float)
        return matrix


@dataclass(frozen=True)
class GroupFactor:
    """One grouping factor with everything that varies over its levels.

    Attributes
    ----------
    name : str
        As lme4 writes it, for example ``"Subject"`` or ``"cask:batch"``.
    group : tuple of str
        The columns of the data whose combination makes the levels.
    keys : Index or MultiIndex
        The levels as they stand in the data.
    codes : ndarray of int, shape (n,)
        Level of each row.
    terms : tuple of str
        Names of the random coefficients.
    columns : ndarray, shape (n, q)
        Their columns.
    mask : ndarray of bool, shape (q, q)
        Lower triangle of the covariance matrix: True where it is estimated.
    sides : tuple of Side
        How the columns are made from new data, one per bar.
    """

    name: str
    group: tuple[str, ...]
    keys: pd.Index
    codes: np.ndarray
    terms: tuple[str, ...]
    columns: np.ndarray
    mask: np.ndarray
    sides: tuple[Side, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns of the data that the coefficients take."""
        return tuple(dict.fromkeys(name for side in self.sides for name in side.variables))

    @property
    def levels(self) -> pd.Index:
        """Labels of the levels; those of a crossed factor are joined by ``:``."""
        if isinstance(self.keys, pd.MultiIndex):
            labels = [":".join(str(part) for part in key) for key in self.keys]
            return pd.Index(labels, name=self.name)
        return self.keys.rename(self.name)


@dataclass(frozen=True)
class ModelFrame:
    """What a formula and a data frame make together, ready for the numerical core.

    Attributes
    ----------
    parsed : ParsedFormula
        The formula.
    y : ndarray, shape (n,)
        Response, without the rows that have a missing value.
    X : ndarray, shape (n, p)
        Fixed-effects columns.
    fixed : Side
        How X is made from new data.
    factors : tuple of GroupFactor
        The one with the most random coefficients first.
    index : Index
        Labels of the rows that were used.
    n_dropped : int
        How many rows had a missing value in a used column.
    """

    parsed: ParsedFormula
    y: np.ndarray
    X: np.ndarray
    fixed: Side
    factors: tuple[GroupFactor, ...]
    index: pd.Index
    n_dropped: int

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the columns of X."""
        return self.fixed.names

    @property
    def has_rows(self) -> bool:
        """Whether the rows are here; a fit from a database keeps sums only."""
        return True

    @property
    def n(self) -> int:
        """Rows used."""
        return len(self.y)

    @property
    def y_spread(self) -> float:
        """Standard deviation of the response."""
        return float(np.std(self.y))

    def same_index(self, other: ModelFrame) -> bool:
        """Whether another frame has the same rows, by their labels."""
        return self.index.equals(other.index)

    def same_response(self, other: ModelFrame) -> bool:
        """Whether another frame of the same rows has the same response."""
        return np.array_equal(self.y, other.y)

    def fixed_matrix(self, data: pd.DataFrame) -> np.ndarray:
        """X for new data, shape (rows, p); rows with a missing predictor become NaN."""
        return _new_matrix((self.fixed,), data)

    def factor_matrix(self, factor: GroupFactor, data: pd.DataFrame) -> np.ndarray:
        """Columns of `factor` for new data, shape (rows, q)."""
        return _new_matrix(factor.sides, data)

    def factor_codes(self, factor: GroupFactor, data: pd.DataFrame) -> np.ndarray:
        """Level of each row of new data, -1 where the level was not seen in fitting."""
        check_columns("newdata", data, factor.group)
        check_labels("newdata", data, factor.group)
        keys = [data[column] for column in factor.group]
        new = pd.MultiIndex.from_arrays(keys) if len(keys) > 1 else pd.Index(keys[0])
        return factor.keys.get_indexer(new)


def _variables(text: str) -> tuple[str, ...]:
    """Columns that a piece of formula names."""
    return tuple(dict.fromkeys(name.text for name in names_in(text) if name.is_column))


@dataclass(frozen=True)
class Reading:
    """A formula and the columns that it takes, before any row is looked at.

    Attributes
    ----------
    parsed : ParsedFormula
        The formula.
    variables : dict of str to tuple of str
        Columns that the response, the fixed part and each bar's left side take, by their text.
    grouping : tuple of str
        Columns that make groups.
    """

    parsed: ParsedFormula
    variables: dict[str, tuple[str, ...]]
    grouping: tuple[str, ...]

    @property
    def named(self) -> tuple[str, ...]:
        """Columns that are computed with."""
        return tuple(dict.fromkeys(n for names in self.variables.values() for n in names))

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that a row must have."""
        return tuple(dict.fromkeys([*self.named, *self.grouping]))

    @property
    def coded(self) -> set[str]:
        """Columns that ``C(…)`` makes categories of."""
        return set().union(*map(coded_names, self.variables))


def read(formula: str, columns: Iterable[object]) -> Reading:
    """Read a formula against the names of a table's columns.

    Parameters
    ----------
    formula : str
        See the module docstring.
    columns : iterable
        What the table has.

    Returns
    -------
    Reading

    Raises
    ------
    CourseError
        If the formula cannot be read or names an unknown column.
    """
    if isinstance(formula, str):
        check_quoting(formula, columns)
    parsed = parse_formula(formula)
    pieces = [parsed.response, parsed.fixed, *(bar.left for bar in parsed.bars)]
    reading = Reading(
        parsed=parsed,
        variables={piece: _variables(piece) for piece in pieces},
        grouping=tuple(dict.fromkeys(name for bar in parsed.bars for name in bar.group)),
    )
    check_known(formula, reading.used, columns)
    if any("Intercept" in reading.variables[piece] for piece in pieces[1:]):
        rule = "must not have a predictor named like the constant"
        advice = "Rename it first: data.rename(columns={'Intercept': 'intercept_x'})."
        raise course_error("formula", rule, "'Intercept'", advice)
    return reading


def model_frame(formula: str, data: pd.DataFrame) -> ModelFrame:
    """Build response, fixed-effects matrix and grouping factors.

    Rows with a missing value in any used column are dropped jointly.

    Parameters
    ----------
    formula : str
        See the module docstring.
    data : DataFrame
        One row per observation.

    Returns
    -------
    ModelFrame

    Raises
    ------
    CourseError
        If the formula cannot be read, names an unknown column, gives values that are not
        finite, or asks for more random effects than the data can carry.
    """
    check_dataframe("data", data)
    reading = read(formula, data.columns)
    parsed, variables, used = reading.parsed, reading.variables, list(reading.used)
    complete = np.logical_and.reduce([data[name].notna().to_numpy() for name in used])
    if not complete.any():
        emptiest = data[used].isna().sum().sort_values(ascending=False)
        most = f"{emptiest.iloc[0]} in '{emptiest.index[0]}'"
        rule = "must have at least one row without missing values in the used columns"
        got = f"{len(data)} rows, all incomplete (missing: {most})"
        advice = "Look at data.isna().sum() and leave out the column or fill it."
        raise course_error("data", rule, got, advice)
    rows = data if complete.all() else data.loc[complete, used]
    typed = typed_frame("formula", rows, reading.named, reading.coded)
    sides = _sides(parsed, variables, typed)
    y = _response(parsed, typed)
    fixed, X = sides[parsed.fixed]
    check_labels("formula", rows, reading.grouping)
    factors = _group_factors(parsed, sides, rows)
    factors.sort(key=lambda factor: -len(factor.keys) * len(factor.terms))
    return ModelFrame(
        parsed=parsed,
        y=y,
        X=X,
        fixed=fixed,
        factors=tuple(factors),
        index=rows.index,
        n_dropped=int((~complete).sum()),
    )


def _sides(
    parsed: ParsedFormula, variables: dict[str, tuple[str, ...]], rows: pd.DataFrame
) -> dict[str, tuple[Side, np.ndarray]]:
    """Make the fixed part and each bar's left side, by its text: the side and its matrix."""
    texts = dict.fromkeys([parsed.fixed, *(bar.left for bar in parsed.bars)])
    made = {text: plain_side(text, rows) for text in texts}
    left = [text for text, side in made.items() if side is None]
    # formulaic adds no intercept to named parts, so each says its own.
    parts = {f"side{i}": f"1 + {text}" for i, text in enumerate(left)}
    built = build(parts, parsed, rows) if left else []
    # formulaic notes the levels of a factor once, in one of the parts; all of them need it.
    levels = {k: v for matrix in built for k, v in matrix.model_spec.encoder_state.items()}
    for text, matrix in zip(left, built, strict=True):
        spec, used = matrix.model_spec.update(encoder_state=levels), variables[text]
        _check_row_by_row(parsed, text, spec, rows[list(used)], matrix)
        values, empty = _as_array(matrix), _empty_cells(matrix, levels)
        kept = [k for k in range(matrix.shape[1]) if k not in empty]
        made[text] = side_of(text, spec, used, empty), values[:, kept]
        warn_of_dropped(made[text][0], stacklevel=5)
    for text, (side, matrix) in made.items():
        if matrix.shape[1] == 0 and any(bar.left == text for bar in parsed.bars):
            rule = "needs at least one term left of the bar"
            advice = "For a random intercept write (1 | group)."
            raise course_error("formula", rule, f"'{text}'", advice)
        _check_finite_columns(matrix, pd.Index(side.names))
    return made


def side_of(text: str, spec: ModelSpec, used: tuple[str, ...], empty: list[int]) -> Side:
    """Make a side of what formulaic has built.

    Parameters
    ----------
    text : str
        The side.
    spec : ModelSpec
        How formulaic makes its columns.
    used : tuple of str
        Columns of the data that it takes.
    empty : list of int
        Columns of interactions that are zero in every row.

    Returns
    -------
    Side
    """
    columns = spec.column_names
    kept = [k for k in range(len(columns)) if k not in empty]
    terms = []
    for term, places in spec.term_indices.items():
        takes = {str(variable) for variable in spec.term_variables[term]}
        at = tuple(kept.index(k) for k in places if k not in empty)
        terms.append((tuple(name for name in used if name in takes), at))
    names, dropped = (tuple(columns[k] for k in which) for which in (kept, empty))
    return Side(names, used, tuple(terms), spec, frozenset(coded_names(text)), dropped)


def warn_of_dropped(side: Side, stacklevel: int) -> None:
    """Warn of columns of a side that are left out; `stacklevel` as in `warnings.warn`."""
    if side.dropped:
        warnings.warn(
            f"lmer: no row has {listing(side.dropped)}, so this column is zero and is left "
            "out, as in lme4.",
            stacklevel=stacklevel,
        )


def _empty_cells(matrix: pd.DataFrame, levels: dict[str, tuple]) -> list[int]:
    """Columns of interactions that are zero: combinations of categories without a row."""
    coded = {factor for factor, (kind, _) in levels.items() if kind.value == "categorical"}
    terms = matrix.model_spec.term_indices.items()
    crossed = [at for term, at in terms if sum(str(f) in coded for f in term.factors) > 1]
    places = [k for at in crossed for k in at]
    return [k for k in places if not matrix.iloc[:, k].to_numpy().any()]


def _check_row_by_row(
    parsed: ParsedFormula, text: str, spec: ModelSpec, rows: pd.DataFrame, matrix: pd.DataFrame
) -> None:
    """Raise if a row gets other values alone than among all: new rows would, silently.

    Where a column is largest and where it is smallest, no mean, minimum, sum or rank of the
    single row is that of the column.
    """
    calls = other_calls(text)
    if not calls:
        return
    for name in rows:
        order = pd.factorize(rows[name], sort=True)[0]
        for k in {int(order.argmin()), int(order.argmax())}:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                try:
                    alone = spec.get_model_matrix(rows.iloc[[k]], **_OPTIONS).to_numpy()
                    same = np.allclose(alone, matrix.iloc[[k]], rtol=1e-9, atol=0)
                except Exception:  # whatever a function of all rows says of one
                    same = False
            if not same:
                rule = "must compute each row by itself, so that new rows can be predicted"
                advice = "Make a column of it first, or write center(x) or scale(x)."
                raise formula_error(parsed.text, rule, f"'{calls[0]}'", advice, calls[0])


def plain_side(text: str, rows: pd.DataFrame) -> tuple[Side, np.ndarray] | None:
    """Make a side that only adds numeric columns, and its matrix, without formulaic.

    Parameters
    ----------
    text : str
        The side.
    rows : DataFrame
        With its columns, as numbers and categories.

    Returns
    -------
    side : Side
    matrix : ndarray, shape (rows, columns)
        None instead of both where formulaic is needed.
    """
    terms = plain_terms(text)
    if terms is None or "Intercept" in terms:
        return None
    names = [name for name in terms if name != "1"]
    if not all(pd.api.types.is_any_real_numeric_dtype(rows[name]) for name in names):
        return None
    made = tuple(((name,) if name != "1" else (), (k,)) for k, name in enumerate(terms))
    labels = ["Intercept" if name == "1" else name for name in terms]
    side = Side(tuple(labels), tuple(names), made, None)
    return side, side.plain_matrix(rows)


def build(
    parts: dict[str, str],
    parsed: ParsedFormula,
    rows: pd.DataFrame,
    context: dict[str, object] | None = None,
) -> list[pd.DataFrame]:
    """Let formulaic build model matrices.

    Parameters
    ----------
    parts : dict of str to str
        Sides of a formula, by any names.
    parsed : ParsedFormula
        The whole formula, for messages.
    rows : DataFrame
        Numbers and categories without missing values.
    context : dict, optional
        What a name stands for that is no column, where formulaic would know it otherwise.

    Returns
    -------
    list of DataFrame
        One per part, with formulaic's specification.

    Raises
    ------
    CourseError
        If formulaic cannot read or compute a part, or a predictor is constant.
    """
    from formulaic import Formula  # slow to import: only when a formula is read
    from formulaic.errors import DataMismatchWarning, FormulaicError

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # log(-1): see below
            warnings.simplefilter("error", DataMismatchWarning)
            options = _OPTIONS | {"context": _OPTIONS["context"] | (context or {})}
            built = Formula(**parts).get_model_matrix(rows, **options)
    except (FormulaicError, SyntaxError, TypeError, ValueError, AttributeError) as error:
        raise reading_error(parsed.text, error) from None
    except DataMismatchWarning as warning:
        raise reading_error(parsed.text, warning) from None
    matrices = [getattr(built, name) for name in parts]
    for matrix in matrices:
        for term, columns in matrix.model_spec.term_indices.items():
            if not columns:
                rule = "must not have a predictor that is constant"
                advice = "Leave it out, or check how the rows were filtered."
                raise course_error("formula", rule, f"'{term}' with one level only", advice)
    return matrices


def _check_finite_columns(values: np.ndarray, names: pd.Index) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        n_rows, name = bad.any(axis=1).sum(), names[bad.any(axis=0)][0]
        rule = "must give finite numbers in every term of the formula"
        got = f"{n_rows} row(s) with NaN or infinity in '{name}'"
        advice = "Look at these rows; the logarithm of zero or less is a usual reason."
        raise course_error("data", rule, got, advice)


def _as_array(matrix: pd.DataFrame) -> np.ndarray:
    return np.ascontiguousarray(matrix.to_numpy(dtype=float))


def no_numeric_response(parsed: ParsedFormula, what: str) -> CourseError:
    """Build the error for a response that is `what`, and no number."""
    rule = "must have one numeric response left of '~'"
    advice = "A yes/no or categorical outcome needs another model (a generalized mixed model)."
    return course_error("formula", rule, f"'{parsed.response}' {what}", advice)


def _response(parsed: ParsedFormula, rows: pd.DataFrame) -> np.ndarray:
    """Return the response; formulaic is asked only where it is more than a plain column."""
    name = parsed.response.strip("`")
    if name in rows:
        if not pd.api.types.is_any_real_numeric_dtype(rows[name]):
            raise no_numeric_response(parsed, f"of type {rows[name].dtype}")
        y = rows[name].to_numpy(dtype=float, copy=True)
    else:
        # I(…): arithmetic on columns, as in R, where formula algebra would drop terms.
        parts = {"response": f"0 + I({parsed.response})"}
        matrix = build(parts, parsed, rows)[0]
        if matrix.shape[1] != 1:
            raise no_numeric_response(parsed, f"with the columns {listing(matrix.columns, 4)}")
        y = _as_array(matrix)[:, 0]
    _check_finite_columns(y[:, None], pd.Index([parsed.response]))
    if np.ptp(y) == 0:
        got = f"'{parsed.response}' equal to {y[0]:g} in all {len(y)} rows"
        advice = "Check that the right column was named and the data were not filtered too far."
        raise course_error("data", "must have a response that varies", got, advice)
    return y


def _group_factors(parsed, sides, rows) -> list[GroupFactor]:
    """One factor per distinct right-hand side; its bars become blocks of one mask."""
    factors = []
    for group in dict.fromkeys(bar.group for bar in parsed.bars):
        lefts = [bar.left for bar in parsed.bars if bar.group == group]
        made, blocks = zip(*(sides[left] for left in lefts), strict=True)
        keys, codes = group_codes(rows, group)
        terms = tuple(name for side in made for name in side.names)
        name = ":".join(group)
        widths = [block.shape[1] for block in blocks]
        check_factor(name, keys, len(rows), widths, terms)
        factors.append(
            GroupFactor(
                name=name,
                group=group,
                keys=keys,
                codes=codes,
                terms=terms,
                columns=np.hstack(blocks),
                mask=mask_of(widths),
                sides=made,
            )
        )
    return factors


def mask_of(widths: Sequence[int]) -> np.ndarray:
    """Lower triangle in which effects of one bar may correlate, shape (q, q)."""
    bar_of = np.repeat(np.arange(len(widths)), widths)
    return np.tril(bar_of[:, None] == bar_of[None, :])


def group_codes(rows: pd.DataFrame, group: tuple[str, ...]) -> tuple[pd.Index, np.ndarray]:
    """Return the sorted levels of a grouping factor, and the level of each row."""
    if len(group) == 1:
        try:
            codes, keys = pd.factorize(rows[group[0]], sort=True)
        except TypeError:
            kinds = sorted({type(value).__name__ for value in rows[group[0]]})
            rule, got = "must group by labels that can be sorted", listing(kinds)
            advice = f"Make text of them: data['{group[0]}'].astype(str)."
            raise course_error("formula", rule, f"{got} in '{group[0]}'", advice) from None
        return pd.Index(keys, name=group[0]), codes
    cells = rows.groupby([rows[column] for column in group], observed=True)
    return cells.size().index, cells.ngroup().to_numpy()


def check_factor(
    name: str, keys: pd.Index, n: int, widths: Sequence[int], terms: tuple[str, ...]
) -> None:
    """Raise if `n` rows cannot carry a factor; `widths` counts the columns of each bar."""
    if len(keys) < 2:
        raise course_error(
            "data",
            "must have at least two groups in every grouping factor",
            f"one group in '{name}' ({keys[0]})",
            "A variance between groups cannot be seen in one group: use ordinary regression.",
        )
    if len(keys) >= n:
        raise course_error(
            "data",
            "must have fewer groups than rows in every grouping factor",
            f"{len(keys)} groups in '{name}' for {n} rows",
            "With one row per group the group variance and the residual are the same thing: "
            "use another grouping column or ordinary regression.",
        )
    if len(set(terms)) < len(terms):
        twice = next(term for term in terms if terms.count(term) > 1)
        rule = f"must let each coefficient vary over '{name}' once"
        advice = "Write (x | group), or (1 | group) + (0 + x | group) for uncorrelated effects."
        raise course_error("formula", rule, f"'{twice}' in two bars", advice)
    widest = max(widths)
    if len(keys) * widest >= n:
        rule = "must ask for fewer random effects than there are rows"
        got = f"{len(keys)} groups × {widest} coefficients for {n} rows in '{name}'"
        advice = "Let fewer coefficients vary, for example (1 | group) only."
        raise course_error("formula", rule, got, advice)


def _new_matrix(sides: tuple[Side, ...], data: pd.DataFrame) -> np.ndarray:
    """Design columns for new rows; NaN where a needed predictor is missing."""
    variables = list(dict.fromkeys(name for side in sides for name in side.variables))
    check_columns("newdata", data, variables)
    complete = data[variables].notna().all(axis=1).to_numpy()
    matrix = np.full((len(data), sum(len(side.names) for side in sides)), np.nan)
    if complete.any():
        rows = data.loc[complete]
        matrix[complete] = np.hstack([_columns(side, rows) for side in sides])
    return matrix


def _columns(side: Side, rows: pd.DataFrame) -> np.ndarray:
    """Columns of one side for new rows without missing values."""
    if side.spec is None:
        for name in side.variables:
            if not pd.api.types.is_any_real_numeric_dtype(rows[name]):
                rule = "must have numbers where the fit had numbers"
                advice = f"Convert it first: pandas.to_numeric(data['{name}'])."
                raise course_error(
                    "newdata", rule, f"'{name}' of type {rows[name].dtype}", advice
                )
        return side.plain_matrix(rows)
    from formulaic.errors import DataMismatchWarning, FormulaicError

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)
            rows = typed_frame("newdata", rows, side.variables, side.coded)
            made = side.spec.get_model_matrix(rows, **_OPTIONS)
    except DataMismatchWarning as warning:
        rule = "must use only category levels that the fit has seen"
        got = re.sub(r"\s+", " ", str(warning)).split(". ")[0]
        advice = "Leave these rows out, or fit again with data that have the level."
        raise course_error("newdata", rule, got, advice) from None
    except FormulaicError as error:
        raise reading_error(", ".join(side.variables), error) from None
    never_seen = [name for name in side.dropped if made[name].to_numpy().any()]
    if never_seen:
        rule = "must not combine categories that the fit has no row of"
        advice = "Leave these rows out, or fit without this interaction."
        raise course_error("newdata", rule, listing(never_seen), advice)
    return _as_array(made[list(side.names)])
