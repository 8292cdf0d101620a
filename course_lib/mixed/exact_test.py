r"""The exact restricted likelihood-ratio test of a single variance component.

For one set of independent random effects with variance λσ², against the linear model without
it, the null distribution of the restricted likelihood-ratio statistic is known for any sample
size (Crainiceanu & Ruppert 2004, doi:10.1111/j.1467-9868.2004.00438.x). With μ_1 … μ_K the
eigenvalues of Z'(I - X(X'X)⁻¹X')Z and w_s independent standard normal,

.. math:: RLRT \sim \sup_{\lambda \ge 0} \Big\{ (n-p) \log\frac{\sum_{s=1}^{n-p} w_s^2}
          {\sum_{s \le K} w_s^2/(1+\lambda\mu_s) + \sum_{s>K} w_s^2}
          - \sum_{s \le K} \log(1+\lambda\mu_s) \Big\}

which is simulated from χ² variates, without refitting anything. In a balanced one-way layout
(J groups, n rows) all μ are equal, and the test is the F test of the groups: F > 1 gives
λ̂ > 0, so the probability of a statistic of exactly zero is P(F_{J-1, n-J} ≤ 1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from course_lib.errors import check_count, check_rng, course_error
from course_lib.mixed.compare import PRECISION, LRTest, check_fit, simulation_test
from course_lib.mixed.deviance import deviance_and_gradient
from course_lib.mixed.result import LmerResult
from course_lib.mixed.search import estimate_standardised

__all__ = ["exact_rlrt", "restricted_null"]

GOLDEN = (np.sqrt(5) - 1) / 2
CHUNK = 2_000_000  # numbers held at a time


def exact_rlrt(
    fit: LmerResult, n_sim: int = 10_000, rng: np.random.Generator | None = None
) -> LRTest:
    """Test the only variance of a mixed model against the linear model without it.

    Parameters
    ----------
    fit : LmerResult
        With one grouping factor and one random effect a group, as ``(1 | g)`` or
        ``(0 + x | g)``. An ML fit is refitted by REML, and the note says so.
    n_sim : int
        Draws from the null distribution.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    LRTest
        With ``method="exact"``, ``df=1``, and the p-value (1 + #{T* ≥ T}) / (n_sim + 1).

    Raises
    ------
    CourseError
        If the model has more than one random effect a group or grouping factor.
    """
    check_fit("fit", fit)
    check_count("n_sim", n_sim)
    check_rng("rng", rng)
    if len(fit.theta) != 1:
        raise course_error(
            "fit",
            "must have a single variance component besides the residual",
            f"'{fit.formula}' with {len(fit.theta)} variance parameters",
            "Use lr_test(reduced, full, method='bootstrap') to test one of several.",
        )
    note = "" if fit.reml else "Refitted by REML, which this test is about. "
    if not fit.reml:
        estimate = estimate_standardised(fit.standardised, True)
        fit = replace(fit, estimate=estimate, reml=True)
    products = fit.standardised.products
    at_zero = deviance_and_gradient(np.zeros(1), products, True)[0]
    statistic = float(at_zero - fit.estimate.optimum.deviance)
    statistic = statistic if statistic > PRECISION else 0.0
    residual_df = products.n - products.p
    simulated = restricted_null(_eigenvalues(fit), residual_df, n_sim, rng)
    test = LRTest(statistic, 1, np.nan, "exact", criterion="REML")
    return simulation_test(test, simulated, note)


def _eigenvalues(fit: LmerResult) -> np.ndarray:
    """μ: eigenvalues of Z'Z minus the part that the fixed effects explain."""
    products = fit.standardised.products
    # In standard units X'X = n I; with one effect a group, block_cross is Z'[X y].
    cross = products.block_cross.reshape(-1, products.p + 1)[:, :-1]
    return np.linalg.eigvalsh(
        np.diag(products.block_gram[:, 0, 0]) - cross @ cross.T / products.n
    )


def restricted_null(
    eigenvalues: np.ndarray, residual_df: int, n_sim: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw from the null distribution of the restricted likelihood-ratio statistic.

    Parameters
    ----------
    eigenvalues : ndarray, shape (K,)
        μ of the module docstring; zeros are allowed.
    residual_df : int
        n - p.
    n_sim : int
        How many draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (n_sim,)
        Statistics, at least zero.
    """
    # Equal eigenvalues share one λ-dependent weight: draw the sum of their w² at once.
    top = eigenvalues.max()
    rounded = np.round(np.where(eigenvalues < 1e-9 * top, 0, eigenvalues) / top, 10)
    mu, counts = np.unique(rounded[rounded > 0], return_counts=True)
    rest_df = residual_df - int(counts.sum())
    draws = []
    size = max(1, CHUNK // (len(mu) + 100))
    for start in range(0, n_sim, size):
        n_now = min(size, n_sim - start)
        squares = rng.chisquare(counts, (n_now, len(mu)))
        rest = rng.chisquare(rest_df, n_now) if rest_df else np.zeros(n_now)
        draws.append(_supremum(mu, counts, squares, rest, residual_df))
    return np.concatenate(draws)


def _supremum(mu, counts, squares, rest, residual_df) -> np.ndarray:
    """Largest value over λ for each draw: a grid, then golden-section search around its best.

    λ is in units of 1 / the largest eigenvalue.
    """
    total = squares.sum(axis=1) + rest

    def value(lam):  # lam has shape (draws, 1)
        inside = (squares / (1 + lam * mu)).sum(axis=1) + rest
        return residual_df * np.log(total / inside) - np.log1p(lam * mu) @ counts

    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1e8, 80)])
    shrunk = squares @ (1 / (1 + np.outer(mu, grid))) + rest[:, None]
    heights = residual_df * np.log(total[:, None] / shrunk)
    heights -= counts @ np.log1p(np.outer(mu, grid))
    best = heights.argmax(axis=1)
    low = grid[np.maximum(best - 1, 0)][:, None]
    high = grid[np.minimum(best + 1, len(grid) - 1)][:, None]
    for _ in range(30):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        rises = (value(right) > value(left))[:, None]
        low, high = np.where(rises, left, low), np.where(rises, high, right)
    found = np.maximum(heights.max(axis=1), value((low + high) / 2))
    # Where λ = 0 is best the search creeps towards it from above and leaves rounding error.
    return np.where(found > 1e-10, found, 0.0)
