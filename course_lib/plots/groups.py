"""Pictures of grouped data: a tidy frame and an `ax` in, the same `ax` out.

Nothing is estimated here: lines come in as data, mostly as `LmerResult` gives them. Groups
differ in colour and in marker or line style, so that no picture depends on colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.typing import ColorType
from pandas import DataFrame, Series

from course_lib.errors import (
    check_count,
    check_dataframe,
    check_flag,
    check_labels,
    check_names,
    check_no_missing,
    check_number,
    check_type,
    course_error,
    listing,
)
from course_lib.plots.style import (
    COLOUR,
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    MISSING_COLOURS,
    MOST,
    Units,
    check_ax,
    check_colour,
    check_few,
    check_known,
    check_lines,
    check_units,
    draw_line,
    entry,
    label_axes,
    legend_beside,
    literal,
    literals,
    plain_entries,
    rows_by_group,
    with_unit,
)

__all__ = [
    "label_plot",
    "level_slopes",
    "missingness_map",
    "small_multiples",
    "spaghetti",
]


def small_multiples(
    data: DataFrame,
    x: str,
    y: str,
    group: str,
    order: Sequence | None = None,
    lines: Mapping[str, DataFrame] | None = None,
    n_columns: int = 4,
    units: Units = None,
) -> np.ndarray:
    """Draw one panel per group, all to one scale, in a new figure.

    The legend of the lines is at the right: the place above is free for a title of the figure.

    Parameters
    ----------
    data : DataFrame
        One row per observation. A point with a missing coordinate is not drawn, and a line is
        interrupted there.
    x, y : str
        Numeric columns.
    group : str
        Column of the groups, without missing values.
    order : sequence, optional
        The groups to show, at most 40: sort them by a quantity that you state.
    lines : dict of str to DataFrame, optional
        Sets of lines to compare, by name: ``{"mixed model": fit.coef()["Subject"]}``. Each has
        one row per group, columns "Intercept" and `x`. A line covers the x of its group; a name
        of :data:`COLOUR`, such as "no pooling", gives it that colour.
    n_columns : int
        Panels beside each other.
    units : dict, optional
        Unit of a column, for its label: ``{"Reaction": "ms"}`` writes "Reaction (ms)".

    Returns
    -------
    ndarray of Axes, shape (groups,)
        The panels, in `order`; ``axes[0].figure`` is the figure.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or infinite, no point is
        observed, a group is missing, `order` is empty, longer than 40, repeated or unknown, a
        group has no row in `lines`, or `units` is no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"age": [1, 2], "height": [90.0, 95.0], "child": ["a", "b"]})
    >>> len(small_multiples(table, "age", "height", "child"))
    2
    >>> plt.close("all")

    See Also
    --------
    spaghetti : All groups in one panel.
    """
    check_units(units)
    groups = rows_by_group(data, x, y, group)
    order = list(groups) if order is None else check_known("order", order, groups)
    if not 1 <= len(order) <= MOST:
        rule = f"must hold 1 to {MOST} groups, one per panel"
        raise course_error("order", rule, len(order), "Choose some with order=[...].")
    advice = "Give the lines a name: lines={'mixed model': fit.coef()['Subject']}."
    check_type("lines", lines, Mapping | None, "must be a dict of name to DataFrame", advice)
    for part in (lines or {}).values():
        check_lines(part, order, x)
    n_columns = min(check_count("n_columns", n_columns), len(order))
    n_rows = -(-len(order) // n_columns)
    size = max(8.0, 2 * n_columns + (2 if lines else 0)), 1 + 1.8 * n_rows
    figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    axes, spare = np.split(grid.ravel(), [len(order)])
    for name, ax in zip(order, axes, strict=True):
        ax.plot(groups[name][x], groups[name][y], "o", color=GREY, ms=4, label="observed")
        for k, (label, part) in enumerate((lines or {}).items()):
            draw_line(ax, part.loc[name], x, groups[name][x], k, label, COLOUR.get(label, ""))
        ax.set_title(literal(f"{group} {name}"), fontsize="medium")
    for ax in spare:
        ax.set_axis_off()
    for ax in axes[-n_columns:]:
        ax.tick_params(labelbottom=True)  # also above an empty place
    axis_size = plt.rcParams["axes.labelsize"]
    figure.supxlabel(with_unit(x, units), fontsize=axis_size)
    figure.supylabel(with_unit(y, units), fontsize=axis_size)
    if lines:
        handles, labels = axes[0].get_legend_handles_labels()
        # Elsewhere "outside" would share its place with a title or an axis label
        plain_entries(figure.legend(handles, labels, loc="outside right center"))
    return axes


def spaghetti(
    data: DataFrame,
    x: str,
    y: str,
    group: str,
    ax: Axes,
    highlight: Sequence = (),
    mean: bool = True,
    units: Units = None,
) -> Axes:
    """Draw one grey line per group, at most 10 highlighted, and the mean of y at each x.

    Parameters
    ----------
    data : DataFrame
        One row per observation. A point with a missing coordinate is not drawn, and a line is
        interrupted there.
    x, y : str
        Numeric columns.
    group : str
        Column of the groups, without missing values.
    ax : Axes
        What to draw into.
    highlight : sequence
        Groups drawn in colour and named in the legend, at most 10.
    mean : bool
        Draw the mean of the observed y at each x; leave it out where groups share no x.
    units : dict, optional
        Unit of a column, for its label: ``{"Reaction": "ms"}`` writes "Reaction (ms)".

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or infinite, no point is
        observed, a group is missing, `highlight` is unknown, repeated or longer than 10, `ax`
        is no Axes, or `units` no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"age": [1, 2], "height": [90.0, 95.0], "child": ["a", "a"]})
    >>> spaghetti(table, "age", "height", "child", plt.figure().add_subplot()).get_ylabel()
    'height'

    See Also
    --------
    small_multiples : One panel per group.
    """
    check_ax(ax, units)
    groups = rows_by_group(data, x, y, group)
    highlight = check_known("highlight", highlight, groups)
    check_flag("mean", mean)
    check_few("highlight", highlight, "Highlight fewer.")
    for name, rows in groups.items():
        if name not in highlight:
            ax.plot(rows[x], rows[y], color="0.8", linewidth=1)
    for k, name in enumerate(highlight):
        colour = COLOURS[(k + 4) % len(COLOURS)]  # the first four have a meaning of their own
        style = {"ls": DASHES[k], "color": colour, "label": entry(f"{group} {name}")}
        ax.plot(groups[name][x], groups[name][y], marker=MARKERS[k], **style)
    if mean:
        means = data.groupby(x)[y].mean()
        ax.plot(means.index, means, color="black", linewidth=3, label="mean")
    if mean or len(highlight):
        plain_entries(ax.legend())
    return label_axes(ax, x, y, units)


MOST_SLOPES = 30  # lines that can still be told apart


def level_slopes(
    data: DataFrame,
    x: str,
    y: str,
    group: str,
    params: Mapping[str, float] | Series,
    ax: Axes,
    units: Units = None,
) -> Axes:
    """Draw the mean of each group, the within slope through it, and the between line.

    The within slope is drawn over one standard deviation of x in the group to either side;
    in more than 30 groups only through 30 means, spread evenly from the lowest x to the
    highest.

    Parameters
    ----------
    data : DataFrame
        One row per observation; rows with a missing coordinate are left out.
    x, y : str
        Numeric columns.
    group : str
        Column of the groups, without missing values.
    params : Mapping or Series
        ``fit.fe_params`` of a model with both parts of `x`: "Intercept", ``<x>_within`` and
        ``<x>_between``.
    ax : Axes
        What to draw into.
    units : dict, optional
        Unit of a column, for its label.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or infinite, no point is
        observed, a group is missing, a coefficient is missing or no number, `ax` is no Axes,
        or `units` no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"ses": [0.0, 1, 2, 3], "math": [1, 2, 6, 7], "school": list("aabb")})
    >>> params = {"Intercept": 0.0, "ses_within": 1.0, "ses_between": 2.0}
    >>> ax = plt.figure().add_subplot()
    >>> level_slopes(table, "ses", "math", "school", params, ax).get_xlabel()
    'ses'

    See Also
    --------
    course_lib.reshape.within_between : The two parts of a column.
    """
    check_ax(ax, units)
    groups = rows_by_group(data, x, y, group)
    advice = "Fit both parts: y ~ x_within + x_between + (1 | group)."
    check_type("params", params, Mapping | Series, "must be a Series or dict", advice)
    params = dict(params.items())
    for name in ("Intercept", f"{x}_within", f"{x}_between"):
        if name not in params:
            raise course_error("params", f"must hold '{name}'", listing(params), advice)
        check_number("params", params[name])
    observed = [rows.dropna(subset=[x, y]) for rows in groups.values()]
    observed = [rows for rows in observed if len(rows)]
    means = np.array([[rows[x].mean(), rows[y].mean()] for rows in observed])
    style = {"color": COLOUR["no pooling"], "lw": 1.5, "alpha": 0.8}
    chosen = np.arange(len(means))
    if len(means) > MOST_SLOPES:  # more lines would cover the means
        places = np.linspace(0, len(means) - 1, MOST_SLOPES).round().astype(int)
        chosen = np.argsort(means[:, 0], kind="stable")[places]
    for k in chosen:
        (x_mean, y_mean), rows = means[k], observed[k]
        reach = rows[x].std() if len(rows) > 1 else 0.0
        rise = params[f"{x}_within"] * reach
        ax.plot([x_mean - reach, x_mean + reach], [y_mean - rise, y_mean + rise], **style)
    ax.lines[-1].set_label("within slope")
    dots = {"ms": 4, "color": COLOUR["observed"], "mec": "0.3", "label": f"mean of a {group}"}
    ax.plot(means[:, 0], means[:, 1], "o", **dots)
    ends = np.array([means[:, 0].min(), means[:, 0].max()])
    line = params["Intercept"] + params[f"{x}_between"] * ends
    ax.plot(ends, line, "--", lw=3, color="black", label="between slope")
    plain_entries(ax.legend())
    return label_axes(ax, x, y, units)


def missingness_map(data: DataFrame, levels: str | Sequence[str], ax: Axes) -> Axes:
    """Mark the missing values, coded by the level at which they are missing.

    Marks have a minimal thickness: one gap in thousands of rows is seen.

    Parameters
    ----------
    data : DataFrame
        One row per observation.
    levels : str or sequence of str
        One to three columns of groups, outermost first, by which the rows are sorted. The
        lightest marks are missing in single rows; the next in all rows of a unit of the
        innermost level; and so on outwards.
    ax : Axes
        What to draw into.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if `levels` are not one to three columns without missing
        values, no column is left to draw, or `ax` is no Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"school": ["A", "B"], "score": [1.0, None]})
    >>> missingness_map(table, "school", plt.figure().add_subplot()) is not None
    True

    See Also
    --------
    course_lib.reshape.table_report : Count the observed values.
    """
    check_ax(ax)
    data = check_dataframe("data", data)
    levels = check_names("levels", levels)
    if not 1 <= len(levels) <= 3 or len(levels) >= len(data.columns):
        rule = "must name one to three columns, and leave at least one to draw"
        raise course_error("levels", rule, levels, "Name the outermost levels.")
    check_no_missing("levels", data, levels)
    check_labels("levels", data, levels)
    data = data.sort_values(levels, kind="stable", ignore_index=True)
    missing = data.drop(columns=levels).isna()
    code = missing.astype(int)  # 0 observed, 1 missing, 2 and more: in all rows of a unit
    for depth in range(1, len(levels) + 1):
        keys = [data[level] for level in levels[:depth]]
        code += missing.groupby(keys, observed=True).transform("all").astype(int)
    names = ["in single rows", *(f"in a whole {level}" for level in reversed(levels))]
    for k, name in enumerate(names, start=1):
        row, column = np.nonzero(code.to_numpy() == k)
        if len(row):
            colour, label = MISSING_COLOURS[k - 1], literal(f"{name} ({len(row)})")
            # The edge gives even a very thin cell some thickness
            ax.bar(column, 1, 0.9, row - 0.5, fc=colour, ec=colour, linewidth=1, label=label)
    sizes = data.groupby(levels[0], observed=True).size()
    ends = sizes.cumsum() - 0.5
    if len(sizes) <= MOST // 2:  # more lines and names would hide the marks and each other
        ax.hlines(ends[:-1], -0.5, missing.shape[1] - 0.5, color=GREY, linewidth=0.6)
    every = -(-len(sizes) // (MOST // 2))
    ax.set_yticks((ends - sizes / 2)[::every], literals(sizes.index[::every]))
    ax.set_xticks(range(missing.shape[1]), literals(missing.columns), rotation=30, ha="right")
    ax.set(xlim=(-0.5, missing.shape[1] - 0.5), ylim=(len(data) - 0.5, -0.5))
    ax.set_ylabel(literal(f"{levels[0]} ({len(data)} rows)"))
    if ax.containers:
        legend_beside(ax, "missing")
    return ax


def label_plot(
    data: DataFrame, outer: str, inner: str, ax: Axes, colour: ColorType = COLOUR["observed"]
) -> Axes:
    """Fill a cell for each pair of labels that occurs: nested groups leave most cells empty.

    Parameters
    ----------
    data : DataFrame
        One row per observation.
    outer, inner : str
        Columns of labels, without missing values; at most 40 outer labels.
    ax : Axes
        What to draw into: a row for each outer label, a column for each inner one.
    colour : color
        Of the filled cells.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column or a label is missing, there are more than 40
        outer labels, or `ax` is no Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"school": ["A", "B"], "number": [1, 1]})
    >>> label_plot(table, "school", "number", plt.figure().add_subplot()).get_xlabel()
    'number (1)'

    See Also
    --------
    course_lib.reshape.encode_levels : Make unique labels.
    """
    check_ax(ax)
    check_colour(colour)
    check_no_missing("data", check_dataframe("data", data), [outer, inner])
    check_labels("data", data, [outer, inner])
    rows, outer_labels = pd.factorize(data[outer], sort=True)
    columns, inner_labels = pd.factorize(data[inner], sort=True)
    if len(outer_labels) > MOST:
        rule = f"must have at most {MOST} labels: more cannot be read"
        raise course_error("outer", rule, len(outer_labels), "Draw some of them.")
    pairs = np.unique(np.column_stack([rows, columns]), axis=0)
    ax.barh(pairs[:, 0], 0.85, 0.8, left=pairs[:, 1], color=colour)
    ax.set_yticks(range(len(outer_labels)), literals(outer_labels))
    ax.set(xlim=(0, len(inner_labels)), ylim=(len(outer_labels) - 0.5, -0.5), xticks=[])
    ax.set(xlabel=literal(f"{inner} ({len(inner_labels)})"), ylabel=literal(outer))
    return ax
