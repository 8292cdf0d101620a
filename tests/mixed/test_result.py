"""`lmer` and its result: shapes, equal formulas, rows, prediction, refits, bad input."""

import copy
import pickle
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from dense_deviance import covariance, parts_of

from course_lib import CourseError, LmerResult, lmer, load

SLEEP, PASTES = load("sleepstudy"), load("pastes")
FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def fit():
    return lmer(FORMULA, SLEEP)


@pytest.fixture(scope="module")
def crossed():
    return lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load("penicillin"))


def same_fit(one, other):
    """Two fits of the same model: equal to the accuracy of the search."""
    assert one.deviance == pytest.approx(other.deviance, abs=1e-7)
    np.testing.assert_allclose(one.fe_params, other.fe_params, rtol=1e-6)
    np.testing.assert_allclose(one.fittedvalues, other.fittedvalues, rtol=1e-5)
    assert one.npar == other.npar


# ---- the result ----------------------------------------------------------------------


def test_counts_and_criteria(fit):
    assert isinstance(fit, LmerResult)
    assert fit.formula == FORMULA
    assert (fit.nobs, fit.n_dropped, fit.npar) == (180, 0, 6)
    assert fit.ngroups == {"Subject": 18}
    assert fit.reml is True
    assert fit.converged is True
    assert fit.is_singular is False
    assert 5 <= fit.n_evaluations <= 40
    assert fit.deviance == pytest.approx(1743.62827196, abs=1e-6)
    assert fit.llf == -fit.deviance / 2
    assert fit.aic == fit.deviance + 2 * 6
    assert fit.bic == pytest.approx(fit.deviance + 6 * np.log(180), abs=1e-9)


def test_aic_and_bic_of_the_ml_fit():
    fit = lmer(FORMULA, SLEEP, reml=False)
    assert fit.aic == pytest.approx(1763.939344, abs=2e-6)
    assert fit.bic == pytest.approx(1783.097086, abs=2e-6)


def test_shapes(fit, crossed):
    names, terms = ["Intercept", "Days"], ["Intercept", "Days"]
    assert list(fit.fe_params.index) == list(fit.bse_fe.index) == names
    assert list(fit.cov_fe.index) == list(fit.cov_fe.columns) == names
    np.testing.assert_allclose(np.diag(fit.cov_fe), fit.bse_fe**2)
    assert list(fit.cov_re) == ["Subject"]
    assert list(fit.cov_re["Subject"].index) == list(fit.cov_re["Subject"].columns) == terms
    for table in (fit.random_effects["Subject"], fit.random_effects_se["Subject"]):
        assert table.shape == (18, 2)
        assert list(table.columns) == terms
        assert list(table.index) == sorted(SLEEP["Subject"].unique())
    assert fit.theta.shape == (3,)
    assert (fit.theta[[0, 2]] > 0).all()  # as in lme4: the diagonal is not negative
    lam = np.array([[fit.theta[0], 0], fit.theta[1:]])
    np.testing.assert_allclose(fit.scale * lam @ lam.T, fit.cov_re["Subject"], rtol=1e-10)
    assert list(fit.fittedvalues.index) == list(fit.resid.index) == list(SLEEP.index)
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, SLEEP["Reaction"])
    assert set(crossed.random_effects) == set(crossed.ngroups) == {"plate", "sample"}
    assert crossed.random_effects["plate"].shape == (24, 1)
    assert crossed.random_effects["sample"].shape == (6, 1)
    assert crossed.npar == 4


def test_frozen(fit):
    for name in ("reml", "deviance", "fe_params", "brand_new"):
        with pytest.raises((FrozenInstanceError, AttributeError)):
            setattr(fit, name, 1)
    fit.theta[:] = 0  # a copy
    assert (fit.theta != 0).all()


def test_coef_is_fixed_plus_modes(fit):
    expected = fit.random_effects["Subject"] + fit.fe_params
    pd.testing.assert_frame_equal(fit.coef()["Subject"], expected)


def test_coef_of_terms_on_one_side_only():
    fit = lmer("Reaction ~ Days + I(Days**2) + (1 | Subject)", SLEEP)
    table = fit.coef()["Subject"]
    assert list(table.columns) == list(fit.fe_params.index)
    assert table["Days"].nunique() == 1
    random_only = lmer("Reaction ~ 1 + (0 + Days | Subject)", SLEEP)
    table = random_only.coef()["Subject"]
    assert list(table.columns) == ["Intercept", "Days"]
    np.testing.assert_allclose(table["Days"], random_only.random_effects["Subject"]["Days"])


def test_varcorr(fit):
    table = fit.varcorr()
    assert list(table.columns) == ["group", "term1", "term2", "vcov", "sdcor"]
    assert list(table["group"]) == ["Subject"] * 3 + ["Residual"]
    assert list(table["term1"]) == ["Intercept", "Days", "Intercept", ""]
    assert list(table["term2"]) == ["", "", "Days", ""]
    cov = fit.cov_re["Subject"]
    sds = np.sqrt(np.diag(cov))
    expected = [cov.iloc[0, 0], cov.iloc[1, 1], cov.iloc[0, 1], fit.scale]
    np.testing.assert_allclose(table["vcov"], expected)
    correlation = cov.iloc[0, 1] / sds.prod()
    np.testing.assert_allclose(table["sdcor"], [*sds, correlation, fit.scale**0.5])


def test_modes_follow_from_the_marginal_covariance(crossed):
    """b = DZ'V⁻¹(y - Xβ), computed densely."""
    frame = crossed.frame
    parts = parts_of(frame.factors, crossed.theta)
    V = covariance(crossed.nobs, parts)
    weighted = np.linalg.solve(V, frame.y - frame.X @ crossed.fe_params.to_numpy())
    for factor, (codes, columns, lam) in zip(frame.factors, parts, strict=True):
        sums = [columns[codes == j].T @ weighted[codes == j] for j in range(codes.max() + 1)]
        modes = np.array(sums) @ (lam @ lam.T)
        np.testing.assert_allclose(crossed.random_effects[factor.name], modes, atol=1e-8)


def test_copies(fit):
    for twin in (pickle.loads(pickle.dumps(fit)), copy.copy(fit), copy.deepcopy(fit)):
        assert twin.deviance == fit.deviance
        pd.testing.assert_series_equal(twin.fe_params, fit.fe_params)
        pd.testing.assert_series_equal(twin.predict(SLEEP), fit.predict(SLEEP))


# ---- different ways to say the same --------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(Days | Subject)", "(1 + Days | Subject)"),
        ("(Days || Subject)", "(1 | Subject) + (0 + Days | Subject)"),
        ("(Days || Subject)", "(0 + Days | Subject) + (1 | Subject)"),
        ("(0 + Days | Subject)", "(Days - 1 | Subject)"),
        ("(Days | Subject)", "(0 + Days + I(0*Days + 1) | Subject)"),
        ("(1 | Subject)", "(1 | `Subject`)"),
    ],
)
def test_equal_formulas(one, other):
    same_fit(lmer(f"Reaction ~ Days + {one}", SLEEP), lmer(f"Reaction ~ Days + {other}", SLEEP))


def test_nesting_is_two_terms():
    slash = lmer("strength ~ 1 + (1 | batch/cask)", PASTES)
    same_fit(slash, lmer("strength ~ 1 + (1 | batch) + (1 | batch:cask)", PASTES))
    same_fit(slash, lmer("strength ~ 1 + (1 | batch) + (1 | sample)", PASTES))
    assert slash.ngroups == {"cask:batch": 30, "batch": 10}


@pytest.mark.parametrize("reml", [True, False])
def test_type_of_the_group_column_does_not_matter(fit, reml):
    base = lmer(FORMULA, SLEEP, reml)
    text = SLEEP["Subject"].astype(str)
    columns = {
        "text": text,
        "integers": text.astype(int),
        "numbers": text.astype(float) / 2,
        "category": text.astype("category"),
        "unused levels": text.astype("category").cat.add_categories(["x", "y"]),
        "objects": text.astype(object),
    }
    for column in columns.values():
        same_fit(lmer(FORMULA, SLEEP.assign(Subject=column), reml), base)


def test_columns_that_are_not_used_do_not_matter(fit):
    same_fit(lmer(FORMULA, SLEEP.assign(other=np.nan, text="a")), fit)


def test_data_are_left_alone():
    data = SLEEP.copy()
    data.loc[3, "Days"] = np.nan
    before = data.copy()
    fit = lmer(FORMULA, data)
    fit.predict(data), fit.summary(), fit.coef()
    pd.testing.assert_frame_equal(data, before)


# ---- rows ----------------------------------------------------------------------------


def test_missing_rows():
    data = SLEEP.set_index(SLEEP.index + 1000)
    data.loc[1000, "Reaction"] = np.nan
    data.loc[1011, "Days"] = np.nan
    data["Subject"] = data["Subject"].astype(object)
    data.loc[1022, "Subject"] = None
    fit = lmer(FORMULA, data)
    complete = data.dropna()
    assert (fit.nobs, fit.n_dropped) == (177, 3)
    assert list(fit.fittedvalues.index) == list(complete.index)
    same_fit(fit, lmer(FORMULA, complete))
    assert "3 left out" in fit.summary()


def test_predict(fit):
    pd.testing.assert_series_equal(fit.predict(), fit.fittedvalues, check_names=False)
    some = SLEEP.iloc[[33, 7]].set_index(pd.Index(["a", "b"]))
    predicted = fit.predict(some)
    assert list(predicted.index) == ["a", "b"]
    np.testing.assert_allclose(predicted, fit.fittedvalues.iloc[[33, 7]])
    line = fit.fe_params["Intercept"] + fit.fe_params["Days"] * np.array([0, 20])
    np.testing.assert_allclose(fit.predict(pd.DataFrame({"Days": [0, 20]}), random=False), line)
    np.testing.assert_allclose(
        fit.predict(random=False), fit.frame.X @ fit.fe_params.to_numpy()
    )


def test_predict_with_missing_values(fit):
    new = SLEEP.iloc[:3].copy()
    new["Days"] = [0.0, np.nan, 2.0]
    predicted = fit.predict(new)
    assert list(predicted.isna()) == [False, True, False]
    assert predicted.iloc[2] == pytest.approx(fit.fittedvalues.iloc[2])


def test_predict_for_an_unseen_group(fit):
    new = pd.DataFrame({"Days": [3.0, 3.0], "Subject": ["308", "new"]})
    new["Subject"] = new["Subject"].astype(object)
    if SLEEP["Subject"].dtype.kind in "iu":
        new["Subject"] = [308, 999]
    unseen = str(new["Subject"].iloc[1])
    with pytest.raises(
        CourseError, match=f"newdata: .*'Subject'.*got {unseen}\\. .*population"
    ):
        fit.predict(new)
    known, fallback = fit.predict(new, new_levels="population")
    assert fallback == pytest.approx(fit.predict(new, random=False).iloc[1])
    assert known == pytest.approx(fit.predict(new.iloc[:1]).iloc[0])
    assert abs(known - fallback) > 1


def test_predict_a_known_batch_with_an_unseen_cask():
    fit = lmer("strength ~ 1 + (1 | batch/cask)", PASTES)
    new = pd.DataFrame({"batch": ["A"], "cask": ["new"]})
    expected = fit.fe_params["Intercept"] + fit.random_effects["batch"].loc["A", "Intercept"]
    assert fit.predict(new, new_levels="population").iloc[0] == pytest.approx(expected)


def test_transformed_predictors_keep_their_constants():
    for term in ("poly(Days, 2)", "scale(Days)", "log(Days + 1)", "I(Days**2)", "C(Days)"):
        fit = lmer(f"Reaction ~ {term} + (1 | Subject)", SLEEP)
        some = SLEEP.iloc[[14, 3, 77]].drop(columns="Reaction")
        np.testing.assert_allclose(fit.predict(some), fit.fittedvalues.iloc[[14, 3, 77]])


# ---- simulation and refits -----------------------------------------------------------


def test_simulated_responses_have_the_fitted_moments(crossed):
    n_sim = 4000
    draws = crossed.simulate(n_sim, np.random.default_rng(1))
    assert draws.shape == (n_sim, crossed.nobs)
    frame = crossed.frame
    V = crossed.scale * covariance(crossed.nobs, parts_of(frame.factors, crossed.theta))
    mean = frame.X @ crossed.fe_params.to_numpy()
    # five standard errors of a mean, and of a covariance of normal variables
    assert (np.abs(draws.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(V) / n_sim)).all()
    spread = np.diag(V)
    error = np.sqrt((V**2 + np.outer(spread, spread)) / n_sim)
    assert (np.abs(np.cov(draws.T) - V) < 5 * error).all()


def test_simulated_slopes_have_the_fitted_covariance(fit):
    n_sim = 2000
    draws = fit.simulate(n_sim, np.random.default_rng(2))[:, :10]  # the first subject
    V = fit.scale * covariance(180, parts_of(fit.frame.factors, fit.theta))[:10, :10]
    spread = np.diag(V)
    error = np.sqrt((V**2 + np.outer(spread, spread)) / n_sim)
    assert (np.abs(np.cov(draws.T) - V) < 5 * error).all()


def test_simulation_is_repeatable(fit):
    one, same, other = (fit.simulate(2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.isclose(one, other).any()


def test_refit(fit, crossed):
    for base, formula, data, response in [
        (fit, FORMULA, SLEEP, "Reaction"),
        (crossed, crossed.formula, load("penicillin"), "diameter"),
    ]:
        same_fit(base.refit(data[response]), base)
        y = base.simulate(1, np.random.default_rng(3))[0]
        again = base.refit(y)
        same_fit(again, lmer(formula, data.assign(**{response: y})))
        np.testing.assert_array_equal(again.frame.y, y)
        assert base.deviance != again.deviance


# ---- display -------------------------------------------------------------------------


def test_summary_shows_the_numbers(fit):
    text = fit.summary()
    for shown in (
        "REML",
        FORMULA,
        "1743.628",
        "180",
        "Subject: 18",
        "251.41",
        "10.467",
        "6.825",
        "1.546",
        "612.09",
        "35.07",
        "24.74",
        "5.922",
        "0.07",
        "17",
    ):
        assert shown in text, shown
    assert repr(fit) == text
    assert "Singular" not in text
    assert "left out" not in text
    assert "CONVERGED" not in text


def test_summary_of_ml_and_singular_fit():
    text = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2"), reml=False).summary()
    assert "maximum likelihood" in text
    assert "162.873" in text
    assert "Singular" in text


class Balanced(HTMLParser):
    """Checks that every tag is closed by its own kind, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in {"br", "hr", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_well_formed_and_escaped():
    data = SLEEP.rename(columns={"Subject": "a<b&c"})
    fit = lmer("Reaction ~ Days + I((Days > 3) & (Days < 7)) + (Days | `a<b&c`)", data)
    html = fit._repr_html_()
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert "a<b&c" not in html
    assert "a&lt;b&amp;c" in html
    assert "a<b&c: 18" in parser.text
    assert f"{fit.deviance:.3f}" in parser.text


# ---- bad input: said before any work is done -----------------------------------------


def bad_data():
    data = SLEEP.copy()
    data["one"] = "all"
    data["row"] = np.arange(len(data))
    data["seven"] = 7.0
    data["hours"] = data["Days"] * 24
    data["text"] = np.where(data["Days"] > 4, "a", "b")
    data["level"] = "a"
    data["empty"] = np.nan
    data["infinite"] = np.where(data["row"] == 3, np.inf, 1.0 * data["row"])
    data["pair"] = data["row"] // 2
    data["copy"] = 3 * data["Days"] + 2
    data["yes"] = data["Days"] > 4
    data["date"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(data["Days"], unit="D")
    return data


BAD = {
    "no bar": ("Reaction ~ Days", "formula", ["bar", "Reaction ~ Days", "ordinary"]),
    "no tilde": ("Reaction + (1 | Subject)", "formula", ["~", "Reaction + (1 | Subject)"]),
    "unbalanced": ("Reaction ~ (Days | Subject", "formula", ["close every bracket"]),
    "nothing left of the bar": ("Reaction ~ ( | Subject)", "formula", ["both sides"]),
    "nothing right of the bar": ("Reaction ~ (1 | )", "formula", ["both sides"]),
    "unknown group": ("Reaction ~ (1 | Subjct)", "formula", ["'Subjct'", "'Subject'"]),
    "unknown predictor": ("Reaction ~ days + (1 | Subject)", "formula", ["'days'", "'Days'"]),
    "unknown response": ("reaction ~ (1 | Subject)", "formula", ["'reaction'", "'Reaction'"]),
    "one group": ("Reaction ~ (1 | one)", "data", ["two groups", "'one'", "regression"]),
    "one row per group": ("Reaction ~ (1 | row)", "data", ["fewer groups", "180", "'row'"]),
    "too many random effects": (
        "Reaction ~ (Days | pair)",
        "formula",
        ["90 groups × 2", "180"],
    ),
    "constant response": ("seven ~ Days + (1 | Subject)", "data", ["varies", "'seven'", "7"]),
    "constant predictor": (
        "Reaction ~ seven + (1 | Subject)",
        "formula",
        ["'seven'", "constant"],
    ),
    "collinear": ("Reaction ~ Days + hours + (1 | Subject)", "formula", ["'hours'", "Leave"]),
    "collinear with the constant": (
        "Reaction ~ Days + copy + (1|Subject)",
        "formula",
        ["'copy'"],
    ),
    "collinear random part": (
        "Reaction ~ (Days + hours | Subject)",
        "formula",
        ["'hours'", "'Subject'"],
    ),
    "text response": ("text ~ Days + (1 | Subject)", "formula", ["numeric response", "text"]),
    "boolean response": ("yes ~ Days + (1 | Subject)", "formula", ["numeric response", "yes"]),
    "date response": ("date ~ Days + (1 | Subject)", "formula", ["date"]),
    "text of one level": ("Reaction ~ level + (1 | Subject)", "(formula|data)", ["level"]),
    "all missing": ("Reaction ~ empty + (1 | Subject)", "data", ["'empty'", "180"]),
    "infinite predictor": (
        "Reaction ~ infinite + (1 | Subject)",
        "data",
        ["finite", "'infinite'"],
    ),
    "infinite response": ("infinite ~ Days + (1 | Subject)", "data", ["finite", "'infinite'"]),
    "log of zero": (
        "Reaction ~ log(Days) + (1 | Subject)",
        "data",
        ["finite", "18", "log(Days)"],
    ),
    "same term twice": ("Reaction ~ (Days|Subject) + (1|Subject)", "formula", ["two bars"]),
    "response as predictor": (
        "Reaction ~ Reaction + (1 | Subject)",
        "data",
        ["residual", "'Reaction'"],
    ),
    "not text": (5, "formula", ["text", "5"]),
    "unknown function": ("Reaction ~ lgo(Days) + (1 | Subject)", "formula", ["lgo"]),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_formula_or_data(bad):
    formula, argument, words = BAD[bad]
    data = bad_data()
    with pytest.raises(CourseError, match=rf"^{argument}: .+; got .+\. .+") as caught:
        lmer(formula, data)
    assert isinstance(caught.value, ValueError)
    assert [word for word in words if word not in str(caught.value)] == []
    pd.testing.assert_frame_equal(data, bad_data())


def test_more_fixed_effects_than_rows():
    data = SLEEP.iloc[[0, 1, 10, 11]]
    with pytest.raises(
        CourseError, match="data: must have more rows than fixed effects.*4 rows"
    ):
        lmer(
            "Reaction ~ poly(Days, 1) + C(Days) + I(Days**2) + (1 | Subject)",
            data.assign(Days=range(4)),
        )


def test_response_without_noise():
    data = SLEEP.assign(Reaction=2.0 * SLEEP["Days"] + 1)
    with pytest.raises(CourseError, match="data: must leave some residual.*'Reaction'.*Check"):
        lmer(FORMULA, data)
    offsets = SLEEP["Subject"].astype("category").cat.codes
    exact = SLEEP.assign(Reaction=2.0 * SLEEP["Days"] + offsets)
    with pytest.raises(CourseError, match="data: must leave some residual"):
        lmer("Reaction ~ Days + (1 | Subject)", exact)


@pytest.mark.parametrize("data", [None, [[1, 2]], {"Reaction": [1]}, SLEEP["Days"]])
def test_data_that_is_no_frame(data):
    with pytest.raises(CourseError, match="^data: must be a pandas DataFrame"):
        lmer(FORMULA, data)


def test_empty_frame():
    with pytest.raises(CourseError, match="^data: must have at least one row.*empty"):
        lmer(FORMULA, SLEEP.iloc[:0])


@pytest.mark.parametrize("reml", [None, 1, "yes", "REML"])
def test_reml_is_true_or_false(reml):
    with pytest.raises(CourseError, match="^reml: must be True or False; got .*reml=True"):
        lmer(FORMULA, SLEEP, reml=reml)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: f.predict({"Days": [1]}), ["newdata", "DataFrame", "dict"]),
        (lambda f: f.predict(SLEEP[["Days"]]), ["newdata", "'Subject'"]),
        (lambda f: f.predict(SLEEP[["Subject"]]), ["newdata", "'Days'"]),
        (lambda f: f.predict(SLEEP.iloc[:0]), ["newdata", "at least one row"]),
        (lambda f: f.predict(SLEEP, new_levels="zero"), ["new_levels", "'zero'", "'error'"]),
        (lambda f: f.simulate(0, np.random.default_rng(1)), ["n", "at least 1", "0"]),
        (lambda f: f.simulate(2.5, np.random.default_rng(1)), ["n", "2.5"]),
        (lambda f: f.simulate(1, 42), ["rng", "Generator", "42"]),
        (lambda f: f.refit(SLEEP["Reaction"][:5]), ["y", "180", "(5,)"]),
        (lambda f: f.refit(np.ones(180)), ["y", "not all equal", "1 throughout"]),
        (lambda f: f.refit(np.full(180, np.nan)), ["y", "finite", "180"]),
        (lambda f: f.refit(["a"] * 180), ["y", "numbers"]),
        (lambda f: f.conf_int("wld"), ["method", "'wld'", "'wald'"]),
        (lambda f: f.conf_int(alpha=95), ["alpha", "95", "0.05"]),
        (lambda f: f.conf_int("bootstrap"), ["rng", "Generator", "None"]),
        (
            lambda f: f.conf_int("bootstrap", n_sim=1, rng=np.random.default_rng(1)),
            ["n_sim", "2"],
        ),
        (lambda f: f.fixed_table("kenward"), ["ddf", "'kenward'", "'satterthwaite'"]),
        (lambda f: f.fixed_table(alpha=0), ["alpha", "0"]),
    ],
)
def test_bad_arguments_of_methods(fit, call, words):
    with pytest.raises(CourseError) as caught:
        call(fit)
    message = str(caught.value)
    assert message.startswith(f"{words[0]}: ")
    assert [word for word in words if word not in message] == []


def test_response_without_noise_is_told_by_refit_too(fit):
    with pytest.raises(CourseError, match="residual"):
        fit.refit(2.0 * SLEEP["Days"] + 1)


# ---- one number of the random part -----------------------------------------------------


def test_sd_and_correlation_are_those_of_varcorr(fit):
    spread = fit.varcorr()
    assert fit.sd("Subject", "Intercept") == pytest.approx(spread["sdcor"][0], rel=1e-12)
    assert fit.sd("Subject", "(Intercept)") == fit.sd("Subject", "Intercept")
    assert fit.sd("Subject", "Days") == pytest.approx(np.sqrt(35.071662), abs=1e-5)
    correlation = 9.604335 / np.sqrt(612.089748 * 35.071662)
    assert fit.correlation("Subject", "Days", "Intercept") == pytest.approx(
        correlation, abs=1e-6
    )
    assert fit.correlation("Subject", "Days", "Days") == pytest.approx(1.0, abs=1e-12)
    assert fit.sd("Residual") == np.sqrt(fit.scale)


def test_a_nested_factor_answers_to_both_names():
    fit = lmer("strength ~ 1 + (1 | batch/cask)", PASTES)
    assert list(fit.ngroups) == ["cask:batch", "batch"]
    assert fit.sd("batch/cask") == fit.sd("cask:batch") == fit.sd("cask:batch", "Intercept")
    assert fit.sd("batch/cask") == pytest.approx(np.sqrt(8.433667), abs=1e-5)
    assert fit.sd("batch") == pytest.approx(np.sqrt(1.657309), abs=1e-5)


def test_correlation_without_a_variance_is_undefined_and_that_of_two_bars_is_zero():
    singular = lmer("Reaction ~ Days + (0 + Days | Subject)", SLEEP)
    assert np.isfinite(singular.sd("Subject"))
    apart = lmer("Reaction ~ Days + (Days || Subject)", SLEEP)
    assert apart.correlation("Subject", "Intercept", "Days") == 0.0
    nothing = lmer("Yield ~ 1 + (1 | Batch)", load("dyestuff2"))
    assert nothing.sd("Batch") == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.sd("subject", "Days"), "group: .*Perhaps you want 'Subject'"),
        (lambda f: f.sd("Subject", "days"), "term: .*Perhaps you want 'Days'"),
        (lambda f: f.sd("Subject"), "term: must name a random coefficient"),
        (lambda f: f.correlation("Subject", "Days", "x"), "^b: "),
        (lambda f: f.correlation("Subject", ["Days"], "x"), "^a: "),
        (lambda f: f.sd(3), "^group: "),
    ],
)
def test_unknown_names_are_refused(fit, call, message):
    with pytest.raises(CourseError, match=message):
        call(fit)


@pytest.mark.parametrize(
    ("argument", "value", "advice"),
    [
        ("REML", False, "reml=False"),
        ("weights", [1.0] * 180, "lme4"),
        ("offset", "x", "response"),
        ("control", {}, "all_optimizers"),
        ("start", [1, 0, 1], "check_convergence"),
        ("na_action", "na.omit", "n_dropped"),
        ("subset", "Days > 2", "Filter"),
        ("contrasts", {}, "C\\(sex"),
        ("groups", "Subject", "Days \\| Subject"),
        ("re_formula", "~Days", "Days \\| Subject"),
    ],
)
def test_words_of_other_programs_say_what_to_write(argument, value, advice):
    with pytest.raises(CourseError, match=f"^{argument}: .*{advice}"):
        lmer(FORMULA, SLEEP, **{argument: value})


def test_words_of_lme4_in_methods_say_what_to_write(fit):
    with pytest.raises(CourseError, match="random=False"):
        fit.predict(SLEEP, re_form=0)
    with pytest.raises(CourseError, match="new_levels"):
        fit.predict(SLEEP, allow_new_levels=True)
    with pytest.raises(CourseError, match=r"alpha=0\.05"):
        fit.conf_int(level=0.95)


def test_more_random_effects_than_memory_holds_are_refused(monkeypatch):
    from course_lib.mixed import cross_products

    monkeypatch.setattr(cross_products, "_memory", lambda: 100_000)
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": np.arange(200) % 90, "b": rng.integers(0, 80, 200)})
    data["y"] = rng.normal(size=200)
    message = r"formula: .*memory.*90 of 'a', \d\d of 'b', which take 0\.\d GB of 0\.0"
    with pytest.raises(CourseError, match=message):
        lmer("y ~ 1 + (1 | a) + (1 | b)", data)
