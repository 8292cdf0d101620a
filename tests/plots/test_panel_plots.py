import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from course_lib.errors import CourseError
from course_lib.plots import COLOUR, gap_plot, within_between_plot


@pytest.fixture
def ax():
    yield plt.subplots()[1]
    plt.close("all")


@pytest.fixture
def axes():
    yield plt.subplots(1, 2)[1]
    plt.close("all")


@pytest.fixture
def men():
    return pd.DataFrame(
        {"man": ["A", "B", "A", "B"], "x": [1, 3, 3, 5], "y": [2.0, 8.0, 4.0, 10.0]},
        index=[3, 3, 1, 0],
    )


@pytest.fixture
def table():
    columns = {"term": ["Intercept", "x"], "fe": [0, 1.0], "fe_se": [1, 0.5]}
    return pd.DataFrame(columns | {"re": [0, 1.5], "re_se": [1, 0.3]})


def drawn(line):
    return np.array([line.get_xdata(), line.get_ydata()], dtype=float)


def labels(ax):
    return [text.get_text() for text in ax.texts]


def test_within_lines_go_through_the_means_of_the_groups(men, ax):
    assert within_between_plot(men, "x", "y", "man", ax, {"within": 1.0}) is ax
    points, rings, first, second = ax.lines
    np.testing.assert_array_equal(drawn(points), [[1, 3, 3, 5], [2, 8, 4, 10]])
    np.testing.assert_array_equal(drawn(rings), [[2, 4], [3, 9]])
    np.testing.assert_array_equal(drawn(first), [[1, 3], [2, 4]])
    np.testing.assert_array_equal(drawn(second), [[3, 5], [8, 10]])
    assert same_color(first.get_color(), COLOUR["no pooling"])
    assert labels(ax) == ["within 1.00"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")


def test_other_lines_go_through_the_mean_of_all(men, ax):
    slopes = {"between": 3.0, "pooled": 2.0, "random effects": -1.0}
    within_between_plot(men, "x", "y", "man", ax, slopes)
    for line, slope in zip(ax.lines[2:], slopes.values(), strict=True):
        np.testing.assert_allclose(drawn(line), [[1, 5], [6 - 2 * slope, 6 + 2 * slope]])
    assert sorted(labels(ax)) == ["between 3.00", "pooled 2.00", "random effects −1.00"]


@pytest.mark.parametrize("theta", [0.5, 1])
def test_dial_moves_the_groups_towards_the_mean_of_all(men, ax, theta):
    within_between_plot(men, "x", "y", "man", ax, {"within": 1.0}, theta=theta, labels=False)
    rings = drawn(ax.lines[1])
    np.testing.assert_allclose(rings[0], [3 - (1 - theta), 3 + (1 - theta)])
    np.testing.assert_allclose(rings[1], [6 - 3 * (1 - theta), 6 + 3 * (1 - theta)])
    assert labels(ax) == []


def test_labels_of_neighbouring_lines_do_not_overlap(men, ax):
    within_between_plot(men, "x", "y", "man", ax, {"between": 2.0, "pooled": 2.01})
    heights = sorted(text.xyann[1] for text in ax.texts)
    assert heights[1] - heights[0] >= 0.07


def test_labels_are_joined_to_the_ends_of_their_lines(men, ax):
    within_between_plot(men, "x", "y", "man", ax, {"within": 1.0, "between": 2.0})
    for text, line in zip(ax.texts, (ax.lines[-2], ax.lines[-1]), strict=True):
        assert text.xy in {tuple(end) for end in drawn(line).T.tolist()}
        assert text.arrow_patch is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": "z"}, "z"),
        ({"group": "z"}, "z"),
        ({"slopes": {"inside": 1.0}}, "inside"),
        ({"slopes": {"within": np.nan}}, "finite"),
        ({"slopes": 1.0}, "dict"),
        ({"theta": 1.5}, "between 0 and 1"),
        ({"ax": None}, "Axes"),
    ],
)
def test_within_between_plot_says_what_is_wrong(men, ax, change, words):
    call = {"data": men, "x": "x", "y": "y", "group": "man", "ax": ax}
    call |= {"slopes": {"within": 1.0}} | change
    with pytest.raises(CourseError, match=words):
        within_between_plot(**call)
    assert not ax.lines


def test_gap_has_the_standard_error_of_hausman(table, axes):
    assert gap_plot(table, "x", axes) is axes
    left, right = axes
    assert labels(left) == ["1.000", "1.500"]
    assert labels(right) == [" no gap", "−0.500"]
    (bar,) = [c for c in right.collections if len(c.get_segments()) == 1]
    ends = bar.get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [-0.5 - 1.96 * 0.4, -0.5 + 1.96 * 0.4])


def test_gap_has_the_scale_of_the_estimates(table, axes):
    gap_plot(table, "x", axes)
    left, right = (ax.get_xlim() for ax in axes)
    np.testing.assert_allclose(np.ptp(left), np.ptp(right))
    assert left[0] < 1 - 1.96 * 0.5
    assert left[1] > 1 + 1.96 * 0.5
    assert right[0] < -0.5 - 1.96 * 0.4
    assert right[1] > 0


def test_gap_plot_says_what_is_wrong(table, axes):
    for term, frame, words in (
        ("z", table, "must name one row"),
        ("x", table.drop(columns="re"), "re"),
        ("x", table.assign(re_se=0.5), "larger standard error"),
    ):
        with pytest.raises(CourseError, match=words):
            gap_plot(frame, term, axes)
    with pytest.raises(CourseError, match="two Axes"):
        gap_plot(table, "x", axes[0])
    with pytest.raises(CourseError, match="Axes"):
        gap_plot(table, "x", [1, 2])
    assert not any(ax.lines for ax in axes)
