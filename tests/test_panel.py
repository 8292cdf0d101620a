import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linearmodels.panel import PanelOLS, RandomEffects

from course_lib.datasets import load
from course_lib.errors import CourseError
from course_lib.panel import compare_fe_re, hausman
from course_lib.reshape import within_between

REFERENCE = Path(__file__).parent / "reference"
VALUES = json.loads((REFERENCE / "panel.json").read_text(encoding="utf-8"))
PANELS = {
    "grunfeld": ("invest ~ value + capital", "firm", "year"),
    "wage_panel": ("lwage ~ exper + expersq + union + married", "nr", "year"),
    "wage_panel_educ": ("lwage ~ expersq + union + married + educ", "nr", "year"),
    "hedonic": ("mv ~ crim + rm + age + lstat + tax", "town", "tract"),
}

# Coefficients and their standard errors: least squares by QR in R, by SVD in linearmodels.
# expersq against exper is the worst condition here, about 1e4.
ESTIMATE = 1e-9
# The classical statistic divides by V_FE − V_RE, which is 0.2 % of V_FE in one direction of
# wage_panel, so that rounding counts some hundred times; a Wald test of V alone is milder.
HAUSMAN = 1e-8
WALD = 1e-9


def data_of(name):
    if name == "hedonic":
        return pd.read_csv(REFERENCE / "data" / "panel_hedonic.csv")
    return load("wage_panel" if name.startswith("wage") else name)


@pytest.fixture(scope="module")
def comparisons():
    return {
        name: compare_fe_re(formula, data_of(name), entity=entity, time=time)
        for name, (formula, entity, time) in PANELS.items()
    }


def assert_estimates(reference, params, std_errors, rtol=ESTIMATE):
    for part, ours in (("coef", params), ("se", std_errors)):
        names = [name.replace("(Intercept)", "Intercept") for name in reference[part]]
        np.testing.assert_allclose(ours[names], list(reference[part].values()), rtol=rtol)


@pytest.mark.parametrize("name", PANELS)
class TestAgreesWithPlm:
    def test_estimates(self, comparisons, name):
        reference, ours = VALUES[name], comparisons[name]
        assert ours.nobs == reference["n"]
        for model in ("re", "pooled"):
            result = getattr(ours, model)
            assert_estimates(reference[model], result.params, result.std_errors)
        assert_estimates(reference["fe"], ours.fe.params, ours.fe.std_errors)

    def test_variance_components(self, comparisons, name):
        effects, residual, _ = comparisons[name].re.variance_decomposition
        assert effects == pytest.approx(VALUES[name]["re"]["sigma2_u"], rel=ESTIMATE)
        assert residual == pytest.approx(VALUES[name]["re"]["sigma2_e"], rel=ESTIMATE)

    def test_classical_tests(self, comparisons, name):
        reference, ours = VALUES[name], comparisons[name]
        for key, test in (("hausman", ours.hausman), ("sigmamore", ours.hausman_sigmamore)):
            assert test.statistic == pytest.approx(reference[key]["statistic"], rel=HAUSMAN)
            assert test.df == reference[key]["df"]
        # An eigenvalue is exact to rounding of the largest entry of V, not of itself
        largest = ours.fe.cov.loc[list(ours.hausman.estimates.index)].abs().to_numpy().max()
        assert ours.smallest_eigenvalue == pytest.approx(
            reference["hausman"]["smallest_eigenvalue"], rel=0, abs=1e-11 * largest
        )
        assert ours.positive_definite

    def test_mundlak_tests(self, comparisons, name):
        reference, ours = VALUES[name], comparisons[name]
        for key in ("mundlak_test", "mundlak_test_clustered"):
            assert getattr(ours, key).statistic == pytest.approx(reference[key], rel=WALD)
            if ours.balanced:  # the same by plm's own random effects and vcovHC
                assert getattr(ours, key).statistic == pytest.approx(
                    reference[f"plm_{key}"], rel=WALD
                )

    def test_mundlak_within_is_fe_and_the_means_add_the_difference(self, comparisons, name):
        reference, ours = VALUES[name]["mundlak"]["coef"], comparisons[name]
        for term in ours.fe.params.index.drop("Intercept"):
            within, between = ours.mundlak.params[[f"{term}_within", f"{term}_between"]]
            assert within == pytest.approx(ours.fe.params[term], rel=ESTIMATE)
            # A difference of two estimates, so with the rounding of the larger one
            assert between - within == pytest.approx(reference[f"{term}_mean"], rel=1e-8)


@pytest.mark.parametrize("name", ["grunfeld", "wage_panel", "wage_panel_educ"])
def test_phtest_is_the_same_in_balanced_panels(comparisons, name):
    reference, test = VALUES[name]["phtest"], comparisons[name].hausman
    assert test.statistic == pytest.approx(reference["statistic"], rel=HAUSMAN)
    assert test.df == reference["df"]
    # p = exp(−statistic / 2) roughly: the relative error of p is half the absolute one
    assert test.pvalue == pytest.approx(reference["p"], rel=1e-6)


def test_unbalanced_plm_differs_by_its_variance_of_the_effects(comparisons):
    reference, ours = VALUES["hedonic"], comparisons["hedonic"]
    assert not ours.balanced
    assert reference["phtest"]["statistic"] < 0.5 * ours.hausman.statistic
    # Baltagi and Chang's variance, which linearmodels calls small_sample, is plm's
    index = ["town", "tract"]
    data = data_of("hedonic").set_index(index).assign(Intercept=1.0)
    model = RandomEffects(data["mv"], data[list(ours.re.params.index)])
    baltagi_chang = model.fit(small_sample=True)
    assert_estimates(reference["plm_re"], baltagi_chang.params, baltagi_chang.std_errors)
    assert hausman(ours.fe, baltagi_chang).statistic == pytest.approx(
        reference["phtest"]["statistic"], rel=HAUSMAN
    )


def test_published_numbers(comparisons):
    grunfeld, wage = comparisons["grunfeld"], comparisons["wage_panel"]
    table = grunfeld.table.set_index("term")
    published = [[0.1101238041, 0.0118566942], [0.3100653413, 0.0173545028]]
    # Tolerances: half a unit of the last published digit
    np.testing.assert_allclose(
        table.loc[["value", "capital"], ["fe", "fe_se"]], published, rtol=0, atol=5e-11
    )
    assert table.loc["Intercept", "re"] == pytest.approx(-57.8344149, abs=5e-8)
    assert table.loc["value", "re"] == pytest.approx(0.1097811522, abs=5e-11)
    assert table.loc["capital", "re"] == pytest.approx(0.3081129828, abs=5e-11)
    assert grunfeld.hausman.statistic == pytest.approx(2.33036689, abs=5e-9)
    assert grunfeld.hausman.pvalue == pytest.approx(0.31186545, abs=5e-9)
    assert grunfeld.hausman_sigmamore.statistic == pytest.approx(2.12994591, abs=5e-9)
    assert wage.hausman.statistic == pytest.approx(250.258918, abs=5e-7)
    assert wage.hausman.df == 4
    assert wage.hausman_sigmamore.statistic == pytest.approx(76.996850, abs=5e-7)
    assert wage.mundlak_test.statistic == pytest.approx(78.310670, abs=5e-7)
    assert wage.mundlak_test.df == 4
    assert wage.mundlak_test_clustered.statistic == pytest.approx(96.3776, abs=5e-5)


def test_three_entities_and_two_periods_by_hand():
    data = pd.DataFrame(
        {
            "who": ["a", "a", "b", "b", "c", "c"],
            "wave": [1, 2] * 3,
            "x": [0.0, 2.0, 3.0, 5.0, 2.0, 6.0],
            "y": [1.0, 3.0, 9.0, 10.0, 4.0, 9.0],
        }
    )
    table = compare_fe_re("y ~ x", data, entity="who", time="wave").table.set_index("term")
    # Two periods: least squares of changes, (2·2 + 2·1 + 4·5) / (2² + 2² + 4²)
    assert table.loc["x", "fe"] == pytest.approx(26 / 24, rel=1e-14)
    assert table.loc["x", "within"] == pytest.approx(26 / 24, rel=1e-13)
    # Between: the means (1, 2), (4, 9.5), (4, 6.5), so a line from (1, 2) to (4, 8)
    assert table.loc["x", "between"] == pytest.approx(2.0, rel=1e-13)
    assert table.loc["Intercept", "between"] == pytest.approx(0.0, abs=1e-13)


def test_two_entities_and_two_periods_by_demeaning():
    data = pd.DataFrame(
        {
            "who": [1, 1, 2, 2],
            "wave": [1, 2, 1, 2],
            "x": [0, 1, 4, 7],
            "y": [5.0, 7.0, 1.0, 2.0],
        }
    )
    parts = within_between(data, ["x", "y"], by="who")
    slope = np.linalg.lstsq(parts[["x_within"]], parts["y_within"], rcond=None)[0][0]
    assert slope == pytest.approx((1 * 2 + 3 * 1) / (1 + 9), rel=1e-14)
    panel = data.set_index(["who", "wave"])
    fe = PanelOLS(panel["y"], panel[["x"]], entity_effects=True).fit()
    assert fe.params["x"] == pytest.approx(slope, rel=1e-14)
    # Enough for FE, not for a line through two entity means with a variance around it
    with pytest.raises(CourseError, match=r"at least 3 entities .* got 2 entities, 4 rows"):
        compare_fe_re("y ~ x", data, entity="who", time="wave")


def test_year_dummies_make_the_difference_indefinite():
    formula = "lwage ~ expersq + union + married + C(year)"
    ours = compare_fe_re(formula, load("wage_panel"), entity="nr", time="year")
    assert ours.smallest_eigenvalue < 0
    assert not ours.positive_definite
    assert len(ours.within_only) == 7
    assert all(term.startswith("C(year)") for term in ours.within_only)
    # linearmodels counts the dummies, which carry nothing; the Mundlak test does not
    assert ours.hausman.df == 10
    assert ours.mundlak_test.df == 3
    assert any("not positive definite" in note for note in ours.notes)
    table = ours.table.set_index("term")
    within = table["within"].drop("Intercept")
    np.testing.assert_allclose(within, table["fe"].drop("Intercept"), rtol=ESTIMATE)
    assert table.loc["C(year)[T.1987]", ["between", "between_se"]].isna().all()


def test_time_invariant_terms_are_reported(comparisons):
    ours = comparisons["wage_panel_educ"]
    assert ours.time_invariant == ("educ",)
    row = ours.table.set_index("term").loc["educ"]
    assert row[["fe", "fe_se", "within", "within_se"]].isna().all()
    assert row["between"] == ours.mundlak.params["educ"]
    assert row["re_se"] == ours.re.std_errors["educ"]
    assert "educ: constant within nr" in repr(ours)


def test_a_statistic_that_hangs_on_the_error_variance_announces_itself(comparisons):
    assert any("sigmamore" in note for note in comparisons["wage_panel"].notes)
    assert comparisons["grunfeld"].notes == ()


def test_no_variance_between_entities_is_noted():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"id": np.repeat(range(8), 4), "t": list(range(4)) * 8})
    data["x"] = rng.normal(size=32)
    data["y"] = within_between(data.assign(e=rng.normal(size=32)), "e", by="id")["e_within"]
    ours = compare_fe_re("y ~ x", data, entity="id", time="t")
    assert ours.re.variance_decomposition["Effects"] == 0
    assert any("RE is pooled OLS" in note for note in ours.notes)
    np.testing.assert_allclose(ours.table["re"], ours.table["pooled"], rtol=1e-10)


def test_the_result_is_frozen_and_leaves_the_data_alone():
    data = load("grunfeld")
    before = data.copy()
    ours = compare_fe_re("invest ~ value + capital", data, entity="firm", time="year")
    pd.testing.assert_frame_equal(data, before)
    with pytest.raises(FrozenInstanceError):
        ours.formula = "y ~ 1"
    with pytest.raises(FrozenInstanceError):
        ours.mundlak_test.statistic = 0.0


@pytest.fixture(scope="module")
def small():
    """An unbalanced panel: 12 entities, 3 to 5 periods, one regressor constant in an entity."""
    rng = np.random.default_rng(11)
    entity = np.repeat(np.arange(12), [5, 4, 3, 5] * 3)
    effect = rng.normal(size=12)[entity]
    data = pd.DataFrame({"id": entity, "t": pd.Series(entity).groupby(entity).cumcount()})
    data["x"] = effect + rng.normal(size=len(data))
    data["w"] = rng.normal(size=len(data))
    data["z"] = rng.normal(size=12)[entity]
    data["y"] = 1 + data["x"] - data["w"] + effect + rng.normal(size=len(data))
    return data


def numbers(comparison):
    """All that must not change when only the form of the data does."""
    tests = [comparison.hausman.statistic, comparison.hausman_sigmamore.statistic]
    tests += [comparison.mundlak_test.statistic, comparison.mundlak_test_clustered.statistic]
    return comparison.table.drop(columns="term"), np.array(tests)


# Sums in another order or another unit: rounding only
ROUNDING = {"rtol": 1e-8, "atol": 1e-12}


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_invariant_to_row_order_and_entity_labels(small, seed):
    rng = np.random.default_rng(seed)
    changed = small.sample(frac=1, random_state=rng)
    changed["id"] = changed["id"].map(dict(enumerate(rng.permutation(list("pqrstuvwxyz0")))))
    table, tests = numbers(compare_fe_re("y ~ x + w + z", small, entity="id", time="t"))
    table2, tests2 = numbers(compare_fe_re("y ~ x + w + z", changed, entity="id", time="t"))
    np.testing.assert_allclose(table2, table, **ROUNDING)
    np.testing.assert_allclose(tests2, tests, **ROUNDING)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(power_y=st.integers(-6, 6), power_x=st.integers(-3, 3), shift=st.floats(-100, 100))
def test_equivariant_to_units(small, power_y, power_x, shift):
    unit_y, unit_x = 10.0**power_y, 10.0**power_x
    changed = small.assign(y=unit_y * small["y"], x=unit_x * (small["x"] + shift))
    table, tests = numbers(compare_fe_re("y ~ x + w + z", small, entity="id", time="t"))
    table2, tests2 = numbers(compare_fe_re("y ~ x + w + z", changed, entity="id", time="t"))
    # x in other units: its coefficient the other way round. The intercept moves with the shift
    table2 = table2.mul([1.0, unit_x, 1.0, 1.0], axis=0) / unit_y
    np.testing.assert_allclose(table2[1:], table[1:], rtol=1e-6)
    np.testing.assert_allclose(tests2, tests, rtol=1e-6)


def test_dates_as_periods(small):
    dated = small.assign(t=pd.Timestamp("2020-01-01") + pd.to_timedelta(small["t"], unit="D"))
    ours = compare_fe_re("y ~ x + w", dated, entity="id", time="t")
    plain = compare_fe_re("y ~ x + w", small, entity="id", time="t")
    pd.testing.assert_frame_equal(ours.table, plain.table)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (3, "^formula: must be text with a '~'"),
        ("y + x", "must (be text with a|have the response left of one) '~'"),
        ("y ~ (x", "must close every bracket"),
        ("y ~ sqroot(x)", "'sqroot' is not defined"),
        ("~ x", "must have the response left of one"),
        ("y ~ x + (1 | id)", "must not name the entity effect"),
        ("y ~ x + EntityEffects", "must not name the entity effect"),
        ("y ~ xx", "'xx', which is not one"),
        ("y ~ 0 + x", "must keep the constant"),
        ("poly(y, 2) ~ x", "must have one numeric response"),
        ("y ~ x + C(class)", "'class', which is not one"),
        ("y ~ log(w)", r"term log\(w\): must be finite"),
        ("z ~ x", "must have a response that varies within id"),
        ("y ~ 1", "varies both within and between id; got the constant alone"),
        ("y ~ z", r"varies both within and between id; got z \(only between\)"),
        ("y ~ one", r"varies both within and between id; got one \(only neither\)"),
        ("y ~ x + one", "not collinear; got one"),
        ("y ~ x + nil", "not collinear; got nil"),
        ("y ~ x + I(2 * x)", "not collinear; got I"),
        ("y ~ x + C(t) + age", "not collinear within entities; got age_within"),
        ("y ~ x + I(w * 1e-20)", r"of a size .* 'I\(w \* 1e-20\)' up to"),
        ("y ~ x + w*1e-12", r"exponent inside I\(…\); got '1e-12'"),
        ("y ~ x + twin", "not collinear between entities; got twin_between"),
    ],
)
def test_bad_formulas(small, formula, message):
    data = small.assign(one=1.0, nil=0.0, age=small["t"] + 10 * small["id"] ** 2)
    means = within_between(data, "x", by="id")
    data["twin"] = means["x_between"] + data["w"] - data.groupby("id")["w"].transform("mean")
    with pytest.raises(CourseError, match=message):
        compare_fe_re(formula, data, entity="id", time="t")


@pytest.mark.parametrize(
    ("response", "same"), [("y - w", "I(y - w)"), ("(y + w)", "I(y + w)"), ("y**2", "I(y**2)")]
)
def test_response_is_arithmetic_on_columns(small, response, same):
    one, other = (
        compare_fe_re(f"{left} ~ x", small, entity="id", time="t") for left in (response, same)
    )
    pd.testing.assert_frame_equal(one.table, other.table)


@pytest.mark.parametrize("dtype", ["int8", "UInt8", "float32"])
def test_storage_of_numbers_does_not_matter(small, dtype):
    data = small.assign(k=np.arange(len(small)) % 100 + (small["id"] == 1))
    formula = "y ~ I(k**2) + x + C(k > 50)"
    expected = compare_fe_re(formula, data, entity="id", time="t").table
    found = compare_fe_re(formula, data.astype({"k": dtype}), entity="id", time="t").table
    pd.testing.assert_frame_equal(found, expected)


def test_entities_that_a_filter_has_emptied_are_not_counted(small):
    kept = small.astype({"id": "category"}).query("id != 1")
    found = compare_fe_re("y ~ x", kept, entity="id", time="t")
    assert found.n_entities == small["id"].nunique() - 1


def test_dates_with_a_zone_are_dates(small):
    dated = small.assign(t=pd.Timestamp("2020", tz="UTC") + pd.to_timedelta(small["t"], "D"))
    expected = compare_fe_re("y ~ x", small, entity="id", time="t").table
    found = compare_fe_re("y ~ x", dated, entity="id", time="t").table
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "entity", "time", "message"),
    [
        ({}, "idd", "t", "entity: .*Perhaps you want 'id'"),
        ({}, "id", "when", "time: must name columns"),
        ({}, ["id"], "t", "entity: must be the name of a column"),
        ({}, "id", "id", "time: must name another column"),
        ({"id": 1}, "id", "t", "entity: .*at least two different values"),
        ({"t": 1}, "id", "t", "time: .*at least two different values"),
        ({"t": lambda d: d["t"] // 2}, "id", "t", "id 0 more than once in t 0"),
        ({"t": lambda d: d["t"].astype(str)}, "id", "t", "time: must hold numbers or dates"),
        (
            {"id": lambda d: d["id"].where(d["id"] > 0)},
            "id",
            "t",
            "entity: must not have missing",
        ),
        ({"t": lambda d: d["t"].where(d["t"] > 0)}, "id", "t", "time: must not have missing"),
        (
            {"x": lambda d: d["x"].where(d["x"] > 0)},
            "id",
            "t",
            "formula: must not have missing",
        ),
        (
            {"x": lambda d: d["x"].where(d["x"] > 0, np.inf)},
            "id",
            "t",
            "term x: must be finite",
        ),
    ],
)
def test_bad_panels(small, change, entity, time, message):
    with pytest.raises(CourseError, match=message):
        compare_fe_re("y ~ x + w", small.assign(**change), entity=entity, time=time)


def test_bad_data(small):
    with pytest.raises(CourseError, match="must be a pandas DataFrame"):
        compare_fe_re("y ~ x", small.to_numpy(), entity="id", time="t")
    with pytest.raises(CourseError, match="at least one row"):
        compare_fe_re("y ~ x", small.iloc[:0], entity="id", time="t")
    with pytest.raises(CourseError, match="at least 4 entities and 6 rows"):
        compare_fe_re("y ~ x + w", small[small["id"] < 3], entity="id", time="t")
    # Four entities, of which one is seen twice: no degree of freedom is left within
    few = small[(small["t"] == 0) | ((small["id"] == 1) & (small["t"] == 1))].iloc[:5]
    with pytest.raises(CourseError, match="6 rows for this formula; got 4 entities, 5 rows"):
        compare_fe_re("y ~ x", few, entity="id", time="t")


@pytest.fixture
def indexed(small):
    return small.set_index(["id", "t"]).assign(Intercept=1.0)


def test_clustered_results_are_refused(indexed):
    y, x = indexed["y"], indexed[["Intercept", "x"]]
    fe, re = PanelOLS(y, x, entity_effects=True), RandomEffects(y, x)
    clustered = {"cov_type": "clustered", "cluster_entity": True}
    for pair in ((fe.fit(**clustered), re.fit()), (fe.fit(), re.fit(**clustered))):
        with pytest.raises(CourseError, match="mundlak_test_clustered"):
            hausman(*pair)


def test_no_common_coefficient(indexed):
    fe = PanelOLS(indexed["y"], indexed[["Intercept", "x"]], entity_effects=True).fit()
    re = RandomEffects(indexed["y"], indexed[["Intercept", "w"]]).fit()
    with pytest.raises(CourseError, match="any coefficients in common"):
        hausman(fe, re)


def test_hausman_other_rows(indexed):
    fe = PanelOLS(indexed["y"], indexed[["x"]], entity_effects=True).fit()
    shorter = indexed.iloc[1:]
    re = RandomEffects(shorter["y"], shorter[["Intercept", "x"]]).fit()
    with pytest.raises(CourseError, match="must be fitted to the same rows"):
        hausman(fe, re)


def test_hausman_other_things(indexed):
    fe = PanelOLS(indexed["y"], indexed[["x"]], entity_effects=True).fit()
    with pytest.raises(CourseError, match="got PanelEffectsResults and PanelEffectsResults"):
        hausman(fe, fe)
    with pytest.raises(CourseError, match="got str and"):
        hausman("fe", fe)


@pytest.mark.parametrize("factor", [1e300, 1e200, -1e250])
def test_columns_too_large_to_square_are_refused(small, factor):
    with pytest.raises(CourseError, match="formula: must have columns of a size"):
        compare_fe_re("y ~ x", small.assign(y=small["y"] * factor), entity="id", time="t")
