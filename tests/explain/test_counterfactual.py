"""Counterfactuals where the smallest change is known: a line, a curve, steps on a grid."""

from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest

from course_lib import lmer, load
from course_lib.errors import CourseError
from course_lib.explain.counterfactual import counterfactual

UNIT = {"a": 1.0, "b": 1.0}


@pytest.fixture(scope="module")
def data():
    made = np.random.default_rng(3).uniform(-3, 3, (80, 2))
    return pd.DataFrame(made, columns=["a", "b"]).assign(kind="u", whole=np.arange(80) % 5)


@pytest.fixture
def row(data):
    return pd.Series({"a": 0.0, "b": 0.0, "kind": "u", "whole": 2})


def line(rows):
    return 1 + 3 * rows["a"] + 4 * rows["b"]


def steps(rows):
    """Prediction 2 in a corner, 1 in a strip, 0 elsewhere."""
    return 1.0 * (rows["a"] > 1.25) + 1.0 * ((rows["b"] > 0.75) & (rows["a"] > 1.25))


@pytest.mark.parametrize(
    ("kind", "target"), [("at least", 11), ("exactly", 11), ("at most", -9), ("exactly", -9)]
)
def test_line_moves_along_its_gradient(data, row, kind, target):
    found = counterfactual(
        line, row, data, target, change=["a", "b"], target_kind=kind, scale=UNIT
    )
    side = np.sign(target - 1)
    assert found.reached
    assert found.method == "straight line"
    assert found.distance == pytest.approx(2, rel=1e-9)  # |need| / |gradient| = 10 / 5
    assert found.changes["change"].tolist() == pytest.approx([1.2 * side, 1.6 * side], rel=1e-9)
    assert found.new_prediction == pytest.approx(target, rel=1e-12)
    assert found.prediction == 1
    assert line(found.changed).iloc[0] == found.new_prediction
    assert found.changed["kind"].tolist() == ["u"]


def test_scale_makes_a_column_dear_and_default_is_the_sd(data, row):
    dear = counterfactual(
        line, row, data, 11, change=["a", "b"], scale={"a": 1.0, "b": 0.5}
    ).changes.set_index("column")
    # u = need g s / |g s|², with g s = (3, 2)
    assert dear["scaled_change"].tolist() == pytest.approx([30 / 13, 20 / 13], rel=1e-9)
    sd = data[["a", "b"]].std(ddof=0)
    usual = counterfactual(line, row, data, 11, change=["a", "b"]).changes
    assert np.allclose(usual["change"] / usual["scaled_change"], sd)


def test_bound_of_one_column_is_made_up_for_by_the_other(data, row):
    found = counterfactual(
        line, row, data, 11, change=["a", "b"], bounds={"b": (-1, 1)}, scale=UNIT
    )
    assert found.changes["to"].tolist() == pytest.approx([2, 1], rel=1e-9)
    assert found.reached


def test_line_out_of_reach_gives_the_best(data, row):
    box = {"a": (-1, 1), "b": (-2, 0.5)}
    for target, kind, best in ((9, "at least", 6), (-90, "at most", -10), (9, "exactly", 6)):
        found = counterfactual(
            line, row, data, target, change=["a", "b"], bounds=box, target_kind=kind
        )
        assert not found.reached
        assert found.new_prediction == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("target", [1, 0.5, -3])
def test_nothing_to_do(data, row, target):
    found = counterfactual(line, row, data, target, change=["a", "b"])
    assert (found.reached, found.method, found.distance) == (True, "none needed", 0)
    assert (found.changes["change"] == 0).all()


def test_tolerance_counts_as_reached(data, row):
    found = counterfactual(
        line, row, data, 11, change=["a", "b"], target_kind="exactly", tolerance=5, scale=UNIT
    )
    assert found.distance == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(("target", "nearest"), [(1, (1.25, 0)), (2, (1.25, 0.75))])
def test_steps_are_climbed_at_their_edge(data, row, target, nearest):
    found = counterfactual(steps, row, data, target, change=["a", "b"], scale=UNIT)
    assert found.reached
    assert found.method == "search"
    assert found.changes["to"].tolist() == pytest.approx(nearest, abs=1e-9)


def test_steps_out_of_reach(data, row):
    found = counterfactual(steps, row, data, 3, change=["a", "b"], scale=UNIT)
    assert not found.reached
    assert found.new_prediction == 2
    assert found.distance == pytest.approx(np.hypot(1.25, 0.75), abs=1e-9)
    between = counterfactual(
        steps, row, data, 1.5, change=["a", "b"], target_kind="exactly", scale=UNIT
    )
    assert not between.reached
    assert between.new_prediction in (1, 2)


def test_step_over_the_target_is_not_the_end(data, row):
    def hill(rows):  # 3 is nearer than 2, which is asked for
        return 3.0 * (rows["a"] > 0.5) + 2.0 * (rows["a"] < -1.0)

    found = counterfactual(hill, row, data, 2, change=["a"], target_kind="exactly")
    assert found.reached
    assert found.changes["to"][0] == pytest.approx(-1, abs=1e-6)


@pytest.mark.slow
def test_forest_against_a_grid(data, row):
    from sklearn.ensemble import RandomForestRegressor

    x = data[["a", "b"]]
    forest = RandomForestRegressor(20, random_state=1).fit(x, np.sin(x["a"]) * x["b"])
    # Every cell on which the forest is constant has its nearest corner among the thresholds.
    edges = []
    for k in range(2):
        cuts = [t.tree_.threshold[t.tree_.feature == k] for t in forest.estimators_]
        cuts = np.unique(np.concatenate([*cuts, [0.0]]))
        edges.append(np.concatenate([cuts - 1e-6, cuts + 1e-6, [0.0]]))
    grid = pd.DataFrame(np.array(np.meshgrid(*edges)).reshape(2, -1).T, columns=["a", "b"])
    low, high = x.min(), x.max()
    grid = grid[((grid >= low) & (grid <= high)).all(axis=1)]
    value = forest.predict(grid)
    size = np.hypot(grid["a"], grid["b"])
    for target in np.quantile(value, [0.8, 0.97]):
        best = size[value >= target].min()
        found = counterfactual(forest, row, data, target, change=["a", "b"], scale=UNIT)
        assert found.reached
        # The grid stands 1e-6 off the edges; a forest rounds its input to single precision.
        assert found.distance == pytest.approx(best, abs=1e-5)
    beyond = counterfactual(forest, row, data, 99, change=["a", "b"], scale=UNIT)
    assert not beyond.reached
    assert beyond.new_prediction == pytest.approx(value.max(), abs=1e-9)


@pytest.mark.parametrize("kind", ["at least", "exactly"])
def test_smooth_curve_is_met_at_its_nearest_point(data, row, kind):
    def circle(rows):
        return rows["a"] ** 2 + rows["b"] ** 2 + 0.5 * rows["a"]

    found = counterfactual(
        circle, row, data, 3, change=["a", "b"], target_kind=kind, scale=UNIT
    )
    # On the circle around (-1/4, 0) the nearest point is on the positive a axis.
    assert found.reached
    assert found.changes["to"].tolist() == pytest.approx(
        [np.sqrt(3 + 1 / 16) - 0.25, 0], abs=2e-4
    )
    assert found.distance == pytest.approx(np.sqrt(3 + 1 / 16) - 0.25, abs=1e-7)


def test_mixed_model_with_random_slopes(data):
    sleep = load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    row = sleep.iloc[0]
    found = counterfactual(fit, row, sleep, 300.0, change="Days")
    intercept, slope = fit.coef()["Subject"].loc[row["Subject"]]
    assert found.changes["to"][0] == pytest.approx((300 - intercept) / slope, rel=1e-9)
    assert found.method == "straight line"


def test_same_answer_twice_and_frozen(data, row):
    def wavy(rows):
        return np.sin(2 * rows["a"]) + np.cos(3 * rows["b"])

    one, two = (counterfactual(wavy, row, data, 1.9, change=["a", "b"]) for _ in range(2))
    pd.testing.assert_frame_equal(one.changes, two.changes)
    with pytest.raises(FrozenInstanceError):
        one.reached = False


def test_column_with_one_allowed_value(data, row):
    found = counterfactual(
        steps, row, data, 1, change=["a", "b"], bounds={"b": (0, 0)}, scale=UNIT
    )
    assert found.changes["to"].tolist() == pytest.approx([1.25, 0], abs=1e-9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"predict": "line"}, "predict: must be a function"),
        ({"predict": lambda rows: None}, "predict: must return one number per row"),
        ({"row": pd.Series({"a": 1.0})}, "'b', which is not one"),
        ({"data": pd.DataFrame()}, "data: must have at least one row"),
        ({"target": "high"}, "target: must be one number"),
        ({"target": np.inf}, "target: must be one number, and finite"),
        ({"tolerance": -1}, "tolerance: must not be negative"),
        ({"target_kind": "above"}, "target_kind: must be one of"),
        ({"change": ["c"]}, "'c', which is not one"),
        ({"change": ["kind"]}, "change: must name numeric columns"),
        ({"change": []}, "change: must (name|be a list)"),
        ({"bounds": {"b": (0, 1)}}, "bounds: must be a dict by columns of change"),
        ({"bounds": [(0, 1)]}, "bounds: must be a dict"),
        ({"bounds": {"a": (1, 2)}}, "bounds: must be a lowest and a highest value"),
        ({"bounds": {"a": (-1, np.nan)}}, "bounds: must be finite"),
        ({"scale": {"a": 0}}, "scale: must be positive"),
        ({"scale": {"z": 1}}, "scale: must be a dict by columns of change"),
    ],
)
def test_bad_input(data, row, change, match):
    good = {"predict": line, "row": row, "data": data, "target": 11, "change": ["a"]} | change
    with pytest.raises(CourseError, match=match):
        counterfactual(**good)


def test_one_row_of_data_has_no_scale(data, row):
    with pytest.raises(CourseError, match="scale: must be positive.*constant in data"):
        counterfactual(line, row, data.head(1), 11, change=["a"])


def test_sentences_of_a_report(data, row):
    found = counterfactual(lambda rows: rows["a"], row, data, float(row["a"]), change=["a"])
    assert found.sentence().endswith("already")
    up = counterfactual(
        line, row, data, float(line(row.to_frame().T).iloc[0]) + 0.5, change=["a"]
    )
    assert up.reached
    move = up.changes.iloc[0]
    assert f"if a were {move['to']:.1f} instead of {move['from']:.1f}" in up.sentence()
    assert f"({move['scaled_change']:+.2f} sd)" in up.sentence(2)
    never = counterfactual(line, row, data, 1e6, change=["a"])
    assert f"no a in the data gives at least {1e6:.1f}" in never.sentence()
    assert f"at best {never.new_prediction:.1f}" in never.sentence()


def test_sentence_has_no_minus_zero(data, row):
    found = counterfactual(lambda rows: 0 * rows["a"] - 1e-9, row, data, -1.0, change=["a"])
    assert found.sentence() == "predicted 0.0, which is at least -1.0 already"


@pytest.mark.parametrize(
    ("start", "target", "text"), [(0.0, 2.44, "1.3"), (2.0, -2.44, "-1.3")]
)
def test_sentence_rounds_away_from_the_old_value(start, target, text):
    table = pd.DataFrame({"a": [-2.0, 0.0, 2.0]})
    kind = "at least" if target > start else "at most"
    found = counterfactual(
        lambda rows: 2 * rows["a"],
        pd.Series({"a": start}),
        table,
        target,
        change=["a"],
        target_kind=kind,
    )
    assert f"if a were {text} instead of {start:.1f}" in found.sentence()


def jumpy(rows):
    """Reach 1 from 0.252 on, but not between 0.28 and 0.4."""
    a = rows["a"]
    return 1.0 * (a >= 0.252) - 0.5 * ((a > 0.28) & (a < 0.4))


def test_sentence_is_true_of_a_model_that_jumps(data, row):
    found = counterfactual(jumpy, row, data, 1, change=["a"])
    assert found.changes["to"][0] == pytest.approx(0.252, abs=1e-9)
    for digits, text in ((0, "1 "), (1, "0.26"), (2, "0.26"), (3, "0.252"), (13, "0.252")):
        sentence = found.sentence(digits)
        assert f"if a were {text}" in sentence
        printed = float(sentence.split("if a were ")[1].split()[0])
        assert jumpy(row.to_frame().T.assign(a=printed)).iloc[0] >= 1


@pytest.mark.parametrize("start", [-1.37, -0.38, 0.04])
@pytest.mark.parametrize("digits", [0, 1, 2])
def test_sentence_prints_the_step_between_its_values(data, row, start, digits):
    begin = pd.Series(row.to_dict() | {"a": start})
    found = counterfactual(jumpy, begin, data, 1, change=["a"])
    words = found.sentence(digits).split("if a were ")[1].split()
    new, old, step = float(words[0]), float(words[3]), float(words[4].strip("("))
    half = 0.5 / 10**digits
    assert step == pytest.approx((new - old) / data["a"].std(ddof=0), abs=half)
    assert step == pytest.approx(found.changes["scaled_change"][0], abs=2 * half)


def test_sentence_takes_more_decimals_where_rounding_lengthens_the_step():
    table = pd.DataFrame({"a": [-2.0, 0.0, 2.0]})
    found = counterfactual(lambda rows: 2 * rows["a"], table.iloc[1], table, 2.42, change=["a"])
    # 1.3 in place of 1.21 would be 0.80 sd in place of 0.74
    assert found.sentence().endswith("if a were 1.21 instead of 0.00 (+0.7 sd)")


def test_sentence_stays_within_bounds(data, row):
    start = pd.Series(row.to_dict() | {"a": 1.0})
    # To 0 decimals the logarithm would be asked at 0.
    found = counterfactual(
        lambda rows: np.log(rows["a"].astype(float)),
        start,
        data,
        np.log(0.05),
        change=["a"],
        target_kind="at most",
        bounds={"a": (0.04, 2)},
    )
    assert "if a were 0.05 instead of 1.00" in found.sentence()
    out = counterfactual(line, row, data, 99, change=["a"], bounds={"a": (0, 1.77)})
    assert "at best 6.3, if a were 1.77 instead" in out.sentence()


def test_sentence_with_exactly_keeps_its_digits(data, row):
    found = counterfactual(line, row, data, 2, change=["a"], target_kind="exactly")
    assert "exactly 2.0 if a were 0.34 instead of 0.00" in found.sentence()
