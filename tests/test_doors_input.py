"""What public functions are handed by mistake is named, before anything is drawn or fitted."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from course_lib import compare_models, lmer, load
from course_lib.errors import CourseError, check_count, check_flag, check_list, check_number
from course_lib.explain import counterfactual, partial_dependence_frame
from course_lib.plots import interval_plot, residual_plot, spaghetti
from course_lib.reshape import encode_levels, flatten_nested, to_long, within_between

DATA = pd.DataFrame({"g": np.arange(24) // 4, "t": np.arange(24) % 4, "k": list("abc") * 8})
DATA["x"] = (np.arange(24) * 7 % 11).astype(float)
DATA["y"] = DATA["x"] + np.sin(np.arange(24))
FIT = lmer("y ~ x + k + (1 | g)", DATA)


@pytest.fixture
def ax():
    yield plt.figure().add_subplot()
    plt.close("all")


@pytest.mark.parametrize("name", [["t"], {"t": 1}, np.zeros(2), DATA, None, ("t",)])
def test_what_is_no_name_of_a_column(ax, name):
    for call in (
        lambda: spaghetti(DATA, name, "y", "g", ax),
        lambda: residual_plot(DATA, "x", name, ax),
        lambda: interval_plot(DATA, "g", ax, estimate=name, band=("x", "y")),
    ):
        with pytest.raises(CourseError, match="data: must name columns of the data"):
            call()
    assert not ax.has_data()


@pytest.mark.parametrize("names", [None, 3, np.nan, [["x"]], [{}], DATA])
def test_what_is_no_list_of_names(ax, names):
    for call in (
        lambda: within_between(DATA, names, by="g"),
        lambda: encode_levels(DATA, names),
        lambda: to_long(DATA, names, id="g"),
        lambda: flatten_nested([{"a": [1]}], names, keys=[None, None]),
        lambda: counterfactual(FIT, DATA.iloc[0], DATA, 1.0, change=names),
        lambda: spaghetti(DATA, "t", "y", "g", ax, highlight=names),
    ):
        with pytest.raises(CourseError, match="must be a list; got"):
            call()


@pytest.mark.parametrize("flag", ["no", None, 1, [], np.zeros(2), pd.NA])
def test_a_flag_is_true_or_false(ax, flag):
    """Everything but an empty value would count as True, silently."""
    for call, name in (
        (lambda: FIT.predict(DATA, random=flag), "random"),
        (lambda: compare_models({"a": FIT, "b": FIT}, refit=flag), "refit"),
        (lambda: lmer("y ~ x + (1 | g)", DATA, reml=flag), "reml"),
        (lambda: spaghetti(DATA, "t", "y", "g", ax, mean=flag), "mean"),
    ):
        with pytest.raises(CourseError, match=f"{name}: must be True or False"):
            call()
    assert check_flag("a", np.bool_(True)) is True


@pytest.mark.parametrize("pair", ["ab", None, ("x",), ("x", "y", "t"), 2])
def test_what_is_no_pair(ax, pair):
    with pytest.raises(CourseError, match="band: must be a list"):
        interval_plot(DATA, "g", ax, estimate="x", band=pair)


@pytest.mark.parametrize("number", ["1", None, np.nan, True, [1.0], 1j, pd.NA, 10**400])
def test_what_is_no_number(number):
    with pytest.raises(CourseError, match="limit: must be one number"):
        check_number("limit", number, finite=False)


def test_giants_and_repeated_passes():
    with pytest.raises(CourseError, match="n_sim: .* at most 1,000,000,000"):
        check_count("n_sim", 10**30)
    assert check_list("names", (name for name in "ab")) == ["a", "b"]


@pytest.mark.parametrize("column", ["x", "k", "g"])
def test_several_levels_of_column_names_say_how_to_join_them(column):
    deep = DATA.set_axis(pd.MultiIndex.from_product([DATA.columns, ["a"]]), axis=1)
    for call in (
        lambda: lmer("y ~ x + (1 | g)", deep),
        lambda: within_between(deep, column, by="g"),
        lambda: FIT.predict(deep),
    ):
        with pytest.raises(CourseError, match="must have one name per column; .*join"):
            call()


@pytest.mark.parametrize("labels", [[[1], [2]], [{}, {"a": 1}], [([1],), ([2],)]])
def test_groups_that_cannot_be_compared(labels):
    data = DATA.assign(g=pd.Series([labels[k % 2] for k in range(24)], dtype=object))
    with pytest.raises(CourseError, match="formula: must name columns .*compared; got 'g'"):
        lmer("y ~ x + (1 | g)", data)
    with pytest.raises(CourseError, match="newdata: must name columns .*compared; got 'g'"):
        FIT.predict(data)
    with pytest.raises(CourseError, match="by: must name columns .*compared; got 'g'"):
        within_between(data, "x", by="g")


def test_groups_that_cannot_be_sorted():
    mixed = DATA.assign(g=pd.Series([2.5, (1, 2), "a"] * 8, dtype=object))
    with pytest.raises(CourseError, match=r"formula: .*sorted; got float, str, tuple in 'g'"):
        lmer("y ~ x + (1 | g)", mixed)


@pytest.mark.parametrize("values", [np.arange(24) + 1j, DATA["t"] > 1, DATA["k"]])
def test_parts_of_what_is_no_real_number_are_refused(values):
    with pytest.raises(CourseError, match="columns: must name numeric columns"):
        within_between(DATA.assign(x=values), "x", by="g")


def test_durations_may_name_groups_of_a_row_that_is_explained():
    data = DATA.assign(g=pd.to_timedelta(DATA["g"], "h"))
    fit = lmer("y ~ x + k + (1 | g)", data)
    found = counterfactual(fit, data.iloc[0], data, 5.0, change=["x"])
    assert found.distance == pytest.approx(
        counterfactual(FIT, DATA.iloc[0], DATA, 5.0, change=["x"]).distance
    )


@pytest.mark.parametrize("dtype", ["object", "string", "category", "arrow"])
def test_partial_dependence_of_two_features_of_any_type(dtype):
    if dtype == "arrow":
        pa = pytest.importorskip("pyarrow")
        dtype = pd.ArrowDtype(pa.string())
    expected = partial_dependence_frame(FIT, DATA, ["k", "x"], grid_resolution=3)
    stored = DATA.astype({"k": dtype, "x": "Float32"})
    found = partial_dependence_frame(FIT, stored, ["k", "x"], grid_resolution=3)
    np.testing.assert_allclose(found["prediction"], expected["prediction"], rtol=1e-6)
    assert found["k"].astype(str).tolist() == expected["k"].tolist()


@pytest.mark.parametrize("dtype", ["bool", "boolean"])
def test_partial_dependence_of_a_truth_value_and_a_number(dtype):
    data = DATA.assign(k=pd.Series(np.arange(24) % 3 == 0).astype(dtype))
    fit = lmer("y ~ x + k + (1 | g)", data)
    table = partial_dependence_frame(fit, data, ["k", "x"], grid_resolution=2)
    apart = table.groupby("k")["prediction"].mean()
    assert apart.loc[True] - apart.loc[False] == pytest.approx(fit.fe_params.iloc[-1])


def test_data_of_the_course_are_as_good_as_ever():
    fit = lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
    assert fit.correlation("Subject", "(Intercept)", "Days") == pytest.approx(0.066, abs=1e-3)
    with pytest.raises(CourseError, match="term: must name a random coefficient"):
        fit.sd("Subject", ["Days"])
