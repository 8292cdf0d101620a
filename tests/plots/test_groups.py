import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color, to_rgb

from course_lib import lmer, load, plots
from course_lib.errors import CourseError
from course_lib.plots.groups import (
    label_plot,
    level_slopes,
    missingness_map,
    small_multiples,
    spaghetti,
)
from course_lib.plots.style import COLOUR, COLOURS, DASHES, MARKERS, MISSING_COLOURS
from course_lib.reshape import within_between


@pytest.fixture
def ax():
    yield plt.subplots()[1]
    plt.close("all")


@pytest.fixture
def growth():
    return pd.DataFrame(
        {
            "child": ["a", "a", "a", "b", "b", "b"],
            "age": [2, 0, 1, 0, 1, 2],
            "height": [12.0, 10.0, 11.0, 20.0, np.nan, 26.0],
        }
    )


@pytest.fixture
def lines():
    return pd.DataFrame({"Intercept": [10.0, 20.0], "age": [1.0, 3.0]}, index=["a", "b"])


def many(n):
    return pd.DataFrame({"child": [f"c{k:03d}" for k in range(n)], "age": 0, "height": 1.0})


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def drawn(line):
    return [list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))]


UNITS = {"age": "year", "height": "cm"}


def test_styles_are_all_different():
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(set(map(str, DASHES))) == 10


def test_missing_colours_go_from_light_to_dark():
    # So that the codes can be told apart in grey: at least a tenth of the range apart
    light = [np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in MISSING_COLOURS]
    assert (np.diff(light) < -0.1).all()


def test_small_multiples_one_panel_per_group_on_shared_axes(growth, lines):
    axes = small_multiples(
        growth,
        "age",
        "height",
        "child",
        order=["b", "a"],
        lines={"own": lines, "common": lines.assign(age=2.0)},
        units=UNITS,
    )
    assert [ax.get_title() for ax in axes] == ["child b", "child a"]
    assert drawn(axes[1].lines[0]) == [[0, 1, 2], [10, 11, 12]]
    own, common = axes[0].lines[1:]
    assert drawn(own) == [[0, 2], [20, 26]]
    assert drawn(common) == [[0, 2], [20, 24]]
    assert own.get_linestyle() != common.get_linestyle()
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_ylim() == axes[1].get_ylim()
    figure = axes[0].figure
    assert texts(figure.legends[0]) == ["observed", "own", "common"]
    assert figure.get_supxlabel() == "age (year)"
    assert figure.get_supylabel() == "height (cm)"
    plt.close("all")


@pytest.mark.parametrize("n_columns", [1, 2, 4])
def test_title_legend_and_labels_of_small_multiples_keep_apart(n_columns):
    data = many(8).assign(age=[0, 1] * 4, child=np.repeat(list("abcd"), 2))
    lines = pd.DataFrame({"Intercept": 1.0, "age": 0.0}, index=list("abcd"))
    given = {f"{kind} pooling": lines for kind in ("partial", "no", "complete")}
    axes = small_multiples(data, "age", "height", "child", None, given, n_columns)
    figure = axes[0].figure
    title = figure.suptitle("Partial pooling brings each line\nnearer to the common one")
    figure.canvas.draw()
    legend = figure.legends[0]
    parts = [title, figure._supxlabel, figure._supylabel, legend]
    boxes = [part.get_window_extent() for part in parts]
    boxes += [ax.get_tightbbox() for ax in axes]
    overlaps = [
        (i, j) for j in range(len(boxes)) for i in range(j) if boxes[i].overlaps(boxes[j])
    ]
    assert overlaps == []
    assert figure.bbox.x0 <= boxes[3].x0 < boxes[3].x1 <= figure.bbox.x1
    plt.close("all")


def test_small_multiples_fill_rows_and_blank_the_rest():
    axes = small_multiples(many(7), "age", "height", "child", n_columns=3)
    figure = axes[0].figure
    assert len(axes) == 7
    assert len(figure.axes) == 9
    assert [ax.axison for ax in figure.axes] == [True] * 7 + [False] * 2
    assert [ax.get_title() for ax in axes] == [f"child c{k:03d}" for k in range(7)]
    assert not figure.legends
    # The lowest panel of each column has its scale
    labelled = [bool(ax.xaxis.get_tick_params()["labelbottom"]) for ax in axes]
    assert labelled == [False] * 4 + [True] * 3
    figure.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": ["a", "c"]}, "order: must name groups .*got c"),
        ({"order": ["a", "a"]}, "each once; got a, a"),
        ({"order": []}, "order: must hold 1 to 40 groups"),
        ({"n_columns": 0}, "n_columns: must be a whole number"),
        ({"lines": {"own": pd.DataFrame({"Intercept": [1.0]})}}, "'age', which is not one"),
        (
            {"lines": {"own": pd.DataFrame({"Intercept": [1.0], "age": 1.0}, index=["a"])}},
            "lines: must have one row for each group drawn.*got none for b",
        ),
        ({"lines": pd.DataFrame({"Intercept": [1.0]})}, "lines: must be a dict of name to"),
        ({"units": "cm"}, "units: must be a dict"),
    ],
)
def test_small_multiples_bad_input(growth, arguments, message):
    with pytest.raises(CourseError, match=message):
        small_multiples(growth, "age", "height", "child", **arguments)
    assert plt.get_fignums() == []  # nothing was begun


def test_small_multiples_refuse_too_many_panels():
    with pytest.raises(CourseError, match="order: must hold 1 to 40 groups.*got 41"):
        small_multiples(many(41), "age", "height", "child")


def test_spaghetti_draws_all_groups_and_the_mean(growth, ax):
    assert spaghetti(growth, "age", "height", "child", ax, highlight=["b"], units=UNITS) is ax
    grey, coloured, mean = ax.lines
    assert drawn(grey) == [[0, 1, 2], [10, 11, 12]]  # sorted by age
    np.testing.assert_array_equal(coloured.get_ydata(), [20, np.nan, 26])  # a gap is a gap
    assert drawn(mean) == [[0, 1, 2], [15, 11, 19]]  # of what was observed
    assert mean.get_linewidth() > coloured.get_linewidth() > grey.get_linewidth()
    assert coloured.get_marker() == MARKERS[0]
    assert texts(ax.get_legend()) == ["child b", "mean"]
    assert ax.get_ylabel() == "height (cm)"


def test_spaghetti_without_mean_and_highlights_has_no_legend(growth, ax):
    spaghetti(growth, "age", "height", "child", ax, mean=False)
    assert len(ax.lines) == 2
    assert ax.get_legend() is None


def test_spaghetti_takes_any_number_of_groups(ax):
    spaghetti(many(150), "age", "height", "child", ax)
    assert len(ax.lines) == 151


@pytest.mark.parametrize(
    ("highlight", "message"), [(["c"], "highlight: .*got c"), (["a", "a"], "each once")]
)
def test_spaghetti_bad_highlight(growth, ax, highlight, message):
    with pytest.raises(CourseError, match=message):
        spaghetti(growth, "age", "height", "child", ax, highlight=highlight)
    assert not ax.lines


PARAMS = {"Intercept": 1.0, "age_within": 2.0, "age_between": 3.0}


def test_level_slopes_draws_means_within_and_between(growth, ax):
    assert level_slopes(growth, "age", "height", "child", PARAMS, ax, units=UNITS) is ax
    first, second, dots, between = ax.lines
    assert drawn(first) == [[0, 2], [9, 13]]  # mean 1, sd 1; mean 11, within slope 2
    reach = np.sqrt(2)  # b: ages 0 and 2 are complete
    np.testing.assert_allclose(second.get_xdata(), [1 - reach, 1 + reach])
    np.testing.assert_allclose(second.get_ydata(), [23 - 2 * reach, 23 + 2 * reach])
    assert drawn(dots) == [[1, 1], [11, 23]]
    assert drawn(between) == [[1, 1], [4, 4]]
    assert texts(ax.get_legend()) == ["within slope", "mean of a child", "between slope"]
    assert ax.get_xlabel() == "age (year)"


def test_level_slopes_takes_a_fit_and_groups_of_one_row(ax):
    schools = load("hsb82").head(300)
    split = within_between(schools, "ses", by="school")
    fit = lmer("mAch ~ ses_within + ses_between + (1 | school)", split)
    lonely = split.drop(split.index[split["school"] == split["school"].iloc[0]][1:])
    level_slopes(lonely, "ses", "mAch", "school", fit.fe_params, ax)
    alone = ax.lines[list(dict.fromkeys(lonely["school"])).index(split["school"].iloc[0])]
    assert len(ax.lines) == lonely["school"].nunique() + 2
    assert np.isfinite([line.get_xydata() for line in ax.lines[:-2]]).all()
    assert np.ptp(alone.get_xdata()) == 0


def test_level_slopes_draws_at_most_thirty_lines_from_the_lowest_mean_to_the_highest(ax):
    x = np.repeat(np.arange(80.0), 2) + np.tile([-1.0, 1.0], 80)
    many = pd.DataFrame({"x": x, "y": 2 * x, "g": np.repeat(np.arange(80), 2)})
    level_slopes(many, "x", "y", "g", {"Intercept": 0, "x_within": 1, "x_between": 2}, ax)
    middles = [line.get_xdata().mean() for line in ax.lines[:-2]]
    assert len(set(middles)) == 30
    np.testing.assert_allclose([min(middles), max(middles)], [0, 79])
    assert len(ax.lines[-2].get_xdata()) == 80  # every mean has its dot


@pytest.mark.parametrize(
    ("x", "params", "message"),
    [
        ("agee", PARAMS, "Perhaps you want 'age'"),
        ("age", {"Intercept": 1.0, "age_within": 2.0}, "params: must hold 'age_between'"),
        ("age", [1.0, 2.0, 3.0], "params: must be a Series or dict; got a list"),
        ("age", PARAMS | {"age_within": np.nan}, "params: must be one number, and finite"),
    ],
)
def test_level_slopes_bad_input(growth, ax, x, params, message):
    with pytest.raises(CourseError, match=message):
        level_slopes(growth, x, "height", "child", params, ax)
    assert not ax.lines


@pytest.fixture
def gaps():
    return pd.DataFrame(
        {
            "school": ["B", "A", "A", "B", "A"],
            "klass": [1, 2, 1, 1, 2],
            "x": [np.nan, 1.0, 2.0, np.nan, np.nan],  # all of B, one row of A2
            "y": [1.0, np.nan, 2.0, 3.0, np.nan],  # all of class A2
        }
    )


def cells(container):
    """Column and row of each mark."""
    return sorted((p.get_x() + p.get_width() / 2, p.get_y() + 0.5) for p in container.patches)


def test_missingness_map_codes_the_level(gaps, ax):
    assert missingness_map(gaps, ["school", "klass"], ax) is ax
    # Sorted rows: A1, A2, A2, B1, B1
    single, klass, school = ax.containers
    assert np.ravel(cells(single)) == pytest.approx([0, 2])
    assert np.ravel(cells(klass)) == pytest.approx([1, 1, 1, 2])
    assert np.ravel(cells(school)) == pytest.approx([0, 3, 0, 4])
    assert texts(ax.get_legend()) == [
        "in single rows (1)",
        "in a whole klass (2)",
        "in a whole school (2)",
    ]
    colours = [container.patches[0].get_facecolor() for container in ax.containers]
    assert [same_color(a, b) for a, b in zip(colours, MISSING_COLOURS, strict=False)] == [
        True
    ] * 3
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["x", "y"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["A", "B"]
    assert ax.get_yticks().tolist() == [1, 3.5]
    assert ax.get_ylim() == (4.5, -0.5)
    assert ax.get_ylabel() == "school (5 rows)"
    (boundary,) = ax.collections[0].get_segments()
    assert boundary.tolist() == [[-0.5, 2.5], [1.5, 2.5]]


def test_missingness_map_of_one_level_and_of_a_complete_table(gaps, ax):
    missingness_map(gaps.drop(columns="klass"), "school", ax)
    assert texts(ax.get_legend()) == ["in single rows (3)", "in a whole school (2)"]
    other = plt.subplots()[1]
    missingness_map(gaps.dropna(), "school", other)
    assert not other.containers
    assert other.get_legend() is None


def test_one_gap_in_thousands_of_rows_is_seen(ax):
    data = load("hsb82")[["school", "ses", "mAch"]]
    data.loc[4000, "ses"] = np.nan
    missingness_map(data, "school", ax)
    ax.figure.canvas.draw()
    inside = ax.get_window_extent()
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3] / 255
    top = pixels.shape[0] - int(inside.y1)
    area = pixels[
        top + 3 : top + int(inside.height) - 3, int(inside.x0) + 3 : int(inside.x1) - 3
    ]
    marked = (np.abs(area - to_rgb(MISSING_COLOURS[0])) < 0.2).all(axis=2)
    # 0.9 of one of two columns, at least one pixel thick
    assert marked.any(axis=0).mean() == pytest.approx(0.45, abs=0.03)
    assert len(ax.get_yticks()) <= 20


@pytest.mark.parametrize(
    ("change", "levels", "message"),
    [
        ({}, ["schol"], "Perhaps you want 'school'"),
        ({}, [], "levels: must name (one to three|at least one) column"),
        ({}, ["school", "klass", "x", "y"], "one to three columns"),
        ({"school": [None, "A", "A", "B", "A"]}, ["school"], "1 of 5 missing in 'school'"),
    ],
)
def test_missingness_map_bad_input(gaps, ax, change, levels, message):
    with pytest.raises(CourseError, match=message):
        missingness_map(gaps.assign(**change), levels, ax)


@pytest.mark.parametrize("function", [small_multiples, spaghetti])
@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({}, ["Age", "height", "child"], "Perhaps you want 'age'"),
        ({}, ["age", "child", "child"], "must name numeric columns"),
        ({}, ["age", "height", "kid"], "'kid', which is not one"),
        ({"height": np.inf}, ["age", "height", "child"], "6 infinite"),
        ({"height": np.nan}, ["age", "height", "child"], "must have an observed point"),
        ({"child": [None, *"abcde"]}, ["age", "height", "child"], "1 of 6 missing"),
    ],
)
def test_bad_columns(growth, ax, function, change, columns, message):
    where = () if function is small_multiples else (ax,)
    with pytest.raises(CourseError, match=message):
        function(growth.assign(**change), *columns, *where)
    assert not ax.lines


def test_bad_data_ax_and_units(growth, ax):
    with pytest.raises(CourseError, match="must be a pandas DataFrame"):
        spaghetti([1], "age", "height", "child", ax)
    with pytest.raises(CourseError, match="at least one row"):
        spaghetti(growth.iloc[:0], "age", "height", "child", ax)
    with pytest.raises(CourseError, match="ax: must be a matplotlib Axes; got a Figure"):
        spaghetti(growth, "age", "height", "child", ax.figure)
    with pytest.raises(CourseError, match="units: must be a dict of column to unit; got 'cm'"):
        spaghetti(growth, "age", "height", "child", ax, units="cm")


def test_the_coefficients_of_a_fit_plug_in():
    sleep = load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    lines = {"partial pooling": fit.coef()["Subject"]}
    (ax,) = small_multiples(sleep, "Days", "Reaction", "Subject", ["335"], lines)
    last = fit.coef()["Subject"].loc["335"]
    assert ax.lines[-1].get_ydata()[1] == pytest.approx(last["Intercept"] + 9 * last["Days"])
    assert same_color(ax.lines[-1].get_color(), COLOUR["partial pooling"])
    plt.close("all")


def test_lines_of_small_multiples_cover_the_x_of_their_group(growth, lines):
    growth.loc[2, "age"] = 5
    first, second = small_multiples(growth, "age", "height", "child", lines={"own": lines})
    assert drawn(first.lines[1]) == [[0, 5], [10, 15]]
    assert drawn(second.lines[1]) == [[0, 2], [20, 26]]
    plt.close("all")


def test_all_pictures_are_reached_from_plots():
    from course_lib.plots import estimates as fit_plots

    assert set(fit_plots.__all__) < set(plots.__all__)
    assert [name for name in plots.__all__ if not hasattr(plots, name)] == []


def filled(ax):
    return sorted((bar.get_x(), bar.get_y() + bar.get_height() / 2) for bar in ax.patches)


def test_label_plot_fills_each_pair_once(ax):
    data = pd.DataFrame({"school": list("AABB"), "number": [1, 1, 2, 1]})
    assert label_plot(data, "school", "number", ax) is ax
    assert filled(ax) == [(0, 0), (0, 1), (1, 1)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["A", "B"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("number (2)", "school")
    assert ax.get_ylim() == (1.5, -0.5)  # the first label on top


def test_label_plot_refuses_what_cannot_be_read(ax):
    many = pd.DataFrame({"a": range(41), "b": 1})
    with pytest.raises(CourseError, match="outer: must have at most 40 labels"):
        label_plot(many, "a", "b", ax)
    with pytest.raises(CourseError, match="1 of 41 missing in 'b'"):
        label_plot(many.assign(b=[np.nan, *range(40)]), "a", "b", ax)
    assert not ax.patches
