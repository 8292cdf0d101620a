"""`lmer` on a lazy table: the fit in memory again, from sums that a database made.

Sums are the same numbers in another order, so what follows from them agrees to rounding: 1e-8
relative asks for less than that and for more than any table shows. θ is uncertain by the
square root of the last digit of the deviance (see test_reference.py): where two searches stop
in a flat place it may differ by 1e-7, so what depends on it is compared at one and the same θ.
"""

import copy
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest

from course_lib import (
    compare_models,
    diagnostics,
    exact_rlrt,
    explain,
    fit_ar1,
    lmer,
    load,
    lr_test,
)
from course_lib.errors import CourseError
from course_lib.mixed import from_database
from course_lib.mixed.deviance import evaluate, solve

REFERENCE = Path(__file__).parents[1] / "reference"
FILES = {"lmer_reference": "formula_py", "nested_crossed": "formula"}
FITS = [
    (fit["name"].removesuffix("_reml"), fit["data"], fit[formula])
    for file, formula in FILES.items()
    for fit in json.loads((REFERENCE / f"{file}.json").read_text(encoding="utf-8"))["fits"]
    if fit["reml"]  # the sums are the same by ML
]
CROSSED = ("penicillin", "scotssec", "crossed")  # in their names
SAME = 1e-8
SEARCHED = 1e-6  # seen: 2e-7, where a variance is zero or there are six groups
SLEEP = "Reaction ~ Days + (Days | Subject)"
INTERCEPT = "Reaction ~ Days + (1 | Subject)"


@pytest.fixture(scope="module")
def con():
    """Connection with one table `d` of a few columns of all kinds."""
    rng = np.random.default_rng(21)
    n = 400
    d = pd.DataFrame({"g": rng.integers(0, 20, n), "x": rng.integers(0, 100, n)})
    d["k"], d["w"] = rng.choice(["a", "b", "c"], n), rng.integers(1, 4, n)
    d["b"], d["z"], d["s"] = rng.random(n) < 0.5, rng.normal(size=n), d["g"] % 4
    d["y"] = 0.02 * d.x + d.z + 0.5 * (d.k == "b") + rng.normal(size=20)[d.g]
    d["y"] += 0.3 * d.z * rng.normal(size=20)[d.g] + rng.normal(size=n)
    with duckdb.connect() as con:
        con.register("d_", d)
        con.execute("create table d as from d_")
        con.register("s_", load("sleepstudy"))
        con.execute("create table sleep as from s_")
        yield con


@pytest.fixture(scope="module")
def sleep_fit(con):
    return lmer(SLEEP, con.sql("from sleep"), progress=False)


def frame(name):
    place, name = name.split(":")
    return load(name) if place == "course" else pd.read_csv(REFERENCE / "data" / f"{name}.csv")


def close(one, other, tolerance=SAME):
    """Largest difference, relative to the largest number, is within the tolerance."""
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    scale = max(np.abs(one).max(initial=0), 1e-300)
    np.testing.assert_allclose(other / scale, one / scale, rtol=0, atol=tolerance)


def solved(fit, theta):
    """All that follows from the cross-products at one θ, in the units of the data."""
    standardised = fit.standardised
    found = solve(theta[None], standardised.products, fit.reml)
    evaluated = evaluate(theta[None], standardised.products, fit.reml)
    x_inverse = np.linalg.inv(standardised.x_root)
    sigma = float(standardised.y_scale[0] * found.sigma[0])
    cov = sigma**2 * x_inverse @ found.unscaled_cov_beta[0] @ x_inverse.T
    beta = standardised.beta(found.beta)[0]
    return {
        "deviance": evaluated.deviance + standardised.jacobian(fit.reml),
        "beta": beta / (np.abs(beta) + np.sqrt(cov.diagonal())),
        "cov_beta": cov,
        "sigma": sigma,
        # In units of the residuals: modes that are zero have no relative accuracy
        "modes": np.concatenate([*(modes.ravel() for modes in found.modes), [1.0]]),
        "cov_modes": np.concatenate([cov.ravel() for cov in found.unscaled_cov_modes]),
        "factors": np.concatenate([f.ravel() for f in standardised.relative_factors(theta)]),
    }


def same_fit(here, there):
    """Whether a fit from a database equals one in memory."""
    assert there.frame.has_rows is False
    assert (there.nobs, there.n_dropped, there.npar) == (here.nobs, here.n_dropped, here.npar)
    assert list(there.fe_params.index) == list(here.fe_params.index)
    assert there.ngroups == here.ngroups
    for name, modes in here.random_effects.items():
        assert list(there.random_effects[name].index) == list(modes.index)
        assert list(there.random_effects[name].columns) == list(modes.columns)
    assert there.deviance == pytest.approx(here.deviance, rel=SAME)
    theta = here.estimate.optimum.theta
    one, other = solved(here, theta), solved(there, theta)
    for what in one:
        close(one[what], other[what])
    # Each with its own search:
    close(theta, there.estimate.optimum.theta, SEARCHED)
    unit = np.abs(here.fe_params) + here.bse_fe
    close(here.fe_params / unit, there.fe_params / unit, SEARCHED)
    close(here.bse_fe, there.bse_fe, SEARCHED)


def both(con, formula, sql="from d", **options):
    """Fit in memory and from the database; the same warnings, from the same place."""
    fits, said = [], []
    relation = con.sql(sql)
    for data in (relation.df(), relation):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fits.append(lmer(formula, data, progress=False, **options))
        said.append([(str(w.message), w.filename) for w in caught])
    assert said[0] == said[1]
    return fits


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data", "formula"), FITS, ids=[f[0] for f in FITS])
def test_reference_fits(name, data, formula):
    rows = frame(data)
    with duckdb.connect() as con:
        con.register("rows", rows)
        table = con.sql("from rows")
        if any(word in name for word in CROSSED):
            with pytest.raises(CourseError, match="formula: .* got crossed ones, '"):
                lmer(formula, table, progress=False)
        else:
            same_fit(lmer(formula, rows), lmer(formula, table, progress=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x * k + (1 | g)",
        "y ~ k * C(w) + (k | g)",
        "y ~ C(w, contr.sum) * z + (z || g)",
        "y ~ C(k, contr.treatment(base='b')) + (1 | g)",
        "y ~ 0 + k + (0 + k | g)",
        "y ~ b + k:b + (1 | g)",
        "y ~ C(b):z + (1 | g)",
        "y ~ I(x > 50) + (1 | g)",
        "y - z ~ np.log(x + 1) + exp(z / 10) + log10(x + 1):z + (x | g)",
        "log(y + 20) ~ sqrt(x) + log2(x + 1) + abs(z) + (1 | g)",
        "y ~ x + (1 | g) + (0 + z | g) + (0 + b | g)",
        "y ~ (k + z) ** 2 + (1 | s/g)",
        "y ~ x + (z | g) + (1 | s)",
        "y ~ x:z:k + (1 | g)",
        "y ~ -1 + x + (x - 1 | g)",
        "y ~ I(`x`**2 - 2**z) + `x` + (1 | g)",
        "y ~ C(g) + (1 | s)",
    ],
)
def test_formulas(con, formula):
    here, there = both(con, formula)
    same_fit(here, there)
    rows = con.sql("from d").df()
    close(here.predict(rows), there.predict(rows))
    np.testing.assert_allclose(here.fixed_table(), there.fixed_table(), rtol=1e-6, atol=1e-9)


def test_combinations_of_categories_without_rows_are_left_out(con):
    sql = "from d where not (k = 'c' and w = 2)"
    here, there = both(con, "y ~ k * C(w) + (1 | g)", sql)
    same_fit(here, there)
    assert "k[T.c]:C(w)[T.2]" not in there.fe_params
    with pytest.raises(CourseError, match="newdata: must not combine categories"):
        there.predict(con.sql("from d").df())


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "decimal(12, 3)",
        "hugeint",
        "utinyint",
        "ubigint",
        "smallint",
        "float",
        "double",
        "boolean",
        "varchar",
        "enum('b', 'a')",
    ],
)
@pytest.mark.parametrize("missing", [False, True], ids=["", "nullable"])
def test_column_types(con, kind, missing):
    value = {
        "varchar": "k",
        "boolean": "x > 50",
        "enum('b', 'a')": "case when x > 50 then 'a' else 'b' end",
    }.get(kind, "x")
    value = f"case when x < 9 then null else {value} end" if missing else value
    here, there = both(
        con, "y ~ x + (x | g)", f"select * replace (({value})::{kind} as x) from d"
    )
    same_fit(here, there)
    assert (there.n_dropped > 0) is missing


def test_a_type_that_pandas_does_not_know(con):
    there = lmer("y ~ x + (x | g)", con.sql("select * replace (x::uhugeint as x) from d"))
    same_fit(lmer("y ~ x + (x | g)", con.sql("from d").df()), there)


@pytest.mark.parametrize(
    "value",
    [
        "timestamp '2020-01-01' + to_days(x::int)",
        "timestamptz '2020-01-01'",
        "date '2020-01-01' + x::int",
        "to_days(x::int)",
        "time '10:00:00'",
        "uuid()",
        "'a'::blob",
        "'101'::bit",
        "[x]",
        "{'a': x}",
        "null",
    ],
)
def test_what_is_neither_number_nor_category_is_refused_as_in_memory(con, value):
    table = con.sql(f"select * replace (({value}) as x) from d")
    said = []
    for data in (table, table.df()):
        with pytest.raises(CourseError) as caught:
            lmer("y ~ x + (1 | g)", data, progress=False)
        said.append(str(caught.value))
    assert said[0] == said[1] or (value == "null" and "'x'" in said[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        "g::varchar",
        "case g % 3 when 0 then 'z' when 1 then 'a' else 'b' end::enum('z', 'b', 'a')",
        "g::decimal(10, 2)",
        "g::hugeint",
        "g / 10",
        "g > 10",
        "date '2020-01-01' + g::int",
        "timestamp '2020-01-01' + to_days(g::int)",
        "md5(g::varchar)::uuid",
        "nullif(g, 3)",
    ],
)
def test_groups_of_any_kind(con, key):
    here, there = both(con, "y ~ x + (1 | g)", f"select * replace (({key}) as g) from d")
    same_fit(here, there)
    rows = con.sql(f"select * replace (({key}) as g) from d where g <> 3").df()
    close(here.predict(rows), there.predict(rows))


def test_missing_values_are_left_out_and_counted_whatever_they_are(con):
    sql = """select * replace (case when x > 90 then null else x end as x,
        case when z > 1.5 then 'nan'::double else y end as y, nullif(k, 'c') as k,
        nullif(g, 3) as g) from d"""
    here, there = both(con, "y ~ k * x + (1 | g)", sql)
    same_fit(here, there)
    assert there.n_dropped == here.n_dropped > 100


def test_integers_do_not_overflow(con):
    for value in ("x * 80000000000000000", "x::utinyint", "(x - 50)::tinyint"):
        table = f"select * replace (({value}) as x) from d"
        same_fit(*both(con, "y ~ x + I(x**2) + (x | g)", table))


UNITS = [(1e6, 1.0), (1e9, 1.0), (0.0, 1e-9), (0.0, 1e9), (1e6, 1e-6), (-1e6, 1e3)]


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "unit"), UNITS)
@pytest.mark.parametrize("formula", ["y ~ x * k + (x | g)", "y ~ x * z + (x || g)"])
def test_zero_and_units_do_not_matter(con, formula, shift, unit):
    if "||" in formula:
        shift = 0.0  # zero is part of that model
    plain = lmer(formula, con.sql("from d"), progress=False)
    moved = lmer(
        formula,
        con.sql(f"""select * replace ((x + {shift}::double) * {unit}::double as x,
            (y + {shift}::double) / {unit}::double as y) from d"""),
        progress=False,
    )
    # doubles near 1e9 lie 1.2e-7 apart: x and y are rounded, and the estimates move as much
    tolerance = 5e-7 if shift == 1e9 else SAME
    assert moved.sd("g", "x") * unit**2 == pytest.approx(plain.sd("g", "x"), rel=tolerance)
    assert moved.sd("Residual") * unit == pytest.approx(plain.sd("Residual"), rel=tolerance)
    last = plain.fe_params.index[-1]
    wanted, got = plain.fixed_table().loc[last], moved.fixed_table().loc[last]
    assert got["t"] == pytest.approx(wanted["t"], rel=tolerance)
    assert got["df"] == pytest.approx(wanted["df"], rel=1e-5)


# The result


@pytest.mark.slow
def test_result_has_all_that_does_not_need_rows(con, sleep_fit):
    sleep = load("sleepstudy")
    here = lmer(SLEEP, sleep)
    np.testing.assert_allclose(sleep_fit.fixed_table(), here.fixed_table(), rtol=1e-7)
    np.testing.assert_allclose(
        sleep_fit.conf_int("profile"), here.conf_int("profile"), rtol=1e-6
    )
    close(sleep_fit.random_effects_se["Subject"], here.random_effects_se["Subject"])
    close(sleep_fit.coef()["Subject"], here.coef()["Subject"])
    close(sleep_fit.predict(sleep), here.fittedvalues)
    close([sleep_fit.aic, sleep_fit.bic], [here.aic, here.bic])
    assert sleep_fit.summary() == here.summary()
    assert sleep_fit._repr_html_() == here._repr_html_()
    assert pickle.loads(pickle.dumps(sleep_fit)).summary() == here.summary()
    assert copy.deepcopy(sleep_fit).deviance == sleep_fit.deviance
    checks = diagnostics.check_convergence(sleep_fit)
    assert checks.equals(diagnostics.check_convergence(sleep_fit))


def test_two_fits_from_a_database_are_compared(con, sleep_fit):
    table, sleep = con.sql("from sleep"), load("sleepstudy")
    small = lmer(INTERCEPT, table, progress=False)
    for method in ("chi2", "boundary"):
        there = lr_test(small, sleep_fit, method=method)
        here = lr_test(lmer(INTERCEPT, sleep), lmer(SLEEP, sleep), method=method)
        assert there.statistic == pytest.approx(here.statistic, rel=SAME)
        assert (there.df, there.criterion, there.note) == (here.df, here.criterion, here.note)
    none = lmer("Reaction ~ 1 + (Days | Subject)", table, progress=False)
    test = lr_test(none, sleep_fit)  # refitted by ML
    assert (test.df, test.criterion) == (1, "ML")
    assert test.statistic == pytest.approx(23.5365, abs=1e-4)
    assert list(compare_models({"a": small, "b": none})["refitted"]) == [True, True]
    rng = np.random.default_rng
    here, there = (
        exact_rlrt(lmer(INTERCEPT, sleep), 500, rng(1)),
        exact_rlrt(small, 500, rng(1)),
    )
    assert there.statistic == pytest.approx(here.statistic, rel=SAME)


@pytest.mark.parametrize(
    ("formula", "sql", "message"),
    [
        (INTERCEPT, "from sleep where Days > 0", "full: must use the same rows"),
        (
            "log(Reaction) ~ 1 + (1 | Subject)",
            "from sleep",
            "full: must have the same response",
        ),
        ("Reaction ~ I(Days**2) + (1 | Subject)", "from sleep", "lacks the fixed effects I"),
        (
            "Reaction ~ Days + (I(Days**2) | Subject)",
            "from sleep",
            r"lacks the random term \(Intercept, I\(Days ",
        ),
        (SLEEP, "from sleep", "there is nothing to test"),
    ],
)
def test_fits_that_cannot_be_compared(con, sleep_fit, formula, sql, message):
    with pytest.raises(CourseError, match=message):
        lr_test(lmer(formula, con.sql(sql), progress=False), sleep_fit)


def test_fits_with_and_without_rows_are_not_compared(sleep_fit):
    here = lmer(INTERCEPT, load("sleepstudy"))
    with pytest.raises(
        CourseError, match="must have its rows in memory if the other model has"
    ):
        lr_test(here, sleep_fit)
    with pytest.raises(
        CourseError, match="must have its rows in memory if the other model has"
    ):
        lr_test(lmer(SLEEP, load("sleepstudy")), sleep_fit)


def generator():
    return np.random.default_rng(1)


def modes(fit):
    return fit.random_effects["Subject"]["Days"].to_numpy()


NEEDS_ROWS = {
    "fittedvalues": lambda fit: fit.fittedvalues,
    "resid": lambda fit: fit.resid,
    "predict": lambda fit: fit.predict(),
    "simulate": lambda fit: fit.simulate(1, generator()),
    "refit": lambda fit: fit.refit(load("sleepstudy")["Reaction"]),
    "refit_many": lambda fit: fit.refit_many(load("sleepstudy")[["Reaction"]].T),
    "bootstrap": lambda fit: fit.conf_int("bootstrap", rng=generator(), progress=False),
    "y": lambda fit: fit.frame.y + 1,
    "X": lambda fit: fit.frame.X.mean(),
    "index": lambda fit: len(fit.frame.index),
    "codes": lambda fit: np.bincount(fit.frame.factors[0].codes),
    "fit_ar1": lambda fit: fit_ar1(fit, load("sleepstudy")["Days"]),
    "residual_frame": diagnostics.residual_frame,
    "influence": diagnostics.influence,
    "r2": diagnostics.r2,
    "icc": diagnostics.icc,
    "binned_means": diagnostics.binned_means,
    "sorted_residuals": diagnostics.sorted_residuals,
    "envelope": lambda fit: diagnostics.simulated_envelope(fit, modes, 20, generator()),
    "check_up": lambda fit: diagnostics.check_up(fit, {"a": modes}, 20, generator()),
}


@pytest.mark.parametrize("needs", NEEDS_ROWS)
def test_what_needs_rows_says_how_to_get_them(sleep_fit, needs):
    with pytest.raises(
        CourseError, match="fit: must have its rows in memory for this"
    ) as caught:
        NEEDS_ROWS[needs](sleep_fit)
    assert "fit.predict(part)" in str(caught.value)


def test_its_advice_works(con, sleep_fit):
    part = con.sql("from sleep").limit(20).df()
    residuals = part["Reaction"] - sleep_fit.predict(part)
    here = lmer(SLEEP, load("sleepstudy"))
    close(here.resid.loc[:19], residuals)
    shap = explain.linear_shap(sleep_fit, part.head(3), background=part)
    assert len(shap) == 3


# What is not taken, and bad input


@pytest.mark.parametrize(
    ("formula", "what"),
    [
        ("y ~ poly(x, 2) + (1 | g)", "'poly'"),
        ("y ~ scale(x) + (1 | g)", "'scale'"),
        ("y ~ center(x) + (1 | g)", "'center'"),
        ("y ~ bs(x, df=4) + (1 | g)", "'bs'"),
        ("y ~ np.sin(x) + (1 | g)", "'sin'"),
        ("y ~ I(x - x.mean()) + (1 | g)", "'mean'"),
        ("y ~ I(x - np.mean(x)) + (1 | g)", "'np.mean'"),
        ("y ~ {x + 1} + (1 | g)", "'{'"),
        ("y ~ C(x > 3) + (1 | g)", "'C"),
        ("y ~ z + (scale(x) | g)", "'scale'"),
        ("scale(y) ~ x + (1 | g)", "'scale'"),
        ("y ~ log(k) + (1 | g)", "'log"),
        ("y ~ I(k) + (1 | g)", "'I"),
        ("y ~ I(x @ z) + (1 | g)", "'I"),
    ],
)
def test_what_a_database_does_not_compute_is_refused(con, formula, what):
    with pytest.raises(CourseError, match="formula: must") as caught:
        lmer(formula, con.sql("from d"), progress=False)
    assert what in str(caught.value)
    assert "in the database first" in str(caught.value)


def test_refused_before_anything_runs(con, monkeypatch):
    monkeypatch.setattr(from_database.Table, "query", lambda *_: pytest.fail("a query ran"))
    for formula in ("y ~ poly(x, 2) + (1 | g)", "k ~ x + (1 | g)", "y ~ q + (1 | g)"):
        with pytest.raises(CourseError):
            lmer(formula, con.sql("from d"), progress=False)


@pytest.mark.parametrize(
    ("formula", "sql", "message"),
    [
        ("y ~ q + (1 | g)", "from d", "formula: must name columns of the data; got 'q'"),
        ("y ~ x + (1 | q)", "from d", "formula: must name columns of the data; got 'q'"),
        ("y ~ x + (1 | g", "from d", "formula: must close every bracket"),
        ("k ~ x + (1 | g)", "from d", "formula: must have one numeric response"),
        ("b ~ x + (1 | g)", "from d", "formula: must have one numeric response"),
        ("1 ~ x + (1 | g)", "from d", "formula: must have one numeric response"),
        ("y ~ 1 + (0 | g)", "from d", "needs at least one term left of the bar"),
        ("y ~ x + (x | g) + (1 | g)", "from d", "must let each coefficient vary over 'g' once"),
        ("y ~ x + (1 | g) + (1 | w)", "from d", "got crossed ones, 'w' and 'g'"),
        (
            "y ~ x + (1 | g)",
            "from d where false",
            "data: must have at least one row; got an em",
        ),
        (
            "y ~ x + (1 | g)",
            "select * replace (null::int as x) from d",
            "400 rows, all incompl",
        ),
        ("y ~ x + (1 | g)", "from d where g = 1", "must have at least two groups"),
        (
            "y ~ x + (1 | g)",
            "select * replace (row_number() over () as g) from d",
            "must have fewer groups than rows",
        ),
        (
            "y ~ x + (1 | g)",
            "select * replace (3 as y) from d",
            "must have a response that var",
        ),
        ("y ~ x + (1 | g)", "select * replace (3 as x) from d", "a combination of the others"),
        ("y ~ x + I(x + z) + z + (1 | g)", "from d", "a combination of the others"),
        ("y ~ k + (1 | g)", "select * replace ('a' as k) from d", "that is constant"),
        ("y ~ x + (1 | g)", "select * replace (x + 1 as y) from d", "reproduced exactly"),
        ("y ~ x + (1 | g)", "from d limit 2", "must have fewer groups than rows|at least two"),
        ("y ~ log(x - 50) + (1 | g)", "from d", "must give finite numbers in every term"),
        ("y ~ I(1 / (x - x)) + (1 | g)", "from d", "must give finite numbers in every term"),
        (
            "y ~ x + (1 | g)",
            "select * replace (case when x > 90 then 'inf'::double else x end as x) from d",
            "data: must give finite numbers in every term of the formula; .* in 'x'",
        ),
        (
            "y ~ x + (1 | g)",
            "select * replace (x * 1e200 as x) from d",
            "must have numbers whose squares",
        ),
        ("y ~ x + (1 | g)", "select * replace (x::varchar as x) from d", "at most 50 levels"),
        ("y ~ x + (1 | g)", "select * replace ([g] as g) from d", "must group by labels"),
        ("y ~ C(g) * C(w) * z + (1 | s)", "from d", "at most 60 columns, .* got 120 or more"),
        (
            "y ~ C(g) * C(q) * C(r) * C(t) + (1 | s)",
            "select *, g + 1 as q, g + 2 as r, g + 3 as t from d",
            "must have at most 60 columns, the response included; got ",
        ),
    ],
)
def test_bad_input(con, formula, sql, message):
    with pytest.raises(CourseError, match=message):
        lmer(formula, con.sql(sql), progress=False)
    assert con.sql("select count(*) from d").fetchall() == [(400,)]


def test_too_many_groups(con, monkeypatch):
    monkeypatch.setattr(from_database, "MOST_GROUPS", 19)
    with pytest.raises(CourseError, match="data: must have at most 19 groups; got more of g"):
        lmer("y ~ x + (1 | g)", con.sql("from d"), progress=False)
    assert len(lmer("y ~ x + (1 | s)", con.sql("from d"), progress=False).coef()["s"]) == 4


def test_a_closed_connection_says_so():
    con = duckdb.connect()
    con.register("s", load("sleepstudy"))
    table = con.sql("from s")
    con.close()
    with pytest.raises(CourseError, match="data: must answer when .* Connection") as caught:
        lmer(SLEEP, table, progress=False)
    assert "is its connection open" in str(caught.value)


def test_a_query_that_fails_half_way_leaves_the_connection_usable(tmp_path):
    with duckdb.connect(str(tmp_path / "d.duckdb")) as con:
        con.register("s", load("sleepstudy"))
        con.execute("create table sleep as from s")
        con.unregister("s")
        broken = "select *, case when Days = 9 then error('half-way')::int else Days end z"
        with pytest.raises(CourseError, match="data: must answer .* half-way") as caught:
            lmer(
                "Reaction ~ z + (1 | Subject)", con.sql(f"{broken} from sleep"), progress=False
            )
        assert isinstance(caught.value.__cause__, duckdb.Error)
        assert lmer(SLEEP, con.sql("from sleep"), progress=False).nobs == 180
        there_is = "select table_name from duckdb_tables() union all "
        there_is += "select view_name from duckdb_views() where not internal"
        assert con.sql(there_is).fetchall() == [("sleep",)]


def test_a_read_only_database_will_do(tmp_path):
    path = str(tmp_path / "d.duckdb")
    with duckdb.connect(path) as con:
        con.register("s", load("sleepstudy"))
        con.execute("create table sleep as from s")
    with duckdb.connect(path, read_only=True) as con:
        assert lmer(SLEEP, con.sql("from sleep"), progress=False).nobs == 180


def test_a_table_that_changes_between_the_passes(con, monkeypatch):
    first = from_database.Asked.first_pass

    def changed(self):
        found = first(self)
        return from_database.Centres(found.n + 1, found.n_dropped, found.means)

    monkeypatch.setattr(from_database.Asked, "first_pass", changed)
    with pytest.raises(CourseError, match="data: must stay as it is while it is read"):
        lmer("y ~ x + (1 | g)", con.sql("from d"), progress=False)


@pytest.mark.parametrize("data", [None, "d", 1, [1], {"a": [1]}, np.zeros(3), pl.col("x")])
def test_what_is_no_table(data):
    with pytest.raises(CourseError, match="data: must be a pandas DataFrame"):
        lmer(SLEEP, data)


# Other engines, imports, the progress line


def polars_frame():
    sleep = load("sleepstudy")
    frame = pl.DataFrame({name: sleep[name].to_list() for name in sleep})
    kinds = ["a", "b"] * 90
    return frame.with_columns(pl.Series("kind", kinds).cast(pl.Enum(["b", "a"])))


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True], ids=["native", "narwhals"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"Subject": pl.col("Subject").cast(pl.Categorical)},
        {
            "Reaction": pl.col("Reaction").cast(pl.Decimal(20, 10)),
            "Days": pl.col("Days").cast(pl.Int8),
        },
        {"Days": pl.when(pl.col("Days") > 1).then(pl.col("Days"))},
        {"kind": pl.col("kind").cast(pl.String)},
        {"kind": pl.col("kind") == "a"},
    ],
)
def test_polars_lazily_and_eagerly(change, wrapped):
    formula = "Reaction ~ Days * kind + (Days | Subject)"
    rows = polars_frame().with_columns(**change)
    lazy = nw.from_native(rows.lazy()) if wrapped else rows.lazy()
    eager = nw.from_native(rows) if wrapped else rows
    here = lmer(formula, eager)
    assert here.frame.has_rows
    same_fit(here, lmer(formula, lazy, progress=False))
    assert here.n_dropped == (36 if "when" in str(change) else 0)


def test_nothing_is_imported_without_such_a_table():
    code = """
import sys
from course_lib import lmer, load
lmer("Reaction ~ Days + (Days | Subject)", load("sleepstudy"))
print([name for name in ("duckdb", "narwhals", "polars", "formulaic") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_the_progress_line_names_the_pass_and_the_time(con, capsys):
    lmer(SLEEP, con.sql("from sleep"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "pass 2 of 2: sums per group: 100%" in shown.err
    assert "[00:0" in shown.err
    lmer(SLEEP, con.sql("from sleep"), progress=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(CourseError, match="progress: must be True or False"):
        lmer(SLEEP, con.sql("from sleep"), progress=2)
