r"""Fit a model to a table that stays where it is: a database makes the sums.

No step after `cross_products` depends on the rows, and cross-products are sums. So a lazy table
(a DuckDB relation, a Polars LazyFrame, or what else narwhals takes) is asked for

======= ==========================================================================
levels  of every categorical predictor, of which there may be `MOST_LEVELS`
pass 1  rows; mean, smallest and largest value of every number
pass 2  per group: rows, and sums of all columns and their products, **about the means**
======= ==========================================================================

and the engine goes on as if it had made them. A column here is an *atom*: a product of numbers
(``x``, ``I(x**2)``), each about its mean, within one combination of categories, zero elsewhere.
With u the constant and all atoms, every column of the model is a linear combination of u, so
that its cross-products are T'(Σ uu')T. Sums about the means keep their digits wherever zero is
and whatever the units (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115); a
column that others explain up to a share of 1e-12 of its variance counts as their combination.

The database computes in double precision, leaves out the rows with a missing value, and writes
nothing; a query that fails ends an open transaction, as any failed query does. What asks for
the rows of such a fit raises, and says how to get some.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
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
    warn_of_dropped,
)
from course_lib.mixed.formula import (
    coded_names,
    formula_error,
    names_in,
    other_calls,
    read_side,
)
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
        if isinstance(series.dtype, nw.Enum):
            columns[series.name] = pd.Categorical(series.to_list(), series.dtype.categories)
        elif isinstance(series.dtype, nw.Categorical):
            columns[series.name] = pd.Categorical(series.to_list())
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
        own = re.sub(r"contr\.\w+(\([^()]*\))?", "contr", piece)  # formulaic codes categories
        bad = [name.text for name in names_in(own) if not name.is_column]
        bad = [name for name in bad if name not in _TAKEN] + other_calls(own)
        bad += [name for name in re.findall(r"\bnp\.(\w+)", own) if name not in FUNCTIONS]
        bad += re.findall(r"{|\bC\((?!\s*(?:`[^`]+`|\w+)\s*[,)])[^)]*\)", own)
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


Number = tuple[str, bool]  # its text, and whether that is the name of a column


@dataclass(frozen=True)
class Atom:
    """A product of numbers, each about its mean, within a cell of categories."""

    numbers: tuple[Number, ...] = ()
    cell: tuple[tuple[str, object], ...] = ()

    @property
    def label(self) -> str:
        """Tell atoms apart, and order them."""
        cell = [f"{name}[{level}]" for name, level in self.cell]
        return ":".join([*(text for text, _ in self.numbers), *cell])


Column = dict[Atom, float]  # a linear combination of atoms
ONE = Atom()


def _centred(column: Column, means: dict[Number, float]) -> Column:
    """Make of products of numbers as they are products of numbers about their means."""
    made = {}
    for atom, code in column.items():
        for kept in itertools.product((True, False), repeat=len(atom.numbers)):
            pairs = list(zip(atom.numbers, kept, strict=True))
            weight = code * np.prod([means[number] for number, keep in pairs if not keep])
            if weight:
                part = Atom(tuple(number for number, keep in pairs if keep), atom.cell)
                made[part] = made.get(part, 0.0) + weight
    return made


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
        "abs": lambda e: e.abs(),
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
    except NameError:
        rule, got = "must compute with numbers only", f"'{text}'"
        raise formula_error(reading.parsed.text, rule, got, _FIRST, text) from None
    except Exception as error:  # whatever Python says of an expression
        rule, got = "must be computable by the database", f"'{text}' ({error!s:.80})"
        raise formula_error(reading.parsed.text, rule, got, _FIRST, text) from None


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

    def side(
        self, reading: Reading, columns: list[Column], empty: set[Atom]
    ) -> tuple[Side, list[Column]]:
        """Return the side, and of its columns those that are not zero in every row."""
        if isinstance(self.made, Side):
            return self.made, columns
        pairs = enumerate(zip(columns, self.crossed, strict=True))
        gone = [k for k, (column, crossed) in pairs if crossed and set(column) <= empty]
        side = side_of(self.text, self.made, reading.variables[self.text], gone)
        return side, [column for k, column in enumerate(columns) if k not in gone]


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
    for text in left:
        for term in read_side(parsed.text, f"1 + {text}"):
            pieces = [factor.expr for factor in term.factors]
            names = {*pieces, *(name.text for piece in pieces for name in names_in(piece))}
            sizes = [len(levels[name]) - 1 for name in names & set(levels)]
            _check_few(math.prod(sizes))  # before formulaic makes columns of all of them
    parts = {f"side{i}": f"1 + {text}" for i, text in enumerate(left)}
    built = build(parts, parsed, example, _CODING) if left else []
    states = {k: v for matrix in built for k, v in matrix.model_spec.encoder_state.items()}
    for text, matrix in zip(left, built, strict=True):
        spec = matrix.model_spec.update(encoder_state=states)
        drafts[text] = _coded(text, spec, levels, example)
    for draft in drafts.values():
        if not draft.columns and any(bar.left == draft.text for bar in parsed.bars):
            rule = "needs at least one term left of the bar"
            advice = "For a random intercept write (1 | group)."
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
        levels = _levels(table, rows, reading)
        drafts = _drafts(reading, table, levels)
        plain = reading.parsed.response.strip("`")
        y = (plain, True) if plain in table.schema else (reading.parsed.response, False)
        drawn = {
            atom for draft in drafts.values() for column in draft.columns for atom in column
        }
        numbers = list(dict.fromkeys([y, *sorted(n for atom in drawn for n in atom.numbers)]))
        asked = Asked.of(table, rows, reading, numbers, levels)
        bar.set_description("pass 1 of 2: means")
        centres = asked.first_pass()
        columns = {
            text: [_centred(column, centres.means) for column in draft.columns]
            for text, draft in drafts.items()
        }
        atoms = {atom for made in columns.values() for column in made for atom in column}
        atoms = [Atom((y,)), *sorted(atoms - {Atom((y,)), ONE}, key=lambda atom: atom.label)]
        _check_few(len(atoms))
        bar.update()
        bar.set_description("pass 2 of 2: sums per group")
        cells, moments = asked.second_pass(centres, atoms)
        bar.update()
    squares = moments[_pairs(len(atoms))[2]].sum(axis=1)[1:]
    empty = {atom for atom, square in zip(atoms, squares, strict=True) if square == 0}
    sides = {text: d.side(reading, columns[text], empty) for text, d in drafts.items()}
    for side, _ in sides.values():
        warn_of_dropped(side, stacklevel=4)
    return _frame_and_sums(reading, centres, atoms, sides, cells, moments)


def _check_few(n: int) -> None:
    if n > MOST_ATOMS:
        rule = f"must have at most {MOST_ATOMS} columns, the response included"
        advice = f"Leave out terms, or join levels of a categorical predictor; or {_SAMPLE}."
        raise course_error("formula", rule, f"{n:,} or more", advice)


def _pairs(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p and q of every pair p <= q of u, and where the squares stand among them."""
    p, q = np.triu_indices(1 + k)
    return p, q, np.flatnonzero(p == q)


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
    """What the first pass finds: rows used and left out, and the mean of every number."""

    n: int
    n_dropped: int
    means: dict[Number, float]


@dataclass(frozen=True)
class Asked:
    """The two passes: keys k0, k1, …, numbers n0, n1, … (the response first), categories."""

    table: Table
    reading: Reading
    numbers: list[Number]
    categories: list[str]
    values: nw.LazyFrame

    @classmethod
    def of(
        cls,
        table: Table,
        rows: nw.LazyFrame,
        reading: Reading,
        numbers: list[Number],
        categories: Iterable[str],
    ) -> Asked:
        """Say how all of them are computed; nothing runs."""
        import narwhals as nw

        categories = list(categories)
        made = [nw.col(name).alias(f"k{i}") for i, name in enumerate(reading.grouping)]
        made += [
            _number(*number, reading, table.schema).alias(f"n{i}")
            for i, number in enumerate(numbers)
        ]
        made += [nw.col(name).alias(f"c{i}") for i, name in enumerate(categories)]
        return cls(table, reading, numbers, categories, rows.select(*made))

    def first_pass(self) -> Centres:
        """Count rows, and look where every number has its middle."""
        import narwhals as nw

        summary = {
            f"{what}{i}": getattr(nw.col(f"n{i}"), what)()
            for i in range(len(self.numbers))
            for what in ("count", "mean", "min", "max")
        }
        found = self.values.select(nw.len().alias("n"), **summary)
        row = self.table.query("means", found).astype(float).iloc[0]
        total = self.table.query("its rows", self.table.frame.select(nw.len().alias("n")))
        n, total = int(row["n"]), int(total["n"].iloc[0])
        _check_rows(n, total)
        counts, means, low, high = row.to_numpy()[1:].reshape(-1, 4).T
        with np.errstate(invalid="ignore"):  # inf - inf
            bad = (counts < n) | ~np.isfinite(means + (high - low))
        if bad.any():
            first = int(bad.argmax())
            rule = "must give finite numbers in every term of the formula"
            lost = int(n - counts[first])
            got = f"{lost} row(s) without a number" if lost else "NaN or infinity"
            got += f" in '{self.numbers[first][0]}'"
            advice = "Look at these rows; the logarithm of zero or less is a usual reason."
            raise course_error("data", rule, got, advice)
        if low[0] == high[0]:
            got = f"'{self.reading.parsed.response}' equal to {low[0]:g} in all {n} rows"
            advice = (
                "Check that the right column was named and the data were not filtered too far."
            )
            raise course_error("data", "must have a response that varies", got, advice)
        means = np.where(low == high, low, means).tolist()
        return Centres(n, total - n, dict(zip(self.numbers, means, strict=True)))

    def second_pass(
        self, centres: Centres, atoms: list[Atom]
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the keys of every cell, and Σ u_p u_q, p <= q, shape (pairs, cells)."""
        import narwhals as nw

        keys = [f"k{i}" for i in range(len(self.reading.grouping))]
        at = {number: f"n{i}" for i, number in enumerate(self.numbers)}
        at |= {name: f"c{i}" for i, name in enumerate(self.categories)}

        def computed(atom: Atom) -> nw.Expr:
            parts = [nw.col(at[number]) - centres.means[number] for number in atom.numbers]
            parts += [
                (nw.col(at[name]) == nw.lit(level)).cast(nw.Float64)
                for name, level in atom.cell
            ]
            return functools.reduce(operator.mul, parts)

        made = {f"u{1 + i}": computed(atom) for i, atom in enumerate(atoms)}
        pairs = [(p, q) for p, q in zip(*_pairs(len(atoms))[:2], strict=True) if p]
        products = {f"s{p}_{q}": nw.col(f"u{p}") * nw.col(f"u{q}") for p, q in pairs}
        values = self.values.select(*keys, **made).with_columns(**products)
        sums = [nw.col(name).sum() for name in [*made, *products]]
        found = values.group_by(*keys).agg(nw.len().alias("u0"), *sums).head(MOST_GROUPS + 1)
        answer = self.table.query("sums per group", found)
        if len(answer) > MOST_GROUPS:
            rule = f"must have at most {MOST_GROUPS:,} groups"
            got, advice = listing(self.reading.grouping), "Group by a coarser column; or "
            raise course_error("data", rule, f"more of {got}", f"{advice}{_SAMPLE}.")
        if int(answer["u0"].sum()) != centres.n:
            rule, got = "must stay as it is while it is read", "other rows in the second pass"
            raise course_error("data", rule, got, "Fit again when nothing writes to it.")
        cells = answer[keys].set_axis(list(self.reading.grouping), axis=1)
        moments = np.array([answer[name].to_numpy(float) for name in ["u0", *made, *products]])
        if not np.isfinite(moments).all():
            rule, got = "must have numbers whose squares a computer holds", "infinite sums"
            raise course_error("data", rule, got, "Take other units, for example I(x / 1e100).")
        return cells, moments


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
    reading: Reading,
    centres: Centres,
    atoms: list[Atom],
    sides: dict[str, tuple[Side, list[Column]]],
    cells: pd.DataFrame,
    moments: np.ndarray,
) -> tuple[SummedFrame, Sums]:
    parsed, y, places = reading.parsed, atoms[0], {ONE: 0}
    places |= {atom: 1 + i for i, atom in enumerate(atoms)}

    def combination(columns: list[Column]) -> np.ndarray:
        """Coefficients of u for each column, shape (1 + atoms, columns)."""
        A = np.zeros((len(places), len(columns)))
        for c, column in enumerate(columns):
            for atom, weight in column.items():
                A[places[atom], c] = weight
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
        y=combination([{y: 1.0, ONE: centres.means[y.numbers[0]]}])[:, 0],
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
        y_mean=float(centres.means[y.numbers[0]] + shift),
        y_sd=float(np.sqrt(square - shift**2)),
    )
    return frame, sums


@dataclass(frozen=True)
class Sums:
    """Sums of products of u, and which linear combinations of u the model's columns are.

    Attributes
    ----------
    moments : ndarray, shape (pairs, cells)
        Σ u_p u_q for p <= q; a cell is a combination of all grouping columns.
    n : int
        Rows.
    X, y : ndarray, shape (1 + atoms, p) and (1 + atoms,)
        Coefficients of u that make the fixed columns and the response.
    columns, codes, masks : tuple of ndarray
        One per factor: coefficients of u for its columns, (1 + atoms, q); level of each cell;
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
        """Mean of uu' over all rows."""
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
        """Cross-products of the columns uT; a cell stands for its rows in the layout."""
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
    """one'(Σ uu') other of every group, (a, b, groups), from the sums of pairs."""
    i, j = np.triu_indices(len(one))
    pairs = one[i, :, None] * other[j, None, :]
    pairs += np.where(i == j, 0.0, 1.0)[:, None, None] * one[j, :, None] * other[i, None, :]
    flat = pairs.reshape(len(pairs), -1)
    return (flat.T @ sums).reshape(one.shape[1], other.shape[1], -1)  # contiguous by groups


def _root(A: np.ndarray, M: np.ndarray, factor: int | None = None) -> tuple[np.ndarray, ...]:
    """Return T, whose columns uT have mean square one and are uncorrelated, and R: uA = uTR.

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
