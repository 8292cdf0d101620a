"""Shapley values of a mixed model against enumeration by hand, shap, and Shapley's axioms."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import lmer
from course_lib.errors import CourseError
from course_lib.explain.shapley import linear_shap

MIXED = "y ~ x1 * x2 + kind + np.log(x3 + 9) + (x1 | g) + (1 | h)"
# shap 0.51 uses what matplotlib will deprecate; it warns when it is imported.
SHAP_WARNS = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
STRAIGHT = "y ~ x1 + x2 + scale(x3) + (x1 | g) + (1 | h)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    n = 120
    common = rng.standard_normal(n)
    frame = pd.DataFrame({f"x{k}": rng.standard_normal(n) + common for k in (1, 2, 3)})
    frame["kind"] = rng.choice(["a", "b", "c"], n)
    frame["g"] = np.repeat([f"g{k}" for k in range(12)], 10)
    frame["h"] = np.tile(["p", "q", "r", "s", "t"], 24)
    effect = rng.standard_normal((12, 2)).repeat(10, axis=0)
    frame["y"] = frame.x1 * (1 + effect[:, 0]) + effect[:, 1] + 0.5 * frame.x2 * frame.x1
    frame["y"] += frame.h.map(dict(zip("pqrst", rng.standard_normal(5), strict=True)))
    frame["y"] += rng.standard_normal(n)
    return frame


@pytest.fixture(scope="module")
def mixed(data):
    return lmer(MIXED, data)


@pytest.fixture(scope="module")
def straight(data):
    return lmer(STRAIGHT, data)


def players_of(values):
    return values.drop(columns=["base_value", "prediction"])


def by_orders(players, value):
    """Shapley values as the mean over the orders in which the players may come in."""
    orders, worth = list(permutations(players)), {}
    for size in range(len(players) + 1):
        worth |= {frozenset(s): value(set(s)) for s in combinations(players, size)}
    shares = dict.fromkeys(players, 0.0)
    for order in orders:
        for k, player in enumerate(order):
            gain = worth[frozenset(order[: k + 1])] - worth[frozenset(order[:k])]
            shares[player] += gain / len(orders)
    return shares


def test_independent_is_the_average_over_composite_rows(mixed, data):
    row, background = data.iloc[17], data.iloc[40:65]

    def value(known):
        return mixed.predict(background.assign(**{name: row[name] for name in known})).mean()

    found = linear_shap(mixed, data.iloc[[17]], background=background).iloc[0]
    shares = by_orders(["x1", "x2", "kind", "x3", "g", "h"], value)
    assert found[list(shares)].tolist() == pytest.approx(list(shares.values()), abs=1e-10)
    assert found["base_value"] == pytest.approx(value(set()), abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 120])
def test_shares_add_up_to_the_prediction(straight, data, n):
    rows = data.tail(n)
    found = linear_shap(straight, rows, background=data)
    total = players_of(found).sum(axis=1) + found["base_value"]
    assert found.index.equals(rows.index)
    assert np.abs(total - straight.predict(rows)).max() < 1e-9
    assert found["base_value"].nunique() == 1


def test_shares_of_interactions_add_up(mixed, data):
    found = linear_shap(mixed, data)
    total = players_of(found).sum(axis=1) + found["base_value"]
    assert np.abs(total - mixed.fittedvalues).max() < 1e-9
    assert found["base_value"].iloc[0] == pytest.approx(mixed.fittedvalues.mean(), abs=1e-9)


@SHAP_WARNS
def test_fixed_part_agrees_with_shap(straight, data):
    import shap

    # x1 goes with the group, so only x2 and x3 are a linear model by themselves.
    x = data[["x2", "x3"]]
    slopes = straight.fe_params[["x2", "scale(x3)"]].to_numpy() / [1, data["x3"].std()]
    masker = shap.maskers.Independent(x, max_samples=len(x))
    theirs = shap.LinearExplainer((slopes, 0.0), masker).shap_values(x)
    ours = linear_shap(straight, data)[["x2", "x3"]].to_numpy()
    assert ours == pytest.approx(theirs, abs=1e-9)


@SHAP_WARNS
def test_same_kind_as_the_values_of_a_forest(data):
    """Both average composite rows: a forest's values, by hand, as ours are above."""
    import shap
    from sklearn.ensemble import RandomForestRegressor

    names, background = ["x1", "x2", "x3"], data.iloc[40:65].round(2)
    forest = RandomForestRegressor(5, random_state=1).fit(data[names].round(2), data["y"])
    row = data[names].round(2).iloc[[17]]

    def value(known):
        return forest.predict(background[names].assign(**row.iloc[0][list(known)])).mean()

    theirs = shap.TreeExplainer(forest, background[names]).shap_values(row)[0]
    assert list(by_orders(names, value).values()) == pytest.approx(theirs, abs=1e-5)


def test_random_slope_is_split_by_halves(data):
    fit = lmer("y ~ 1 + (0 + x1 | g)", data)
    found = linear_shap(fit, data)
    x, b = data["x1"], fit.random_effects["g"]["x1"].loc[data["g"]].to_numpy()
    nothing, only_x, only_g, both = (x * b).mean(), x * b.mean(), x.mean() * b, x * b
    assert np.allclose(found["x1"], (only_x - nothing + both - only_g) / 2, atol=1e-12)
    assert np.allclose(found["g"], (only_g - nothing + both - only_x) / 2, atol=1e-12)


def test_one_background_row_is_a_comparison_of_two(straight, data):
    found = linear_shap(straight, data.iloc[[3]], background=data.iloc[[90]]).iloc[0]
    difference = data["x2"].iloc[3] - data["x2"].iloc[90]
    assert found["x2"] == pytest.approx(straight.fe_params["x2"] * difference, abs=1e-12)
    assert found["base_value"] == pytest.approx(straight.fittedvalues.iloc[90], abs=1e-12)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_of_a_predictor_do_not_matter(straight, data, factor):
    scaled = data.assign(x1=data["x1"] * factor)
    again = linear_shap(lmer(STRAIGHT, scaled), scaled)
    before = linear_shap(straight, data)
    # Two searches of θ end within 1e-7 of the deviance; the modes move by less than 1e-4.
    assert np.abs(again - before).to_numpy().max() < 1e-4


def test_new_group_gets_population_line(straight, data):
    rows = data.iloc[[0]].assign(g="new")
    with pytest.raises(CourseError, match="^data: must use only groups of 'g'.*population"):
        linear_shap(straight, rows, background=data)
    found = linear_shap(straight, rows, background=data, new_levels="population")
    predicted = straight.predict(rows, new_levels="population").iloc[0]
    assert found.sum(axis=1).iloc[0] == pytest.approx(2 * predicted, abs=1e-9)


def test_missing_category_in_new_rows_and_categorical_columns(mixed, data):
    typed = data.assign(kind=data["kind"].astype("category"), g=data["g"].astype("category"))
    few = typed[typed["kind"] == "a"]
    assert np.allclose(
        linear_shap(mixed, few, background=typed),
        linear_shap(mixed, data.loc[few.index], background=data),
        atol=1e-12,
    )


def test_nested_groups_are_two_players(data):
    fit = lmer("y ~ x1 + (1 | g/h)", data.assign(h=np.tile(["p", "q"], 60)))
    found = linear_shap(fit, data.assign(h=np.tile(["p", "q"], 60)))
    assert list(players_of(found).columns) == ["x1", *fit.ngroups]


# Shapley's axioms, with coefficients and random effects put in by hand.

numbers = st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3))


def with_weights(fit, beta, seed):
    rng = np.random.default_rng(seed)
    modes = [rng.standard_normal(m.shape) for m in fit.estimate.modes]
    return replace(fit, estimate=replace(fit.estimate, beta=np.array(beta), modes=modes))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    beta=st.lists(numbers, min_size=4, max_size=4),
    more=st.lists(numbers, min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_additivity(straight, data, beta, more, seed):
    one, other = with_weights(straight, beta, seed), with_weights(straight, more, seed + 1)
    modes = [a + b for a, b in zip(one.estimate.modes, other.estimate.modes, strict=True)]
    both = replace(one, estimate=replace(one.estimate, beta=np.add(beta, more), modes=modes))
    shares = [linear_shap(f, data) for f in (one, other, both)]
    assert np.abs(shares[0] + shares[1] - shares[2]).to_numpy().max() < 1e-9


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(beta=st.lists(numbers, min_size=4, max_size=4), seed=st.integers(0, 99))
def test_dummy(straight, data, beta, seed):
    fit = with_weights(straight, [beta[0], beta[1], 0.0, beta[3]], seed)
    found = linear_shap(fit, data)
    assert (found["x2"] == 0).all()


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(slope=numbers, seed=st.integers(0, 99))
def test_symmetry(data, slope, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 60))
    half = data.iloc[:60].assign(x2=a, x3=b)
    # Every row beside its mirror image: x2 and x3 are exchangeable.
    rows = pd.concat([half, half.assign(x2=b, x3=a)], ignore_index=True)
    fit = lmer("y ~ x2 + x3 + (1 | g)", data)
    fit = with_weights(fit, [1.0, slope, slope], seed)
    found = linear_shap(fit, rows)
    mirror = found.iloc[np.r_[60:120, 0:60]]
    assert np.allclose(found["x2"], mirror["x3"].to_numpy(), atol=1e-10)


# For the pictures, and bad input


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.drop(columns="x2"), "'x2', which is not one"),
        (lambda d: d.drop(columns="g"), "'g', which is not one"),
        (lambda d: d.assign(x1=np.nan), "must not have missing values"),
        (lambda d: d.assign(x1=np.inf), "without infinite values"),
        (lambda d: d.assign(h=None), "must not have missing values"),
        (lambda d: d.head(0), "must have at least one row"),
        (lambda d: d["x1"], "must be a pandas DataFrame"),
    ],
)
@pytest.mark.parametrize("argument", ["data", "background"])
def test_bad_rows(straight, data, change, match, argument):
    rows = {"data": data, "background": data, argument: change(data)}
    with pytest.raises(CourseError, match=f"{argument}: .*{match}"):
        linear_shap(straight, rows["data"], background=rows["background"])


def test_bad_options(straight, mixed, data):
    with pytest.raises(CourseError, match="fit: must be a model fitted by lmer"):
        linear_shap("fit", data)
    with pytest.raises(CourseError, match="new_levels: must be one of"):
        linear_shap(straight, data, new_levels="zero")
    with pytest.raises(CourseError, match="background: is needed to explain one row"):
        linear_shap(straight, data.head(1))
    named = data.assign(prediction=data["x1"])
    with pytest.raises(CourseError, match="must not use the column names of the result"):
        linear_shap(lmer("y ~ prediction + (1 | g)", named), named)


def test_too_much_to_enumerate(data):
    rng = np.random.default_rng(1)
    many = pd.concat([data] * 60, ignore_index=True)
    many = many.assign(x1=rng.standard_normal(len(many)), x2=rng.standard_normal(len(many)))
    fit = lmer("y ~ x1 * x2 + (1 | g)", many)
    with pytest.raises(CourseError, match="background: must give at most 20,000,000 .*sample"):
        linear_shap(fit, many)


def test_combination_without_a_value(data):
    apart = data.assign(x1=np.where(data.index < 60, 1.0, 4.0), x2=np.tile([0.2, 0.5], 60))
    apart.loc[60:, "x2"] = 3.0
    fit = lmer("y ~ np.log(x1 - x2) + (1 | g)", apart)
    with pytest.raises(CourseError, match="must give finite predictions when combined"):
        linear_shap(fit, apart)
