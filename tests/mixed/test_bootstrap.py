"""Many refits at once give what one refit after the other gives."""

import numpy as np
import pytest

from course_lib import load
from course_lib.mixed.bootstrap import batch_size, refit_deviances
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


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_same_as_refit(name, reml):
    data, formula, rows = MODELS[name]
    fit = lmer(formula, load(data).iloc[:rows], reml)
    responses = fit.simulate(8, np.random.default_rng(7))
    expected = [fit.refit(y).deviance for y in responses]
    found = refit_deviances(fit.standardised, responses, reml)
    np.testing.assert_allclose(found, expected, rtol=0, atol=DEVIANCE)


@pytest.mark.slow
@pytest.mark.parametrize("reml", [True, False])
def test_singular_draws_reach_the_optimum_too(reml):
    """Responses without any group effect: half of the optima lie on the boundary."""
    fit = lmer("Reaction ~ Days + (Days|Subject)", load("sleepstudy"), reml)
    responses = 300 + np.random.default_rng(9).normal(size=(60, 180))
    refits = [fit.refit(y) for y in responses]
    assert sum(refit.is_singular for refit in refits) > 10
    found = refit_deviances(fit.standardised, responses, reml)
    np.testing.assert_allclose(found, [r.deviance for r in refits], rtol=0, atol=DEVIANCE)


def test_one_response_alone_or_among_others():
    fit = lmer("Reaction ~ Days + (Days|Subject)", load("sleepstudy"))
    responses = fit.simulate(5, np.random.default_rng(3))
    together = refit_deviances(fit.standardised, responses, True)
    alone = [refit_deviances(fit.standardised, y[None, :], True)[0] for y in responses]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-8)


def test_batches_keep_memory_small():
    small = lmer("Reaction ~ Days + (Days|Subject)", load("sleepstudy"))
    large = lmer("mAch ~ ses + (ses|school)", load("hsb82"))
    assert batch_size(small.standardised) == 250
    assert 1 <= batch_size(large.standardised) * large.nobs <= 4_000_000
