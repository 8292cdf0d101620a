import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from scipy.stats import norm

from course_lib import lmer, load
from course_lib.errors import CourseError
from course_lib.plots import COLOUR
from course_lib.plots.assumptions import (
    envelope_plot,
    memory_plot,
    related_plot,
    spread_plot,
    trend_plot,
)


@pytest.fixture
def ax():
    yield plt.subplots()[1]
    plt.close("all")


def drawn(line):
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_trend_keeps_few_places_and_averages_each(ax):
    x, y = [0, 0, 2, 2], [1.0, 3.0, -1.0, -5.0]
    assert trend_plot(x, y, ax) is ax
    zero, points, means = ax.lines
    assert zero.get_ydata() == [0, 0]
    np.testing.assert_array_equal(drawn(points), [x, y])
    np.testing.assert_array_equal(drawn(means), [[0, 2], [2, -3]])


def test_many_places_are_collected_in_eight_equal_parts(ax):
    x = np.random.default_rng(1).permutation(80)
    trend_plot(x, 2.0 * x, ax)
    centres = np.arange(8) * 10 + 4.5
    np.testing.assert_allclose(drawn(ax.lines[-1]), [centres, 2 * centres])


def test_within_measures_x_from_the_mean_of_its_group(ax):
    x = pd.Series([10.1, 10.3, 0.1, 0.3], name="age")
    trend_plot(x, [1.0, 2.0, 3.0, 4.0], ax, within=["a", "a", "b", "b"])
    np.testing.assert_allclose(drawn(ax.lines[-1]), [[-0.1, 0.1], [2, 3]])
    assert ax.get_xlabel() == "age − mean of group"


def test_spread_is_the_root_mean_square_on_both_sides(ax):
    spread_plot([0, 0, 1, 1], [3.0, -4.0, 1.0, 1.0], ax)
    upper, lower = ax.lines[-2:]
    np.testing.assert_allclose(drawn(upper)[1], [np.sqrt(12.5), 1])
    np.testing.assert_allclose(drawn(lower)[1], [-np.sqrt(12.5), -1])


def test_memory_pairs_rows_within_groups_only(ax):
    memory_plot([1.0, 2.0, 4.0, 8.0, 9.0], ["a", "a", "b", "b", "b"], ax)
    np.testing.assert_array_equal(drawn(ax.lines[1]), [[1, 4, 8], [2, 8, 9]])


def test_a_fit_plugs_in_by_index_and_dropped_rows_are_left_out(ax):
    sleep = load("sleepstudy")
    sleep.loc[5, "Reaction"] = np.nan
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    trend_plot(sleep["Days"], fit.resid, ax)
    assert len(ax.lines[1].get_xdata()) == 179
    assert ax.get_xlabel() == "Days"
    memory_plot(fit.resid, sleep["Subject"], plt.subplots()[1])


def test_related_plots_effects_against_the_mean_of_each_group(ax):
    x = pd.Series([0.0, 2.0, 4.0, 9.0], name="ses")
    effects = pd.Series([5.0, -1.0], index=["2", "1"], name="Intercept")
    assert related_plot(x, [1, 1, 2, 3], effects, ax) is ax  # group 3 has no effect
    np.testing.assert_array_equal(drawn(ax.lines[1]), [[1, 4], [-1, 5]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean ses of group", "random Intercept")


def test_related_needs_effects_by_group(ax):
    with pytest.raises(CourseError, match="effects: must be a Series indexed by group"):
        related_plot([0, 1], ["a", "b"], [1.0, 2.0], ax)
    with pytest.raises(CourseError, match="two complete points"):
        related_plot([0, 1], ["a", "b"], pd.Series([1.0, 2.0], ["c", "d"]), ax)
    assert not ax.lines


def test_colours_of_the_house(ax):
    trend_plot([0, 1], [1.0, 2.0], ax)
    assert same_color(ax.lines[1].get_color(), COLOUR["healthy"])
    memory_plot([1.0, 2.0, 3.0], ["a"] * 3, ax, colour=COLOUR["fault"])
    assert same_color(ax.lines[4].get_color(), COLOUR["fault"])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0, 1], [1.0], "x: must be columns of the same rows"),
        (["a", "b"], [1.0, 2.0], "x: must name numeric columns"),
        ([0, 1], [1.0, np.inf], "x: must name columns without infinite"),
        ([0, 1], [1.0, np.nan], "x: must leave two complete points; got 1 of 2"),
    ],
)
@pytest.mark.parametrize("draw", [trend_plot, spread_plot])
def test_what_cannot_be_drawn_is_refused_before_drawing(draw, x, y, message, ax):
    with pytest.raises(CourseError, match=message):
        draw(x, y, ax)
    assert not ax.lines


def test_memory_needs_a_group_of_two_and_numbers(ax):
    with pytest.raises(CourseError, match="two complete points"):
        memory_plot([1.0, 2.0], ["a", "b"], ax)
    with pytest.raises(CourseError, match="same rows"):
        memory_plot([1.0, 2.0], ["a"], ax)
    with pytest.raises(CourseError, match="numeric"):
        memory_plot(["1", "2"], ["a", "a"], ax)
    with pytest.raises(CourseError, match="ax: must be a matplotlib Axes"):
        memory_plot([1.0, 2.0], ["a", "a"], None)


# envelope_plot


@pytest.fixture
def band():
    return pd.DataFrame(
        {"observed": [-3.0, 0.0, 2.0], "median": 0.0, "lower_all": -2.0, "upper_all": 2.0}
    )


def test_envelope_marks_what_is_outside(band, ax):
    assert envelope_plot(band, ax, colour=COLOUR["fault"]) is ax
    median, inside, outside = ax.lines
    np.testing.assert_array_equal(drawn(median), [[1, 2, 3], [0, 0, 0]])
    np.testing.assert_array_equal(drawn(inside), [[2, 3], [0, 2]])  # on the edge is inside
    np.testing.assert_array_equal(drawn(outside), [[1], [-3]])
    assert same_color(inside.get_color(), COLOUR["fault"])
    assert inside.get_marker() != outside.get_marker()
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["95 % band of the model", "outside: 1 point"]
    corners = ax.collections[0].get_paths()[0].vertices
    assert {tuple(c) for c in corners} == {(x, y) for x in (1, 2, 3) for y in (-2, 2)}


def test_envelope_stands_at_quantiles_or_at_places(band, ax):
    envelope_plot(band, ax, "normal quantile")
    np.testing.assert_allclose(drawn(ax.lines[0])[0], norm.ppf([1 / 6, 1 / 2, 5 / 6]))
    assert ax.get_xlabel() == "normal quantile"
    envelope_plot(band, ax, pd.Series([5.0, 6.0, 8.0], name="age"))
    assert drawn(ax.lines[-3])[0].tolist() == [5, 6, 8]
    assert ax.get_xlabel() == "age"


def test_envelope_of_bad_input_is_refused(band, ax):
    with pytest.raises(CourseError, match="x: must be 'rank', 'normal quantile' or numbers"):
        envelope_plot(band, ax, "age")
    with pytest.raises(CourseError, match=r"x: must have one place per row of the band \(3\)"):
        envelope_plot(band, ax, [1.0, 2.0])
    with pytest.raises(CourseError, match="band: .*'median'"):
        envelope_plot(band.drop(columns="median"), ax)
    assert not ax.lines


@pytest.mark.parametrize("colour", ["nope", 3, None, [1.0], {"a": 1}])
def test_what_is_no_colour(colour, ax):
    with pytest.raises(CourseError, match="colour: must be a colour"):
        trend_plot([1.0, 2.0, 3.0], [1.0, 0.0, 1.0], ax, colour=colour)
    assert not ax.lines


@pytest.mark.parametrize("x", [3, "ab", {1.0, 2.0}, np.ones((2, 2))])
def test_what_is_no_column(x, ax):
    with pytest.raises(CourseError, match="x: must be columns of the same rows; got x = "):
        trend_plot(x, [1.0, 2.0], ax)
    assert not ax.lines
