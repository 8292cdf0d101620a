"""Pictures of a panel: slopes within and between entities, and the gap of two estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from pandas import DataFrame

from course_lib.errors import (
    check_finite,
    check_flag,
    check_labels,
    check_no_missing,
    check_number,
    check_type,
    course_error,
    listing,
    suggestion,
)
from course_lib.plots.style import COLOUR, GREY, check_ax, check_table, label_axes, literal

__all__ = ["gap_plot", "within_between_plot"]

_LINES = {
    "within": (COLOUR["no pooling"], "-"),
    "between": ("black", "--"),
    "pooled": (COLOUR["complete pooling"], "-."),
    "random effects": (COLOUR["partial pooling"], "-"),
}
_APART = 0.075  # least distance of two labels, as a share of the height of the Axes


def within_between_plot(
    data: DataFrame,
    x: str,
    y: str,
    group: str,
    ax: Axes,
    slopes: Mapping[str, float],
    theta: float = 0.0,
    labels: bool = True,
) -> Axes:
    r"""Draw a panel, and lines with given slopes, named at their right ends.

    The points are :math:`x_{it} - \theta(\bar x_i - \bar x)` and the same of y: at θ = 0 the
    data; at θ = 1 each group has been moved until its mean is the mean of all. Rings are the
    means of the groups.

    Parameters
    ----------
    data : DataFrame
        One row per observation, complete in the three columns.
    x, y : str
        Numeric columns.
    group : str
        Column of the groups (entities).
    ax : Axes
        What to draw into.
    slopes : dict of str to float
        Slopes by name: "within" is drawn through the mean of each group, "between", "pooled"
        and "random effects" through the mean of all points.
    theta : float
        Share of the distance of each group's mean that is taken away, 0 to 1.
    labels : bool
        Write the names and slopes beside the lines.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or incomplete, a name or a
        slope is not what it must be, `theta` is not between 0 and 1, or `ax` is no Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"man": ["A", "A", "B", "B"], "x": [1, 3, 3, 5], "y": [2, 4, 8, 10]})
    >>> axes = plt.figure().add_subplot()
    >>> within_between_plot(table, "x", "y", "man", axes, {"within": 1.0}).get_xlabel()
    'x'

    See Also
    --------
    course_lib.reshape.within_between : The two parts as columns.
    course_lib.panel.compare_fe_re : The slopes.
    """
    check_ax(ax)
    check_table("data", data, [x, y])
    check_no_missing("data", data, [group])
    check_labels("data", data, [group])
    if x == y:
        raise course_error("y", "must be another column than x", y, "Name two columns.")
    check_type("slopes", slopes, Mapping, "must be a dict", "Write slopes={'within': 1.0}.")
    for name in slopes:
        if name not in _LINES:
            rule = f"must be named {listing(_LINES)}"
            raise course_error("slopes", rule, repr(name), suggestion(name, _LINES))
    values = check_finite("slopes", list(slopes.values()))
    theta = check_number("theta", theta)
    labels = check_flag("labels", labels)
    if not 0 <= theta <= 1:
        raise course_error("theta", "must be between 0 and 1", theta, "Try theta=0.5.")
    keys = data[group].to_numpy()
    points = data[[x, y]].astype(float).reset_index(drop=True)
    points -= theta * (points.groupby(keys).transform("mean") - points.mean())
    means = points.groupby(keys).mean()
    ax.plot(points[x], points[y], "o", color=GREY, ms=5, alpha=0.75, mew=0)
    ax.plot(means[x], means[y], "o", color="black", ms=8, mfc="white", mew=2, zorder=4)
    ends = {}
    for name, slope in zip(slopes, values, strict=True):
        colour, dashes = _LINES[name]
        pieces = points.groupby(keys) if name == "within" and theta < 1 else [(None, points)]
        for _, rows in pieces:
            over = np.array([rows[x].min(), rows[x].max()])
            height = rows[y].mean() + slope * (over - rows[x].mean())
            ax.plot(over, height, dashes, color=colour, lw=2.5, zorder=3)
            if over[1] >= ends.get(name, (-np.inf,))[0]:
                ends[name] = over[1], height[1]
    if labels:
        _label_ends(ax, ends, slopes)
    return label_axes(ax, x, y, None)


def _label_ends(
    ax: Axes, ends: Mapping[str, tuple[float, float]], slopes: Mapping[str, float]
) -> None:
    """Write each name and slope to the right of the Axes, joined to the end of its line."""
    low, high = ax.get_ylim()
    place = -np.inf
    for name in sorted(ends, key=lambda name: ends[name][1]):
        place = max((ends[name][1] - low) / (high - low), place + _APART)
        text = f"{name} {slopes[name]:.2f}".replace("-", "\N{MINUS SIGN}")
        colour = _LINES[name][0]
        how = {"color": colour, "va": "center", "fontsize": 13}
        how["arrowprops"] = {"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkB": 3}
        at = {"xytext": (1.03, place), "textcoords": "axes fraction"}
        ax.annotate(text, ends[name], **at, **how)


def gap_plot(table: DataFrame, term: str, axes: Sequence[Axes]) -> Sequence[Axes]:
    r"""Draw fixed and random effects with their intervals, and beside them their difference.

    The standard error of the difference is Hausman's, :math:`\sqrt{V_{FE} - V_{RE}}`. Both Axes
    have the same scale, so the lengths of all intervals can be compared.

    Parameters
    ----------
    table : DataFrame
        ``compare_fe_re(...).table``: columns term, fe, fe_se, re, re_se.
    term : str
        The coefficient.
    axes : two Axes
        Left for the two estimates, right for the difference.

    Returns
    -------
    sequence of Axes
        `axes`.

    Raises
    ------
    CourseError
        Before anything is drawn: if the term or a column is missing, the variance of fixed
        effects is not the larger one, or `axes` are not two Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> row = {"term": "x", "fe": 1.0, "fe_se": 0.2, "re": 1.3, "re_se": 0.1}
    >>> axes = gap_plot(DataFrame([row]), "x", plt.figure().subplots(1, 2))
    >>> axes[1].get_xlabel()
    'fixed minus random effects'

    See Also
    --------
    course_lib.panel.hausman : The test of the difference.
    """
    if np.size(axes) != 2:
        advice = "Make them: figure, axes = matplotlib.pyplot.subplots(1, 2)."
        raise course_error("axes", "must be two Axes", repr(axes), advice)
    left, right = axes
    check_ax(left)
    check_ax(right)
    check_no_missing("table", table, ["term"])
    rows = table[table["term"] == term]
    if len(rows) != 1:
        raise course_error("term", "must name one row", term, suggestion(term, table["term"]))
    check_table("table", rows, ["fe", "fe_se", "re", "re_se"])
    fe, fe_se, re, re_se = rows[["fe", "fe_se", "re", "re_se"]].to_numpy()[0]
    if fe_se <= re_se:
        rule = "must have a larger standard error of fixed effects than of random effects"
        advice = "Hausman's subtraction fails here; read Mundlak's test instead."
        raise course_error("table", rule, f"{fe_se:.3g} and {re_se:.3g}", advice)
    left.set_yticks([1, 0], ["fixed\neffects", "random\neffects"])
    left.set(ylim=(-0.6, 1.6), xlabel=literal(f"coefficient of {term}"))
    _interval(left, 1, fe, fe_se, COLOUR["no pooling"], "o")
    _interval(left, 0, re, re_se, COLOUR["partial pooling"], "D")
    right.set(ylim=(-0.6, 1.6), yticks=[], xlabel="fixed minus random effects")
    right.axvline(0, color=GREY, lw=1.5)
    right.annotate(" no gap", (0, 1.35), color="0.4", fontsize=13)
    _interval(right, 0.5, fe - re, (fe_se**2 - re_se**2) ** 0.5, "black", "s")
    right.spines["left"].set_visible(False)
    for ax in axes:
        ax.margins(x=0.2)
    widest = max(np.ptp(ax.get_xlim()) for ax in axes)
    for ax in axes:
        middle = np.mean(ax.get_xlim())
        ax.set_xlim(middle - widest / 2, middle + widest / 2)
    return axes


def _interval(ax: Axes, at: float, value: float, se: float, colour: str, marker: str) -> None:
    style = {"color": colour, "ms": 10, "lw": 3, "capsize": 6}
    ax.errorbar(value, at, xerr=1.96 * se, fmt=marker, **style)
    text = f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
    ax.annotate(text, (value, at + 0.17), color=colour, ha="center", fontsize=13)
