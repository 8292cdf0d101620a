"""Data labels are shown as they are: no group leaves a legend, no name is read as math."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.cbook import is_math_text

from course_lib import plots
from course_lib.plots.style import entry, literal

# Matplotlib reads the first four as math (two of them do not parse), and hides the next three
NAMES = ["$5^$", "a$b$", r"$\frac$", "$x$ and $y$", "_other", "_nolegend_", ""]
NAMES += ["$5", r"a\$b", "_$a$"]


@pytest.fixture
def ax():
    yield plt.subplots()[1]
    plt.close("all")


def shown(text):
    """What Matplotlib draws for a text, which must not be math."""
    text = text if isinstance(text, str) else text.get_text()
    assert not is_math_text(text), f"{text} would be read as math"
    return text.replace(r"\$", "$")


def entries(legend):
    return [shown(text) for text in legend.get_texts()]


def ticks(axis):
    return [shown(text) for text in axis.get_ticklabels()]


def labels(ax):
    return shown(ax.get_xlabel()), shown(ax.get_ylabel())


def pixels(text, parse_math):
    figure = plt.figure(figsize=(3, 1))
    figure.text(0.1, 0.4, text, parse_math=parse_math)
    figure.canvas.draw()
    image = np.array(figure.canvas.buffer_rgba())
    plt.close(figure)
    return image


@pytest.mark.parametrize("name", NAMES)
def test_literal_is_drawn_as_the_text_without_math(name):
    np.testing.assert_array_equal(pixels(literal(name), True), pixels(name, False))


def test_a_label_that_is_math_would_be_drawn_otherwise():
    assert (pixels("a$b$", True) != pixels("a$b$", False)).any()  # the test above can fail


@pytest.mark.parametrize("name", NAMES)
def test_entry_stays_in_a_legend_that_is_made_again(name, ax):
    ax.plot([0, 1], [0, 1], label=entry(name))
    (text,) = ax.legend().get_texts()
    drawn, plain = pixels(text.get_text(), True), pixels(name, False)
    np.testing.assert_array_equal(drawn, plain)


def test_no_category_has_no_entry(ax):
    ax.plot([0, 1], [0, 1], label=entry(None))
    assert ax.get_legend_handles_labels() == ([], [])


@pytest.fixture
def data():
    """Ten groups with the names above, in two columns with names that are none of Python's."""
    rows = pd.DataFrame({"$g$": NAMES * 2, "$x^$": [0.0] * 10 + [1.0] * 10, "_y_$u$": 1.0})
    return rows.assign(lower=0.0, upper=2.0)


COLUMNS = "$x^$", "_y_$u$", "$g$"
UNITS = {"$x^$": r"$\mu^$", "_y_$u$": "US$ per $"}
LABELS = r"$x^$ ($\mu^$)", "_y_$u$ (US$ per $)"
LINES = pd.DataFrame({"Intercept": 0.0, "$x^$": 1.0}, index=NAMES)


def test_small_multiples(data):
    given = {name: LINES for name in NAMES}
    axes = plots.small_multiples(data, *COLUMNS, order=NAMES, lines=given, units=UNITS)
    figure = axes[0].figure
    assert [shown(ax.get_title()) for ax in axes] == [f"$g$ {name}" for name in NAMES]
    assert entries(figure.legends[0]) == ["observed", *NAMES]
    assert (shown(figure.get_supxlabel()), shown(figure.get_supylabel())) == LABELS
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize("group", ["$g$", "_g"])
def test_spaghetti(data, group, ax):
    data = data.rename(columns={"$g$": group})
    plots.spaghetti(data, "$x^$", "_y_$u$", group, ax, highlight=NAMES, units=UNITS)
    assert entries(ax.get_legend()) == [*(f"{group} {name}" for name in NAMES), "mean"]
    assert labels(ax) == LABELS
    ax.figure.canvas.draw()


def test_missingness_map(data, ax):
    data.loc[data["$g$"] == "_other", "_y_$u$"] = np.nan
    plots.missingness_map(data, "$g$", ax)
    assert entries(ax.get_legend()) == ["in a whole $g$ (2)"]
    assert ticks(ax.yaxis) == sorted(NAMES)
    assert ticks(ax.xaxis) == ["$x^$", "_y_$u$", "lower", "upper"]
    assert shown(ax.get_ylabel()) == "$g$ (20 rows)"
    ax.figure.canvas.draw()


@pytest.mark.parametrize("name", NAMES)
def test_caterpillar(name, ax):
    index = pd.Index(NAMES, name="$g$")
    table = pd.DataFrame({"estimate": range(10), "lower": 0, "upper": 1}, index=index)
    plots.caterpillar(table, ax, "$b^$", r"$\mu$", reference_label=name)
    assert ticks(ax.yaxis) == NAMES
    assert entries(ax.get_legend()) == [name]
    assert labels(ax) == (r"$b^$ ($\mu$)", "$g$")
    ax.figure.canvas.draw()


def test_interval_plot(data, ax):
    rows = data[:10].assign(kind=NAMES)
    band = ("lower", "upper")
    plots.interval_plot(rows, "$g$", ax, "kind", "_y_$u$", band, {**UNITS, "$g$": "$"})
    assert ticks(ax.yaxis) == entries(ax.get_legend()) == NAMES
    assert labels(ax) == ("_y_$u$ (US$ per $)", "$g$ ($)")
    plots.interval_plot(rows, "kind", other := plt.subplots()[1], "$g$", "_y_$u$", band)
    assert shown(other.get_legend().get_title()) == "$g$"
    ax.figure.canvas.draw()
    other.figure.canvas.draw()


def test_shrinkage_plot(ax):
    own = pd.DataFrame({"Intercept": range(10), "$b_": 1.0}, index=NAMES)
    plots.shrinkage_plot(own, own / 2, own.mean(), "$b_", ax, NAMES, {"Intercept": "$"})
    assert [shown(text) for text in ax.texts if text.arrow_patch is None] == NAMES
    assert labels(ax) == ("Intercept ($)", "$b_")
    ax.figure.canvas.draw()


def test_covariance_ellipse_residual_plot_and_qq_plot(data, ax):
    terms = ["$x^$", "_y_$u$"]
    cov = pd.DataFrame(np.eye(2), terms, terms)
    plots.covariance_ellipse(cov, ax, *terms, units=UNITS)
    assert labels(ax) == LABELS
    plots.residual_plot(data, *terms, ax, units=UNITS)
    assert labels(ax) == LABELS
    plots.qq_plot(data, "_y_$u$", ax, units=UNITS)
    assert labels(ax) == ("normal quantile", LABELS[1])
    ax.figure.canvas.draw()


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_the_type_of_the_group_column_changes_no_entry(data, dtype, ax):
    plots.spaghetti(data.astype({"$g$": dtype}), *COLUMNS, ax, highlight=NAMES, mean=False)
    assert entries(ax.get_legend()) == [f"$g$ {name}" for name in NAMES]


def test_names_that_are_numbers(ax):
    data = pd.DataFrame({0: [1, 2], 1: [0.0, 1.0], 2: [1.0, 2.0]})
    plots.spaghetti(data, 1, 2, 0, ax, highlight=[1, 2], mean=False)
    assert entries(ax.get_legend()) == ["0 1", "0 2"]
    assert labels(ax) == ("1", "2")
