"""What the pictures share: palette, labels, pieces of drawings, and checks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.legend import Legend
from matplotlib.typing import ColorType
from pandas import DataFrame, Series

from course_lib.errors import (
    check_dataframe,
    check_finite,
    check_labels,
    check_list,
    check_no_missing,
    check_numeric,
    check_type,
    course_error,
    listing,
    suggestion,
)

Units = Mapping[str, str] | None
Groups = dict[object, DataFrame]
COLOURS = sns.color_palette("colorblind", 10)
MARKERS = "osD^vP<X>*"
DASHES = ["-", "--", "-.", ":", *((0, dash) for dash in [(6, 2, 1, 2, 1, 2), (1, 3), (8, 3)])]
DASHES += [(0, dash) for dash in [(3, 1), (5, 1, 1, 1), (2, 4)]]
GREY = "0.6"
# One meaning per colour in the whole course; only a planted fault is vermilion.
COLOUR = {
    "partial pooling": COLOURS[0],
    "no pooling": COLOURS[1],
    "complete pooling": COLOURS[2],
    "fault": COLOURS[3],
    "observed": GREY,
    "healthy": "0.25",
}
MISSING_COLOURS = [COLOURS[1], COLOURS[2], COLOURS[0], "black"]  # from light to dark
MOST = 40  # panels, or names along an axis: more cannot be read
INVISIBLE = "\u200b"  # no width: Matplotlib drops entries that are empty or begin with _


def literal(value: object) -> str:
    r"""Return the text that Matplotlib shows as `value`: between two $ it would read math.

    Examples
    --------
    >>> print(literal("a$b$"))
    a\$b\$
    """
    return str(value).replace("$", r"\$")


def literals(values: Iterable[object]) -> list[str]:
    """Return the texts of several values, for the ticks of an axis."""
    return [literal(value) for value in values]


def entry(value: object) -> str | None:
    """Return the label that gives an artist the entry `value` in a legend; None gives none."""
    if value is None:
        return None
    text = literal(value)
    return INVISIBLE + text if text.startswith("_") or not text else text


def with_unit(name: object, units: Units) -> str:
    """Return the label of an axis, with its unit if there is one."""
    unit = (units or {}).get(name)
    return literal(f"{name} ({unit})" if unit else name)


def label_axes(ax: Axes, x: str, y: str, units: Units) -> Axes:
    """Label both axes; return the Axes."""
    ax.set(xlabel=with_unit(x, units), ylabel=with_unit(y, units))
    return ax


def plain_entries(legend: Legend) -> None:
    """Take out of a finished legend what `entry` put in."""
    for text in legend.get_texts():
        text.set_text(text.get_text().removeprefix(INVISIBLE))


def legend_beside(ax: Axes, title: object = "") -> None:
    """Put the legend to the right of the Axes, where it hides nothing."""
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    plain_entries(ax.legend(title=literal(title), **place))


def draw_line(
    ax: Axes, coef: Series, x: str, over: Series, k: int, name: object = None, colour: str = ""
) -> None:
    """Draw a line over the range of `over`, in the k-th style, in another `colour` if given."""
    ends = np.array([over.min(), over.max()])
    style = {"ls": DASHES[k], "color": colour or COLOURS[k], "label": entry(name)}
    ax.plot(ends, coef["Intercept"] + coef[x] * ends, linewidth=2, **style)


def draw_marked(
    ax: Axes,
    x: object,
    y: object,
    marked: object,
    label: str,
    colour: ColorType = COLOURS[0],
) -> None:
    """Draw points, the marked ones as black diamonds, and count these."""
    x, y, marked = np.asarray(x), np.asarray(y), np.asarray(marked)
    ax.plot(x[~marked], y[~marked], "o", color=colour, ms=4, alpha=0.75)
    if marked.any():
        n = int(marked.sum())
        label = f"{label}: {n} point{'s' * (n > 1)}"
        ax.plot(x[marked], y[marked], "D", color="black", ms=6, label=label)
        plain_entries(ax.legend())


def by_category(rows: DataFrame, by: str | None, sort: bool = True) -> Groups:
    """Return the rows of each category of `by`; without `by`, all under the key None."""
    if by is None:
        return {None: rows}
    return dict(iter(rows.groupby(by, sort=sort, observed=True)))


def rows_by_group(data: DataFrame, x: str, y: str, by: str | None = None) -> Groups:
    """Check the columns; return the rows of each group, sorted by x."""
    check_numeric("data", check_dataframe("data", data), [x, y])
    if data[[x, y]].isna().any(axis=1).all():
        got = f"'{x}' and '{y}' together in none of {len(data)} rows"
        raise course_error("data", "must have an observed point", got, "Check the columns.")
    check_no_missing("data", data, [] if by is None else [by])
    check_labels("data", data, [] if by is None else [by])
    return by_category(data.dropna(subset=[x]).sort_values(x, kind="stable"), by)


def check_units(units: object) -> None:
    """Raise unless `units` is a dict or None."""
    values = units.values() if isinstance(units, Mapping) else [units]
    if isinstance(units, str) or not all(isinstance(unit, str | None) for unit in values):
        advice = "Write units={'Reaction': 'ms'}."
        got = f"{units!r:.60}"
        raise course_error("units", "must be a dict of column to unit", got, advice)


def check_ax(ax: object, units: object = None) -> None:
    """Raise unless `ax` is an Axes and `units` a dict or None."""
    advice = "Make one: figure, ax = matplotlib.pyplot.subplots()."
    check_type("ax", ax, Axes, "must be a matplotlib Axes", advice)
    check_units(units)


def check_colour(colour: object) -> None:
    """Raise unless `colour` is one colour that Matplotlib knows."""
    try:
        to_rgba(colour)
    except (TypeError, ValueError):
        advice = "Try colour='black', or course_lib.plots.COLOUR['fault']."
        raise course_error("colour", "must be a colour", f"{colour!r:.60}", advice) from None


def check_few(argument: str, groups: Collection, advice: str) -> None:
    """Raise if there are more groups than colours."""
    if len(groups) > len(COLOURS):
        rule = f"must have at most {len(COLOURS)}: more colours cannot be told apart"
        raise course_error(argument, rule, len(groups), advice)


def check_known(argument: str, names: Sequence, known: Collection) -> list:
    """Return the names as a list if each is known and there once."""
    names = check_list(argument, names)
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        advice = suggestion(unknown[0], known) if unknown else "Leave out the repetition."
        got = listing(unknown or names)
        raise course_error(argument, "must name groups that there are, each once", got, advice)
    return names


def check_pair(argument: str, values: object) -> np.ndarray:
    """Return two finite numbers as an array."""
    array = check_finite(argument, values)
    if array.shape != (2,):
        advice = f"Write {argument}=(0, 1), for example."
        raise course_error(argument, "must be two numbers", f"{values!r:.60}", advice)
    return array


def check_table(argument: str, table: DataFrame, columns: Sequence[str]) -> None:
    """Raise unless the columns of a table are numeric and complete."""
    check_numeric(argument, check_dataframe(argument, table), columns)
    check_no_missing(argument, table, columns)


def check_same_groups(
    argument: str, first: DataFrame, second: DataFrame, columns: Sequence[str]
) -> None:
    """Raise unless both tables have the same groups, once each."""
    check_table(argument, second, columns)
    groups, others = dict.fromkeys(first.index), dict.fromkeys(second.index)
    differ = [group for group in (*groups, *others) if (group in groups) != (group in others)]
    if differ or not (first.index.is_unique and second.index.is_unique):
        rule = "must have one row for each group of the other table"
        got = f"a difference in {listing(differ)}" if differ else "repeated groups"
        raise course_error(argument, rule, got, "Select the same groups in both.")


def check_lines(lines: DataFrame | None, groups: Collection, x: str) -> None:
    """Raise unless there is one line for each group."""
    if lines is not None:
        check_table("lines", lines, ["Intercept", x])
        lacking = [group for group in groups if group not in lines.index]
        if lacking or not lines.index.is_unique:
            rule = "must have one row for each group drawn, its index the groups"
            got = f"none for {listing(lacking)}" if lacking else "repeated groups"
            raise course_error("lines", rule, got, "Set the group as the index.")


def check_band(argument: str, band: DataFrame | None, n: int) -> None:
    """Raise unless a band (or None) has its columns, and `n` rows."""
    if band is not None:
        check_table(argument, band, ["lower", "upper"])
        if len(band) != n:
            rule = f"must have one row per rank ({n})"
            raise course_error(argument, rule, len(band), "Simulate as many values.")
