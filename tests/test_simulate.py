import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.simulate import (
    GrowthDesign,
    RandomSlopeDesign,
    rainfall_response,
    simulate_fault,
    simulate_genes,
    simulate_growth,
    simulate_orders,
    simulate_panels,
    simulate_rainfall,
    simulate_random_slopes,
    simulate_scans,
    spoil_scores,
)

QUIET = {
    "sd_student_intercept": 0.0,
    "sd_student_slope": 0.0,
    "sd_class": 0.0,
    "sd_school": 0.0,
    "sd_residual": 0.0,
}


def growth(seed=1, **fields):
    return simulate_growth(GrowthDesign(**fields), np.random.default_rng(seed))


def slopes(seed=1, **fields):
    return simulate_random_slopes(RandomSlopeDesign(**fields), np.random.default_rng(seed))


def assert_variance(values, expected):
    """Compare a sample variance of normal values with the truth: four standard errors."""
    standard_error = expected * math.sqrt(2 / (len(values) - 1))
    assert np.var(values, ddof=1) == pytest.approx(expected, abs=4 * standard_error)


def assert_mean(values, expected, variance):
    """Compare a mean of independent values of known variance with the truth."""
    assert np.mean(values) == pytest.approx(expected, abs=4 * math.sqrt(variance / len(values)))


def lines_of(data, group, x, y):
    """Least-squares intercept and slope of each group."""
    fits = [np.polyfit(part[x], part[y], 1)[::-1] for _, part in data.groupby(group)]
    return np.array(fits).T


def test_growth_frame():
    data = growth()
    expected = ["school", "class_id", "class_number", "student_id", "time", "score"]
    assert list(data.columns) == expected
    assert len(data) == 6 * 4 * 10 * 5
    assert data.index.tolist() == list(range(len(data)))
    assert data.loc[0, "student_id"] == "S01-C1-01"
    assert data.iloc[-1]["student_id"] == "S06-C4-10"
    assert data.groupby("student_id")["time"].apply(list).map(tuple).unique().tolist() == [
        (0, 1, 2, 3, 4)
    ]
    assert (data["class_id"] == data["school"] + "-C" + data["class_number"]).all()
    assert (data.groupby("class_number")["school"].nunique() == 6).all()
    assert (data.groupby("student_id")["class_id"].nunique() == 1).all()


def test_growth_without_spread_is_the_line():
    data = growth(**QUIET, intercept=10.0, slope=-2.0)
    np.testing.assert_allclose(data["score"], 10 - 2 * data["time"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("spread", "unit"),
    [("sd_school", "school"), ("sd_class", "class_id"), ("sd_student_intercept", "student_id")],
)
def test_growth_effect_belongs_to_its_level(spread, unit):
    data = growth(**{**QUIET, spread: 2.0}, n_schools=8)
    effect = data["score"] - 50 - 3 * data["time"]
    assert effect.groupby(data[unit]).std().max() < 1e-12
    assert effect.round(9).nunique() == data[unit].nunique()


def test_growth_labels_sort_as_numbers():
    data = growth(n_schools=101, classes_per_school=1, students_per_class=1, n_waves=1)
    assert data["school"].is_monotonic_increasing
    assert data["school"].iloc[-1] == "S101"


def test_growth_recovers_the_student_effects():
    # Balanced waves: a student's own line has covariance D + σ²(T'T)⁻¹ around the mean line.
    design = GrowthDesign(
        n_schools=50, students_per_class=20, sd_class=0, sd_school=0, cor_student=0.5
    )
    data = simulate_growth(design, np.random.default_rng(3))
    waves = np.vander(np.arange(design.n_waves), 2, increasing=True)
    noise = design.sd_residual**2 * np.linalg.inv(waves.T @ waves)
    expected = np.array(design.cov_re) + noise
    lines = lines_of(data, "student_id", "time", "score")
    assert_mean(lines[0], design.intercept, expected[0, 0])
    assert_mean(lines[1], design.slope, expected[1, 1])
    assert_variance(lines[0], expected[0, 0])
    assert_variance(lines[1], expected[1, 1])
    # var of a sample covariance of normal values: (v00 v11 + v01²) / (n - 1)
    error = math.sqrt((np.prod(expected.diagonal()) + expected[0, 1] ** 2) / lines.shape[1])
    assert np.cov(lines)[0, 1] == pytest.approx(expected[0, 1], abs=4 * error)


def test_growth_recovers_classes_schools_and_residual():
    design = GrowthDesign(n_schools=200, students_per_class=3, n_waves=2, sd_student_slope=0)
    data = simulate_growth(design, np.random.default_rng(4))
    within_student = (
        design.sd_student_intercept**2 + design.sd_residual**2 / design.n_waves
    ) / design.students_per_class
    of_class = design.sd_class**2 + within_student
    classes = data.groupby(["school", "class_id"])["score"].mean()
    schools = classes.groupby("school").mean()
    assert_variance(schools, design.sd_school**2 + of_class / design.classes_per_school)
    first, second = classes.groupby("school").nth(0), classes.groupby("school").nth(1)
    assert_variance(first.to_numpy() - second.to_numpy(), 2 * of_class)
    change = data.groupby("student_id")["score"].diff().dropna()
    assert_variance(change, 2 * design.sd_residual**2)


def test_growth_missing_scores_change_nothing_else():
    whole, gaps = growth(), growth(missing_fraction=0.03)
    assert gaps["score"].isna().sum() == 36
    assert whole["score"].notna().all()
    pd.testing.assert_frame_equal(whole[gaps["score"].notna()], gaps.dropna())
    assert growth(missing_fraction=1)["score"].isna().all()


@pytest.mark.parametrize("make", [growth, slopes])
def test_same_seed_same_data(make):
    pd.testing.assert_frame_equal(make(seed=5), make(seed=5))
    assert not make(seed=5).equals(make(seed=6))


def test_designs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GrowthDesign().slope = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        RandomSlopeDesign().scale = 1.0


def test_random_slopes_by_default():
    lines = lines_of(slopes(n_groups=2000, scale=0), "group", "x", "y")
    assert_mean(lines[0], 10, 4.0)
    assert_mean(lines[1], 2, 0.25)
    assert_variance(lines[0], 4.0)
    assert_variance(lines[1], 0.25)


def test_random_slopes_frame():
    data = slopes(n_groups=3, n_per_group=4)
    assert list(data.columns) == ["group", "x", "y"]
    assert data["group"].tolist() == ["G01"] * 4 + ["G02"] * 4 + ["G03"] * 4


def test_random_slopes_without_spread_is_the_line():
    data = slopes(cov_re=((0, 0), (0, 0)), scale=0, intercept=-1.0, slope=0.5)
    np.testing.assert_allclose(data["y"], -1 + 0.5 * data["x"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("correlation", [-1.0, 1.0])
def test_random_slopes_perfect_correlation_is_singular(correlation):
    covariance = correlation * math.sqrt(2.0) * math.sqrt(3.0)
    data = slopes(cov_re=((2.0, covariance), (covariance, 3.0)), scale=0)
    lines = lines_of(data, "group", "x", "y")
    assert np.corrcoef(lines)[0, 1] == pytest.approx(correlation, abs=1e-6)


def test_random_slopes_recover_the_covariance():
    cov_re = np.array(((4.0, 0.6), (0.6, 0.5)))
    lines = lines_of(
        slopes(n_groups=2000, cov_re=cov_re.tolist(), scale=0, mean_x=1), "group", "x", "y"
    )
    assert_mean(lines[0], 10, cov_re[0, 0])
    assert_mean(lines[1], 2, cov_re[1, 1])
    assert_variance(lines[0], cov_re[0, 0])
    assert_variance(lines[1], cov_re[1, 1])
    error = math.sqrt((4.0 * 0.5 + 0.6**2) / 2000)
    assert np.cov(lines)[0, 1] == pytest.approx(0.6, abs=4 * error)


def test_random_slopes_recover_scale_and_regressor():
    n_groups, n_per_group = 1500, 4
    data = slopes(
        n_groups=n_groups,
        n_per_group=n_per_group,
        cov_re=((0, 0), (0, 0)),
        scale=2.5,
        mean_x=7,
        sd_x_between=2,
        sd_x_within=3,
    )
    assert_variance(data["y"] - 10 - 2 * data["x"], 2.5)
    means = data.groupby("group")["x"].mean()
    assert_mean(means, 7, 4 + 9 / n_per_group)
    assert_variance(means, 4 + 9 / n_per_group)
    steps = data["x"].to_numpy().reshape(n_groups, n_per_group)
    assert_variance(steps[:, 0] - steps[:, 1], 2 * 9)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.6])
def test_between_and_within_slopes(correlation):
    design = RandomSlopeDesign(
        n_groups=2000,
        n_per_group=5,
        cov_re=((4.0, 0.0), (0.0, 0.0)),
        x_group_correlation=correlation,
    )
    data = simulate_random_slopes(design, np.random.default_rng(8))
    means = data.groupby("group")[["x", "y"]].mean()
    var_mean = 1 + 1 / 5
    between = 2 + correlation * 2 * 1 / var_mean
    # Given the group means of x, those of y scatter with this variance.
    scatter = 4 + 1 / 5 - (correlation * 2) ** 2 / var_mean
    error = math.sqrt(scatter / (2000 * var_mean))
    found = np.polyfit(means["x"], means["y"], 1)[0]
    assert found == pytest.approx(between, abs=4 * error)
    inside = data[["x", "y"]] - data.groupby("group")[["x", "y"]].transform("mean")
    within = (inside["x"] @ inside["y"]) / (inside["x"] @ inside["x"])
    assert within == pytest.approx(2, abs=4 * math.sqrt(1 / (2000 * 4)))


def test_orders_tree():
    users = simulate_orders(25, np.random.default_rng(2))
    names = [user["user"] for user in users]
    assert len(set(names)) == 25
    assert names[0] == "Alice"
    assert names[10] == "Alice 2"
    assert {len(user["orders"]) for user in users} == {0, 1, 2, 3, 4}
    quantities = set()
    for user in users:
        assert [order["id"] for order in user["orders"]] == list(
            range(101, 101 + len(user["orders"]))
        )
        for order in user["orders"]:
            assert 1 <= len(order["items"]) <= 4
            assert len({item["name"] for item in order["items"]}) == len(order["items"])
            for item in order["items"]:
                assert item["price"] > 0
                quantities.add(item["quantity"])
    assert quantities == {1, 2, 3}
    assert users == simulate_orders(25, np.random.default_rng(2))
    assert users != simulate_orders(25, np.random.default_rng(3))


def test_orders_of_a_user_share_a_price_level():
    # Log of price over list price has variance .3² + .15² + .05² over all users.
    users = simulate_orders(1500, np.random.default_rng(9))
    levels = [
        math.log(item["price"] / 900)
        for user in users
        for order in user["orders"][:1]
        for item in order["items"]
        if item["name"] == "laptop"
    ]
    assert len(levels) > 300
    assert_variance(levels, 0.3**2 + 0.15**2 + 0.05**2)
    assert_mean(levels, 0, 0.3**2 + 0.15**2 + 0.05**2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_schools", 0),
        ("classes_per_school", 2.5),
        ("students_per_class", "10"),
        ("n_waves", True),
        ("intercept", math.nan),
        ("slope", None),
        ("sd_student_intercept", -1),
        ("sd_student_slope", math.inf),
        ("sd_class", "3"),
        ("sd_school", -0.1),
        ("sd_residual", [4]),
        ("cor_student", 1.2),
        ("missing_fraction", -0.01),
        ("missing_fraction", 3),
    ],
)
def test_bad_growth_design(field, value):
    with pytest.raises(CourseError, match=f"^{field}: must be"):
        GrowthDesign(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_groups", 0),
        ("n_per_group", -3),
        ("intercept", "a"),
        ("slope", math.inf),
        ("mean_x", None),
        ("scale", -1.0),
        ("sd_x_between", math.nan),
        ("sd_x_within", -2),
        ("x_group_correlation", -1.5),
        ("cov_re", 1.0),
        ("cov_re", ((1.0, 0.0),)),
        ("cov_re", ((1.0, 0.1), (0.2, 1.0))),
        ("cov_re", ((1.0, 2.0), (2.0, 1.0))),
        ("cov_re", ((-1.0, 0.0), (0.0, 1.0))),
        ("cov_re", ((0.0, 0.1), (0.1, 1.0))),
        ("cov_re", ((1.0, math.nan), (math.nan, 1.0))),
    ],
)
def test_bad_random_slope_design(field, value):
    with pytest.raises(CourseError, match=f"^{field}: must be"):
        RandomSlopeDesign(**{field: value})


@pytest.mark.parametrize("value", ["abc", None, ((1.0, 0.0), (0.0,))])
def test_cov_re_that_is_no_matrix(value):
    with pytest.raises(CourseError, match="^cov_re: "):
        RandomSlopeDesign(cov_re=value)


@pytest.mark.parametrize("still", [{"sd_x_between": 0}, {"cov_re": ((0, 0), (0, 1))}])
def test_correlation_needs_two_things_that_vary(still):
    with pytest.raises(CourseError, match="x_group_correlation: must be 0 unless"):
        RandomSlopeDesign(x_group_correlation=0.5, **still)


@pytest.mark.parametrize(
    ("simulate", "design"),
    [
        (simulate_growth, GrowthDesign()),
        (simulate_random_slopes, RandomSlopeDesign()),
        (simulate_orders, 3),
    ],
)
def test_generator_must_be_given(simulate, design):
    with pytest.raises(CourseError, match="rng: must be a numpy.random.Generator"):
        simulate(design, 42)


@pytest.mark.parametrize("simulate", [simulate_growth, simulate_random_slopes])
@pytest.mark.parametrize("design", [None, {"n_groups": 3}, GrowthDesign])
def test_design_must_be_the_right_one(simulate, design):
    with pytest.raises(CourseError, match="design: must be a (Growth|RandomSlope)Design"):
        simulate(design, np.random.default_rng(1))


@pytest.mark.parametrize("n_users", [0, -1, 2.0, "3", None])
def test_bad_number_of_users(n_users):
    with pytest.raises(CourseError, match="n_users: must be a whole number"):
        simulate_orders(n_users, np.random.default_rng(1))


# Many panels at once.


def panels(n_panels=400, seed=1, leak=0.0, **fields):
    design = RandomSlopeDesign(**{"n_groups": 5, "n_per_group": 4} | fields)
    return simulate_panels(design, n_panels, np.random.default_rng(seed), leak)


def test_panels_are_arrays_and_the_seed_decides():
    x, y = panels(n_panels=3)
    assert x.shape == y.shape == (3, 5, 4)
    np.testing.assert_array_equal(x, panels(n_panels=3)[0])
    assert not np.array_equal(x, panels(n_panels=3, seed=2)[0])


def test_panels_have_the_moments_of_the_formula():
    x, y = panels(
        n_panels=4000,
        cov_re=((4.0, 0.0), (0.0, 0.0)),
        slope=3.0,
        intercept=7.0,
        mean_x=2.0,
        sd_x_between=1.5,
        sd_x_within=0.5,
        scale=0.25,
        x_group_correlation=0.6,
    )
    rest = y - 7 - 3 * x
    level, effect = x.mean(axis=2).ravel(), rest.mean(axis=2).ravel()
    assert_variance(level, 1.5**2 + 0.5**2 / 4)
    assert_variance(effect, 4 + 0.25 / 4)
    assert_mean(level, 2.0, 1.5**2 + 0.5**2 / 4)
    expected = 0.6 * 1.5 * 2
    assert np.cov(level, effect)[0, 1] == pytest.approx(expected, abs=0.15)
    within = x - x.mean(axis=2, keepdims=True)
    assert (within**2).sum() / (x.size - level.size) == pytest.approx(0.25, rel=0.05)


def test_leak_puts_the_residual_into_x():
    quiet = {"cov_re": ((0.0, 0.0), (0.0, 0.0)), "sd_x_between": 0.0, "sd_x_within": 0.0}
    x, y = panels(leak=0.5, slope=1.0, intercept=0.0, **quiet)
    np.testing.assert_allclose(x, 0.5 * (y - x), atol=1e-12)
    assert (panels(slope=1.0, **quiet)[0] == 0).all()


def test_panels_have_slopes_of_their_own():
    nothing = {"scale": 0.0, "slope": 1.0, "intercept": 0.0}
    x, y = panels(cov_re=((0.0, 0.0), (0.0, 1.0)), **nothing)
    own = y / x
    np.testing.assert_allclose(own, own[:, :, :1] + 0 * own, rtol=1e-9)
    assert_variance(own[:, :, 0].ravel(), 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"n_panels": 0}, "n_panels"), ({"leak": np.nan}, "leak"), ({"leak": "a"}, "leak")],
)
def test_panels_say_what_is_wrong(change, words):
    with pytest.raises(CourseError, match=words):
        panels(**change)
    with pytest.raises(CourseError, match="rng"):
        simulate_panels(RandomSlopeDesign(), 2, 1)
    with pytest.raises(CourseError, match="design"):
        simulate_panels({}, 2, np.random.default_rng(1))


def test_spoil_scores_plants_what_it_says():
    clean = simulate_growth(GrowthDesign(), np.random.default_rng(1))
    before = clean.copy()
    spoilt = spoil_scores(clean, np.random.default_rng(2))
    pd.testing.assert_frame_equal(clean, before)
    key = ["student_id", "time"]
    assert len(spoilt) == 1200 - 9 + 12 + 3
    assert len(spoilt[key].drop_duplicates()) == 1200 - 9
    assert spoilt.duplicated().sum() == 12
    twice = spoilt.drop_duplicates()
    twice = twice[twice.duplicated(key, keep=False)].groupby(key)["score"]
    np.testing.assert_allclose(twice.max() - twice.min(), [10, 10, 10])
    assert spoilt["score"].isin([999]).sum() == 3
    assert spoilt["score"].isin([-1]).sum() == 2
    assert spoilt["school"].str.fullmatch(r"s\d\d ").sum() == 6
    assert list(spoilt.columns) == list(clean.columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.head(30), "growth: must have at least 35 scores"),
        (lambda table: table.drop(columns="school"), "'school'"),
        (lambda table: table.to_numpy(), "growth: must be a pandas DataFrame"),
    ],
)
def test_spoil_scores_bad_input(change, message):
    clean = simulate_growth(GrowthDesign(), np.random.default_rng(1))
    with pytest.raises(CourseError, match=message):
        spoil_scores(change(clean), np.random.default_rng(2))
    with pytest.raises(CourseError, match="rng: must be a numpy.random.Generator"):
        spoil_scores(clean, 42)


def faults(fault, n=200):
    """Draws of y as lines minus the mean line: groups × rows, stacked."""
    rng = np.random.default_rng(7)
    draws = [simulate_fault(fault, rng) for _ in range(n)]
    x = draws[0]["x"].to_numpy().reshape(60, 10)
    return x, np.array([d["y"].to_numpy().reshape(60, 10) for d in draws])


def test_places_of_faults_are_fixed_and_standard():
    x, _ = faults("none", 2)
    np.testing.assert_allclose(
        [x.mean(), x.mean(axis=1).var(), x[0].var()], [0, 1, 1], atol=1e-12
    )
    assert (np.diff(x, axis=1) > 0).all()


def test_each_fault_changes_what_its_formula_says():
    x, healthy = faults("none")
    line = 10 + 2 * x
    # Var(y) = 4 + x²/4 + 4 everywhere; 12,000 values, so 5 % is four standard errors and more
    scaled = ((healthy - line) ** 2).mean(axis=0) / (8 + x**2 / 4)
    assert abs(scaled.mean() - 1) < 0.05
    curve = faults("curve")[1] - healthy
    np.testing.assert_allclose(curve, np.broadcast_to(x**2, curve.shape), atol=1e-12)
    fan = (faults("fan")[1] - healthy) / (np.exp((x - 1) / 2) - 1)  # e itself
    assert abs(fan.std() - 2) < 0.05
    middle = (faults("fan in the middle")[1] - healthy) / (1.5 * np.exp(-np.abs(x)) - 1)
    np.testing.assert_allclose(middle, fan, atol=1e-6)
    related = faults("related")[1] - healthy  # 1.6 m - 0.8 a, the same for all rows of a group
    np.testing.assert_allclose(related.mean(axis=(0, 2)), 1.6 * x.mean(axis=1), atol=0.3)
    assert np.ptp(related, axis=2).max() < 1e-10


def test_memory_has_its_correlation_in_order_only():
    _, healthy = faults("none")
    x, remembered = faults("memory")
    shuffled = faults("memory without order")[1]
    noise = [y - (10 + 2 * x) for y in (remembered, shuffled)]
    gaps = [np.diff(y, axis=2).var() for y in noise]
    # Var(e_t - e_s) = 8 (1 - cor); the cor is .8 in order, Σ (10 - k) .8^k / 45 when shuffled
    mean_cor = sum((10 - k) * 0.8**k for k in range(1, 10)) / 45
    step = (0.5 * (x[0, 1] - x[0, 0])) ** 2
    assert gaps[0] == pytest.approx(8 * 0.2 + step, rel=0.03)
    assert gaps[1] == pytest.approx(8 * (1 - mean_cor) + step, rel=0.03)
    assert healthy.shape == remembered.shape


@pytest.mark.parametrize("fault", ["skewed", "skewed slopes"])
def test_skewed_effects_have_the_skewness_of_an_exponential(fault):
    x, y = faults(fault)
    centred = x - x.mean(axis=1, keepdims=True)
    slopes = (y * centred).sum(axis=2) / (centred**2).sum(axis=1)
    effects = y.mean(axis=2) - 2 * x.mean(axis=1) if fault == "skewed" else slopes
    third = ((effects - effects.mean()) ** 3).mean()
    # Third central moment of sd · (E - 1): 2 sd³; noise and the other effect are symmetric
    assert third == pytest.approx(2 * (8 if fault == "skewed" else 0.125), rel=0.4)


def test_wrong_faults_are_refused():
    with pytest.raises(CourseError, match="fault: must be one of"):
        simulate_fault("smile", np.random.default_rng(1))
    with pytest.raises(CourseError, match="rng"):
        simulate_fault("none", 1)
    with pytest.raises(CourseError, match="n_groups"):
        simulate_fault("none", np.random.default_rng(1), n_groups=1)


# Scans, genes and rainfall: what is planted is there, and nothing else.


def test_scans_are_grey_pictures_of_two_classes():
    images, labels, corners = simulate_scans(40, "sticker", np.random.default_rng(1))
    assert images.shape == (40, 32, 32)
    assert (labels == 1).sum() == 20
    assert images.min() >= 0
    assert images.max() <= 1
    assert corners.min() >= 0
    assert corners.max() <= 24


def test_a_sticker_is_planted_in_class_1_only():
    images, labels, corners = simulate_scans(40, "sticker", np.random.default_rng(1))
    sticker = 0.25 + 0.5 * (np.indices((8, 8)).sum(axis=0) % 2)
    for image, label, (i, j) in zip(images, labels, corners, strict=True):
        assert np.array_equal(image[i : i + 8, j : j + 8], sticker) == bool(label)


def test_grain_is_planted_in_class_1_only_and_everywhere():
    images, labels, _ = simulate_scans(200, "grain", np.random.default_rng(1))
    quarters = images.reshape(200, 2, 16, 2, 16)
    rough = np.diff(quarters, axis=4).std(axis=(2, 4)).min(axis=(1, 2))
    assert rough[labels == 1].min() > 0.1  # grain alone gives .1 times the root of 2
    assert np.median(rough[labels == 0]) < 0.1


def test_held_out_scans_share_no_pixel_with_the_others():
    from sklearn.datasets import load_sample_images

    seen = {}
    for held_out in (False, True):
        scans = simulate_scans(60, "sticker", np.random.default_rng(1), held_out=held_out)
        seen[held_out] = scans[0][scans[1] == 0]
    for held_out, half in ((False, slice(0, 106)), (True, slice(106, 212))):
        windows = []
        for photograph in load_sample_images().images:
            grey = photograph[:426, :639].mean(axis=2) / 255
            grey = grey.reshape(142, 3, 213, 3).mean(axis=(1, 3))[:, half]
            view = np.lib.stride_tricks.sliding_window_view(grey, (32, 32))
            windows.append(view[..., 0, :4].reshape(-1, 4))
        places = np.concatenate(windows)
        for image in seen[held_out][:10]:
            assert np.abs(places - image[0, :4]).max(axis=1).min() == 0


def test_genes_have_the_correlation_and_the_effect_that_are_planted():
    rng = np.random.default_rng(1)
    genes, outcome = simulate_genes(20_000, (2, 0, -1), rng, correlation=0.6, per_pathway=3)
    assert list(genes) == [f"{letter}{k}" for letter in "ABC" for k in (1, 2, 3)]
    found = np.corrcoef(genes.T)
    expected = np.kron(np.eye(3), np.full((3, 3), 0.6)) + 0.4 * np.eye(9)
    np.testing.assert_allclose(found, expected, atol=0.03)
    covariance = genes.mul(outcome, axis=0).mean().groupby(lambda name: name[0]).mean()
    np.testing.assert_allclose(covariance, np.sqrt(0.6) * np.array([2, 0, -1]), atol=0.08)
    assert np.var(outcome) == pytest.approx(6, rel=0.05)


def test_rainfall_responds_as_it_should():
    stations = simulate_rainfall(20_000, np.random.default_rng(1))
    assert (stations["latitude"] < 0).mean() == pytest.approx(0.03, abs=0.005)
    assert stations["month"].agg(["min", "max"]).tolist() == [1, 12]
    place = stations[["latitude", "longitude", "month"]]
    response = rainfall_response(*place.to_numpy().T)
    left = stations["rain"] - 50 - response * stations["index"] + 2 * stations["altitude"]
    assert_mean(left, 0, 1)
    assert_variance(left, 1)


def test_response_by_hand():
    assert rainfall_response(60, 60, 7) == pytest.approx(4.5)  # cut off at 40 degrees
    assert rainfall_response(-20, -120, 7) == pytest.approx(2 - 0.75 - 1)
    assert rainfall_response(-60, 150, 1) == pytest.approx(2 + 1.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda rng: simulate_scans(1, "sticker", rng),
        lambda rng: simulate_scans(4, "label", rng),
        lambda rng: simulate_scans(4, "grain", rng, held_out="no"),
        lambda rng: simulate_scans(4, "grain", 1),
        lambda rng: simulate_genes(0, (1,), rng),
        lambda rng: simulate_genes(4, 1, rng),
        lambda rng: simulate_genes(4, [0] * 27, rng),
        lambda rng: simulate_genes(4, (1,), rng, correlation=1.1),
        lambda rng: simulate_genes(4, (1,), rng, per_pathway=0),
        lambda rng: simulate_genes(4, (1,), None),
        lambda _: rainfall_response("x", 0, 1),
        lambda _: rainfall_response([1, 2], [1, 2, 3], 1),
        lambda rng: simulate_rainfall(0, rng),
        lambda rng: simulate_rainfall(4, rng, south=-0.1),
        lambda rng: simulate_rainfall(4, 3),
    ],
)
def test_bad_input_to_scans_genes_and_rainfall(call):
    with pytest.raises(CourseError):
        call(np.random.default_rng(1))
