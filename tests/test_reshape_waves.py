import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import load
from course_lib.errors import CourseError
from course_lib.reshape import to_long, to_wide


@pytest.fixture
def wide():
    return pd.DataFrame({"id": [1, 2], "time1": [5, 7], "time2": [6, 8]})


@pytest.fixture
def long():
    return pd.DataFrame(
        {
            "id": ["a", "a", "b", "b"],
            "sex": ["f", "f", "m", "m"],
            "wave": [0, 1, 0, 1],
            "score": [1.5, 2.5, np.nan, 4.5],
            "grade": [3, 4, 5, 6],
        }
    )


def test_the_label_becomes_a_number(wide):
    result = to_long(wide, {"time": "value"}, id="id", wave="time")
    expected = pd.DataFrame(
        {"id": [1, 1, 2, 2], "time": [1, 2, 1, 2], "value": [5, 6, 7, 8]}, dtype="int64"
    )
    pd.testing.assert_frame_equal(result, expected)


def test_to_long_agrees_with_pandas(wide):
    by_pandas = pd.wide_to_long(wide, "time", i="id", j="wave").sort_index().reset_index()
    pd.testing.assert_frame_equal(to_long(wide, "time", id="id"), by_pandas)


def test_several_stubs_other_columns_and_separator():
    wide = pd.DataFrame(
        {"mood_2": ["x"], "y_2": [2.0], "id": [9], "sex": ["f"], "y_1": [1.0], "mood_1": ["z"]}
    )
    result = to_long(wide, ["y", "mood"], id="id", sep="_")
    assert result.to_dict("list") == {
        "id": [9, 9],
        "sex": ["f", "f"],
        "wave": [1, 2],
        "y": [1.0, 2.0],
        "mood": ["z", "x"],
    }


@pytest.mark.parametrize(
    ("columns", "waves", "kind"),
    [
        (["x2", "x10"], [2, 10], "int64"),
        (["x0.5", "x1"], [0.5, 1.0], "float64"),
        (["x-1", "x0"], [-1, 0], "int64"),
        (["x01", "x02"], [1, 2], "int64"),
    ],
)
def test_waves_are_numbers_in_numerical_order(columns, waves, kind):
    result = to_long(pd.DataFrame([[1, 3, 4]], columns=["id", *columns]), "x", id="id")
    assert result["wave"].tolist() == waves
    assert result["wave"].dtype == kind
    assert result["x"].tolist() == [3, 4]


def test_units_keep_their_order_and_the_argument_is_left_alone(wide):
    turned = wide.iloc[::-1]
    before = turned.copy()
    assert to_long(turned, "time", id="id")["id"].tolist() == [2, 2, 1, 1]
    pd.testing.assert_frame_equal(turned, before)


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1, None], dtype="Int64"),
        pd.Categorical(["a", "b"], categories=["b", "a"], ordered=True),
        pd.to_datetime(["2020-01-01", "2021-01-01"]),
        [True, False],
        ["a", None],
    ],
)
def test_types_are_kept(values):
    wide = pd.DataFrame({"id": [1, 2], "x1": values, "x2": values})
    long = to_long(wide, "x", id="id")
    assert long["x"].dtype == wide["x1"].dtype
    pd.testing.assert_frame_equal(to_wide(long, "x", id="id"), wide)


def test_waves_of_several_number_types_get_the_common_one(wide):
    result = to_long(wide.assign(time2=[6.5, np.nan]), "time", id="id")
    np.testing.assert_array_equal(result["time"], [5.0, 6.5, 7.0, np.nan])


def test_to_wide_by_hand(long):
    result = to_wide(long, {"score": "y", "grade": "g"}, id="id", sep="_")
    expected = pd.DataFrame(
        {
            "id": ["a", "b"],
            "sex": ["f", "m"],
            "y_0": [1.5, np.nan],
            "y_1": [2.5, 4.5],
            "g_0": [3, 5],
            "g_1": [4, 6],
        }
    )
    pd.testing.assert_frame_equal(result, expected)


def test_to_wide_does_not_depend_on_the_order_of_the_rows_of_a_unit(long):
    shuffled = long.iloc[[1, 3, 0, 2]]
    result = to_wide(shuffled, ["score", "grade"], id="id")
    pd.testing.assert_frame_equal(result, to_wide(long, ["score", "grade"], id="id"))


def test_to_wide_leaves_gaps_on_request(long):
    result = to_wide(long.drop(1), ["score", "grade"], id="id", unbalanced="missing")
    assert result["grade1"].dtype == "Int64"
    assert result["grade1"].isna().tolist() == [True, False]
    assert result["grade0"].tolist() == [3, 5]
    np.testing.assert_array_equal(result["score1"], [np.nan, 4.5])


def test_several_columns_name_a_unit():
    long = pd.DataFrame(
        {"school": [1, 1, 2, 2], "pupil": [1, 1, 1, 1], "wave": [0, 1, 0, 1], "y": range(4)}
    )
    wide = to_wide(long, "y", id=["school", "pupil"])
    assert wide["y1"].tolist() == [1, 3]
    pd.testing.assert_frame_equal(to_long(wide, "y", id=["school", "pupil"]), long)


def test_school_growth_there_and_back():
    growth = load("school_growth")
    wide = to_wide(growth, "score", id="student_id", wave="time")
    assert wide.shape == (240, 4 + 5)
    assert wide.filter(like="score").isna().sum().sum() == 36
    back = to_long(wide, "score", id="student_id", wave="time")
    pd.testing.assert_frame_equal(back[growth.columns], growth)


@st.composite
def tables(draw):
    """Wide tables with two stubs, a constant column and a stray order of columns."""
    n_units = draw(st.integers(1, 4))
    number = st.integers(-3, 12) | st.sampled_from([0.5, 1.25, 1e-7, 123456.5])
    waves = sorted(set(draw(st.lists(number, min_size=1, max_size=4))))
    if any(isinstance(wave, float) for wave in waves):
        waves = [float(wave) for wave in waves]
    sep = draw(st.sampled_from(["", "_", ".", "-"]))

    def column(values):
        return draw(st.lists(values, min_size=n_units, max_size=n_units))

    floats = st.floats(allow_infinity=False, width=64)
    ids = st.integers(-(2**60), 2**60)
    wide = {"id": draw(st.lists(ids, min_size=n_units, max_size=n_units, unique=True))}
    wide["sex"] = column(st.sampled_from(["f", "m", None]))
    for stub, values in (("score", floats), ("n", st.integers(-(2**62), 2**62))):
        for wave in waves:
            label = np.format_float_positional(wave) if isinstance(wave, float) else wave
            label = f"{label}0" if str(label).endswith(".") else label
            wide[f"{stub}{sep}{label}"] = column(values)
    return pd.DataFrame(wide), waves, sep


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_the_round_trip_loses_nothing(table, random):
    wide, waves, sep = table
    long = to_long(wide, ["score", "n"], id="id", sep=sep)
    assert long["wave"].tolist() == waves * len(wide)
    assert len(long) == len(wide) * len(waves)
    pd.testing.assert_frame_equal(
        to_wide(long, ["score", "n"], id="id", sep=sep), wide, check_exact=True
    )
    # Any order of the rows of the long table, and of the columns of the wide one
    rows = list(range(len(long)))
    random.shuffle(rows)
    again = to_long(
        to_wide(long.iloc[rows], ["score", "n"], id="id", sep=sep),
        ["score", "n"],
        "id",
        sep=sep,
    )
    by = ["id", "wave"]
    pd.testing.assert_frame_equal(
        again.sort_values(by, ignore_index=True),
        long.sort_values(by, ignore_index=True),
        check_exact=True,
    )
    columns = list(wide.columns)
    random.shuffle(columns)
    mixed = to_long(wide[columns], ["score", "n"], id="id", sep=sep)
    pd.testing.assert_frame_equal(mixed[long.columns], long, check_exact=True)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"stubs": "tim"}, "'tim' without any.*there is: time1, time2"),
        ({}, {"sep": "_"}, "must begin the names of wave columns, as time_1"),
        ({}, {"sep": 1}, "sep: must be text; got 1"),
        ({}, {"stubs": [7]}, "must be text.*Put it in quotes"),
        ({}, {"stubs": []}, "stubs: must name at least one"),
        ({}, {"id": []}, "id: must name at least one"),
        ({}, {"id": "ID"}, "Perhaps you want 'id'"),
        ({"id": [1, 1]}, {}, "id: .*2 of 2 rows, first row 0: id=1; row 1: id=1"),
        ({"id": [1, None]}, {}, "must not be missing; got 1 of 2 rows, first row 1: id=nan"),
        ({"time01": [1, 2]}, {}, "one column per wave; got 'time1' and 'time01' for wave 1"),
        ({"time3": ["a", "b"]}, {}, "must have waves of one type; got for 'time'"),
        ({"time3": [True, False]}, {}, "must have waves of one type"),
        ({"wave": [1, 2]}, {}, "names of the new columns free; got wave"),
        ({}, {"wave": "id"}, "names of the new columns free; got id"),
        ({}, {"wave": "time"}, "names of the new columns free; got time"),
        (
            {"mood1": [1, 2]},
            {"stubs": ["time", "mood"]},
            r"same waves \(1, 2\); got no column mood2",
        ),
        ({"time11": [1, 2]}, {"stubs": ["time", "time1"]}, "a column twice; got time11"),
    ],
)
def test_to_long_bad_input(wide, change, arguments, message):
    with pytest.raises(CourseError, match=message):
        to_long(wide.assign(**change), **{"stubs": "time", "id": "id", **arguments})


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"values": ["scor"]}, "Perhaps you want 'score'"),
        ({}, {"wave": "time"}, "'time', which is not one"),
        ({}, {"unbalanced": "drop"}, "unbalanced: must be one of the known options"),
        ({"wave": ["w0", "w1", "w0", "w1"]}, {}, "wave: must name numeric columns"),
        ({"wave": [0, np.nan, 0, 1]}, {}, "wave: must not be missing; .* row 1: id=a"),
        ({"wave": [0, 0, 0, 1]}, {}, "2 of 4 rows, first row 0: id=a, wave=0; row 1: id=a"),
        ({"wave": [0, 2, 0, 1]}, {}, "all 3 waves of every unit; got 4 of 4 rows"),
        (
            {"id": ["a", "a", None, "b"]},
            {},
            r"id: must not be missing; .* row 2: id=(nan|None), sex=m, wave=0, score=nan\.",
        ),
        ({"sex": ["f", "m", "m", "m"]}, {}, "'sex' constant .* row 1: id=a, wave=1, sex=m"),
        ({"sex": ["f", None, "m", "m"]}, {}, "'sex' constant"),
        ({"score7": 1}, {}, "share their stub .*'score7' beside 'score0'"),
        ({}, {"values": {"score": "y", "grade": "y"}}, "names of the new columns free"),
    ],
)
def test_to_wide_bad_input(long, change, arguments, message):
    values = {"values": ["score", "grade"], "id": "id"}
    with pytest.raises(CourseError, match=message):
        to_wide(long.assign(**change), **{**values, **arguments})


@pytest.mark.parametrize("function", [to_long, to_wide])
def test_bad_data(function, wide):
    with pytest.raises(CourseError, match="must be a pandas DataFrame"):
        function([1], "time", id="id")
    with pytest.raises(CourseError, match="at least one row"):
        function(wide.iloc[:0], "time", id="id")


def test_the_first_three_rows_are_shown(wide):
    many = pd.concat([wide] * 3, ignore_index=True)
    with pytest.raises(CourseError) as error:
        to_long(many, "time", id="id")
    assert str(error.value).count(": id=") == 3


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b"],
        pd.Categorical(["a", "b"]),
        pd.to_datetime(["2020-01-01", "2021-01-01"]),
        pd.array(["1", "2"], "string"),
        [(1, 2), (3, 4)],
    ],
)
def test_an_empty_wave_beside_another_type_has_that_type(values):
    data = pd.DataFrame({"id": [1, 2], "s1": pd.Series(values), "s2": [np.nan, np.nan]})
    found = to_long(data, "s", id="id")
    assert found["s"].dtype == data["s1"].dtype
    assert found.query("wave == 1")["s"].tolist() == list(values)
    assert found.query("wave == 2")["s"].isna().all()


@pytest.mark.parametrize(("first", "second"), [("ab", "ca"), ("ab", "cd"), ("ba", "bb")])
def test_waves_of_other_categories_are_named(first, second):
    waves = {"s1": pd.Categorical(list(first)), "s2": pd.Categorical(list(second))}
    with pytest.raises(CourseError, match=r"s1 with categories a, b; s2 with .*astype\(str\)"):
        to_long(pd.DataFrame({"id": [1, 2], **waves}), "s", id="id")


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, ([1], 2)])
def test_values_that_cannot_be_compared_are_refused_as_labels(value):
    long = pd.DataFrame({"id": [1, 1], "wave": [1, 2], "v": [3, 4], "o": [value, value]})
    with pytest.raises(CourseError, match="data: .*can be compared; got 'o' with a"):
        to_wide(long, "v", id="id")
    with pytest.raises(CourseError, match="id: .*can be compared; got 'o' with a"):
        to_wide(long, "v", id=["id", "o"])
    wide = to_wide(long[["id", "wave", "o"]], "o", id="id")  # as values, anything goes
    assert wide["o1"].tolist() == [value]
