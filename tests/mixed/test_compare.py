"""Model tables and likelihood-ratio tests, against lme4's anova() and pbkrtest."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from course_lib import load
from course_lib.errors import CourseError
from course_lib.mixed.compare import compare_models, lr_test
from course_lib.mixed.result import lmer

REFERENCE = Path(__file__).parents[1] / "reference" / "compare.json"
VALUES = json.loads(REFERENCE.read_text(encoding="utf-8"))

# lme4 at rhoend = 1e-10 and our search both end within 1e-8 of the minimum of the deviance.
DEVIANCE = 1e-7
# A p-value of size 1e-10 moves by half of its statistic's change, relatively.
PVALUE = 1e-7


@pytest.fixture(scope="module")
def sleep():
    """Every random part of the sleepstudy models, by ML and REML."""
    data = load("sleepstudy")
    bars = {
        "intercept": "(1|Subject)",
        "zerocorr": "(Days||Subject)",
        "slope": "(Days|Subject)",
    }
    return {
        (name, reml): lmer(f"Reaction ~ Days + {bar}", data, reml)
        for name, bar in bars.items()
        for reml in (True, False)
    }


@pytest.fixture(scope="module")
def small():
    """A small balanced design under the null: no slope variance. Pairs of reduced and full."""
    rng = np.random.default_rng(20240601)
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 6), "x": np.tile(np.arange(6.0), 20)})
    data["y"] = 3 + 0.5 * data.x + rng.normal(size=20)[data.g] + rng.normal(size=120)
    return data, lmer("y ~ x + (1|g)", data, False), lmer("y ~ x + (x|g)", data, False)


# ---- against R -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VALUES["anova"], ids=lambda c: f"{c['data']}-{c['reml']}")
def test_table_and_tests_agree_with_anova(case):
    data = load(case["data"])
    fits = [lmer(formula, data, case["reml"]) for formula in case["formulas"]]
    table = compare_models({str(k): fit for k, fit in enumerate(fits)})
    assert list(table["npar"]) == case["npar"]
    for name in ("llf", "aic", "bic"):
        np.testing.assert_allclose(table[name], case[name], rtol=0, atol=DEVIANCE)
    assert set(table["criterion"]) == {"REML" if case["reml"] else "ML"}
    for k in range(1, len(fits)):
        test = lr_test(fits[k - 1], fits[k])
        assert test.statistic == pytest.approx(case["statistic"][k], abs=DEVIANCE)
        assert test.df == case["df"][k]
        assert test.pvalue == pytest.approx(case["p"][k], rel=PVALUE)
        assert test.criterion == table["criterion"].iloc[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", VALUES["bootstrap"], ids=lambda c: c["data"])
def test_bootstrap_agrees_with_pbkrtest(case):
    data = load(case["data"])
    reduced, full = (lmer(case[name], data, False) for name in ("reduced", "full"))
    n_sim = 3000 if case["data"] == "orthodont" else 300  # pastes: one draw at a time
    test = lr_test(reduced, full, "bootstrap", n_sim, np.random.default_rng(3), False)
    assert test.statistic == pytest.approx(case["statistic"], abs=1e-5)  # lme4's own getLRT
    # pbkrtest's own p-value leaves out the draws at zero, as if the spike were not there.
    theirs = (1 + case["n_extreme"]) / (1 + case["n_sim"])
    error = np.hypot(test.pvalue_se, np.sqrt(theirs * (1 - theirs) / case["n_sim"]))
    assert abs(test.pvalue - theirs) < 3 * error


# ---- the table -------------------------------------------------------------------------------


def test_table_by_hand(sleep):
    fits = {name: sleep[name, False] for name in ("intercept", "zerocorr", "slope")}
    table = compare_models(fits)
    assert list(table.index) == list(fits)
    assert table.index.name == "model"
    slope = table.loc["slope"]
    assert slope["aic"] == pytest.approx(1763.939344, abs=1e-6)
    assert slope["bic"] == pytest.approx(-2 * slope["llf"] + 6 * np.log(180), rel=1e-14)
    assert table["delta_aic"].min() == 0
    assert table["weight"].sum() == pytest.approx(1)
    ratio = np.exp((table.loc["zerocorr", "aic"] - slope["aic"]) / 2)
    assert slope["weight"] / table.loc["zerocorr", "weight"] == pytest.approx(ratio)
    assert table.attrs["bic_n"] == 180
    assert "n = 180, the number of rows" in table.attrs["note"]
    assert not table["refitted"].any()


def test_reml_fits_with_different_fixed_parts_are_refitted():
    data = load("sleepstudy")
    formulas = {"flat": "Reaction ~ 1 + (1|Subject)", "line": "Reaction ~ Days + (1|Subject)"}
    reml, ml = ({k: lmer(f, data, r) for k, f in formulas.items()} for r in (True, False))
    table, expected = compare_models(reml), compare_models(ml)
    pd.testing.assert_frame_equal(
        table.drop(columns="refitted"), expected.drop(columns="refitted"), atol=1e-8
    )
    assert table["refitted"].all()
    assert "refitted by ML" in table.attrs["note"]
    assert "refitted" not in expected.attrs["note"]
    assert reml["flat"].reml  # the caller's fits stay as they were
    test = lr_test(reml["flat"], reml["line"])
    assert (test.criterion, test.df) == ("ML", 1)
    assert "different fixed parts" in test.note
    assert test.pvalue == pytest.approx(lr_test(ml["flat"], ml["line"]).pvalue, rel=PVALUE)
    with pytest.raises(CourseError, match="REML fits with different fixed parts"):
        compare_models(reml, refit=False)


def test_reml_and_ml_mixed(sleep):
    mixed = {"a": sleep["intercept", True], "b": sleep["slope", False]}
    table = compare_models(mixed)
    assert list(table["refitted"]) == [True, False]
    assert set(table["criterion"]) == {"ML"}
    with pytest.raises(CourseError, match="REML and ML fits mixed"):
        compare_models(mixed, refit=False)
    test = lr_test(*mixed.values())
    assert test.criterion == "ML"
    assert test.statistic == pytest.approx(42.1393, abs=5e-5)


def test_reml_criterion_depends_on_the_scale_of_x(sleep):
    data = load("sleepstudy").assign(hours=lambda d: 24 * d.Days)
    hours = lmer("Reaction ~ hours + (1|Subject)", data)
    assert abs(hours.deviance - sleep["intercept", True].deviance) > 1
    table = compare_models({"days": sleep["intercept", True], "hours": hours})
    assert table["refitted"].all()
    assert table["delta_aic"].max() < 1e-7


# ---- the tests -------------------------------------------------------------------------------


def test_numbers_of_the_slope_test(sleep):
    reduced, full = sleep["intercept", False], sleep["slope", False]
    naive = lr_test(reduced, full)
    assert naive.statistic == pytest.approx(42.1393, abs=5e-5)
    assert naive.pvalue == pytest.approx(7.0724e-10, rel=1e-5)
    assert "boundary" in naive.note
    mixture = lr_test(reduced, full, "boundary")
    assert mixture.pvalue == pytest.approx(3.961e-10, rel=1e-4)
    halves = chi2.sf(naive.statistic, 1) / 2 + chi2.sf(naive.statistic, 2) / 2
    assert mixture.pvalue == pytest.approx(halves, rel=1e-12)
    assert "½χ²_1 + ½χ²_2" in mixture.note
    assert (mixture.n_sim, mixture.pvalue_se, len(mixture.simulated)) == (0, 0, 0)


def test_variance_without_correlation_is_compared_with_half_of_one_chi2(sleep):
    test = lr_test(sleep["intercept", False], sleep["zerocorr", False], "boundary")
    assert test.df == 1
    assert test.pvalue == pytest.approx(chi2.sf(test.statistic, 1) / 2, rel=1e-12)


def test_second_grouping_factor_is_one_variance():
    data = load("pastes")
    reduced = lmer("strength ~ 1 + (1|batch:cask)", data, False)
    full = lmer("strength ~ 1 + (1|batch/cask)", data, False)
    test = lr_test(reduced, full, "boundary")
    assert test.pvalue == pytest.approx(chi2.sf(test.statistic, 1) / 2, rel=1e-12)
    renamed = lmer("strength ~ 1 + (1|sample)", data, False)  # the same groups, renamed
    assert lr_test(renamed, full).statistic == pytest.approx(test.statistic, abs=1e-8)


def test_statistic_of_zero_has_p_value_one(small):
    data = small[0].assign(
        h=lambda d: d.g % 2, y=lambda d: d.y - d.groupby("g").y.transform("mean")
    )
    reduced = lmer("y ~ x + (1|g)", data, False)
    full = lmer("y ~ x + (1|g) + (1|h)", data, False)
    for method in ("chi2", "boundary"):
        test = lr_test(reduced, full, method)
        assert (test.statistic, test.pvalue) == (0, 1)
    assert reduced.is_singular
    assert "singular" in test.note


def test_bootstrap_is_deterministic_and_counts(small):
    _, reduced, full = small
    runs = [
        lr_test(reduced, full, "bootstrap", 400, np.random.default_rng(5), False)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].simulated, runs[1].simulated)
    test = runs[0]
    reached = (test.simulated >= test.statistic).sum()
    assert test.pvalue == (1 + reached) / 401
    assert test.pvalue_se == pytest.approx(np.sqrt(test.pvalue * (1 - test.pvalue) / 400))
    assert test.n_sim == len(test.simulated) == 400
    assert (test.simulated >= 0).all()
    with pytest.raises(FrozenInstanceError):
        test.pvalue = 0.0


def test_null_distribution_has_its_spike_at_zero(small):
    """One variance without correlations: ½χ²_0 + ½χ²_1. With one correlation: no spike."""
    data, reduced, full = small
    uncorrelated = lmer("y ~ x + (x||g)", data, False)
    shares = [
        (lr_test(reduced, m, "bootstrap", 500, np.random.default_rng(5), False).simulated == 0)
        for m in (uncorrelated, full)
    ]
    assert 0.4 < shares[0].mean() < 0.75  # above one half in small samples
    assert shares[1].mean() < 0.02


def test_bootstrap_shows_its_progress(small, capsys):
    _, reduced, full = small
    lr_test(reduced, full, "bootstrap", 10, np.random.default_rng(5))
    shown = capsys.readouterr().err
    assert "bootstrap" in shown
    assert "10/10" in shown


def test_bootstrap_draws_are_tests_of_refits(small):
    _, reduced, full = small
    test = lr_test(reduced, full, "bootstrap", 20, np.random.default_rng(5), False)
    for y, simulated in zip(
        reduced.simulate(20, np.random.default_rng(5)), test.simulated, strict=True
    ):
        statistic = lr_test(reduced.refit(y), full.refit(y)).statistic
        assert statistic == pytest.approx(simulated, abs=1e-6)  # both zero below 1e-6


def test_smallest_bootstrap_p_value_is_said(sleep):
    test = lr_test(
        sleep["intercept", True],
        sleep["slope", True],
        "bootstrap",
        99,
        np.random.default_rng(1),
        False,
    )
    assert test.criterion == "REML"
    assert test.pvalue == 0.01
    assert "smallest" in test.note


@pytest.mark.slow
def test_level_under_a_true_null():
    """4,000 data sets without slope variance: who rejects at 5 % how often?"""
    n_sim, groups = 4000, 50
    data = pd.DataFrame(
        {"g": np.repeat(np.arange(groups), 4), "x": np.tile([0.0, 1, 2, 3], groups)}
    )
    rng = np.random.default_rng(11)
    data["y"] = 1 + data.x + rng.normal(size=groups)[data.g] + rng.normal(size=4 * groups)
    reduced, full = (lmer(f"y ~ x + ({bar}|g)", data, False) for bar in ("1", "x"))
    null = lr_test(reduced, full, "bootstrap", n_sim, np.random.default_rng(12), False)
    naive = (chi2.sf(null.simulated, 2) < 0.05).mean()
    boundary = (chi2.sf(null.simulated, 1) / 2 + chi2.sf(null.simulated, 2) / 2 < 0.05).mean()
    error = np.sqrt(0.05 * 0.95 / n_sim)  # 0.0034
    assert abs(boundary - 0.05) < 3 * error
    assert naive < 0.05 - 3 * error
    # In theory .032: half of the draws follow χ²_1, half χ²_2.
    expected = chi2.sf(chi2.isf(0.05, 2), [1, 2]).mean()
    assert abs(naive - expected) < 3 * np.sqrt(expected * (1 - expected) / n_sim)


# ---- invariance ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    x_scale=st.sampled_from([1e-6, 1e-2, 1.0, 60.0, 1e6]),
    x_shift=st.sampled_from([-5.0, 0.0, 1000.0]),
    y_scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_slope_test_does_not_depend_on_units_order_or_names(
    small, seed, x_scale, x_shift, y_scale
):
    data, reduced, full = small
    expected = lr_test(reduced, full, "boundary")
    rng = np.random.default_rng(seed)
    changed = data.sample(frac=1, random_state=rng)
    names = rng.permutation(20)
    changed = changed.assign(
        x=(changed.x + x_shift) * x_scale,
        y=changed.y * y_scale,
        g=[f"group {names[g]}" for g in changed.g],
    )
    again = lr_test(
        lmer("y ~ x + (1|g)", changed, False), lmer("y ~ x + (x|g)", changed, False), "boundary"
    )
    # Offsets of 1,000 at a spread of 5 cost three digits of a deviance of some hundreds.
    assert again.statistic == pytest.approx(expected.statistic, abs=1e-6)
    assert again.pvalue == pytest.approx(expected.pvalue, abs=1e-6)


# ---- nesting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reduced", "full", "missing"),
    [
        ("y ~ x + (1|g)", "y ~ z + (1|g)", "the fixed effects x. "),
        ("y ~ x + z + (1|g)", "y ~ z + h + (1|g)", "the fixed effects x. "),
        ("y ~ x + (1|g)", "y ~ x + (1|h)", r"the random term \(Intercept \| g\)"),
        ("y ~ x + (1|g)", "y ~ x + (0+x|g)", r"the random term \(Intercept \| g\)"),
        ("y ~ x + (0+x|g)", "y ~ x + (1+z|g)", r"the random term \(x \| g\)"),
    ],
)
def test_models_that_are_not_nested(small, reduced, full, missing):
    rng = np.random.default_rng(2)
    data = small[0].assign(z=rng.normal(size=120), h=np.tile(np.arange(10), 12))
    fits = [lmer(formula, data, False) for formula in (reduced, full)]
    with pytest.raises(CourseError, match=f"nested.*lacks {missing}.*compare_models"):
        lr_test(*fits)


def test_correlated_effects_are_not_nested_in_uncorrelated_ones(sleep):
    with pytest.raises(CourseError, match="They are swapped: pass the smaller model first"):
        lr_test(sleep["slope", False], sleep["zerocorr", False])


def test_spans_count_not_names(small):
    data, reduced, _ = small
    data = data.assign(w=2 * data.x - 7)
    shifted = lmer("y ~ w + (w|g)", data, False)
    plain = lr_test(reduced, small[2])
    assert lr_test(reduced, shifted).statistic == pytest.approx(plain.statistic, abs=1e-7)


def test_swapped_and_equal_models(sleep):
    with pytest.raises(CourseError, match="They are swapped"):
        lr_test(sleep["slope", True], sleep["intercept", True])
    with pytest.raises(CourseError, match="nothing to test"):
        lr_test(sleep["slope", True], sleep["slope", False])


@pytest.mark.parametrize(
    ("reduced", "full", "problem"),
    [
        ("y ~ 1 + (1|g)", "y ~ x + (x|g)", "1 fixed effect"),
        ("y ~ 1 + (1|g)", "y ~ x + (1|g)", "1 fixed effect"),
        ("y ~ x + (x||g)", "y ~ x + (x|g)", "no variance added"),
        ("y ~ x + (1|g)", "y ~ x + (x+z|g)", "2 variances added"),
        ("y ~ x + (1|g)", "y ~ x + (x+z||g)", "2 variances added"),
        ("y ~ x + (x||g)", "y ~ x + (x+z|g)", "correlations between effects"),
    ],
)
def test_boundary_says_where_it_does_not_apply(small, reduced, full, problem):
    data = small[0].assign(z=np.random.default_rng(2).normal(size=120))
    fits = [lmer(formula, data, False) for formula in (reduced, full)]
    with pytest.raises(CourseError, match=f"exactly one random effect.*{problem}"):
        lr_test(*fits, "boundary")
    assert 0 <= lr_test(*fits).pvalue <= 1


# ---- bad input -------------------------------------------------------------------------------


def test_different_rows_and_responses(sleep):
    data = load("sleepstudy")
    gap = data.assign(Reaction=data.Reaction.where(data.index != 3))
    others = {
        "rows.*179 rows against 180": lmer("Reaction ~ Days + (Days|Subject)", gap),
        "same rows.*other labels": lmer("Reaction ~ Days + (Days|Subject)", data.iloc[::-1]),
        "same response": lmer("log(Reaction) ~ Days + (Days|Subject)", data),
        "with other values": lmer(
            "Reaction ~ Days + (Days|Subject)", data.assign(Reaction=data.Reaction + data.Days)
        ),
    }
    reduced = sleep["intercept", True]
    for message, other in others.items():
        with pytest.raises(CourseError, match=message):
            lr_test(reduced, other)
        with pytest.raises(CourseError, match=message):
            compare_models({"a": reduced, "b": other})


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, "at least two.*got 0"),
        ([1, 2], "must be a dict"),
        ({"a": 1, "b": 2}, r"models\['a'\]: must be a model fitted by lmer; got a int"),
        (None, "must be a dict"),
    ],
)
def test_table_of_something_else(models, message):
    with pytest.raises(CourseError, match=message):
        compare_models(models)


def test_table_of_one_model_or_with_unknown_option(sleep):
    fit = sleep["slope", True]
    with pytest.raises(CourseError, match="at least two.*got 1"):
        compare_models({"only": fit})
    with pytest.raises(CourseError, match="refit"):
        compare_models({"a": fit, "b": fit}, refit="yes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "chisq"}, "method: .*'chi2'"),
        ({"method": None}, "method"),
        ({"method": "bootstrap"}, "rng: must be a numpy.random.Generator"),
        ({"method": "bootstrap", "rng": 1}, "rng"),
        ({"method": "bootstrap", "n_sim": 0, "rng": np.random.default_rng(1)}, "n_sim"),
        ({"method": "bootstrap", "n_sim": 10.5, "rng": np.random.default_rng(1)}, "n_sim"),
    ],
)
def test_unknown_options(sleep, options, message):
    with pytest.raises(CourseError, match=message):
        lr_test(sleep["intercept", True], sleep["slope", True], **options)


def test_something_else_than_fits(sleep):
    with pytest.raises(CourseError, match="reduced: must be a model fitted by lmer"):
        lr_test("Reaction ~ Days", sleep["slope", True])
    with pytest.raises(CourseError, match="full: must be a model fitted by lmer"):
        lr_test(sleep["slope", True], None)
