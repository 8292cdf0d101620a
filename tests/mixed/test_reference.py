"""`lmer` against lme4 (76 fits) and lmerTest; profile intervals against a root search in R.

The references are good to about 1e-10 in the criterion and 1e-8 relative elsewhere (see
reference/README.md). L-BFGS stops when the deviance is within about 1e-9 of its minimum, where
θ is uncertain by about the square root of that: hence 1e-6 in the criterion and 1e-4 relative
for all that depends on θ, as the design asks.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from course_lib import lmer, load

REFERENCE = Path(__file__).parents[1] / "reference"
FITS = json.loads((REFERENCE / "lmer_reference.json").read_text(encoding="utf-8"))["fits"]
PROFILES = json.loads((REFERENCE / "lmer_profile.json").read_text(encoding="utf-8"))["fits"]
CRITERION = 1e-6
RELATIVE = 1e-4


def frame(name):
    """Data set `course:NAME` or `reference:NAME`."""
    place, name = name.split(":")
    if place == "course":
        return load(name)
    return pd.read_csv(REFERENCE / "data" / f"{name}.csv")


@pytest.fixture(scope="module")
def fitted():
    """Fit each reference model once a worker."""
    fits = {}

    def fit(reference):
        if reference["name"] not in fits:
            data = frame(reference["data"])
            fits[reference["name"]] = lmer(reference["formula_py"], data, reference["reml"])
        return fits[reference["name"]]

    return fit


def by_name(reference):
    return reference["name"]


@pytest.mark.parametrize("reference", FITS, ids=by_name)
def test_criterion_and_counts(fitted, reference):
    fit = fitted(reference)
    assert fit.deviance == pytest.approx(reference["criterion"], abs=CRITERION)
    assert fit.aic == pytest.approx(reference["aic"], abs=CRITERION)
    assert fit.bic == pytest.approx(reference["bic"], abs=CRITERION)
    assert (fit.npar, fit.nobs) == (reference["npar"], reference["nobs"])
    assert fit.ngroups == reference["ngroups"]
    assert fit.converged


@pytest.mark.parametrize("reference", FITS, ids=by_name)
def test_fixed_effects(fitted, reference):
    fit = fitted(reference)
    expected = pd.Series(reference["fe_params"])
    errors = pd.Series(reference["bse_fe"])
    assert list(fit.fe_params.index) == list(expected.index)
    # A coefficient near zero has no relative accuracy: its own standard error is the unit.
    assert (np.abs(fit.fe_params - expected) < RELATIVE * (np.abs(expected) + errors)).all()
    np.testing.assert_allclose(fit.bse_fe, errors, rtol=RELATIVE)
    scale = np.outer(errors, errors)
    np.testing.assert_allclose(fit.cov_fe / scale, reference["cov_fe"] / scale, atol=RELATIVE)


@pytest.mark.parametrize("reference", FITS, ids=by_name)
def test_variances(fitted, reference):
    fit = fitted(reference)
    expected = pd.DataFrame(reference["varcorr"]).fillna({"term1": "", "term2": ""})
    keys = ["group", "term1", "term2"]
    both = fit.varcorr().merge(expected, on=keys, suffixes=("", "_r"))
    assert len(both) == len(expected) == len(fit.varcorr())
    single = both["term2"] == ""
    spread = both[single].set_index(["group", "term1"])["vcov_r"].pow(0.5)
    unit = np.where(
        single,
        both["vcov_r"],
        [spread.get((g, a), 1) * spread.get((g, b), 1) for g, a, b in both[keys].to_numpy()],
    )
    # A variance estimated as zero is compared on the scale of the residual variance.
    unit = np.maximum(unit, 1e-4 * reference["scale"]) if reference["is_singular"] else unit
    assert (np.abs(both["vcov"] - both["vcov_r"]) < RELATIVE * unit).all()
    assert fit.is_singular == reference["is_singular"]


@pytest.mark.parametrize("reference", FITS, ids=by_name)
def test_random_effects_and_rows(fitted, reference):
    fit = fitted(reference)
    # A mode moves with θ by up to θ's own uncertainty times its spread.
    spread = {group: np.sqrt(np.diag(cov)) for group, cov in fit.cov_re.items()}
    for row in reference["random_effects"]:
        modes, errors = fit.random_effects[row["group"]], fit.random_effects_se[row["group"]]
        modes.index, errors.index = modes.index.astype(str), errors.index.astype(str)
        column = list(modes.columns).index(row["term"])
        unit = spread[row["group"]][column] + 1e-3 * fit.scale**0.5
        place = row["level"], row["term"]
        assert modes.loc[place] == pytest.approx(row["value"], abs=RELATIVE * unit)
        assert errors.loc[place] == pytest.approx(row["se"], abs=RELATIVE * unit)
    near = RELATIVE * fit.scale**0.5
    np.testing.assert_allclose(fit.fittedvalues[:6], reference["fitted_first6"], atol=near)
    np.testing.assert_allclose(fit.resid[:6], reference["resid_first6"], atol=near)


@pytest.mark.parametrize(
    "reference",
    [f for f in FITS if f.get("satterthwaite_df") and not f["is_singular"]],
    ids=by_name,
)
def test_satterthwaite(fitted, reference):
    df = fitted(reference).fixed_table()["df"]
    expected = pd.Series(reference["satterthwaite_df"])
    # lmerTest differentiates the criterion numerically twice, from θ known to about 1e-7.
    np.testing.assert_allclose(df, expected, rtol=1e-3)


@pytest.mark.parametrize("reference", [f for f in FITS if "newdata" in f], ids=by_name)
def test_new_data(fitted, reference):
    fit = fitted(reference)
    rows = pd.DataFrame(reference["newdata"])
    near = RELATIVE * fit.scale**0.5
    population = fit.predict(rows, random=False)
    np.testing.assert_allclose(population, reference["predict_population"], atol=near)
    both = fit.predict(rows, new_levels="population")
    np.testing.assert_allclose(both, reference["predict_conditional"], atol=near)


@pytest.mark.slow
@pytest.mark.parametrize("reference", PROFILES, ids=by_name)
def test_profile_intervals(reference):
    fit = lmer(reference["formula"], frame(reference["data"]), reference["reml"])
    table = fit.conf_int("profile", alpha=1 - reference["level"])
    names = {"sd": "sd({term1} | {group})", "cor": "cor({term1}, {term2} | {group})"}
    assert len(table) == len(reference["intervals"])
    for row in reference["intervals"]:
        kind = row["parameter"]
        name = names[kind].format(**row) if kind in names else row.get("term1") or "sigma"
        found = table.loc[name]
        # Both search for the same crossing; theirs is good to 1e-7 of the estimate.
        unit = 1e-5 * max(abs(row["estimate"]), abs(row["upper"]))
        assert found["lower"] == pytest.approx(row["lower"], abs=unit), name
        assert found["upper"] == pytest.approx(row["upper"], abs=unit), name
