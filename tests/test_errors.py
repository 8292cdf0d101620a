"""The leaf checks: each returns a good value, and says four things of a bad one."""

import re

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import (
    CourseError,
    check_choice,
    check_columns,
    check_count,
    check_dataframe,
    check_finite,
    check_no_missing,
    check_numeric,
    check_probability,
    check_rng,
    course_error,
    listing,
    suggestion,
)

FRAME = pd.DataFrame({"x": [1.0, 2.0], "name": ["a", "b"], "yes": [True, False]})
INFINITE = FRAME.assign(x=[np.inf, -np.inf])


def test_error_is_a_value_error_that_says_four_things():
    error = course_error("alpha", "must be small", 7, "Try 0.05.")
    assert isinstance(error, CourseError)
    assert isinstance(error, ValueError)
    assert str(error) == "alpha: must be small; got 7. Try 0.05."


def test_listing_cuts_a_long_list():
    assert listing([1, "b"]) == "1, b"
    assert listing(range(10), most=3) == "0, 1, 2 and 7 more"
    assert listing([]) == ""


def test_suggestion_names_the_likely_one():
    assert suggestion("days", ["Days", "Subject"]) == (
        "Perhaps you want 'Days'. There is: Days, Subject."
    )
    assert suggestion("Subjct", ["Days", "Subject"]).startswith("Perhaps you want 'Subject'.")
    assert suggestion("zzz", ["Days", 3]) == "There is: Days, 3."


def test_good_values_come_back():
    assert check_dataframe("data", FRAME) is FRAME
    assert check_columns("columns", FRAME, ["x", "name"]) is None
    assert check_numeric("columns", FRAME, ["x"]) is None
    assert check_no_missing("columns", FRAME, FRAME.columns) is None
    np.testing.assert_array_equal(check_finite("y", [1, 2]), [1.0, 2.0])
    assert check_choice("method", "wald", ("wald", "profile")) == "wald"
    assert check_choice("k", None, (None, 2)) is None
    assert check_probability("alpha", np.float64(0.5)) == 0.5
    assert check_count("n", np.int64(3)) == 3
    rng = np.random.default_rng(1)
    assert check_rng("rng", rng) is rng


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check_dataframe("data", {"x": [1]}), ["data", "DataFrame", "dict"]),
        (lambda: check_dataframe("data", FRAME["x"]), ["data", "Series"]),
        (lambda: check_dataframe("data", FRAME.iloc[:0]), ["data", "row", "x, name, yes"]),
        (lambda: check_dataframe("data", FRAME[["x", "x"]]), ["data", "unique", "x"]),
        (lambda: check_columns("by", FRAME, ["X"]), ["by", "'X'", "Perhaps you want 'x'"]),
        (lambda: check_numeric("by", FRAME, ["name"]), ["by", "numeric", "'name'"]),
        (lambda: check_numeric("by", FRAME, ["yes"]), ["by", "numeric", "bool"]),
        (lambda: check_numeric("by", FRAME, ["z"]), ["by", "'z'", "There is: x"]),
        (lambda: check_numeric("by", INFINITE, ["x"]), ["by", "infinite", "2 infinite"]),
        (lambda: check_finite("y", [1, np.nan, np.inf]), ["y", "finite", "2 of 3"]),
        (lambda: check_finite("y", ["a"]), ["y", "numbers", "a"]),
        (lambda: check_choice("method", "wld", ("wald",)), ["method", "'wld'", "'wald'"]),
        (lambda: check_choice("method", ["wald"], ("wald",)), ["method", "['wald']"]),
        (lambda: check_probability("alpha", 0), ["alpha", "between 0 and 1", "0.05"]),
        (lambda: check_probability("alpha", 95), ["alpha", "95"]),
        (lambda: check_probability("alpha", float("nan")), ["alpha", "nan"]),
        (lambda: check_probability("alpha", "0.1"), ["alpha", "'0.1'"]),
        (lambda: check_count("n", 0), ["n", "at least 1", "0"]),
        (lambda: check_count("n", 2.0), ["n", "whole number", "2.0"]),
        (lambda: check_count("n", True), ["n", "whole number", "True"]),
        (lambda: check_count("n", 1, minimum=2), ["n", "at least 2", "1"]),
        (lambda: check_rng("rng", 1), ["rng", "Generator", "default_rng"]),
        (lambda: check_rng("rng", np.random), ["rng", "Generator"]),
    ],
)
def test_bad_values_are_told(call, words):
    with pytest.raises(CourseError) as caught:
        call()
    message = str(caught.value)
    assert re.match(rf"{words[0]}: .+; got .+\. .+[.)]$", message), message
    assert [word for word in words if word not in message] == []


def test_missing_values_are_counted():
    frame = FRAME.assign(x=[1.0, np.nan])
    with pytest.raises(CourseError, match="x: .*1 of 2 missing in 'x'.*dropna") as caught:
        check_no_missing("x", frame, ["name", "x"])
    assert frame["x"].isna().sum() == 1
    assert "'name'" not in str(caught.value)
