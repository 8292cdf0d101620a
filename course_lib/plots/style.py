"""What the pictures share: palette, axis labels, pieces of drawings, and checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from pandas import DataFrame, Series

from course_lib.errors import (
    check_dataframe,
    check_finite,
    check_no_missing,
    check_numeric,
    check_type,
    course_error,
    listing,
    suggestion,
)

Units = Mapping[str, str] | None
COLOURS = sns.color_palette("colorblind", 10)
MARKERS = "osD^vP<X>*"
DASHES = ["-", "--", "-.", ":", *((0, dash) for dash in [(6, 2, 1, 2, 1, 2), (1, 3), (8, 3)])]
DASHES += [(0, dash) for dash in [(3, 1), (5, 1, 1, 1), (2, 4)]]
GREY = "0.6"
MISSING_COLOURS = [COLOURS[1], COLOURS[2], COLOURS[0], "black"]  # from light to dark
MOST = 40  # panels, or names along an axis: more cannot be read


def with_unit(name: str, units: Units) -> str:
    """Return the label of an axis, with its unit if there is one."""
    unit = (units or {}).get(name)
    return f"{name} ({unit})" if unit else str(name)


def label_axes(ax: Axes, x: str, y: str, units: Units) -> Axes:
    """Label both axes; return the Axes."""
    ax.set(xlabel=with_unit(x, units), ylabel=with_unit(y, units))
    return ax


def legend_beside(ax: Axes, title: str | None = None) -> None:
    """Put the legend to the right of the Axes, where it hides nothing."""
    ax.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1))


def draw_line(
    ax: Axes, coef: Series, x: str, over: Series, k: int, label: str = "", colour: object = None
) -> None:
    """Draw a line over the range of `over`, in the k-th style, in another `colour` if given."""
    ends = np.array([over.min(), over.max()])
    heights = coef["Intercept"] + coef[x] * ends
    style = {"ls": DASHES[k], "color": colour or COLOURS[k], "label": label or None}
    ax.plot(ends, heights, linewidth=2, **style)


def draw_profile(ax: Axes, x: Series, y: Series, k: int, label: str) -> None:
    """Draw points joined by a line, in the k-th style."""
    ax.plot(x, y, ls=DASHES[k], marker=MARKERS[k], color=COLOURS[k], label=label)


def draw_envelope(ax: Axes, x: object, lower: object, upper: object) -> None:
    """Draw a grey band."""
    ax.fill_between(x, lower, upper, color="0.87", linewidth=0, label="simulated envelope")
    ax.legend()


def draw_marked(ax: Axes, x: object, y: object, marked: object, label: str) -> None:
    """Draw points, the marked ones as diamonds in another colour, and count these."""
    x, y, marked = np.asarray(x), np.asarray(y), np.asarray(marked)
    ax.plot(x[~marked], y[~marked], "o", color=COLOURS[0], ms=4, alpha=0.75)
    if marked.any():
        label = f"{label} ({marked.sum()})"
        ax.plot(x[marked], y[marked], "D", color=COLOURS[3], ms=5, label=label)
        ax.legend()


def rows_by_group(
    data: DataFrame, x: str, y: str, by: str | None = None
) -> dict[object, DataFrame]:
    """Check the columns; return the rows of each group, sorted by x."""
    check_numeric("data", check_dataframe("data", data), [x, y])
    if data[[x, y]].isna().any(axis=1).all():
        got = f"'{x}' and '{y}' together in none of {len(data)} rows"
        raise course_error("data", "must have an observed point", got, "Check the columns.")
    rows = data.dropna(subset=[x]).sort_values(x, kind="stable")
    if by is None:
        return {"": rows}
    check_no_missing("data", data, [by])
    return dict(iter(rows.groupby(by, observed=True)))


def check_units(units: object) -> None:
    """Raise unless `units` is a dict or None."""
    if not isinstance(units, Mapping | None):
        advice = "Write units={'Reaction': 'ms'}."
        raise course_error("units", "must be a dict of column to unit", repr(units), advice)


def check_ax(ax: object, units: object = None) -> None:
    """Raise unless `ax` is an Axes and `units` a dict or None."""
    advice = "Make one: figure, ax = matplotlib.pyplot.subplots()."
    check_type("ax", ax, Axes, "must be a matplotlib Axes", advice)
    check_units(units)


def check_few(argument: str, groups: Collection, advice: str) -> None:
    """Raise if there are more groups than colours."""
    if len(groups) > len(COLOURS):
        rule = f"must have at most {len(COLOURS)}: more colours cannot be told apart"
        raise course_error(argument, rule, len(groups), advice)


def check_known(argument: str, names: Sequence, known: Collection) -> None:
    """Raise unless each name is known and there once."""
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        advice = suggestion(unknown[0], known) if unknown else "Leave out the repetition."
        got = listing(unknown or names)
        raise course_error(argument, "must name groups that there are, each once", got, advice)


def check_pair(argument: str, values: object) -> np.ndarray:
    """Return two finite numbers as an array."""
    if np.shape(values) != (2,):
        advice = f"Write {argument}=(0, 1), for example."
        raise course_error(argument, "must be two numbers", repr(values), advice)
    return check_finite(argument, values)


def check_table(argument: str, table: DataFrame, columns: Sequence[str]) -> None:
    """Raise unless the columns of a table are numeric and complete."""
    check_numeric(argument, check_dataframe(argument, table), columns)
    check_no_missing(argument, table, columns)


def check_same_groups(
    argument: str, first: DataFrame, second: DataFrame, columns: Sequence[str]
) -> None:
    """Raise unless both tables have the same groups, once each."""
    check_table(argument, second, columns)
    differ = first.index.symmetric_difference(second.index)
    if len(differ) or not (first.index.is_unique and second.index.is_unique):
        rule = "must have one row for each group of the other table"
        got = f"a difference in {listing(differ)}" if len(differ) else "repeated groups"
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


def check_band(argument: str, band: DataFrame | None, n: int | None = None) -> None:
    """Raise unless a band (or None) has its columns, and `n` rows or else an x."""
    if band is not None:
        check_table(argument, band, ["lower", "upper", *(["x"] if n is None else [])])
        if n is not None and len(band) != n:
            rule = f"must have one row a rank ({n})"
            raise course_error(argument, rule, len(band), "Simulate as many values.")
