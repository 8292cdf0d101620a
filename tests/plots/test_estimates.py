import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from scipy import stats

from course_lib import lmer, load
from course_lib.errors import CourseError
from course_lib.plots import COLOUR
from course_lib.plots.estimates import (
    caterpillar,
    covariance_ellipse,
    interval_plot,
    qq_plot,
    residual_plot,
    shrinkage_plot,
)
from course_lib.reshape import own_lines, own_slopes


@pytest.fixture
def ax():
    yield plt.subplots()[1]
    plt.close("all")


@pytest.fixture(scope="module")
def fit():
    return lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))


@pytest.fixture
def table():
    return pd.DataFrame(
        {"estimate": [2.0, -1.0, 0.5], "lower": [1.0, -1.5, -0.5], "upper": [3.0, -0.5, 1.5]},
        index=pd.Index(["a", "b", "c"], name="school"),
    )


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def drawn(line):
    return [list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))]


def ticks(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


# caterpillar


def test_caterpillar_sorts_and_marks(table, ax):
    assert caterpillar(table, ax, label="slope", unit="ms per day") is ax
    assert ticks(ax.yaxis) == ["b", "c", "a"]  # from the bottom
    outside, inside = ([s.tolist() for s in part.get_segments()] for part in ax.collections)
    assert outside == [[[-1.5, 0], [-0.5, 0]], [[1, 2], [3, 2]]]
    assert inside == [[[-0.5, 1], [1.5, 1]]]
    reference, outside, inside = ax.lines
    assert reference.get_xdata() == [0.0, 0.0]
    assert drawn(outside) == [[-1, 2], [0, 2]]
    assert drawn(inside) == [[0.5], [1]]
    assert same_color(inside.get_markerfacecolor(), "white")
    assert not same_color(outside.get_markerfacecolor(), "white")
    assert ax.get_xlabel() == "slope (ms per day)"
    assert ax.get_ylabel() == "school"


def test_caterpillar_unsorted_with_another_reference(table, ax):
    caterpillar(table, ax, sort=False, reference=2.5)
    assert ticks(ax.yaxis) == ["c", "b", "a"]  # the first row on top
    assert drawn(ax.lines[2]) == [[2.0], [2]]
    assert ax.get_xlabel() == "estimate"


def test_caterpillar_draws_the_band_of_chance(table, ax):
    chance = pd.DataFrame({"lower": [-2.0, -1.0, 0.0], "upper": [0.0, 1.0, 2.0]})
    caterpillar(table, ax, chance=chance)
    assert texts(ax.get_legend()) == ["chance alone", "reference: 0"]
    corners = {tuple(corner) for corner in ax.collections[0].get_paths()[0].vertices.tolist()}
    assert {(-2, 0), (0, 0), (-1, 1), (1, 1), (0, 2), (2, 2)} == corners


def test_caterpillar_names_its_reference(table, ax):
    caterpillar(table, ax, reference=0.123456)
    assert texts(ax.get_legend()) == ["reference: 0.123"]
    other = plt.subplots()[1]
    caterpillar(table, other, reference=1.0, reference_label="common slope")
    assert texts(other.get_legend()) == ["common slope"]
    assert other.get_legend().legend_handles[0].get_linestyle() == "--"


@pytest.mark.parametrize("n", [3, 18, 150])
def test_the_legend_of_a_caterpillar_covers_no_mark(n, ax):
    effects = np.linspace(-1, 1, n)
    table = pd.DataFrame({"estimate": effects, "lower": effects - 1, "upper": effects + 1})
    caterpillar(table, ax, chance=table[["lower", "upper"]])
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.width > 0
    assert not legend.overlaps(ax.get_window_extent())


def test_caterpillar_of_many_groups_has_no_names(ax):
    effects = np.linspace(-1, 1, 41)
    table = pd.DataFrame({"estimate": effects, "lower": effects - 1, "upper": effects + 1})
    caterpillar(table.rename_axis("school"), ax)
    assert ticks(ax.yaxis) == []
    assert ax.get_ylabel() == "school (41, sorted)"
    assert ax.get_ylim() == (-0.7, 40.7)


def test_tables_of_slopes_and_of_a_fit_plug_in(fit, ax):
    slopes = own_slopes(load("sleepstudy"), "Reaction", "Days", "Subject")
    caterpillar(slopes, ax, colour=COLOUR["no pooling"])
    assert ticks(ax.yaxis) == slopes["estimate"].sort_values().index.tolist()
    assert all(same_color(line.get_color(), COLOUR["no pooling"]) for line in ax.lines[1:])
    other = plt.subplots()[1]
    caterpillar(fit.fixed_table(), other, sort=False)
    assert ticks(other.yaxis) == ["Days", "Intercept"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"lower": None}, {}, "table: must name numeric columns"),
        ({"lower": [1.0, np.nan, 0.0]}, {}, "table: .*1 of 3 missing in 'lower'"),
        ({}, {"reference": np.nan}, "reference: must be one number, and finite"),
        (
            {},
            {"chance": pd.DataFrame({"lower": [0.0], "upper": [1.0]})},
            r"per rank \(3\); got 1",
        ),
        ({}, {"chance": pd.DataFrame({"low": [0.0]})}, "chance: .*'lower', which is not one"),
    ],
)
def test_caterpillar_bad_input(table, ax, change, arguments, message):
    with pytest.raises(CourseError, match=message):
        caterpillar(table.assign(**change), ax, **arguments)
    assert not ax.lines


# interval_plot


@pytest.fixture
def two_kinds():
    return pd.DataFrame(
        {
            "predictor": ["union", "married", "union", "married"],
            "kind": ["within", "within", "between", "between"],
            "estimate": [1.0, 2.0, 3.0, 4.0],
            "lower": [0.5, 1.5, 2.0, 3.0],
            "upper": [2.0, 2.5, 4.0, 6.0],
        }
    )


def segments(collection):
    return [np.round(segment, 12).tolist() for segment in collection.get_segments()]


def test_interval_plot_puts_categories_beside_each_other(two_kinds, ax):
    units = {"estimate": "log wage"}
    assert interval_plot(two_kinds, "predictor", ax, by="kind", units=units) is ax
    within, between = ax.lines
    np.testing.assert_allclose(within.get_data(), [[1, 2], [-0.15, 0.85]])
    np.testing.assert_allclose(between.get_data(), [[3, 4], [0.15, 1.15]])
    assert segments(ax.collections[0])[0] == [[0.5, -0.15], [2, -0.15]]
    assert segments(ax.collections[1])[1] == [[3, 1.15], [6, 1.15]]
    assert within.get_marker() != between.get_marker()
    assert not same_color(within.get_color(), between.get_color())
    assert ticks(ax.yaxis) == ["union", "married"]
    assert ax.get_ylim() == (1.5, -0.5)  # the first at the top
    assert texts(ax.get_legend()) == ["within", "between"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("estimate (log wage)", "predictor")


def test_interval_plot_of_one_interval_per_name_is_level(two_kinds, ax):
    two_kinds["predictor"] = list("abcd")
    interval_plot(two_kinds.astype({"predictor": "category"}), "predictor", ax, by="kind")
    assert drawn(ax.lines[0]) == [[1, 2], [0, 1]]
    assert drawn(ax.lines[1]) == [[3, 4], [2, 3]]
    other = plt.subplots()[1]
    interval_plot(two_kinds, "predictor", other, estimate="lower", band=("lower", "upper"))
    assert drawn(other.lines[0]) == [[0.5, 1.5, 2, 3], [0, 1, 2, 3]]
    assert other.get_legend() is None


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"name": "Predictor"}, "Perhaps you want 'predictor'"),
        ({}, {"by": None}, "data: must have one estimate .*got 2 repeated"),
        ({"upper": [1.0, np.nan, 5.0, 5.0]}, {}, "1 of 4 missing in 'upper'"),
        ({"kind": [None, "a", "b", "b"]}, {}, "1 of 4 missing in 'kind'"),
        ({}, {"ax": None}, "ax: must be a matplotlib Axes"),
        ({}, {"units": "mm"}, "units: must be a dict"),
    ],
)
def test_interval_plot_bad_input(two_kinds, ax, change, arguments, message):
    given = {"name": "predictor", "ax": ax, "by": "kind", **arguments}
    with pytest.raises(CourseError, match=message):
        interval_plot(two_kinds.assign(**change), **given)
    assert not ax.lines


def test_interval_plot_refuses_more_than_can_be_read(ax):
    many = pd.DataFrame({"name": range(41), "estimate": 0.0, "lower": -1.0, "upper": 1.0})
    with pytest.raises(CourseError, match=r"name: must have at most 40 .*got 41.*caterpillar"):
        interval_plot(many, "name", ax)
    with pytest.raises(CourseError, match="by: must have at most 10"):
        interval_plot(many[:11].assign(kind=range(11)), "name", ax, by="kind")


# shrinkage_plot


@pytest.fixture
def own():
    return pd.DataFrame({"Intercept": [0.0, 4.0], "Days": [3.0, -1.0]}, index=["a", "b"])


@pytest.fixture
def pooled():
    return pd.DataFrame({"Days": [0.0, 2.0], "Intercept": [3.0, 1.0]}, index=["b", "a"])


COMMON = {"Intercept": 2.0, "Days": 1.0}


def arrows(ax):
    return [
        tuple(map(float, (*text.get_position(), *text.xy)))
        for text in ax.texts
        if text.arrow_patch is not None
    ]


def names(ax):
    return [(t.get_text(), tuple(t.xy)) for t in ax.texts if t.arrow_patch is None]


def test_shrinkage_plot_joins_the_same_group(own, pooled, ax):
    units = {"Intercept": "ms", "Days": "ms per day"}
    common = pd.Series(COMMON)
    assert shrinkage_plot(own, pooled, common, "Days", ax, ["b"], units) is ax
    start, end, centre = ax.lines
    assert drawn(start) == [[0, 4], [3, -1]]
    assert drawn(end) == [[1, 3], [2, 0]]
    assert drawn(centre) == [[2], [1]]
    assert len({line.get_marker() for line in ax.lines}) == 3
    kinds = ("no pooling", "partial pooling", "complete pooling")
    assert [line.get_color() for line in ax.lines] == [COLOUR[kind] for kind in kinds]
    assert arrows(ax) == [(0, 3, 1, 2), (4, -1, 3, 0)]
    assert names(ax) == [("b", (4, -1))]
    assert texts(ax.get_legend()) == ["own line", "partially pooled line", "common line"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Intercept (ms)", "Days (ms per day)")


def test_shrinkage_plot_without_an_own_line_has_no_arrow(own, pooled, ax):
    own.loc["b"] = np.nan
    shrinkage_plot(own, pooled, COMMON, "Days", ax, highlight=["b"])
    assert arrows(ax) == [(0, 3, 1, 2)]
    assert drawn(ax.lines[0]) == [[0], [3]]
    assert drawn(ax.lines[1]) == [[1, 3], [2, 0]]
    assert names(ax) == [("b", (3, 0))]


def test_own_lines_and_a_fit_plug_into_the_shrinkage_plot(fit, ax):
    own = own_lines(load("sleepstudy"), "Reaction", "Days", "Subject")
    shrinkage_plot(own, fit.coef()["Subject"], fit.fe_params, "Days", ax)
    assert len(arrows(ax)) == 18
    assert drawn(ax.lines[2]) == [[fit.fe_params["Intercept"]], [fit.fe_params["Days"]]]


def test_shrinkage_plot_bad_input(own, pooled, ax):
    with pytest.raises(CourseError, match="pooled: .*a difference in b"):
        shrinkage_plot(own, pooled.loc[["a"]], COMMON, "Days", ax)
    with pytest.raises(CourseError, match="own: .*Perhaps you want 'Days'"):
        shrinkage_plot(own, pooled, COMMON, "days", ax)
    with pytest.raises(CourseError, match="common: must have both coefficients; got no Days"):
        shrinkage_plot(own, pooled, {"Intercept": 1.0}, "Days", ax)
    with pytest.raises(CourseError, match="highlight: .*got z"):
        shrinkage_plot(own, pooled, COMMON, "Days", ax, highlight=["z"])
    with pytest.raises(CourseError, match="ax: must be a matplotlib Axes"):
        shrinkage_plot(own, pooled, COMMON, "Days", None)
    with pytest.raises(CourseError, match="pooled: "):
        shrinkage_plot(own, pooled.replace(2.0, np.nan), COMMON, "Days", ax)
    assert not ax.texts


# covariance_ellipse


def test_ellipse_is_the_contour_of_the_normal_distribution(ax):
    cov = pd.DataFrame([[4.0, -1.0], [-1.0, 9.0]], ["i", "s"], ["i", "s"])
    result = covariance_ellipse(cov, ax, "s", "i", centre=(1, 2), shares=[0.3, 0.8])
    assert result is ax
    order = ["s", "i"]
    for line, share in zip(ax.lines, [0.3, 0.8], strict=False):
        offset = np.array(line.get_data()) - [[1], [2]]
        distance = (offset * np.linalg.solve(cov.loc[order, order], offset)).sum(axis=0)
        # Rounding of a 2 × 2 solve
        np.testing.assert_allclose(distance, stats.chi2.ppf(share, 2), rtol=1e-12)
        np.testing.assert_allclose(offset[:, 0], offset[:, -1], atol=1e-12)  # closed
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert drawn(ax.lines[2]) == [[1], [2]]
    assert texts(ax.get_legend()) == ["30 %", "80 %"]


def test_singular_and_zero_covariances_are_drawn(ax):
    line = pd.DataFrame([[1.0, 2.0], [2.0, 4.0]], ["i", "s"], ["i", "s"])
    covariance_ellipse(line, ax, "i", "s", shares=[0.95])
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, 2 * x, atol=1e-7)  # root of an eigenvalue that is rounding
    covariance_ellipse(0 * line, ax, "i", "s", shares=[0.95])
    np.testing.assert_allclose(ax.lines[2].get_data(), 0)


def test_random_effects_plug_into_the_ellipse(fit, ax):
    covariance_ellipse(
        fit.cov_re["Subject"],
        ax,
        "Intercept",
        "Days",
        points=fit.random_effects["Subject"],
        units={"Days": "ms per day"},
    )
    modes = fit.random_effects["Subject"]
    np.testing.assert_array_equal(ax.lines[0].get_data(), modes.to_numpy().T)
    assert ax.get_ylabel() == "Days (ms per day)"


@pytest.mark.parametrize(
    ("matrix", "arguments", "message"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], {}, "cov: must be symmetric, without a negative"),
        ([[1.0, 0.5], [0.0, 1.0]], {}, "cov: must be symmetric"),
        ([[-1.0, 0.0], [0.0, 1.0]], {}, "without a negative eigenvalue"),
        ([[1.0, np.nan], [0.0, 1.0]], {}, "missing"),
        ([[1.0, 0.0], [0.0, 1.0]], {"shares": [0.5, 95]}, "shares: must be a number strictly"),
        ([[1.0, 0.0], [0.0, 1.0]], {"x": "slope"}, "'slope', which is not one"),
        ([[1.0, 0.0], [0.0, 1.0]], {"centre": (1, 2, 3)}, "centre: must be two numbers"),
    ],
)
def test_ellipse_bad_input(ax, matrix, arguments, message):
    cov = pd.DataFrame(matrix, ["i", "s"], ["i", "s"])
    with pytest.raises(CourseError, match=message):
        covariance_ellipse(cov, ax, **{"x": "i", "y": "s", **arguments})
    assert not ax.lines


# residual_plot and qq_plot


@pytest.fixture
def residuals():
    return pd.DataFrame({"fitted": [3.0, 1.0, 2.0, 4.0], "resid": [0.5, -4.0, 1.0, np.nan]})


def test_residual_plot_marks_what_is_beyond_the_limit(residuals, ax):
    units = {"fitted": "ms", "resid": "σ"}
    assert residual_plot(residuals, "fitted", "resid", ax, 3, units) is ax
    zero, near, far = ax.lines
    assert zero.get_ydata() == [0, 0]
    np.testing.assert_array_equal(near.get_data(), [[3, 2, 4], [0.5, 1, np.nan]])
    assert drawn(far) == [[1], [-4]]
    assert near.get_marker() != far.get_marker()
    assert not same_color(near.get_color(), far.get_color())
    assert texts(ax.get_legend()) == ["beyond ±3: 1 point"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("fitted (ms)", "resid (σ)")


def test_residual_plot_without_extras(residuals, ax):
    residual_plot(residuals, "fitted", "resid", ax)
    assert len(ax.lines) == 2
    assert ax.get_legend() is None


def test_qq_plot_quantiles_and_line(ax):
    data = pd.DataFrame({"u": [2.0, np.nan, -1.0, 0.0]})
    assert qq_plot(data, "u", ax, line=(0.5, 2.0), units={"u": "ms"}) is ax
    line, points = ax.lines
    quantiles, values = points.get_data()
    assert values.tolist() == [-1, 0, 2]
    np.testing.assert_allclose(quantiles, stats.norm.ppf([1 / 6, 1 / 2, 5 / 6]), rtol=1e-12)
    assert line.get_xy1() == (0, 0.5)
    assert line.get_slope() == 2.0
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("normal quantile", "u (ms)")


def test_residual_and_qq_bad_input(residuals, ax):
    with pytest.raises(CourseError, match="Perhaps you want 'fitted'"):
        residual_plot(residuals, "fited", "resid", ax)
    with pytest.raises(CourseError, match="must have an observed point"):
        qq_plot(residuals.assign(resid=np.nan), "resid", ax)
    with pytest.raises(CourseError, match="line: must be two numbers; got 3"):
        qq_plot(residuals, "resid", ax, line=3)
    with pytest.raises(CourseError, match="line: must be finite"):
        qq_plot(residuals, "resid", ax, line=(0, np.inf))
    assert not ax.lines
