"""Pictures of estimates: intervals, shrinkage, covariances, residuals, effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType
from pandas import DataFrame, Series
from scipy.stats import norm

from course_lib.errors import (
    check_columns,
    check_dataframe,
    check_finite,
    check_flag,
    check_labels,
    check_list,
    check_no_missing,
    check_number,
    check_numeric,
    check_probability,
    check_text,
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
    MOST,
    Units,
    by_category,
    check_ax,
    check_band,
    check_colour,
    check_few,
    check_known,
    check_pair,
    check_same_groups,
    check_table,
    draw_marked,
    entry,
    label_axes,
    legend_beside,
    literal,
    literals,
    plain_entries,
    rows_by_group,
)

__all__ = [
    "caterpillar",
    "covariance_ellipse",
    "interval_plot",
    "qq_plot",
    "residual_plot",
    "shrinkage_plot",
]


def caterpillar(
    table: DataFrame,
    ax: Axes,
    label: str = "estimate",
    unit: str | None = None,
    reference: float = 0.0,
    chance: DataFrame | None = None,
    sort: bool = True,
    reference_label: str | None = None,
    colour: ColorType = COLOURS[0],
) -> Axes:
    """Draw one interval per row, the smallest estimate at the bottom.

    Intervals without the `reference` have a filled marker, the others an open one. The legend,
    beside the marks, says what the line and the band are.

    Parameters
    ----------
    table : DataFrame
        One row per estimate, its name in the index, columns estimate, lower, upper: from
        ``own_slopes()``, ``fit.fixed_table()``, or your own. More than 40 names are not
        written.
    ax : Axes
        What to draw into.
    label, unit : str
        What is estimated, and its unit: the label of the axis.
    reference : float
        Where the dashed line is.
    chance : DataFrame, optional
        Columns lower, upper; one row per rank: the band of the sorted estimates that chance
        alone would give.
    sort : bool
        Without it, the first row is at the top.
    reference_label : str, optional
        Name of the line; else its value is shown.
    colour : color
        Of the intervals.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or incomplete, `chance`
        has another number of rows, `reference` is not finite, or `ax` is no Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"estimate": [1.0], "lower": [0.0], "upper": [2.0]}, index=["a"])
    >>> caterpillar(table, plt.figure().add_subplot()).get_xlabel()
    'estimate'

    See Also
    --------
    course_lib.reshape.own_slopes : Makes such a table.
    """
    check_ax(ax)
    check_colour(colour)
    check_table("table", table, ["estimate", "lower", "upper"])
    check_band("chance", chance, len(table))
    reference = check_number("reference", reference)
    check_flag("sort", sort)
    check_text("label", label)
    check_text("unit", "" if unit is None else unit)
    check_text("reference_label", "" if reference_label is None else reference_label)
    table = table.sort_values("estimate") if sort else table[::-1]
    ranks = np.arange(len(table))
    if chance is not None:
        limits = chance["lower"], chance["upper"]
        ax.fill_betweenx(ranks, *limits, color="0.85", label="chance alone")
    line = f"reference: {reference:.3g}" if reference_label is None else reference_label
    ax.axvline(reference, color=GREY, linestyle="--", label=entry(line))
    few = len(table) <= MOST
    inside = table["lower"].le(reference).to_numpy() & table["upper"].ge(reference).to_numpy()
    for which, face, alpha in ((~inside, colour, 1), (inside, "white", 1 if few else 0.4)):
        part, rank = table[which], ranks[which]
        width, size = (1.5, 5) if few else (0.5, 2.5) if face == "white" else (1.2, 4.5)
        limits = part["lower"], part["upper"]
        ax.hlines(rank, *limits, color=colour, linewidth=width, alpha=alpha)
        ax.plot(part["estimate"], rank, "o", color=colour, mfc=face, ms=size)
    margin = max(0.7, 0.015 * len(table))  # whole marks, however many
    ax.set_ylim(-margin, len(table) - 1 + margin)
    ax.set_yticks(ranks if few else [], literals(table.index) if few else [])
    legend_beside(ax)
    name = table.index.name or ""
    name = name if few else f"{name} ({len(table)}, sorted)"
    return label_axes(ax, label, name, {label: unit})


def interval_plot(
    data: DataFrame,
    name: str,
    ax: Axes,
    by: str | None = None,
    estimate: str = "estimate",
    band: tuple[str, str] = ("lower", "upper"),
    units: Units = None,
) -> Axes:
    """Draw an estimate with its interval in each row of names, the first name at the top.

    For one interval per name, to be sorted or held against a reference: :func:`caterpillar`.

    Parameters
    ----------
    data : DataFrame
        One row per estimate.
    name : str
        Column of what is estimated, at most 40 names.
    ax : Axes
        What to draw into.
    by : str, optional
        Column of at most 10 categories. They differ in marker; where a name has several, they
        are beside each other.
    estimate : str
        Column of the estimates.
    band : tuple of str
        Columns of the lower and the upper limit.
    units : dict, optional
        Unit of a column, for its label: ``{"Reaction": "ms"}`` writes "Reaction (ms)".

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or incomplete, a name (and
        category) is repeated, there are too many, `ax` is no Axes, or `units` no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"model": ["own"], "estimate": [1.0], "lower": [0.0], "upper": [2.0]})
    >>> interval_plot(table, "model", plt.figure().add_subplot()).get_xlabel()
    'estimate'

    See Also
    --------
    caterpillar : Many groups.
    """
    check_ax(ax, units)
    band = check_list("band", band, 2)
    check_table("data", data, [estimate, *band])
    columns = [name] if by is None else [name, by]
    check_no_missing("data", data, columns)
    check_labels("data", data, columns)
    names = list(dict.fromkeys(data[name]))
    if len(names) > MOST:
        rule = f"must have at most {MOST} names: more cannot be read"
        raise course_error("name", rule, len(names), "Take caterpillar().")
    groups = by_category(data, by, sort=False)
    check_few("by", groups, "Draw fewer.")
    repeated = data.duplicated(columns).sum()
    if repeated:
        rule, got = "must have one estimate for each name and category", f"{repeated} repeated"
        raise course_error("data", rule, got, "Select rows, or name the category in by=...")
    step = 0.6 / len(groups) if data.duplicated(name).any() else 0.0
    for k, (label, rows) in enumerate(groups.items()):
        shift = step * (k - (len(groups) - 1) / 2)
        place = np.array([names.index(row) for row in rows[name]]) + shift
        ax.hlines(place, rows[band[0]], rows[band[1]], color=COLOURS[k], linewidth=1.5)
        ax.plot(rows[estimate], place, MARKERS[k], color=COLOURS[k], label=entry(label))
    ax.set_yticks(range(len(names)), literals(names))
    ax.set_ylim(len(names) - 0.5, -0.5)
    if by is not None:
        legend_beside(ax, by)
    return label_axes(ax, estimate, name, units)


def shrinkage_plot(
    own: DataFrame,
    pooled: DataFrame,
    common: Series | Mapping[str, float],
    x: str,
    ax: Axes,
    highlight: Sequence = (),
    units: Units = None,
) -> Axes:
    """Draw shrinkage as arrows: each group's line is a point, intercept against slope.

    An arrow leads from the group's own line to its partially pooled one. A group without an
    own line (a missing value: too few rows) has the second point only.

    Parameters
    ----------
    own : DataFrame
        One row per group, columns "Intercept" and `x`: ``own_lines(data, y, x, group)``.
    pooled : DataFrame
        The same groups and columns from a mixed model: ``fit.coef()["Subject"]``.
    common : Series or dict
        The line of all groups together, drawn as a cross: ``fit.fe_params``.
    x : str
        The predictor, whose coefficient is the slope.
    ax : Axes
        What to draw into.
    highlight : sequence
        Groups that get their name.
    units : dict, optional
        Unit of a coefficient, for its label: ``{"Intercept": "ms"}`` writes "Intercept (ms)".

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a coefficient is missing or not numeric, the groups of the
        tables differ or are repeated, `highlight` is unknown, `ax` is no Axes, or `units` no
        dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> own = DataFrame({"Intercept": [1.0, 3.0], "Days": [0.0, 2.0]}, index=["a", "b"])
    >>> ax = plt.figure().add_subplot()
    >>> shrinkage_plot(own, own / 2 + 0.75, own.mean(), "Days", ax).get_ylabel()
    'Days'

    See Also
    --------
    course_lib.reshape.own_lines : The lines of the first table.
    covariance_ellipse : Where such points would lie.
    """
    check_ax(ax, units)
    terms = ["Intercept", x]
    check_numeric("own", check_dataframe("own", own), terms)
    check_same_groups("pooled", own, pooled, terms)
    highlight = check_known("highlight", highlight, own.index)
    advice = "Try fit.fe_params."
    check_type("common", common, Mapping | Series, "must be a Series or dict", advice)
    lacking = [name for name in terms if name not in common]
    if lacking:
        got = f"no {listing(lacking)}"
        raise course_error("common", "must have both coefficients", got, advice)
    check_finite("common", [common[name] for name in terms])
    ends = pooled.loc[own.index, terms]
    starts = own[terms].dropna()
    arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 4, "shrinkB": 4}
    for group, start in starts.iterrows():
        ax.annotate("", xy=ends.loc[group], xytext=start, arrowprops=arrow)
    hollow = {"mfc": "white", "ms": 7, "label": "own line"}
    ax.plot(starts["Intercept"], starts[x], "o", color=COLOUR["no pooling"], **hollow)
    full = {"ms": 6, "label": "partially pooled line"}
    ax.plot(ends["Intercept"], ends[x], "D", color=COLOUR["partial pooling"], **full)
    # Beneath the lines that end on it
    cross = {"ms": 14, "mec": "white", "label": "common line", "zorder": 1.8}
    ax.plot(common["Intercept"], common[x], "X", color=COLOUR["complete pooling"], **cross)
    for group in highlight:
        place = {"xytext": (8, 5), "textcoords": "offset points"}
        named = starts if group in starts.index else ends
        ax.annotate(literal(group), named.loc[group].tolist(), **place)
    ax.margins(0.1)
    # Below the axes, where it cannot be taken for a line, nor hide one
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return label_axes(ax, "Intercept", x, units)


def covariance_ellipse(
    cov: DataFrame,
    ax: Axes,
    x: str,
    y: str,
    centre: Sequence[float] = (0.0, 0.0),
    shares: Sequence[float] = (0.5, 0.95),
    points: DataFrame | None = None,
    units: Units = None,
) -> Axes:
    r"""Draw the ellipses that hold given shares of a bivariate normal distribution.

    That of share p is the set

    .. math:: \{u : (u - c)'\Sigma^{-1}(u - c) = -2\log(1 - p)\},

    the right side being the p quantile of χ² with 2 df (Johnson & Wichern 2007, *Applied
    Multivariate Statistical Analysis*, section 4.2).

    Parameters
    ----------
    cov : DataFrame
        Σ, terms × terms, also singular: ``fit.cov_re["Subject"]``.
    ax : Axes
        What to draw into.
    x, y : str
        Two terms of `cov`.
    centre : pair of float
        c, in the units of x and y.
    shares : sequence of float
        The values of p, at most 10.
    points : DataFrame, optional
        Columns `x` and `y`, drawn as points: ``fit.random_effects["Subject"]``.
    units : dict, optional
        Unit of a column, for its label: ``{"Reaction": "ms"}`` writes "Reaction (ms)".

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a term is missing, not numeric or incomplete, `cov` is not
        symmetric or has a negative eigenvalue, a share is not between 0 and 1, `centre` is no
        pair of finite numbers, `ax` is no Axes, or `units` no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> cov = DataFrame([[4.0, 1.0], [1.0, 1.0]], ["Intercept", "Days"], ["Intercept", "Days"])
    >>> axes = covariance_ellipse(cov, plt.figure().add_subplot(), "Intercept", "Days")
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('Intercept', 'Days')

    See Also
    --------
    shrinkage_plot : Groups before and after pooling.
    """
    check_ax(ax, units)
    check_table("cov", cov, [x, y])
    check_columns("cov", check_dataframe("cov", cov.T), [x, y])
    shares = [check_probability("shares", share) for share in check_list("shares", shares)]
    check_few("shares", shares, "Draw fewer.")
    at = check_pair("centre", centre)
    matrix = cov.loc[[x, y], [x, y]].to_numpy(dtype=float)
    unit = np.sqrt(np.where(matrix.diagonal() > 0, matrix.diagonal(), 1.0))
    values, vectors = np.linalg.eigh(matrix / np.outer(unit, unit))
    if not np.allclose(matrix, matrix.T, atol=0) or values[0] < -1e-8:
        rule = "must be symmetric, without a negative eigenvalue"
        raise course_error("cov", rule, matrix.tolist(), "Take it from fit.cov_re.")
    if points is not None:
        check_table("points", points, [x, y])
        ax.plot(points[x], points[y], "o", color=GREY, ms=4)
    angle = np.linspace(0, 2 * np.pi, 201)
    circle = np.array([np.cos(angle), np.sin(angle)])
    ring = unit[:, None] * vectors * np.sqrt(np.maximum(values, 0)) @ circle
    for k, share in enumerate(shares):
        edge = at[:, None] + np.sqrt(-2 * np.log1p(-share)) * ring
        ax.plot(*edge, linestyle=DASHES[k], color=COLOURS[0], label=f"{100 * share:g} %")
    ax.plot(*at[:, None], "+", color="black", ms=10)
    plain_entries(ax.legend())
    return label_axes(ax, x, y, units)


def residual_plot(
    data: DataFrame,
    fitted: str,
    resid: str,
    ax: Axes,
    limit: float = np.inf,
    units: Units = None,
) -> Axes:
    """Draw residuals against fitted values or a predictor; those beyond a limit as diamonds.

    Parameters
    ----------
    data : DataFrame
        One row per observation.
    fitted, resid : str
        Numeric columns: what is drawn along x, and the residuals.
    ax : Axes
        What to draw into.
    limit : float
        Residuals of a larger size are marked and counted; in the unit of `resid`.
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
        observed, `ax` is no Axes, or `units` no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"fitted": [1.0, 2.0], "resid_std": [-0.5, 0.5]})
    >>> residual_plot(table, "fitted", "resid_std", plt.figure().add_subplot()).get_xlabel()
    'fitted'

    See Also
    --------
    qq_plot : Whether residuals are normal.
    """
    check_ax(ax, units)
    rows_by_group(data, fitted, resid)
    check_number("limit", limit, finite=False)
    ax.axhline(0, color="0.3", linestyle="--", linewidth=1)
    draw_marked(
        ax,
        data[fitted],
        data[resid],
        np.abs(data[resid].to_numpy(dtype=float, na_value=np.nan)) > limit,
        f"beyond ±{limit}",
    )
    return label_axes(ax, fitted, resid, units)


def qq_plot(
    data: DataFrame,
    column: str,
    ax: Axes,
    line: tuple[float, float] = (0.0, 1.0),
    units: Units = None,
    colour: ColorType = COLOURS[0],
) -> Axes:
    r"""Draw the sorted values of a column against normal quantiles.

    Against the i-th of n values stands (Hazen's plotting position)

    .. math:: \Phi^{-1}\bigl((i - \tfrac12)/n\bigr).

    Parameters
    ----------
    data : DataFrame
        One row per value.
    column : str
        Numeric column; missing values are left out.
    ax : Axes
        What to draw into.
    line : pair of float
        Intercept and slope of the reference, the mean and standard deviation claimed: (0, 1)
        for values in standard deviations.
    units : dict, optional
        Unit of a column, for its label: ``{"Reaction": "ms"}`` writes "Reaction (ms)".
    colour : color
        Of the points.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if the column is missing, not numeric, infinite or empty,
        `line` is no pair of finite numbers, `ax` is no Axes, or `units` no dict.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> table = DataFrame({"resid_std": [-1.0, 0.0, 1.0]})
    >>> qq_plot(table, "resid_std", plt.figure().add_subplot()).get_title()
    ''

    See Also
    --------
    residual_plot : What is left over, against a predictor.
    envelope_plot : Such a plot with a band that says how far it may stray.
    """
    check_ax(ax, units)
    check_colour(colour)
    rows_by_group(data, column, column)
    values = np.sort(data[column].dropna())
    intercept, slope = check_pair("line", line)
    quantiles = norm.ppf((np.arange(len(values)) + 0.5) / len(values))
    ax.axline((0, intercept), slope=slope, color="0.3", linestyle="--", linewidth=1)
    ax.plot(quantiles, values, "o", color=colour, ms=4, alpha=0.75)
    return label_axes(ax, "normal quantile", column, units)
