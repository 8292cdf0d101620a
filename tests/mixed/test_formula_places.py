"""A wrong formula is shown with a caret under the place; a term computes each row by itself."""

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.mixed.formula import other_calls
from course_lib.mixed.result import lmer
from course_lib.panel import compare_fe_re

DATA = pd.DataFrame({"y": np.arange(12.0) % 5, "x": np.arange(12) % 7, "g": np.arange(12) // 3})
DATA["t"], DATA["arm"] = np.arange(12) % 3, list("aab") * 4


def place_of(error):
    """What stands in the formula from the caret on."""
    *_, line, caret = str(error.value).split("\n")
    assert caret.strip() == "^"
    return line[len(caret) - 1 :]


@pytest.mark.parametrize(
    ("formula", "place"),
    [
        ("y ~ foo(x) + (1|g)", "foo(x)"),
        ("y ~ x + (np.foo(x) | g)", "foo(x)"),
        ("foo(y) ~ x + (1|g)", "foo(y)"),
        ("y ~ x + xx + (1|g)", "xx"),
        ("y ~ x + (xx || g)", "xx"),
        ("y ~ x + (1 | gg)", "gg"),
        ("y ~ pd.cut(x, 3) + (1 | g)", "pd.cut"),
        ("yy ~ x + (1 | g)", "yy"),
        ("y ~ `x x` + (1 | g)", "`x x`"),
        ("y ~ x + I(x  3) + (1|g)", "x  3"),
        ("y ~ log(x + 1, degree=2) + (1|g)", "degree"),
        ("y ~ poly(x, degree=-1) + (1|g)", "poly("),
        ("y ~ x + poly(x, 'a') + (1|g)", "poly(x"),
        ("y ~ (1|g) + x ** 1.5", "1.5"),
        ("y ~ x + 3 * x + (1|g)", "3 *"),
        ("y ~ x + x : + (1|g)", ": +"),
        ("y ~ x + 'abc' + (1|g)", "'abc'"),
        ("y ~ x*1e-12 + (1|g)", "1e-12"),
        ("~ x + (1|g)", "~"),
        ("y ~", "~"),
        ("y ~ x ~ (1|g)", "~ (1"),
    ],
)
def test_lmer_points_at_the_place(formula, place):
    with pytest.raises(CourseError, match="^formula: ") as error:
        lmer(formula, DATA)
    assert place_of(error).startswith(place)


@pytest.mark.parametrize(
    ("formula", "place"),
    [
        ("y ~ x + C(class)", "class"),
        ("y ~ foo(x)", "foo"),
        ("y ~ x + I(x 3)", "x 3"),
        ("y ~ x + I(x^2)", "^2"),
        ("y ~ x + EntityEffects", "EntityEffects"),
        ("y ~ x | g", "| g"),
        ("~ x", "~"),
        ("y ~ ", "~"),
    ],
)
def test_compare_fe_re_points_at_the_place(formula, place):
    with pytest.raises(CourseError, match="^formula: ") as error:
        compare_fe_re(formula, DATA, entity="g", time="t")
    assert place_of(error).startswith(place)


@pytest.mark.parametrize(
    ("term", "place"),
    [
        ("I(x - np.mean(x))", "np.mean"),
        ("I(x / x.max())", "max"),
        ("I(x - x.min())", "min"),
        ("np.cumsum(x)", "np.cumsum"),
        ("I(x[::-1])", "[::-1]"),
        ("C(x > np.median(x))", "np.median"),
        ("I(x * len(x))", "len"),
        ("lag(x)", "lag"),
    ],
)
@pytest.mark.parametrize("formula", ["y ~ {} + (1 | g)", "y ~ x + (0 + {} | g)"])
def test_what_looks_at_other_rows_is_refused(formula, term, place):
    """On new rows it would be recomputed from these: other predictions for the same row."""
    with pytest.raises(CourseError, match="formula: must compute each row by itself") as error:
        lmer(formula.format(term), DATA)
    assert place_of(error).startswith(place)


@pytest.mark.parametrize(
    "term",
    ["np.where(x > 3, 1, 0)", "I(x.clip(1, 4))", "x.round(1)", "scale(x)", "center(x)"],
)
def test_what_computes_each_row_is_fitted_and_predicted(term):
    fit = lmer(f"y ~ {term} + (1 | g)", DATA)
    np.testing.assert_allclose(fit.predict(DATA.head(2)), fit.fittedvalues.head(2))


def test_a_response_may_be_centred_by_its_mean():
    fit, raw = (lmer(f"{left} ~ x + (1 | g)", DATA) for left in ("y - np.mean(y)", "y"))
    assert fit.fe_params["x"] == pytest.approx(raw.fe_params["x"])


def test_calls_that_are_known_to_compute_each_row():
    assert other_calls("log(x):(z + w) + np.exp(x) + C(f, Treatment('[')) + I(x**2)") == [
        "Treatment"
    ]
    assert other_calls("np.add.reduce(x) + x.rank() + x[0] + f (x)") == ["reduce", "rank", "["]


def test_levels_that_leave_rows_out_are_refused():
    with pytest.raises(CourseError, match="formula: must be readable .*outside"):
        lmer("y ~ C(arm, levels=['a']) + (1 | g)", DATA)
    with pytest.raises(CourseError, match="formula: must be readable .*outside"):
        compare_fe_re("y ~ x + C(arm, levels=['a'])", DATA, entity="g", time="t")
