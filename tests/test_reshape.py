import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.datasets import load
from course_lib.errors import CourseError
from course_lib.reshape import (
    own_lines,
    own_slopes,
    table_report,
    variance_by_level,
    within_between,
)


@pytest.fixture
def pupils():
    return pd.DataFrame(
        {
            "school": ["a", "a", "b", "b", "b"],
            "ses": [1.0, 3.0, 4.0, 5.0, 9.0],
            "public": [1, 1, 0, 0, 0],
            "one": 7.0,
        }
    )


def test_within_between_by_hand(pupils):
    result = within_between(pupils, ["ses"], by="school")
    assert result["ses_within"].tolist() == [-1.0, 1.0, -2.0, -1.0, 3.0]
    assert result["ses_between"].tolist() == [2.0, 2.0, 6.0, 6.0, 6.0]
    assert list(result.columns) == [*pupils.columns, "ses_within", "ses_between"]


def test_within_between_leaves_its_input_alone(pupils):
    before = pupils.copy()
    within_between(pupils, "ses", by="school")
    pd.testing.assert_frame_equal(pupils, before)


def test_within_between_keeps_the_index_even_with_repeated_labels(pupils):
    pupils.index = [3, 3, 3, 0, 0]
    result = within_between(pupils, "ses", by="school")
    assert result.index.tolist() == [3, 3, 3, 0, 0]
    assert result["ses_between"].tolist() == [2.0, 2.0, 6.0, 6.0, 6.0]


def test_within_between_missing_values_use_the_observed_mean(pupils):
    pupils.loc[0, "ses"] = np.nan
    pupils.loc[2:, "ses"] = np.nan
    result = within_between(pupils, "ses", by="school")
    np.testing.assert_array_equal(result["ses_between"], [3.0, 3.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(result["ses_within"], [np.nan, 0.0, np.nan, np.nan, np.nan])


def test_nested_keys_tell_reused_class_numbers_apart():
    data = pd.DataFrame(
        {"school": [1, 1, 2, 2], "class": [1, 1, 1, 1], "x": [0.0, 2.0, 10.0, 20.0]}
    )
    nested = within_between(data, "x", by=["school", "class"])
    assert nested["x_between"].tolist() == [1.0, 1.0, 15.0, 15.0]
    assert within_between(data, "x", by="class")["x_between"].tolist() == [8.0] * 4


def test_within_has_no_mean_left_even_for_large_numbers():
    rng = np.random.default_rng(1)
    school = np.repeat(np.arange(20), 7)
    data = pd.DataFrame({"school": school, "x": 1e9 + rng.normal(size=140)})
    within = within_between(data, "x", by="school").groupby("school")["x_within"].mean()
    # The spacing of floats at 1e9 is 1e-7: one pass alone leaves means of that size
    assert within.abs().max() < 1e-15


def test_variance_by_level_by_hand(pupils):
    table = variance_by_level(pupils, "ses", by="school").set_index("level")
    # within: (1 + 1 + 4 + 1 + 9) / 5; between: (2 (2 − 4.4)² + 3 (6 − 4.4)²) / 5
    np.testing.assert_allclose(table["variance"], [3.2, 3.84], rtol=1e-14)
    np.testing.assert_allclose(table["share"], [3.2 / 7.04, 3.84 / 7.04], rtol=1e-14)
    assert table["n_groups"].tolist() == [2, 2]
    assert table["n_groups_varying"].tolist() == [2, 2]


def test_variance_by_level_names_the_level(pupils):
    pupils["wave"] = [1, 3, 1, 2, 3]
    table = variance_by_level(pupils, ["ses", "public", "one", "wave"], by="school")
    where = dict(zip(table["column"], table["varies_at"], strict=True))
    assert where == {"ses": "both", "public": "between", "one": "neither", "wave": "within"}
    one = table[table["column"] == "one"]
    assert one["variance"].tolist() == [0.0, 0.0]
    assert one["share"].isna().all()


def test_variance_by_level_takes_no_rounding_for_variation():
    # 0.1 + 0.2 + 0.3 depends on the order of the summands; the groups still have one mean
    data = pd.DataFrame({"g": [1, 1, 1, 2, 2, 2], "x": [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]})
    table = variance_by_level(data, "x", by="g")
    assert table["varies_at"].tolist() == ["within", "within"]
    assert table["variance"].iloc[1] == 0.0


def test_variance_by_level_counts_the_groups_that_vary(pupils):
    pupils.loc[1, "ses"] = 1.0
    table = variance_by_level(pupils, "ses", by="school")
    assert table["n_groups_varying"].tolist() == [1, 1]


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6),
    missing=st.integers(0, 6),
)
def test_the_parts_add_up(values, missing):
    data = pd.DataFrame({"g": list("aabbcc"), "x": values})
    data.loc[missing : missing + 1, "x"] = np.nan
    if data["x"].isna().all():
        return
    split = within_between(data, "x", by="g")
    total = split["x_within"] + split["x_between"]
    # Rounding of sums of numbers up to 1e6
    np.testing.assert_allclose(total, data["x"], rtol=0, atol=1e-9)
    parts = variance_by_level(data, "x", by="g")["variance"].sum()
    np.testing.assert_allclose(parts, data["x"].var(ddof=0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [within_between, variance_by_level])
@pytest.mark.parametrize(
    ("change", "columns", "by", "message"),
    [
        ({}, ["sess"], "school", "Perhaps you want 'ses'"),
        ({}, ["ses"], "schol", "Perhaps you want 'school'"),
        ({}, ["school"], "school", "must name numeric columns"),
        ({}, [], "school", "columns: must name at least one"),
        ({}, ["ses"], [], "by: must name at least one"),
        ({}, ["ses", "ses"], "school", "must name each column once"),
        ({"ses": [1, 2, 3, 4, np.inf]}, ["ses"], "school", "infinite"),
        (
            {"school": ["a", "a", None, "b", "b"]},
            ["ses"],
            "school",
            "by: must not have missing",
        ),
    ],
)
def test_bad_input(pupils, function, change, columns, by, message):
    with pytest.raises(CourseError, match=message):
        function(pupils.assign(**change), columns, by=by)


@pytest.mark.parametrize("function", [within_between, variance_by_level])
def test_bad_data(pupils, function):
    with pytest.raises(CourseError, match="must be a pandas DataFrame"):
        function({"ses": [1]}, "ses", by="school")
    with pytest.raises(CourseError, match="at least one row"):
        function(pupils.iloc[:0], "ses", by="school")


def test_names_that_are_taken(pupils):
    once = within_between(pupils, "ses", by="school")
    with pytest.raises(CourseError, match="'ses_within' that is already there"):
        within_between(once, "ses", by="school")


def test_a_column_without_values(pupils):
    with pytest.raises(CourseError, match="all 5 are missing"):
        variance_by_level(pupils.assign(ses=np.nan), "ses", by="school")


# table_report

PARENTS = {"child": "class", "class": "school"}


@pytest.fixture
def waves():
    return pd.DataFrame(
        {
            "school": ["A", "A", "A", "a"],
            "class": ["A1", "A1", "A1", "A1"],
            "child": ["x", "x", "y", None],
            "wave": [1, 1, 1, 2],
            "score": [5.0, 6.0, np.nan, 8.0],
        }
    )


def test_table_report_counts_by_hand(waves):
    assert table_report(waves, ["child", "wave"], PARENTS, "score").to_dict() == {
        "rows": 4,
        "rows with a missing key": 1,
        "rows with a repeated key": 2,
        "number of child": 2,
        "number of class": 1,
        "number of school": 2,
        "child with several class": 0,
        "class with several school": 1,
        "observed score": 3,
        "sum of score": 19,
    }


def test_table_report_leaves_its_input_alone_and_takes_categories(waves):
    kinds = waves.astype({"school": "category", "class": "category", "score": "Float64"})
    before = kinds.copy()
    report = table_report(kinds, ["child", "wave"], PARENTS, "score")
    pd.testing.assert_frame_equal(kinds, before)
    assert report["class with several school"] == 1
    assert report["sum of score"] == 19


# own_lines


@pytest.fixture
def visits():
    return pd.DataFrame(
        {
            "who": ["b", "b", "b", "a", "a", "c", "d", "d"],
            "day": [0, 1, 2, 1, 3, 5, 0.1, 0.1],
            "ms": [1.0, 2.0, 6.0, 4.0, 8.0, 9.0, 1.0, 2.0],
        }
    )


def test_own_lines_by_hand(visits):
    result = own_lines(visits, "ms", "day", "who")
    assert list(result.columns) == ["Intercept", "day"]
    assert (result.index.name, result.index.tolist()) == ("who", ["a", "b", "c", "d"])
    np.testing.assert_allclose(result.loc["a"], [2, 2])  # two rows: the line through both
    np.testing.assert_allclose(result.loc["b"], [0.5, 2.5])
    assert result.loc[["c", "d"]].isna().all(axis=None)  # one day only: no line


def test_own_lines_leaves_incomplete_rows_out(visits):
    more = pd.DataFrame({"who": ["a", "a", "e"], "day": [9, None, 1], "ms": [None, 5, None]})
    result = own_lines(pd.concat([visits, more]), "ms", "day", "who")
    np.testing.assert_allclose(result.loc["a"], [2, 2])
    assert result.loc["e"].isna().all()


def test_own_lines_of_small_integers_do_not_wrap(visits):
    table = visits.assign(day=100 * visits["day"], ms=20 * visits["ms"])[:5]
    small = table.astype({"day": "int16", "ms": "uint8"})
    pd.testing.assert_frame_equal(
        own_lines(small, "ms", "day", "who"), own_lines(table, "ms", "day", "who")
    )


def test_own_lines_are_those_of_polyfit():
    sleep = load("sleepstudy")
    result = own_lines(sleep, "Reaction", "Days", "Subject")
    for name, rows in sleep.groupby("Subject"):
        line = np.polyfit(rows["Days"], rows["Reaction"], 1)[::-1]
        np.testing.assert_allclose(result.loc[name], line, rtol=1e-10)


def test_own_slopes_by_hand(visits):
    result = own_slopes(visits, "ms", "day", "who")
    assert result["n"].tolist() == [2, 3, 1, 2]
    np.testing.assert_allclose(result["estimate"], [2, 2.5, np.nan, np.nan])
    # Only b has a row to spare: residuals .5, −1, .5, so σ² = 1.5; spreads of x: 2 and 2
    np.testing.assert_allclose(result["std_error"], [0.75**0.5] * 2 + [np.nan] * 2)
    half = (result["upper"] - result["lower"]) / 2
    np.testing.assert_allclose(half / result["std_error"], [1.959964] * 2 + [np.nan] * 2)


def test_own_slopes_are_those_of_one_regression_with_a_slope_per_group():
    sleep = load("sleepstudy")
    fit = smf.ols("Reaction ~ 0 + Subject + Subject:Days", sleep).fit()
    result = own_slopes(sleep, "Reaction", "Days", "Subject")
    names = [f"Subject[{name}]:Days" for name in result.index]
    np.testing.assert_allclose(result["estimate"], fit.params[names], rtol=1e-9)
    np.testing.assert_allclose(result["std_error"], fit.bse[names], rtol=1e-9)


def test_own_slopes_leave_incomplete_rows_out(visits):
    more = pd.DataFrame({"who": ["a", "a", "e"], "day": [9, None, 1], "ms": [None, 5, None]})
    table = pd.concat([visits, more])
    result = own_slopes(table, "ms", "day", "who")
    pd.testing.assert_frame_equal(result[:4], own_slopes(visits, "ms", "day", "who"))
    assert result.loc["e", "n"] == 0


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_own_slopes_take_any_type_of_group(visits, dtype):
    result = own_slopes(visits.astype({"who": dtype}), "ms", "day", "who")
    assert result.loc["b", "estimate"] == pytest.approx(2.5)


def test_own_slopes_need_a_row_to_spare(visits):
    with pytest.raises(CourseError, match="data: must have a group with three rows or more"):
        own_slopes(visits[3:], "ms", "day", "who")


@pytest.mark.parametrize("function", [own_lines, own_slopes])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MS", "day", "who"), "y: .*Perhaps you want 'ms'"),
        (("ms", "who", "who"), "x: "),
        (("ms", "day", "person"), "group: "),
    ],
)
def test_own_lines_bad_input(visits, function, arguments, message):
    with pytest.raises(CourseError, match=message):
        function(visits, *arguments)
    with pytest.raises(CourseError, match="group: "):
        function(visits.assign(who=visits["who"].replace("c", None)), "ms", "day", "who")


@pytest.mark.parametrize(
    ("key", "parents", "value", "message"),
    [
        (["child", "wav"], {}, "score", "Perhaps you want 'wave'"),
        ([], {}, "score", "key: must name at least one"),
        ("child", {"child": "clas"}, "score", "parents: .*'clas'"),
        ("child", ["child"], "score", "parents: must be a dict"),
        ("child", {}, "school", "value: must name numeric"),
    ],
)
def test_table_report_bad_input(waves, key, parents, value, message):
    with pytest.raises(CourseError, match=message):
        table_report(waves, key, parents, value)
