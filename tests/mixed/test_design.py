"""From formula and data to arrays: names, masks, missing rows, new data."""

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.mixed.design import model_frame
from course_lib.mixed.result import lmer


@pytest.fixture
def data():
    """Twelve rows: groups g × occasions, a category f, a nested class that reuses numbers."""
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=12),
            "x": np.arange(1.0, 13.0),
            "z": rng.normal(size=12),
            "f": list("abcabcabcabc"),
            "g": ["s1"] * 4 + ["s2"] * 4 + ["s3"] * 4,
            "k": [1, 1, 2, 2] * 3,
        },
        index=np.arange(100, 112),
    )


def terms(formula, data):
    return {f.name: f.terms for f in model_frame(formula, data).factors}


def test_arrays(data):
    frame = model_frame("y ~ x + f + (x | g)", data)
    np.testing.assert_array_equal(frame.y, data["y"])
    assert frame.fixed_names == ("Intercept", "x", "f[T.b]", "f[T.c]")
    np.testing.assert_array_equal(frame.X[:, 1], data["x"])
    np.testing.assert_array_equal(frame.X[:, 2], data["f"] == "b")
    (factor,) = frame.factors
    assert (factor.name, factor.group, factor.terms) == ("g", ("g",), ("Intercept", "x"))
    np.testing.assert_array_equal(factor.codes, np.repeat([0, 1, 2], 4))
    np.testing.assert_array_equal(factor.mask, [[True, False], [True, True]])
    assert list(factor.levels) == ["s1", "s2", "s3"]
    assert frame.n_dropped == 0
    assert list(frame.index) == list(data.index)


@pytest.mark.parametrize(
    ("bar", "expected", "mask"),
    [
        ("(1 | g)", ("Intercept",), [[1]]),
        ("(x - 1 | g)", ("x",), [[1]]),
        ("(x || g)", ("Intercept", "x"), [[1, 0], [0, 1]]),
        ("(1 | g) + (0 + x | g)", ("Intercept", "x"), [[1, 0], [0, 1]]),
        (
            "(1 | g) + (0 + x + z | g)",
            ("Intercept", "x", "z"),
            [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
        ),
        ("(I(x**2) | g)", ("Intercept", "I(x ** 2)"), [[1, 0], [1, 1]]),
    ],
)
def test_masks(data, bar, expected, mask):
    (factor,) = model_frame(f"y ~ x + {bar}", data).factors
    assert factor.terms == expected
    np.testing.assert_array_equal(factor.mask, np.array(mask, dtype=bool))


def test_nested_factor_keeps_the_parent(data):
    frame = model_frame("y ~ 1 + (1 | g/k)", data)
    inner, outer = frame.factors
    assert (inner.name, outer.name) == ("k:g", "g")
    assert list(inner.levels) == ["1:s1", "1:s2", "1:s3", "2:s1", "2:s2", "2:s3"]
    assert inner.codes.max() == 5
    # class 1 of s1 and class 1 of s2 are different classes
    assert inner.codes[0] != inner.codes[4]


def test_only_combinations_that_occur_are_levels(data):
    data = data[~((data["g"] == "s1") & (data["k"] == 2))]
    assert list(model_frame("y ~ 1 + (1 | g:k)", data).factors[0].levels) == [
        "s1:1",
        "s2:1",
        "s2:2",
        "s3:1",
        "s3:2",
    ]


def test_missing_rows_are_dropped_jointly(data):
    data["unused"] = np.nan
    data.loc[100, "y"] = np.nan
    data.loc[104, "x"] = np.nan
    data.loc[105, "g"] = None
    data.loc[107, "z"] = np.nan  # only in the random part
    before = data.copy()
    frame = model_frame("y ~ x + (z | g)", data)
    assert frame.n_dropped == 4
    assert list(frame.index) == [101, 102, 103, 106, 108, 109, 110, 111]
    np.testing.assert_array_equal(frame.y, data.loc[frame.index, "y"])
    np.testing.assert_array_equal(frame.factors[0].columns[:, 1], data.loc[frame.index, "z"])
    pd.testing.assert_frame_equal(data, before)


def test_odd_names(data):
    data = data.rename(columns={"y": "my y", "x": "x (cm)", "g": "the group", "z": "log"})
    frame = model_frame("`my y` ~ `x (cm)` + log + (`x (cm)` | `the group`)", data)
    np.testing.assert_array_equal(frame.y, data["my y"])
    np.testing.assert_array_equal(frame.X[:, 1], data["x (cm)"])
    np.testing.assert_array_equal(frame.X[:, 2], data["log"])
    assert frame.factors[0].name == "the group"
    assert "x (cm)" in frame.factors[0].terms


def test_response_may_be_transformed(data):
    data["y"] = np.exp(data["y"])
    np.testing.assert_allclose(model_frame("log(y) ~ 1 + (1|g)", data).y, np.log(data["y"]))
    np.testing.assert_allclose(model_frame("sqrt(y) ~ 1 + (1|g)", data).y, np.sqrt(data["y"]))
    np.testing.assert_allclose(model_frame("I(y * 2) ~ (1|g)", data).y, data["y"] * 2)


def test_reference_level_can_be_chosen(data):
    names = model_frame("y ~ C(f, contr.treatment('b')) + (1 | g)", data).fixed_names
    assert len(names) == 3
    assert not any("[T.b]" in name for name in names)
    assert [name[-5:] for name in names[1:]] == ["[T.a]", "[T.c]"]


@pytest.mark.parametrize(
    "term",
    ["x", "log(x)", "poly(x, 2)", "scale(x)", "center(x)", "I(x**2)", "f", "x:f", "C(k)"],
)
def test_new_rows_keep_the_fitted_constants(data, term):
    frame = model_frame(
        f"y ~ {term} + ({term} | g)" if term == "x" else f"y ~ {term} + (1|g)", data
    )
    some = data.iloc[[7, 2]].drop(columns="y")
    np.testing.assert_allclose(frame.fixed_matrix(some), frame.X[[7, 2]], atol=1e-12)
    (factor,) = frame.factors
    np.testing.assert_allclose(frame.factor_matrix(factor, some), factor.columns[[7, 2]])


@pytest.mark.parametrize("term", ["poly(x, 2)", "scale(x)", "f"])
def test_random_part_keeps_its_constants_too(data, term):
    data = pd.concat([data] * 3, ignore_index=True)
    frame = model_frame(f"y ~ 1 + ({term} | g)", data)
    (factor,) = frame.factors
    some = data.iloc[[7, 2]]
    np.testing.assert_allclose(
        frame.factor_matrix(factor, some), factor.columns[[7, 2]], atol=1e-12
    )


def test_new_rows_with_a_missing_predictor_become_nan(data):
    frame = model_frame("y ~ x + f + (1 | g)", data)
    new = data.iloc[:3].copy()
    new.loc[101, "x"] = np.nan
    matrix = frame.fixed_matrix(new)
    assert np.isnan(matrix[1]).all()
    np.testing.assert_array_equal(matrix[[0, 2]], frame.X[[0, 2]])
    new["x"] = np.nan
    assert np.isnan(frame.fixed_matrix(new)).all()


def test_codes_of_new_rows(data):
    frame = model_frame("y ~ 1 + (1 | g/k)", data)
    inner, outer = frame.factors
    new = pd.DataFrame({"g": ["s3", "s9", "s1"], "k": [2, 1, 7]})
    assert list(frame.factor_codes(outer, new)) == [2, -1, 0]
    assert list(frame.factor_codes(inner, new)) == [5, -1, -1]


def test_group_column_may_have_any_type(data):
    text = model_frame("y ~ x + (1 | g)", data).factors[0]
    for column in (
        data["g"].astype("category"),
        data["g"].astype("category").cat.add_categories(["never"]),
        data["g"].map({"s1": 1, "s2": 2, "s3": 3}),
        data["g"].map({"s1": 1.5, "s2": 2.5, "s3": 3.5}),
    ):
        factor = model_frame("y ~ x + (1 | g)", data.assign(g=column)).factors[0]
        np.testing.assert_array_equal(factor.codes, text.codes)
        assert len(factor.levels) == 3


BAD = [
    ("y ~ x + (1 | nope)", "formula", ["'nope'", "There is: y, x"]),
    ("y ~ X + (1 | g)", "formula", ["'X'", "Perhaps you want 'x'"]),
    ("Y ~ x + (1 | g)", "formula", ["'Y'", "Perhaps you want 'y'"]),
    ("y ~ x + (X | g)", "formula", ["'X'", "Perhaps you want 'x'"]),
    ("y ~ log(X) + (1 | g)", "formula", ["'X'"]),
    ("y ~ lgo(x) + (1 | g)", "formula", ["lgo", "log"]),
    ("y ~ x + + + (1 | g) +", "formula", []),
    ("y ~ f:nope + (1 | g)", "formula", ["'nope'"]),
    ("f ~ x + (1 | g)", "formula", ["numeric response", "f", "generalized"]),
    ("y ~ x + (0 | g)", "formula", ["left of the bar", "0", "(1 | group)"]),
    ("y ~ x + (x | g) + (1 | g)", "formula", ["'Intercept'", "two bars"]),
    ("y ~ x + (x | g) + (0 + x | g)", "formula", ["'x' in two bars"]),
    (
        "y ~ x + (x + z + I(z**2) | g)",
        "formula",
        ["fewer random effects", "3 groups × 4", "12"],
    ),
    ("y ~ 1 + (1 | one)", "data", ["two groups", "'one'", "ordinary regression"]),
    ("y ~ 1 + (1 | row)", "data", ["fewer groups than rows", "12 groups", "'row'"]),
    ("y ~ log(x - 1) + (1 | g)", "data", ["finite", "1 row", "log(x - 1)"]),
    ("y ~ log(x - 3) + (1 | g)", "data", ["finite", "3 row(s)", "log(x - 3)"]),
    ("log(y) ~ x + (1 | g)", "data", ["finite", "log(y)"]),
    ("constant ~ x + (1 | g)", "data", ["varies", "'constant'", "equal to 7", "12 rows"]),
    ("y ~ infinite + (1 | g)", "data", ["finite", "1 row", "'infinite'"]),
    ("infinite ~ x + (1 | g)", "data", ["finite", "1 row", "'infinite'"]),
    ("y ~ empty + (1 | g)", "data", ["at least one row", "'empty'", "isna"]),
    ("y ~ x + (1 | empty)", "data", ["at least one row", "'empty'"]),
]


@pytest.mark.parametrize(("formula", "argument", "words"), BAD, ids=[bad[0] for bad in BAD])
def test_bad_input(data, formula, argument, words):
    data = data.assign(
        one="all", row=range(12), constant=7.0, infinite=np.r_[np.inf, range(11)], empty=np.nan
    )
    before = data.copy()
    with pytest.raises(CourseError, match=rf"^{argument}: .+; got .+\. .+") as caught:
        model_frame(formula, data)
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.parametrize("data", [None, [1, 2], {"y": [1]}, np.eye(3)], ids=repr)
def test_data_must_be_a_frame(data):
    with pytest.raises(CourseError, match="^data: must be a pandas DataFrame.*got a .*Build"):
        model_frame("y ~ x + (1 | g)", data)


def test_empty_frame(data):
    with pytest.raises(CourseError, match="^data: must have at least one row.*empty DataFrame"):
        model_frame("y ~ x + (1 | g)", data.iloc[:0])


def test_repeated_column(data):
    with pytest.raises(CourseError, match="^data: .*unique column names; got x more than once"):
        model_frame("y ~ x + (1 | g)", pd.concat([data, data[["x"]]], axis=1))


def test_new_data_without_a_column(data):
    frame = model_frame("y ~ x + (1 | g)", data)
    with pytest.raises(CourseError, match="^newdata: .*'x', which is not one"):
        frame.fixed_matrix(data[["z", "g"]])
    with pytest.raises(CourseError, match="^newdata: .*'g', which is not one"):
        frame.factor_codes(frame.factors[0], data[["x"]])


def test_new_category_level(data):
    frame = model_frame("y ~ f + (1 | g)", data)
    with pytest.raises(CourseError, match="^newdata: .*category levels.*d"):
        frame.fixed_matrix(pd.DataFrame({"f": ["a", "d"]}))


@pytest.mark.parametrize(
    ("response", "of"),
    [
        ("post - pre", lambda d: d.post - d.pre),
        ("(post - pre)", lambda d: d.post - d.pre),
        ("post + pre", lambda d: d.post + d.pre),
        ("post / pre", lambda d: d.post / d.pre),
        ("post * pre", lambda d: d.post * d.pre),
        ("-post", lambda d: -d.post),
        ("post**2", lambda d: d.post**2),
        ("log(`post (ms)`) - 1", lambda d: np.log(d.post) - 1),
        ("2 * np.sqrt(post)", lambda d: 2 * np.sqrt(d.post)),
    ],
)
def test_response_is_arithmetic_on_columns(response, of):
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"pre": rng.uniform(1, 2, 12), "post": rng.uniform(1, 2, 12)})
    data = data.assign(**{"g": np.repeat(["a", "b", "c"], 4), "post (ms)": data.post})
    frame = model_frame(f"{response} ~ 1 + (1 | g)", data)
    np.testing.assert_allclose(frame.y, of(data), rtol=1e-14)


@pytest.mark.parametrize("term", ["C(class)", "I(x +)", "log(x", "I(x y)", "C(`class`)"])
def test_what_python_cannot_read_is_a_course_error(term):
    data = pd.DataFrame({"y": [1.0, 2, 4, 3], "x": [1.0, 2, 3, 5], "g": list("aabb")})
    data["class"] = ["p", "q", "p", "q"]
    with pytest.raises(CourseError, match="^formula: "):
        model_frame(f"y ~ {term} + (1 | g)", data)


@pytest.mark.parametrize(
    ("formula", "term"),
    [
        ("y ~ x * arm + (arm | team)", "arm"),
        ("y ~ C(week) + (C(week) | team)", "week"),
        ("y ~ x + (1 | team) + (0 + arm | site)", "arm"),
        ("y ~ arm + (x || team) + (arm | site)", "arm"),
    ],
)
def test_new_rows_are_coded_as_the_fit_was_in_every_part(formula, term):
    """Predicting some of the rows first, on a fresh fit, gives the fitted values."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"team": np.repeat(np.arange(12), 20), "site": np.arange(240) % 8})
    data["arm"] = rng.choice(["lo", "mid", "top"], 240)
    data["week"] = rng.integers(1, 4, 240)
    data["x"] = rng.normal(size=240)
    data["y"] = data.x + (data.arm == "mid") + rng.normal(size=12)[data.team]
    data["y"] += rng.normal(size=240)
    fit = lmer(formula, data)
    for level in sorted(data[term].unique(), reverse=True):
        rows = data[data[term] == level]
        fitted = fit.fittedvalues.loc[rows.index]
        np.testing.assert_allclose(fit.predict(rows), fitted, rtol=1e-9)


@pytest.mark.parametrize(
    ("column", "formula"),
    [
        ("scale", "y ~ scale(x) + (1 | team)"),
        ("C", "y ~ C(week) + (1 | team)"),
        ("np", "y ~ np.exp(x) + (1 | team)"),
        ("log", "y ~ x + (0 + log(week) | team)"),
        ("df", "y ~ bs(x, df=4) + (1 | team)"),
    ],
)
def test_a_column_does_not_hide_a_function(column, formula):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"team": np.repeat(np.arange(8), 10), "x": rng.normal(size=80)})
    data["week"] = rng.integers(1, 4, 80)
    data["y"] = data.x + rng.normal(size=8)[data.team] + rng.normal(size=80)
    expected = lmer(formula, data)
    fit = lmer(formula, data.assign(**{column: "text"}))
    assert fit.deviance == pytest.approx(expected.deviance, abs=1e-9)
    assert fit.n_dropped == 0


@pytest.mark.parametrize(
    "formula",
    ["y ~ Intercept + (1 | team)", "y ~ (Intercept | team)", "y ~ `Intercept`:x + (1|team)"],
)
def test_a_predictor_named_like_the_constant_is_refused(formula):
    data = pd.DataFrame({"team": np.arange(40) % 8, "x": np.arange(40.0) ** 0.5})
    data["y"], data["Intercept"] = np.sin(data.x), np.cos(data.x)
    with pytest.raises(CourseError, match="formula: .*named like the constant.*rename"):
        lmer(formula, data)
    lmer("y ~ x + (1 | team)", data)  # its mere presence is no fault


@pytest.mark.parametrize(
    ("formula", "name", "place"),
    [
        ("y ~ x.cm + arm + (1 | `team.id`)", "x.cm", 4),
        ("y ~ log(x.cm) + (1 | `team.id`)", "x.cm", 8),
        ("y ~ arm + (1 | arm/team.id)", "team.id", 19),
        ("y ~ body weight + (1 | `team.id`)", "body weight", 4),
        ("y ~ größe.m + (1 | `team.id`)", "größe.m", 4),
    ],
)
def test_a_name_that_needs_backticks_is_pointed_at(formula, name, place):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"team.id": np.arange(60) % 6, "arm": np.arange(60) // 15, "x": 1.0})
    for column in ("x.cm", "body weight", "größe.m", "y"):
        data[column] = rng.random(60)
    with pytest.raises(CourseError, match="in backticks") as caught:
        lmer(formula, data)
    first, line, caret = str(caught.value).split("\n")
    assert f"Write `{name}`." in first
    assert line == "    " + formula
    assert caret == " " * (4 + place) + "^"
    quoted = formula[:place] + f"`{name}`" + formula[place + len(name) :]
    assert np.isfinite(lmer(quoted, data).deviance)


@pytest.mark.parametrize(
    ("formula", "n_dropped"),
    [
        ("y ~ arm * site + (1 | team)", 1),
        ("y ~ x * arm * site + (1 | team)", 2),
        ("y ~ x + arm:site + (1 | team)", 1),
        ("y ~ C(arm) * C(site) + (x | team)", 1),
    ],
)
def test_a_combination_without_rows_is_left_out_and_said(formula, n_dropped):
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"team": np.repeat(np.arange(12), 20), "x": rng.normal(size=240)})
    data["arm"] = rng.choice(["lo", "mid", "top"], 240)
    data["site"] = rng.choice(["n", "s"], 240)
    data["y"] = data.x + (data.arm == "mid") + rng.normal(size=12)[data.team]
    data["y"] += rng.normal(size=240)
    kept = data.query("not (arm == 'top' and site == 's')")
    with pytest.warns(UserWarning, match="no row has .*as in lme4") as caught:
        fit = lmer(formula, kept)
    assert caught[0].filename == __file__  # it points at the call, not into the library
    whole = lmer(formula, data)
    assert len(fit.fe_params) == len(whole.fe_params) - n_dropped
    # the cells are the same model, with one column per combination that has rows
    cells = kept.assign(cell=kept.arm + kept.site)
    same = formula.replace("C(arm) * C(site)", "cell").replace("x * arm * site", "x * cell")
    same = same.replace("arm * site", "cell").replace("arm:site", "cell")
    expected = lmer(same, cells, reml=False)
    with pytest.warns(UserWarning, match="no row has"):
        found = lmer(formula, kept, reml=False)
    assert found.deviance == pytest.approx(expected.deviance, abs=1e-7)
    np.testing.assert_allclose(found.predict(kept), found.fittedvalues, rtol=1e-9)
    with pytest.raises(CourseError, match="newdata: .*no row of.*top.*s"):
        found.predict(data)
