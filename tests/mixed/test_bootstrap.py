"""Many refits at once give what one refit after the other gives."""

import numpy as np
import pandas as pd
import pytest

from course_lib import load
from course_lib.errors import CourseError
from course_lib.mixed import bootstrap
from course_lib.mixed.bootstrap import batches, refit
from course_lib.mixed.result import lmer

# Both searches stop within about 1e-9 a group of the minimum; deviances are some hundreds.
DEVIANCE = 1e-6

MODELS = {
    "balanced": ("sleepstudy", "Reaction ~ Days + (Days|Subject)", None),
    "uncorrelated": ("sleepstudy", "Reaction ~ Days + (Days||Subject)", None),
    "intercept": ("orthodont", "distance ~ age * Sex + (1|Subject)", None),
    "unbalanced": ("hsb82", "mAch ~ ses + cses + (ses|school)", 900),
    "three effects": ("orthodont", "distance ~ age + (age + I(age**2)|Subject)", None),
    "no fixed effects": ("sleepstudy", "Reaction ~ 0 + (1|Subject)", None),
    "crossed": ("penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_same_as_refit(name, reml):
    data, formula, rows = MODELS[name]
    fit = lmer(formula, load(data).iloc[:rows], reml)
    responses = fit.simulate(8, np.random.default_rng(7))
    expected = [fit.refit(y).deviance for y in responses]
    found = refit(fit.standardised, responses, reml).deviance
    np.testing.assert_allclose(found, expected, rtol=0, atol=DEVIANCE)


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
def test_singular_draws_reach_the_optimum_too(reml):
    """Responses without any group effect: half of the optima lie on the boundary."""
    fit = lmer("Reaction ~ Days + (Days|Subject)", load("sleepstudy"), reml)
    responses = 300 + np.random.default_rng(9).normal(size=(60, 180))
    singles = [fit.refit(y) for y in responses]
    assert sum(one.is_singular for one in singles) > 10
    found = refit(fit.standardised, responses, reml).deviance
    np.testing.assert_allclose(found, [r.deviance for r in singles], rtol=0, atol=DEVIANCE)


def test_one_response_alone_or_among_others():
    fit = lmer("Reaction ~ Days + (Days|Subject)", load("sleepstudy"))
    responses = fit.simulate(5, np.random.default_rng(3))
    together = refit(fit.standardised, responses, True).deviance
    alone = [refit(fit.standardised, y[None, :], True).deviance[0] for y in responses]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-8)


def test_batches_keep_memory_small():
    small = lmer("Reaction ~ Days + (Days|Subject)", load("sleepstudy"))
    large = lmer("mAch ~ ses + (ses|school)", load("hsb82"))
    assert list(batches(small.standardised, 300)) == [slice(0, 250), slice(250, 300)]
    sizes = [b.stop - b.start for b in batches(large.standardised, 1000)]
    assert sum(sizes) == 1000
    assert max(sizes) * large.nobs <= 4_000_000


def test_batches_go_by_the_largest_level(monkeypatch):
    monkeypatch.setattr(bootstrap, "BUDGET", 20_000)
    rows = np.arange(600)
    data = pd.DataFrame({"x": np.sin(rows), "outer": rows // 60, "inner": rows // 3 % 20})
    data["y"] = np.cos(7 * rows) + data["outer"]
    model = lmer("y ~ x + (x | outer/inner)", data).standardised
    size = max(batch.stop - batch.start for batch in batches(model, 1000))
    assert all(size * level.cross.size <= 20_000 for level in model.products.levels)


@pytest.mark.parametrize("name", ["balanced", "three effects", "crossed"])
def test_table_of_refits_is_what_each_refit_says(name):
    data, formula, rows = MODELS[name]
    fit = lmer(formula, load(data).iloc[:rows])
    responses = fit.simulate(5, np.random.default_rng(2))
    table = fit.refit_many(responses, progress=False)
    for i, y in enumerate(responses):
        one = fit.refit(y)
        assert table["deviance"][i] == pytest.approx(one.deviance, abs=DEVIANCE)
        assert table["is_singular"][i] == one.is_singular
        assert table["converged"][i]
        # variances are known to the square root of the deviance's tolerance
        names = [*fit.fe_params.index, *fit.conf_int().index[: -len(fit.fe_params)]]
        expected = [*one.fe_params, *one.varcorr()["sdcor"]]
        np.testing.assert_allclose(table.loc[i, names].astype(float), expected, atol=1e-3)


def test_whole_fits_side_by_side():
    fit = lmer("strength ~ 1 + (1 | batch/cask)", load("pastes"))
    responses = fit.simulate(3, np.random.default_rng(2))
    for found, y in zip(fit.refits(responses), responses, strict=True):
        one = fit.refit(y)
        np.testing.assert_allclose(found.fittedvalues, one.fittedvalues, atol=1e-5)
        np.testing.assert_allclose(found.resid, one.resid, atol=1e-5)
        for name, modes in one.random_effects.items():
            np.testing.assert_allclose(found.random_effects[name], modes, atol=1e-5)
        assert found.conf_int().shape == one.conf_int().shape


@pytest.mark.parametrize(
    ("responses", "got"),
    [
        (np.ones((2, 179)), r"shape \(2, 179\)"),
        (np.ones(180), r"shape \(180,\)"),
        (np.empty((0, 180)), r"shape \(0, 180\)"),
        (np.vstack([np.arange(180), np.full(180, 3.0)]), "3 throughout"),
        (np.full((1, 180), np.nan), "responses"),
        ("text", "responses"),
    ],
)
def test_refit_many_refuses(responses, got):
    fit = lmer("Reaction ~ Days + (1|Subject)", load("sleepstudy"))
    with pytest.raises(CourseError, match=got):
        fit.refit_many(responses, progress=False)


def test_refits_check_before_the_first_is_asked_for():
    fit = lmer("Reaction ~ Days + (1|Subject)", load("sleepstudy"))
    with pytest.raises(CourseError, match="responses: must have rows"):
        fit.refits(np.ones((2, 179)))


def test_refit_many_shows_progress_on_request(capsys):
    fit = lmer("Reaction ~ Days + (1|Subject)", load("sleepstudy"))
    fit.refit_many(fit.simulate(2, np.random.default_rng(1)))
    assert "bootstrap" in capsys.readouterr().err


def test_each_of_many_refits_has_its_own_units():
    fit = lmer("Reaction ~ Days + (1|Subject)", load("sleepstudy"))
    for other in fit.refits(np.array([fit.frame.y, 7 * fit.frame.y])):
        (shift,) = other.standardised.jacobian(other.reml)
        assert other.estimate.optimum.deviance + shift == pytest.approx(other.deviance)
