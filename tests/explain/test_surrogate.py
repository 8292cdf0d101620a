"""Local surrogate and partial dependence on functions whose answer is known."""

from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest

from course_lib import lmer, load
from course_lib.errors import CourseError
from course_lib.explain.surrogate import local_surrogate, partial_dependence_frame


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture(scope="module")
def data():
    made = np.random.default_rng(3).standard_normal((80, 2)) * [1.0, 50.0]
    frame = pd.DataFrame(made, columns=["a", "b"], index=np.arange(100, 180))
    return frame.assign(whole=np.arange(80) % 5, kind=np.tile(["u", "v"], 40))


def line(rows):
    return 7 + 3 * rows["a"] - 0.2 * rows["b"] + (rows["kind"] == "u")


def curve(rows):
    return np.sin(3 * rows["a"]) + rows["a"] * rows["b"] / 50


def test_surrogate_recovers_a_line(data, rng):
    row = data.iloc[5]
    found = local_surrogate(line, row, data, features=["a", "b"], alpha=0, rng=rng)
    effects = found.effects.set_index("feature")
    assert effects.loc["a", "effect_per_unit"] == pytest.approx(3, rel=1e-9)
    assert effects.loc["b", "effect_per_unit"] == pytest.approx(-0.2, rel=1e-9)
    assert effects.loc["b", "effect"] == pytest.approx(-0.2 * data["b"].std(ddof=0), rel=1e-9)
    assert found.effects["feature"].tolist() == ["b", "a"]
    assert effects.loc["a", "value"] == row["a"]
    assert found.r_squared == pytest.approx(1, abs=1e-12)
    assert found.local_prediction == pytest.approx(found.prediction, rel=1e-9)
    assert found.stability == 1
    assert effects["spread"].max() < 1e-9


def test_surrogate_is_sklearn_ridge(data):
    from sklearn.linear_model import Ridge

    found = local_surrogate(
        curve,
        data.iloc[0],
        data,
        features=["a", "b"],
        n_samples=60,
        n_repeats=2,
        kernel_width=1.2,
        alpha=2.5,
        rng=np.random.default_rng(9),
    )
    draws, scale = np.random.default_rng(9), data[["a", "b"]].std(ddof=0).to_numpy()
    coefficients, scores = [], []
    for _ in range(2):
        z = draws.standard_normal((60, 2))
        moved = pd.DataFrame(
            data[["a", "b"]].iloc[0].to_numpy() + z * scale, columns=["a", "b"]
        )
        weights = np.exp(-(z**2).sum(axis=1) / 1.2**2)
        ridge = Ridge(alpha=2.5).fit(z, curve(moved), sample_weight=weights)
        coefficients.append(ridge.coef_)
        scores.append(ridge.score(z, curve(moved), sample_weight=weights))
    assert np.allclose(found.repeats, coefficients, rtol=0, atol=1e-10)
    assert 0 < np.mean(scores) < 1
    assert found.r_squared == pytest.approx(np.mean(scores), abs=1e-10)


def test_ridge_pulls_towards_zero(data):
    sizes = [
        local_surrogate(
            line, data.iloc[0], data, features=["a"], alpha=a, rng=np.random.default_rng(1)
        ).effects["effect"][0]
        for a in (0, 10, 1e3, 1e9)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-5 < sizes[0]


def test_spread_shrinks_with_samples(data):
    spread = {
        n: local_surrogate(
            curve, data.iloc[0], data, n_samples=n, n_repeats=30, rng=np.random.default_rng(1)
        )
        .effects["spread"]
        .mean()
        for n in (100, 10_000)
    }
    # √100 = 10 in theory; 30 repeats leave each spread about 13 % uncertain.
    assert 5 < spread[100] / spread[10_000] < 20


def test_surrogate_repeats_with_its_seed_and_is_frozen(data):
    first, second = (
        local_surrogate(curve, data.iloc[0], data, rng=np.random.default_rng(2))
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(first.effects, second.effects)
    assert 0 <= first.stability <= 1
    assert first.repeats.shape == (10, 3)
    spread = first.effects.set_index("feature")["spread"]
    assert np.allclose(spread, first.repeats.std(ddof=1)[spread.index], rtol=1e-12)
    with pytest.raises(FrozenInstanceError):
        first.r_squared = 1.0


def test_flat_prediction_has_no_r_squared(data, rng):
    found = local_surrogate(lambda rows: np.ones(len(rows)), data.iloc[0], data, rng=rng)
    assert np.isnan(found.r_squared)
    assert found.effects["effect"].abs().max() < 1e-12


def test_surrogate_takes_a_fit_and_a_one_row_frame(rng):
    sleep = load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    found = local_surrogate(fit, sleep.iloc[[0]], sleep, features="Days", alpha=0, rng=rng)
    slope = fit.coef()["Subject"].loc[sleep["Subject"][0], "Days"]
    assert found.effects["effect_per_unit"][0] == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"predict": 3}, "predict: must be a function of a DataFrame"),
        ({"predict": lambda rows: np.ones((len(rows), 2))}, "predict: must return one number"),
        ({"predict": lambda rows: [1.0]}, "predict: must return one number"),
        ({"predict": lambda rows: np.log(rows["a"] * 0 - 1)}, "must return finite numbers"),
        ({"row": 3}, "row: must be one row"),
        ({"row": pd.Series({"a": 1.0})}, "'b', which is not one"),
        ({"row": pd.Series({"a": None, "b": 1, "whole": 1, "kind": "u"})}, "missing values"),
        ({"row": pd.Series({"a": "x", "b": 1, "whole": 1, "kind": "u"})}, "row: must have the"),
        ({"row": pd.Series({"a": np.inf, "b": 1, "whole": 1, "kind": "u"})}, "row: .*infinite"),
        ({"data": pd.DataFrame({"a": []})}, "data: must have at least one row"),
        ({"features": ["c"]}, "'c', which is not one"),
        ({"features": ["kind"]}, "features: must name numeric columns"),
        ({"features": []}, "features: must (name|be a list)"),
        ({"features": ["a", "a"]}, "features: must (name|be a list)"),
        ({"features": 5}, "features: must (name|be a list)"),
        ({"n_samples": 3}, "n_samples: must be a whole number of at least 5"),
        ({"n_repeats": 1}, "n_repeats: must be a whole number of at least 2"),
        ({"kernel_width": 0}, "kernel_width: must be a positive number"),
        ({"kernel_width": 0.01}, "kernel_width: must leave more points"),
        ({"alpha": -1}, "alpha: must be a number, 0 or more"),
        ({"alpha": np.nan}, "alpha: must be a number, 0 or more"),
        ({"rng": 1}, "rng: must be a numpy.random.Generator"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning")
def test_surrogate_bad_input(data, rng, change, match):
    good = {"predict": curve, "row": data.iloc[0], "data": data, "rng": rng} | change
    with pytest.raises(CourseError, match=match):
        local_surrogate(**good)


def test_surrogate_of_one_row_of_data(data, rng):
    with pytest.raises(CourseError, match="data: must vary in each feature"):
        local_surrogate(curve, data.iloc[0], data.head(1), features=["a"], rng=rng)


# Partial dependence


def test_partial_dependence_is_the_mean_over_rows(data):
    found = partial_dependence_frame(curve, data, "a", grid_resolution=7)
    assert found.columns.tolist() == ["a", "kind", "row", "prediction"]
    assert len(found) == 7
    for a, mean in zip(found["a"], found["prediction"], strict=True):
        assert mean == pytest.approx(curve(data.assign(a=a)).mean(), abs=1e-12)


def test_individual_lines_keep_the_row_labels_and_average_to_the_mean(data):
    found = partial_dependence_frame(curve, data, "a", kind="both", grid_resolution=6)
    lines, mean = (found[found["kind"] == kind] for kind in ("individual", "average"))
    assert lines["row"].unique().tolist() == data.index.tolist()
    assert mean["row"].isna().all()
    averaged = lines.groupby("a")["prediction"].mean()
    assert np.allclose(averaged, mean["prediction"], atol=1e-12)
    one = lines[lines["row"] == 117]
    assert np.allclose(one["prediction"], curve(data.loc[[117] * 6].assign(a=one["a"].array)))
    alone = partial_dependence_frame(curve, data, "a", kind="individual", grid_resolution=6)
    assert np.array_equal(alone["prediction"], lines["prediction"])


def test_two_features_of_any_type(data):
    found = partial_dependence_frame(line, data, ["a", "whole"])
    assert len(found) == 20 * 5  # a grid of 20, and five whole numbers
    renamed = data.rename(columns={"kind": "sort"})

    def model(rows):
        return line(rows.rename(columns={"sort": "kind"}))

    found = partial_dependence_frame(model, renamed, ["a", "sort"], grid_resolution=4)
    table = found.pivot(index="a", columns="sort", values="prediction")
    assert table.shape == (4, 2)
    assert np.allclose(table["u"] - table["v"], 1)


def test_percentiles_bound_the_grid(data):
    found = partial_dependence_frame(curve, data, "a", percentiles=(0, 1))
    assert found["a"].min() == data["a"].min()
    assert found["a"].max() == data["a"].max()


def test_fit_and_forest_agree_with_sklearn(data):
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import partial_dependence

    x = data[["a", "b"]]
    forest = RandomForestRegressor(10, random_state=1).fit(x, curve(x))
    theirs = partial_dependence(forest, x, ["b"], method="brute", grid_resolution=9)
    ours = partial_dependence_frame(forest, data, "b", grid_resolution=9)  # more columns
    assert np.allclose(ours["prediction"], theirs["average"][0], atol=1e-12)
    sleep = load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    days = partial_dependence_frame(fit, sleep, "Days")
    assert days["Days"].tolist() == list(range(10))
    assert np.allclose(np.diff(days["prediction"]), fit.fe_params["Days"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"predict": None}, "predict: must be a function"),
        ({"predict": lambda rows: np.ones(3)}, "predict: must return one number per row"),
        ({"data": [1, 2]}, "data: must be a pandas DataFrame"),
        ({"features": "c"}, "'c', which is not one"),
        ({"features": ["a", "b", "whole"]}, "features: must be one or two columns"),
        ({"features": []}, "features: must be one or two columns"),
        ({"features": "kind"}, "features: must vary.*a column of the result"),
        ({"kind": "all"}, "kind: must be one of"),
        ({"grid_resolution": 1}, "grid_resolution: must be a whole number"),
        ({"percentiles": (0.9, 0.1)}, "percentiles: must be two rising shares"),
        ({"percentiles": 0.5}, "percentiles: must be two rising shares"),
        ({"percentiles": (0.5, 0.5 + 1e-9)}, "percentiles: must leave a grid"),
    ],
)
def test_partial_dependence_bad_input(data, change, match):
    good = {"predict": curve, "data": data, "features": "a"} | change
    with pytest.raises(CourseError, match=match):
        partial_dependence_frame(**good)


def test_partial_dependence_bad_values(data):
    with pytest.raises(CourseError, match="must vary in data"):
        partial_dependence_frame(curve, data.head(1), "a")
    with pytest.raises(CourseError, match="missing values"):
        partial_dependence_frame(curve, data.assign(a=[np.nan, *range(79)]), "a")
    with pytest.raises(CourseError, match="infinite"):
        partial_dependence_frame(curve, data.assign(a=[np.inf, *range(79)]), "a")


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([(1, 2), (3, 4)] * 40, r"type tuple in 'v'. .*astype\(str\)"),
        ([[1], [2]] * 40, "type list in 'v'"),
        ([1, "a"] * 40, "numbers held as objects in 'v'. .*to_numeric"),
        (pd.date_range("2020", periods=80), r"dates in 'v'. .*dt\.days"),
    ],
)
def test_partial_dependence_takes_numbers_and_categories(data, values, advice):
    with pytest.raises(CourseError, match=f"features: must take columns .*{advice}"):
        partial_dependence_frame(curve, data.assign(v=values), "v")
