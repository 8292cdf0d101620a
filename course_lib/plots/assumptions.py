"""Pictures of what a mixed model assumes about its residuals: plain columns and an `ax` in."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike
from pandas import DataFrame, Series
from scipy.special import ndtri

from course_lib.errors import (
    check_finite,
    check_labels,
    check_numeric,
    check_type,
    course_error,
)
from course_lib.plots.style import (
    COLOUR,
    check_ax,
    check_colour,
    check_table,
    draw_marked,
    label_axes,
    literal,
    plain_entries,
)

__all__ = ["envelope_plot", "memory_plot", "related_plot", "spread_plot", "trend_plot"]

FEW = 12  # so many different places are kept; more are collected in BINS
BINS = 8


def trend_plot(
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes,
    within: ArrayLike | None = None,
    colour: ColorType = COLOUR["healthy"],
) -> Axes:
    """Draw points, and a black line through the averages of neighbouring points.

    Where x has at most 12 different values, each has its average; else eight equal parts of the
    points have one. A forgotten curve shows as a smile of the averages.

    Parameters
    ----------
    x, y : array_like
        A predictor and what to hold against it, such as ``data["Days"]`` and ``fit.resid``.
        Series are matched by their index; a point with a missing coordinate is left out.
    ax : Axes
        What to draw into.
    within : array_like, optional
        The group of each point: x is then measured from the mean x of its group.
    colour : color
        Of the points.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if the columns do not match, are not numeric or infinite,
        fewer than two points are left, or `ax` is no Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> axes = trend_plot([0, 1, 2], [1.0, -2.0, 1.0], plt.figure().add_subplot())
    >>> axes.lines[-1].get_ydata().tolist()
    [1.0, -2.0, 1.0]

    See Also
    --------
    spread_plot : Whether the points scatter evenly.
    memory_plot : Each residual against the one before it.
    """
    check_ax(ax)
    check_colour(colour)
    points = _points(ax, x, y, within, colour)
    means = points.groupby(_neighbours(points["x"])).mean()
    ax.plot(means["x"], means["y"], color="black", linewidth=3)
    return ax


def spread_plot(
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes,
    within: ArrayLike | None = None,
    colour: ColorType = COLOUR["healthy"],
) -> Axes:
    r"""Draw residuals, and two black lines as far from zero as they typically lie.

    Among neighbouring points (see :func:`trend_plot`) the lines are at plus and minus

    .. math:: \sqrt{\tfrac1n \sum y_i^2}.

    Parameters
    ----------
    x, y : array_like
        A predictor and the residuals. Series are matched by their index; a point with a missing
        coordinate is left out.
    ax : Axes
        What to draw into.
    within : array_like, optional
        The group of each point: x is then measured from the mean x of its group.
    colour : color
        Of the points.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        As :func:`trend_plot`.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> x, residuals = [0, 0, 1, 1], [3.0, -3.0, 1.0, -1.0]
    >>> axes = spread_plot(x, residuals, plt.figure().add_subplot())
    >>> axes.lines[-1].get_ydata().tolist()
    [-3.0, -1.0]

    See Also
    --------
    trend_plot : Whether the points have a curve.
    """
    check_ax(ax)
    check_colour(colour)
    points = _points(ax, x, y, within, colour)
    points["square"] = points["y"] ** 2
    parts = points.groupby(_neighbours(points["x"])).mean()
    for sign in (1, -1):
        ax.plot(parts["x"], sign * np.sqrt(parts["square"]), color="black", linewidth=3)
    return ax


def memory_plot(
    residuals: ArrayLike,
    groups: ArrayLike,
    ax: Axes,
    colour: ColorType = COLOUR["healthy"],
) -> Axes:
    """Draw each residual against the residual of the row before it in the same group.

    Parameters
    ----------
    residuals : array_like
        In the order of the rows, which must be the order of time.
    groups : array_like
        The group of each row.
    ax : Axes
        What to draw into.
    colour : color
        Of the points.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        As :func:`trend_plot`, and if no group has two rows.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> axes = plt.figure().add_subplot()
    >>> memory_plot([1.0, 2.0, 5.0, 4.0], ["a", "a", "b", "b"], axes).get_ylabel()
    'residual'

    See Also
    --------
    trend_plot : Whether residuals have a curve.
    """
    check_ax(ax)
    check_colour(colour)
    rows = _matched("residuals", {"y": residuals, "group": groups})
    check_numeric("residuals", rows, ["y"])
    before = rows.groupby("group", observed=True)["y"].shift()
    trend_plot(before, rows["y"], ax, colour=colour)
    ax.set(xlabel="residual of the row before", ylabel="residual")
    return ax


def related_plot(
    x: ArrayLike,
    groups: ArrayLike,
    effects: Series,
    ax: Axes,
    colour: ColorType = COLOUR["healthy"],
) -> Axes:
    """Draw the random effects of the groups against the mean x of each group.

    If the averages rise or fall by more than chance, the effects are related to x, and the mean
    slope mixes a comparison within groups with one between groups.

    Parameters
    ----------
    x, groups : array_like
        A predictor and the group of each row, such as ``data["ses"]`` and ``data["school"]``.
    effects : Series
        One random effect per group, such as ``fit.random_effects["school"]["Intercept"]``;
        its index holds the groups. A group without a mean or an effect is left out.
    ax : Axes
        What to draw into.
    colour : color
        Of the points.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        As :func:`trend_plot`, and if `effects` is no Series.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> effects = Series([1.0, -1.0], index=["a", "b"], name="Intercept")
    >>> axes = plt.figure().add_subplot()
    >>> related_plot([0, 2, 4], ["a", "a", "b"], effects, axes).get_xlabel()
    'mean x of group'

    See Also
    --------
    trend_plot : Whether residuals have a curve.
    """
    check_ax(ax)
    check_colour(colour)
    advice = 'Pass a column of a table of fit.random_effects, such as ["Intercept"].'
    check_type("effects", effects, Series, "must be a Series indexed by group", advice)
    rows = _matched("x", {"x": x, "group": groups})
    check_numeric("x", rows, ["x"])
    means = rows.groupby(rows["group"].astype(str))["x"].mean()
    trend_plot(means, effects.set_axis(effects.index.astype(str)), ax, colour=colour)
    ax.set(xlabel=literal(f"mean {getattr(x, 'name', None) or 'x'} of group"))
    ax.set(ylabel=literal(f"random {effects.name or 'effect'}"))
    return ax


def envelope_plot(
    band: DataFrame,
    ax: Axes,
    x: str | ArrayLike = "rank",
    colour: ColorType = COLOUR["healthy"],
) -> Axes:
    r"""Draw a statistic of a fit, and the band in which the model would keep it.

    The dashed line joins the medians of the simulations. Values outside the band are diamonds.

    Parameters
    ----------
    band : DataFrame
        From `course_lib.diagnostics.simulated_envelope`: columns observed, median, lower_all,
        upper_all; one row per value.
    ax : Axes
        What to draw into.
    x : {"rank", "normal quantile"} or array_like
        Where the values stand: 1 to n; the normal quantiles (i - ½)/n of a Q–Q plot; or a place
        for each.
    colour : color
        Of the points.

    Returns
    -------
    Axes
        `ax`.

    Raises
    ------
    CourseError
        Before anything is drawn: if a column is missing, not numeric or incomplete, `x` is
        another word or has another length, or `ax` is no Axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> band = DataFrame({"observed": [0, 3], "median": [0, 1]}, dtype=float)
    >>> band = band.assign(lower_all=-1.0, upper_all=2.0)
    >>> envelope_plot(band, plt.figure().add_subplot()).get_xlabel()
    'rank'

    See Also
    --------
    course_lib.diagnostics.simulated_envelope : Makes the band.
    trend_plot : Whether residuals have a curve.
    """
    check_ax(ax)
    check_colour(colour)
    check_table("band", band, ["observed", "median", "lower_all", "upper_all"])
    n = len(band)
    places = {"rank": np.arange(1, n + 1), "normal quantile": ndtri((np.arange(n) + 0.5) / n)}
    if isinstance(x, str):
        if x not in places:
            rule, advice = "must be 'rank', 'normal quantile' or numbers", "Leave it out."
            raise course_error("x", rule, repr(x), advice)
        at = places[x]
    else:
        at = check_finite("x", x)
        if at.shape != (n,):
            rule, advice = f"must have one place per row of the band ({n})", "See band.index."
            raise course_error("x", rule, f"shape {at.shape}", advice)
    low, high = band["lower_all"], band["upper_all"]
    ax.fill_between(at, low, high, color="0.87", linewidth=0, label="95 % band of the model")
    ax.plot(at, band["median"], color="0.3", linestyle="--", linewidth=1)
    outside = (band["observed"] < low) | (band["observed"] > high)
    draw_marked(ax, at, band["observed"], outside, "outside", colour)
    plain_entries(ax.legend())
    return label_axes(
        ax, x if isinstance(x, str) else getattr(x, "name", None) or "x", "", None
    )


def _matched(argument: str, columns: dict[str, ArrayLike]) -> DataFrame:
    """Put columns side by side; Series are matched by their index."""
    rule = "must be columns of the same rows"
    advice = "Take columns of one data frame, and fit.resid."
    try:
        flat = [name for name, column in columns.items() if np.ndim(column) == 1]
        table = DataFrame(columns) if len(flat) == len(columns) else None
    except ValueError as error:
        raise course_error(argument, rule, str(error), advice) from None
    if table is None:
        odd = next(name for name in columns if name not in flat)
        raise course_error(argument, rule, f"{odd} = {columns[odd]!r:.60}", advice)
    if "group" in columns:
        check_labels(argument, table, ["group"])
    return table


def _points(
    ax: Axes, x: ArrayLike, y: ArrayLike, within: ArrayLike | None, colour: ColorType
) -> DataFrame:
    """Draw the complete points and a line at zero; return them."""
    columns = {"x": x, "y": y} | ({} if within is None else {"group": within})
    points = _matched("x", columns)
    check_numeric("x", points, ["x", "y"])
    points = points.dropna()
    if len(points) < 2:
        rule, advice = "must leave two complete points", "Check that the indices match."
        raise course_error("x", rule, f"{len(points)} of {len(columns['x'])}", advice)
    name = getattr(x, "name", None) or "x"
    if within is not None:
        points["x"] -= points.groupby("group", observed=True)["x"].transform("mean")
        name = f"{name} − mean of group"
    points = points[["x", "y"]].astype(float)
    ax.axhline(0, color="0.5", linestyle="--", linewidth=1)
    ax.plot(points["x"], points["y"], "o", color=colour, ms=4, alpha=0.35, mew=0)
    label_axes(ax, name, getattr(y, "name", None) or "residual", None)
    return points


def _neighbours(x: Series) -> np.ndarray:
    """Return the number of the part that each point belongs to."""
    spread = x.max() - x.min()
    places = np.unique(np.round(x / (spread or 1.0), 9), return_inverse=True)
    if len(places[0]) <= FEW:
        return places[1]
    rank = np.argsort(np.argsort(x.to_numpy(), kind="stable"), kind="stable")
    return rank * min(BINS, len(x)) // len(x)
