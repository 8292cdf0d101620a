r"""Fit a model to a table that stays where it is: a database makes the sums.

No step after `cross_products` depends on the rows, and cross-products are sums. So a lazy table
(a DuckDB relation, a Polars LazyFrame, or what else narwhals takes) is asked for

======= ============================================================================
levels  of every categorical predictor, of which there may be `MOST_LEVELS`
pass 1  rows; mean, smallest and largest value of every column
pass 2  per group: rows, and sums of all columns and their products, **about the means**
======= ============================================================================

and the engine goes on as if it had made them. A column here is an *atom*: a product of numbers
(``x``, ``I(x**2)``) within one combination of categories, zero elsewhere. Every column of the
model is a linear combination of atoms u and the constant, so with ũ = [1, (u - m)/s] its
cross-products are T'(Σ ũũ')T. Sums about the means keep their digits wherever zero is and
whatever the units (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115); a column
that others explain up to a share of 1e-12 of its variance counts as their combination.

The database computes in double precision, leaves out the rows with a missing value, and writes
nothing. What asks for the rows of such a fit raises, and says how to get some.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from course_lib.errors import CourseError, course_error, listing
from course_lib.mixed.cross_products import (
    CrossProducts,
    FactorArrays,
    Layout,
    LevelProducts,
    bars,
    check_memory,
)
from course_lib.mixed.design import (
    GroupFactor,
    ModelFrame,
    Reading,
    Side,
    build,
    check_factor,
    group_codes,
    mask_of,
    no_numeric_response,
    plain_side,
    read,
    side_of,
)
from course_lib.mixed.formula import coded_names, formula_error, names_in, other_calls
from course_lib.mixed.scaling import COLLINEAR, CollinearError, Standardised
from course_lib.mixed.typed_frame import typed_frame

if TYPE_CHECKING:
    import narwhals as nw
    from formulaic import ModelSpec

__all__ = ["SummedFrame", "Sums", "Table", "opened", "summed"]

MOST_LEVELS = 50  # of a categorical predictor
MOST_ATOMS = 60  # columns, the response included: up to 1,890 sums per group
MOST_GROUPS = 2_000_000
DEPENDENT = 1e-12  # share of a column's variance that the others leave: rounding is 1e-15
# What a database computes by the same names.
FUNCTIONS = ("log", "log2", "log10", "exp", "sqrt", "abs")
_TAKEN = {"I", "C", "np", "contr", "True", "False", "None", *FUNCTIONS}
_SAMPLE = "take some groups into memory and fit these, lmer(formula, part.df())"
_FIRST = f"Make a column of it in the database first and name it here; or {_SAMPLE}."


class RowsAway:
    """Stands where rows would be; whatever asks for them gets the error that says so."""

    __array_ufunc__ = None  # so that NumPy leaves `array @ rows` to __rmatmul__

    def _raise(self, *_: object) -> None:
        raise course_error(
            "fit",
            "must have its rows in memory for this",
            "a fit from a database, which keeps sums only",
            "Ask the database for some rows, part = table.limit(1000).df(), and predict these: "
            "fit.predict(part); their residuals are part[response] - fit.predict(part). For "
            f"diagnostics and simulations {_SAMPLE}.",
        )

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # copy and pickle ask for what is not there
            raise AttributeError(name)
        self._raise()


for _name in (
    "array",
    "len",
    "iter",
    "getitem",
    "matmul",
    "rmatmul",
    "add",
    "sub",
    "mul",
    "pow",
):
    setattr(RowsAway, f"__{_name}__", RowsAway._raise)
ROWS_AWAY = RowsAway()


@dataclass(frozen=True)
class SummedFrame(ModelFrame):
    """A model frame without rows.

    Attributes
    ----------
    n_rows : int
        Rows used.
    y_mean, y_sd : float
        Of the response.
    """

    n_rows: int
    y_mean: float
    y_sd: float

    @property
    def has_rows(self) -> bool:
        """False: only sums are here."""
        return False

    @property
    def n(self) -> int:
        """Rows used."""
        return self.n_rows

    @property
    def y_spread(self) -> float:
        """Standard deviation of the response."""
        return self.y_sd

    def same_index(self, other: ModelFrame) -> bool:
        """Whether as many rows were used: of their labels nothing is known."""
        return self.n == other.n

    def same_response(self, other: ModelFrame) -> bool:
        """Whether mean and spread of the response agree."""
        near = 1e-7 * self.y_sd
        shift, change = other.y_mean - self.y_mean, other.y_sd - self.y_sd
        return abs(shift) < near and abs(change) < near


@dataclass(frozen=True)
class Table:
    """A lazy table: how narwhals asks it, and the types of its columns."""

    frame: nw.LazyFrame
    schema: Mapping[str, Any]

    def query(self, what: str, lazy: nw.LazyFrame) -> pd.DataFrame:
        """Run a query and return its answer; say what failed if it fails."""
        polars = self.frame.implementation.is_polars()
        return _asked(what, lambda: _in_pandas(lazy.collect("polars" if polars else "pandas")))


def _asked(what: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except CourseError:
        raise
    except Exception as error:  # every engine has errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise course_error(
            "data",
            f"must answer when it is asked for {what}",
            f"{type(error).__name__} ({reason:.200})",
            "Try the table alone, for example data.limit(5): is its connection open, and does "
            "every row have a value that can be computed with (a logarithm of zero has none)?",
        ) from error


def opened(data: object) -> object:
    """Return a lazy table as `Table`, an eager one as a DataFrame, all else as it is.

    Parameters
    ----------
    data : object
        What `lmer` was given.

    Returns
    -------
    object
    """
    if type(data).__module__.partition(".")[0] in ("builtins", "numpy", "pandas"):
        return data
    import narwhals as nw  # only where a table is given that is not pandas'

    frame = _asked("its columns", lambda: nw.from_native(data, pass_through=True))
    if isinstance(frame, nw.DataFrame):
        return _in_pandas(frame)
    if isinstance(frame, nw.LazyFrame):
        return Table(frame, _asked("its columns", frame.collect_schema))
    return data


def _in_pandas(frame: nw.DataFrame) -> pd.DataFrame:
    """Make a pandas table without the help of Arrow, which need not be installed."""
    import narwhals as nw

    if frame.implementation.is_pandas():
        return frame.to_native()
    columns = {}
    for series in frame.iter_columns():
        if isinstance(series.dtype, nw.Categorical | nw.Enum):
            order, values = series.cat.get_categories().to_list(), series.to_list()
            columns[series.name] = pd.Categorical(values, order)
        elif isinstance(series.dtype, nw.Decimal):
            columns[series.name] = series.cast(nw.Float64).to_numpy()
        else:
            columns[series.name] = series.to_numpy()
    return pd.DataFrame(columns)


# ---- the formula, before any row is read -----------------------------------------------------


def _check_taken(reading: Reading, table: Table) -> None:
    """Raise for what a database does not compute row by row, and for groups it cannot make."""
    rule = "must consist of what a database computes row by row: arithmetic, I, C and "
    rule += ", ".join(FUNCTIONS)
    text = reading.parsed.text
    for piece in reading.variables:
        calls = [name.text for name in names_in(piece) if not name.is_column]
        bad = [call for call in calls if call not in _TAKEN]
        bad += [call for call in other_calls(piece) if f"contr.{call}" not in piece]
        bad += re.findall(r"\bC\((?!\s*(?:`[^`]+`|\w+)\s*[,)])[^)]*\)", piece)
        if bad:
            raise formula_error(text, rule, f"'{bad[0]}'", _FIRST, bad[0])
    for name in reading.grouping:
        if table.schema[name].is_nested():
            rule, got = "must group by labels", f"{table.schema[name]} in '{name}'"
            raise formula_error(text, rule, got, "Make text or a number of it first.", name)


def _check_response(reading: Reading, table: Table) -> None:
    parsed = reading.parsed
    plain = parsed.response.strip("`")
    for name in reading.variables[parsed.response]:
        dtype = table.schema[name]
        if not dtype.is_numeric() and (plain == name or not dtype.is_boolean()):
            raise no_numeric_response(parsed, f"of type {dtype}")
    if not reading.variables[parsed.response]:
        raise no_numeric_response(parsed, "without a column")


def _check_nested(table: Table, rows: nw.LazyFrame, reading: Reading) -> None:
    """Raise unless the grouping factors are nested: by their names, or by a count."""
    import narwhals as nw

    groups = sorted({frozenset(bar.group) for bar in reading.parsed.bars}, key=len)
    if all(outer <= inner for outer, inner in itertools.pairwise(groups)):
        return

    def count(names: Iterable[str]) -> int:
        found = rows.select(*names).unique().select(nw.len().alias("n"))
        return int(table.query("its groups", found)["n"].iloc[0])

    counts = {group: count(group) for group in groups}
    for outer, inner in itertools.pairwise(sorted(groups, key=counts.get)):
        if count(outer | inner) != counts[inner]:
            names = [":".join(sorted(group)) for group in (outer, inner)]
            rule = "must have one grouping factor, or factors that lie one in the other"
            advice = f"Leave one out; or {_SAMPLE}: in memory factors may be crossed."
            raise course_error(
                "formula", rule, f"crossed ones, '{names[0]}' and '{names[1]}'", advice
            )


# ---- columns as combinations of atoms --------------------------------------------------------


@dataclass(frozen=True)
class Atom:
    """A product of numbers, (text, whether it names a column), within a cell of categories."""

    numbers: tuple[tuple[str, bool], ...] = ()
    cell: tuple[tuple[str, object], ...] = ()

    @property
    def label(self) -> str:
        """For messages."""
        return ":".join(
            [*(text for text, _ in self.numbers), *(f"{k}[{v}]" for k, v in self.cell)]
        )

    def expression(self, reading: Reading, schema: Mapping[str, Any]) -> nw.Expr:
        """How narwhals computes it."""
        import narwhals as nw

        made = [_number(*number, reading, schema) for number in self.numbers]
        made += [(nw.col(name) == nw.lit(level)).cast(nw.Float64) for name, level in self.cell]
        product = made[0]
        for one in made[1:]:
            product = product * one
        return product


def _number(text: str, is_name: bool, reading: Reading, schema: Mapping[str, Any]) -> nw.Expr:
    """Compute a number: a column, or Python that is handed expressions in place of columns."""
    import narwhals as nw

    known = {
        name: nw.col(name).cast(nw.Float64)
        for name, dtype in schema.items()
        if name in reading.named and (dtype.is_numeric() or dtype.is_boolean())
    }
    if is_name:
        return known[text]
    functions = {
        "log": lambda e: e.log(),
        "log2": lambda e: e.log(2),
        "log10": lambda e: e.log(10),
        "exp": lambda e: e.exp(),
        "sqrt": lambda e: e.sqrt(),
        "abs": abs,
    }
    quoted = {f"_q{i}": name for i, name in enumerate(known)}
    python = text
    for alias, name in quoted.items():
        python = python.replace(f"`{name}`", alias)
    scope = {"I": lambda e: e, "np": SimpleNamespace(**functions)} | functions | known
    scope |= {alias: known[name] for alias, name in quoted.items()} | {"__builtins__": {}}
    try:
        value = eval(python.strip(), scope)  # as formulaic does
        return value.cast(nw.Float64) if isinstance(value, nw.Expr) else nw.lit(float(value))
    except Exception as error:
        rule, got = "must be computable by the database", f"'{text}' ({error!s:.80})"
        raise formula_error(reading.parsed.text, rule, got, _FIRST, text) from None


Column = dict[Atom, float]
ONE = Atom()


def _ones(value: object, *_: object) -> object:
    """Stand for every function while formulaic codes categories only."""
    return pd.Series(1.0, value.index) if isinstance(value, pd.Series) else 1.0


_CODING = {name: _ones for name in ("I", *FUNCTIONS)}
_CODING["np"] = SimpleNamespace(**{name: _ones for name in FUNCTIONS})


def _levels(table: Table, rows: nw.LazyFrame, reading: Reading) -> dict[str, pd.Series]:
    """Levels of every categorical predictor, in the order in which they are coded."""
    levels = {}
    for name in reading.named:
        dtype = table.schema[name]
        number = dtype.is_numeric() or dtype.is_boolean()
        if number and name not in reading.coded:
            continue
        text = type(dtype).__name__ in ("String", "Categorical", "Enum")
        few = (
            rows.select(name).unique().head(MOST_LEVELS + 1) if number or text else rows.head(1)
        )
        found = table.query(f"the levels of '{name}'", few.select(name))
        found = typed_frame("formula", found, [name], reading.coded)[name]
        if not (number or text):
            rule, got = "must take columns of numbers or categories", f"{dtype} in '{name}'"
            raise course_error("formula", rule, got, "Make text or a number of it first.")
        if len(found) > MOST_LEVELS:
            rule = f"must have at most {MOST_LEVELS} levels in a categorical predictor"
            advice = f"Join rare levels in the database first, or let it vary: (1 | {name})."
            raise course_error("formula", rule, f"more of them in '{name}'", advice)
        levels[name] = found.sort_values(ignore_index=True)
    return levels


@dataclass(frozen=True)
class Draft:
    """A side of the formula before it is known which combinations of categories have rows."""

    text: str
    made: Side | ModelSpec
    columns: list[Column]
    crossed: list[bool]  # whether the column belongs to an interaction of categories

    def side(self, reading: Reading, empty: set[Atom]) -> tuple[Side, list[Column]]:
        """Return the side and its columns without those that are zero in every row."""
        if isinstance(self.made, Side):
            return self.made, self.columns
        pairs = enumerate(zip(self.columns, self.crossed, strict=True))
        gone = [k for k, (column, crossed) in pairs if crossed and set(column) <= empty]
        side = side_of(self.text, self.made, reading.variables[self.text], gone)
        return side, [column for k, column in enumerate(self.columns) if k not in gone]


def _drafts(reading: Reading, table: Table, levels: dict[str, pd.Series]) -> dict[str, Draft]:
    """Read the fixed part and each bar's left side."""
    parsed = reading.parsed
    n = max([2, *(len(values) for values in levels.values())])
    rows = {}
    for name in reading.named:
        if name in levels:
            rows[name] = (
                levels[name].take(np.arange(n) % len(levels[name])).reset_index(drop=True)
            )
        else:
            rows[name] = pd.Series([True if table.schema[name].is_boolean() else 1.0] * n)
    example = pd.DataFrame(rows, index=range(n))
    drafts, left = {}, []
    for text in dict.fromkeys([parsed.fixed, *(bar.left for bar in parsed.bars)]):
        plain = plain_side(text, example)
        if plain is None:
            left.append(text)
            continue
        columns = [
            {Atom(((used[0], True),)) if used else ONE: 1.0} for used, _ in plain[0].terms
        ]
        drafts[text] = Draft(text, plain[0], columns, [False] * len(columns))
    parts = {f"side{i}": f"1 + {text}" for i, text in enumerate(left)}
    built = build(parts, parsed, example, _CODING) if left else []
    states = {k: v for matrix in built for k, v in matrix.model_spec.encoder_state.items()}
    for text, matrix in zip(left, built, strict=True):
        spec = matrix.model_spec.update(encoder_state=states)
        drafts[text] = _coded(text, spec, levels, example)
    for draft in drafts.values():
        if not draft.columns and any(bar.left == draft.text for bar in parsed.bars):
            rule, advice = "needs at least one term left of the bar", "Write (1 | group)."
            raise course_error("formula", rule, f"'{draft.text}'", advice)
    return drafts


def _coded(
    text: str, spec: ModelSpec, levels: dict[str, pd.Series], example: pd.DataFrame
) -> Draft:
    """Find the columns of every term: its codes in every combination of its categories."""
    columns, crossed = [], []
    for term, places in spec.term_indices.items():
        numbers, variables = [], []
        for factor in term.factors:
            kind = spec.encoder_state.get(factor.expr, (None,))[0]
            if kind is None:
                continue  # a literal
            is_name = factor.eval_method.value == "lookup"
            if kind.value == "categorical":
                variables += [factor.expr] if is_name else sorted(coded_names(factor.expr))
            else:
                numbers.append((factor.expr, is_name))
        cells = list(itertools.product(*(levels[name] for name in variables)))
        grid = example.iloc[np.zeros(len(cells), dtype=int)].reset_index(drop=True)
        for name, values in zip(variables, zip(*cells, strict=True), strict=True):
            grid[name] = pd.Series(values, dtype=levels[name].dtype)
        codes = spec.get_model_matrix(grid, context=_CODING, na_action="ignore").to_numpy(float)
        for place in places:
            column = {}
            for cell, code in zip(cells, codes[:, place], strict=True):
                plain = [level.item() if hasattr(level, "item") else level for level in cell]
                atom = Atom(
                    tuple(sorted(numbers)), tuple(sorted(zip(variables, plain, strict=True)))
                )
                if code:
                    column[atom] = code
            columns.append(column)
            crossed.append(len(variables) > 1)
    return Draft(text, spec, columns, crossed)


# ---- the two passes --------------------------------------------------------------------------


def summed(formula: str, table: Table, progress: bool = True) -> tuple[SummedFrame, Sums]:
    """Read the formula, and let the database make the sums.

    Parameters
    ----------
    formula : str
        As for `lmer`.
    table : Table
        Where the rows are.
    progress : bool
        Whether to show which pass runs, and the time.

    Returns
    -------
    frame : SummedFrame
        What a formula and a table make together, without rows.
    sums : Sums
        What makes of the sums a model in standard units.

    Raises
    ------
    CourseError
        If the formula asks for what a database does not compute, if a query fails, or if the
        table cannot give a fit.
    """
    from tqdm import tqdm

    reading = read(formula, list(table.schema))
    _check_taken(reading, table)
    _check_response(reading, table)
    rows = _complete(table, reading)
    with tqdm(total=2, desc="levels and groups", disable=not progress) as bar:
        _check_nested(table, rows, reading)
        drafts = _drafts(reading, table, _levels(table, rows, reading))
        y = Atom(((reading.parsed.response, False),))
        if (plain := reading.parsed.response.strip("`")) in table.schema:
            y = Atom(((plain, True),))
        atoms = {
            atom for draft in drafts.values() for column in draft.columns for atom in column
        }
        atoms = [y, *sorted(atoms - {y, ONE}, key=lambda atom: atom.label)]
        if len(atoms) > MOST_ATOMS:
            rule = f"must have at most {MOST_ATOMS} columns, the response included"
            advice = (
                f"Leave out terms, or join levels of a categorical predictor; or {_SAMPLE}."
            )
            raise course_error("formula", rule, len(atoms), advice)
        asked = Asked.of(table, rows, reading, atoms)
        bar.set_description("pass 1 of 2: means")
        centres = asked.first_pass()
        bar.update()
        bar.set_description("pass 2 of 2: sums per group")
        cells, moments = asked.second_pass(centres)
        bar.update()
    sides = {text: draft.side(reading, centres.empty) for text, draft in drafts.items()}
    return _frame_and_sums(asked, centres, sides, cells, moments)


def _complete(table: Table, reading: Reading) -> nw.LazyFrame:
    """Rows without a missing value in the used columns; NaN counts as missing, as in pandas."""
    import narwhals as nw

    present = [~nw.col(name).is_null() for name in reading.used]
    floats = [name for name in reading.used if table.schema[name].is_float()]
    return table.frame.select(*reading.used).filter(
        *present, *[~nw.col(name).is_nan() for name in floats]
    )


@dataclass(frozen=True)
class Centres:
    """What the first pass finds: rows used and left out; of every atom mean and scale.

    ``empty`` are the atoms that are zero in every row.
    """

    n: int
    n_dropped: int
    means: np.ndarray
    scales: np.ndarray
    empty: frozenset[Atom]


@dataclass(frozen=True)
class Asked:
    """The two passes over a table: atoms u0, u1, … (the response first), keys k0, k1, …."""

    table: Table
    reading: Reading
    atoms: list[Atom]
    values: nw.LazyFrame

    @classmethod
    def of(cls, table: Table, rows: nw.LazyFrame, reading: Reading, atoms: list[Atom]) -> Asked:
        """Say how keys and atoms are computed; nothing runs."""
        import narwhals as nw

        keys = [nw.col(name).alias(f"k{i}") for i, name in enumerate(reading.grouping)]
        made = [atom.expression(reading, table.schema) for atom in atoms]
        made = [expression.alias(f"u{i}") for i, expression in enumerate(made)]
        return cls(table, reading, atoms, rows.select(*keys, *made))

    def first_pass(self) -> Centres:
        """Count rows, and look where every atom has its middle."""
        import narwhals as nw

        names = [f"u{i}" for i in range(len(self.atoms))]
        summary = {
            f"{what}{name}": getattr(nw.col(name), what)()
            for name in names
            for what in ("count", "mean", "min", "max")
        }
        found = self.values.select(nw.len().alias("n"), **summary)
        row = self.table.query("means", found).astype(float).iloc[0]
        total = self.table.query("its rows", self.table.frame.select(nw.len().alias("n")))
        n, total = int(row["n"]), int(total["n"].iloc[0])
        _check_rows(n, total)
        counts, means, low, high = row.to_numpy()[1:].reshape(len(names), 4).T
        bad = (counts < n) | ~np.isfinite(means + (high - low))
        if bad.any():
            first = int(bad.argmax())
            rule = "must give finite numbers in every term of the formula"
            got = f"{int(n - counts[first]) or 'some'} row(s) without one in "
            got += f"'{self.atoms[first].label}'"
            advice = "Look at these rows; the logarithm of zero or less is a usual reason."
            raise course_error("data", rule, got, advice)
        if low[0] == high[0]:
            got = f"'{self.reading.parsed.response}' equal to {low[0]:g} in all {n} rows"
            advice = (
                "Check that the right column was named and the rows were not filtered away."
            )
            raise course_error("data", "must have a response that varies", got, advice)
        reach = np.maximum(high - means, means - low)
        exponent = np.log2(reach, out=np.zeros_like(reach), where=reach > 0)
        # Powers of two, where squares could leave the range of a double: exact.
        scales = np.where(np.abs(exponent) > 100, np.exp2(np.round(exponent)), 1.0)
        pairs = zip(self.atoms, (low == 0) & (high == 0), strict=True)
        empty = frozenset(atom for atom, zero in pairs if zero)
        return Centres(n, total - n, np.where(low == high, low, means), scales, empty)

    def second_pass(self, centres: Centres) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the keys of every group, and Σ ũ_p ũ_q, p <= q, shape (pairs, groups)."""
        import narwhals as nw

        means, scales = centres.means.tolist(), centres.scales.tolist()

        keys = [f"k{i}" for i in range(len(self.reading.grouping))]
        centred, k = {}, len(self.atoms)
        for i in range(k):
            about = nw.col(f"u{i}") - means[i]
            centred[f"c{i}"] = about if scales[i] == 1 else about / scales[i]
        products = {
            f"s{i}_{j}": nw.col(f"c{i}") * nw.col(f"c{j}")
            for i in range(k)
            for j in range(i, k)
        }
        sums = [nw.col(name).sum() for name in [*centred, *products]]
        values = self.values.select(*keys, **centred).with_columns(**products)
        found = values.group_by(*keys).agg(nw.len().alias("n"), *sums).head(MOST_GROUPS + 1)
        answer = self.table.query("sums per group", found)
        if len(answer) > MOST_GROUPS:
            rule = f"must have at most {MOST_GROUPS:,} groups"
            advice = f"Group by a coarser column; or {_SAMPLE}."
            raise course_error(
                "data", rule, f"more in {listing(self.reading.grouping)}", advice
            )
        if int(answer["n"].sum()) != centres.n:
            rule, got = "must stay as it is while it is read", "other rows in the second pass"
            raise course_error("data", rule, got, "Fit again when nothing writes to it.")
        moments = answer[["n", *centred, *products]].to_numpy(dtype=float).T
        cells = answer[keys].set_axis(list(self.reading.grouping), axis=1)
        return cells, np.ascontiguousarray(moments)


def _check_rows(n: int, total: int) -> None:
    if total == 0:
        advice = "Check the filter or the file that it came from."
        raise course_error("data", "must have at least one row", "an empty table", advice)
    if n == 0:
        rule = "must have at least one row without missing values in the used columns"
        advice = "Count them column by column, and leave out the column or fill it."
        raise course_error("data", rule, f"{total} rows, all incomplete", advice)


# ---- from sums to a model in standard units --------------------------------------------------


def _frame_and_sums(
    asked: Asked,
    centres: Centres,
    sides: dict[str, tuple[Side, list[Column]]],
    cells: pd.DataFrame,
    moments: np.ndarray,
) -> tuple[SummedFrame, Sums]:
    parsed, atoms = asked.reading.parsed, asked.atoms

    def combination(columns: list[Column]) -> np.ndarray:
        """Coefficients of ũ for each column, shape (1 + atoms, columns)."""
        A = np.zeros((1 + len(atoms), len(columns)))
        for c, column in enumerate(columns):
            for atom, code in column.items():
                if atom == ONE:
                    A[0, c] += code
                else:
                    i = atoms.index(atom)
                    A[0, c] += code * centres.means[i]
                    A[1 + i, c] += code * centres.scales[i]
        return A

    factors = []
    for group in dict.fromkeys(bar.group for bar in parsed.bars):
        made = [sides[bar.left] for bar in parsed.bars if bar.group == group]
        keys, codes = group_codes(cells, group)
        terms = tuple(name for side, _ in made for name in side.names)
        widths = [len(side.names) for side, _ in made]
        check_factor(":".join(group), keys, centres.n, widths, terms)
        factor = GroupFactor(
            name=":".join(group),
            group=group,
            keys=keys,
            codes=ROWS_AWAY,
            terms=terms,
            columns=ROWS_AWAY,
            mask=mask_of(widths),
            sides=tuple(side for side, _ in made),
        )
        columns = combination([column for _, columns in made for column in columns])
        factors.append((factor, codes, columns))
    factors.sort(key=lambda made: -len(made[0].keys) * len(made[0].terms))
    fixed, X = sides[parsed.fixed]
    sums = Sums(
        moments=moments,
        n=centres.n,
        X=combination(X),
        y=combination([{atoms[0]: 1.0}])[:, 0],
        columns=tuple(columns for *_, columns in factors),
        codes=tuple(codes for _, codes, _ in factors),
        masks=tuple(factor.mask for factor, *_ in factors),
    )
    shift, square = sums.total[0, 1], sums.total[1, 1]
    frame = SummedFrame(
        parsed=parsed,
        y=ROWS_AWAY,
        X=ROWS_AWAY,
        fixed=fixed,
        factors=tuple(factor for factor, *_ in factors),
        index=ROWS_AWAY,
        n_dropped=centres.n_dropped,
        n_rows=centres.n,
        y_mean=float(centres.means[0] + centres.scales[0] * shift),
        y_sd=float(centres.scales[0] * np.sqrt(square - shift**2)),
    )
    return frame, sums


@dataclass(frozen=True)
class Sums:
    """Sums of products of ũ = [1, (u - m)/s] per cell, and what the model's columns are of it.

    Attributes
    ----------
    moments : ndarray, shape (pairs, cells)
        Σ ũ_p ũ_q for p <= q; a cell is a combination of all grouping columns.
    n : int
        Rows.
    X, y : ndarray, shape (1 + atoms, p) and (1 + atoms,)
        Coefficients of ũ that make the fixed columns and the response.
    columns, codes, masks : tuple of ndarray
        One per factor: coefficients of ũ for its columns, (1 + atoms, q); level of each cell;
        as in `FactorArrays`.
    """

    moments: np.ndarray
    n: int
    X: np.ndarray
    y: np.ndarray
    columns: tuple[np.ndarray, ...]
    codes: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]

    @property
    def total(self) -> np.ndarray:
        """Mean of ũũ' over all rows."""
        k = len(self.X)
        total = np.empty((k, k))
        upper = np.triu_indices(k)
        total[upper] = total[upper[::-1]] = self.moments.sum(axis=1) / self.n
        return total

    def standardised(self) -> Standardised:
        """Standardise the columns and combine the sums, as `scaling.standardise` does of rows.

        Raises
        ------
        CollinearError
            If a column is a linear combination of the columns before it.
        TooLargeError
            If the cross-products would not fit into memory.
        """
        M = self.total
        T_X, x_root = _root(self.X, M)
        coefficients = T_X.T @ M @ self.y
        residual = self.y - T_X @ coefficients
        residual -= T_X @ (T_X.T @ M @ residual)
        y_scale = np.sqrt(max(residual @ M @ residual, 0.0))
        T_W = np.column_stack([T_X, residual / (y_scale or 1.0)])
        T_Z, transforms = [], []
        for f, (columns, mask) in enumerate(zip(self.columns, self.masks, strict=True)):
            T, transform = np.empty_like(columns), np.zeros(mask.shape)
            for block in bars(mask):
                T[:, block], root = _root(columns[:, block], M, f)
                transform[block, block] = np.linalg.inv(root)
            T_Z.append(T)
            transforms.append(transform)
        return Standardised(
            products=self._products(T_W, T_Z),
            factors=tuple(
                FactorArrays(ROWS_AWAY, int(codes.max()) + 1, ROWS_AWAY, mask)
                for codes, mask in zip(self.codes, self.masks, strict=True)
            ),
            layout=ROWS_AWAY,
            X=ROWS_AWAY,
            x_root=x_root,
            offset=np.linalg.solve(x_root, coefficients)[None],
            y_scale=np.array([y_scale]),
            z_transforms=transforms,
        )

    def _products(self, T_W: np.ndarray, T_Z: list[np.ndarray]) -> CrossProducts:
        """Cross-products of the columns ũT; a cell stands for its rows in the layout."""
        factors = tuple(
            FactorArrays(codes, int(codes.max()) + 1, np.empty((len(codes), len(mask))), mask)
            for codes, mask in zip(self.codes, self.masks, strict=True)
        )
        layout = Layout.of(factors)
        check_memory(layout, T_W.shape[1])
        levels = []
        for i, level in enumerate(layout.levels):
            sums = np.array(
                [np.bincount(level.codes, row, level.n_groups) for row in self.moments]
            )
            own, above = T_Z[level.factor], [T_Z[up.factor] for up in layout.levels[i + 1 :]]
            levels.append(
                LevelProducts(
                    gram=_combined(own, own, sums)[:, None],
                    cross=_combined(own, np.hstack([*above, T_W]), sums)[:, None],
                    n_above=sum(T.shape[1] for T in above),
                    parent=level.parent,
                    factor=level.factor,
                    n_copies=1,
                )
            )
        return CrossProducts(
            levels=tuple(levels),
            K=_combined(T_W, T_W, self.moments.sum(axis=1)[:, None])[None, :, :, 0],
            n=self.n,
            p=self.X.shape[1],
            crossed=(),
            masks=self.masks,
            n_levels=tuple(factor.n_levels for factor in factors),
            places=layout.places,
        )


def _combined(one: np.ndarray, other: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """one'(Σ ũũ') other of every group, (a, b, groups), from the sums of pairs."""
    i, j = np.triu_indices(len(one))
    pairs = one[i, :, None] * other[j, None, :]
    pairs += np.where(i == j, 0.0, 1.0)[:, None, None] * one[j, :, None] * other[i, None, :]
    flat = pairs.reshape(len(pairs), -1)
    return (flat.T @ sums).reshape(one.shape[1], other.shape[1], -1)  # contiguous by groups


def _root(A: np.ndarray, M: np.ndarray, factor: int | None = None) -> tuple[np.ndarray, ...]:
    """Return T, whose columns ũT have mean square one and are uncorrelated, and R: ũA = ũTR.

    First an orthonormal basis of the atoms that A takes, from the constant on, so that means
    are taken off before anything is squared; then the QR decomposition in it.
    """
    basis = np.zeros((len(A), 0))
    for k in [0, *(np.flatnonzero(np.any(A[1:] != 0, axis=1)) + 1)]:
        new = np.zeros(len(A))
        new[k] = 1.0
        for _ in range(2):  # the second time takes off what rounding left
            new -= basis @ (basis.T @ M @ new)
        square = new @ M @ new
        if square > DEPENDENT * M[k, k]:
            basis = np.column_stack([basis, new / np.sqrt(square)])
    inside = basis.T @ M @ A
    missing = max(0, A.shape[1] - len(inside))
    Q, R = np.linalg.qr(np.vstack([inside, np.zeros((missing, A.shape[1]))]))
    dependent = np.abs(R.diagonal()) <= COLLINEAR * np.linalg.norm(R, axis=0)
    if dependent.any():
        raise CollinearError(factor, int(dependent.argmax()))
    signs = np.where(R.diagonal() < 0, -1.0, 1.0)
    return basis @ Q[: basis.shape[1]] * signs, signs[:, None] * R
