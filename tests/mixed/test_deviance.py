"""The deviance, its exact gradient and the solution against dense_deviance.py."""

from dataclasses import replace

import numpy as np
import pytest
from dense_deviance import covariance, dense_deviance, fill, gls, parts_of
from scipy import sparse

from course_lib.mixed.cross_products import FactorArrays, cross_products, recombine
from course_lib.mixed.deviance import deviance_and_gradient, lambda_matrices, solve

N = 40
FULL = {q: np.tril(np.ones((q, q), dtype=bool)) for q in (1, 2, 3)}
UNCORRELATED = np.eye(2, dtype=bool)
BLOCKS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)


def columns_of(rng, q):
    return np.column_stack([np.ones(N), rng.normal(size=(N, 2))])[:, :q]


def factor(rng, n_levels, mask, codes=None):
    """Build a factor with every level present and unequal sizes, unless `codes` are given."""
    if codes is None:
        extra = (n_levels * rng.random(N - n_levels) ** 1.5).astype(int)
        codes = rng.permutation(np.append(np.arange(n_levels), extra))
    return FactorArrays(codes, n_levels, columns_of(rng, len(mask)), mask)


def nested(rng):
    """Classes within schools; class j is in school j // 2."""
    inner = factor(rng, 8, FULL[2])
    return inner, FactorArrays(inner.codes // 2, 4, columns_of(rng, 1), FULL[1])


DESIGNS = {
    "intercept": lambda rng: (factor(rng, 6, FULL[1]),),
    "slope": lambda rng: (factor(rng, 6, FULL[2]),),
    "three columns": lambda rng: (factor(rng, 6, FULL[3]),),
    "uncorrelated": lambda rng: (factor(rng, 6, UNCORRELATED),),
    "two blocks": lambda rng: (factor(rng, 6, BLOCKS),),
    "nested": nested,
    "crossed": lambda rng: (factor(rng, 7, FULL[1]), factor(rng, 4, FULL[1])),
    "crossed slopes": lambda rng: (factor(rng, 7, FULL[2]), factor(rng, 4, FULL[2])),
    "three factors": lambda rng: (
        factor(rng, 7, FULL[2]),
        factor(rng, 4, UNCORRELATED),
        factor(rng, 3, FULL[1]),
    ),
}


@pytest.fixture(params=DESIGNS)
def design(request):
    """X, y, factors and a θ with entries of both signs."""
    rng = np.random.default_rng(11)
    factors = DESIGNS[request.param](rng)
    X = np.column_stack([np.ones(N), rng.normal(size=N)])
    y = X @ [1.0, 2.0] + rng.normal(size=N)
    for part in factors:
        effects = rng.normal(size=(part.n_levels, part.columns.shape[1]))
        y += np.einsum("nq,nq->n", part.columns, effects[part.codes])
    n_theta = sum(part.mask.sum() for part in factors)
    return X, y, factors, rng.normal(size=n_theta)


def numerical_gradient(function, theta, step=1e-5):
    """Central differences: truncation about step², rounding about 1e-14 / step."""
    return np.array(
        [
            (function(theta + e) - function(theta - e)) / (2 * step)
            for e in step * np.eye(len(theta))
        ]
    )


@pytest.mark.parametrize("sigma", [None, 0.7])
@pytest.mark.parametrize("reml", [True, False])
def test_value_and_gradient(design, reml, sigma):
    X, y, factors, theta = design
    products = cross_products(X, y, factors)

    def dense(theta):
        return dense_deviance(X, y, parts_of(factors, theta), reml, sigma)

    value, gradient = deviance_and_gradient(theta, products, reml, sigma)
    assert value == pytest.approx(dense(theta), abs=1e-9)
    np.testing.assert_allclose(gradient, numerical_gradient(dense, theta), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("zeroed", ["all", "first", "last"])
def test_singular_theta(design, reml, zeroed):
    X, y, factors, theta = design
    where = {"all": slice(None), "first": slice(0, 1), "last": slice(-1, None)}[zeroed]
    theta[where] = 0.0
    products = cross_products(X, y, factors)

    def dense(theta):
        return dense_deviance(X, y, parts_of(factors, theta), reml)

    value, gradient = deviance_and_gradient(theta, products, reml)
    assert value == pytest.approx(dense(theta), abs=1e-9)
    np.testing.assert_allclose(gradient, numerical_gradient(dense, theta), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reml", [True, False])
def test_solution(design, reml):
    X, y, factors, theta = design
    theta[-1] = 0.0  # a singular fit is just a fit
    parts = parts_of(factors, theta)
    found = solve(theta, cross_products(X, y, factors), reml)
    V = covariance(N, parts)
    beta, information, rss = gls(X, y, V)
    np.testing.assert_allclose(found.beta, beta, rtol=1e-9)
    np.testing.assert_allclose(found.unscaled_cov_beta, np.linalg.inv(information), atol=1e-10)
    assert found.sigma == pytest.approx(np.sqrt(rss / (N - 2 * reml)), rel=1e-10)
    # b | y has mean DZ'V⁻¹(y - Xβ) and covariance D - DZ'V⁻¹ZD, in units of σ².
    for (codes, columns, lam), modes, covs in zip(
        parts, found.modes, found.unscaled_cov_modes, strict=True
    ):
        for level in range(len(modes)):
            Z = columns * (codes == level)[:, None]
            D = lam @ lam.T
            mode = D @ Z.T @ np.linalg.solve(V, y - X @ beta)
            cov = D - D @ Z.T @ np.linalg.solve(V, Z @ D)
            np.testing.assert_allclose(modes[level], mode, atol=1e-9)
            np.testing.assert_allclose(covs[level], cov, atol=1e-9)


def test_solution_without_covariances(design):
    X, y, factors, theta = design
    products = cross_products(X, y, factors)
    short, whole = solve(theta, products, True, covariances=False), solve(theta, products, True)
    assert short.unscaled_cov_modes == []
    np.testing.assert_array_equal(short.beta, whole.beta)


def test_no_fixed_effects(design):
    _, y, factors, theta = design
    X = np.empty((N, 0))
    products = cross_products(X, y, factors)
    values = [deviance_and_gradient(theta, products, reml)[0] for reml in (True, False)]
    assert values[0] == values[1]  # nothing is integrated out
    V = covariance(N, parts_of(factors, theta))
    rss = y @ np.linalg.solve(V, y)
    dense = np.linalg.slogdet(V)[1] + N * (1 + np.log(2 * np.pi * rss / N))
    assert values[0] == pytest.approx(dense, abs=1e-9)


def test_new_response_needs_no_rows(design):
    X, y, factors, theta = design
    other = np.sin(np.arange(N)) + y[::-1]
    block, *dense = factors
    grouped = [
        np.array([f.columns[f.codes == j].T @ other[f.codes == j] for j in range(f.n_levels)])
        for f in (block, *dense)
    ]
    dense_y = np.concatenate([*(g.ravel() for g in grouped[1:]), X.T @ other, [other @ other]])
    swapped = cross_products(X, y, factors).with_response(grouped[0].ravel(), dense_y)
    direct = cross_products(X, other, factors)
    np.testing.assert_allclose(swapped.gram, direct.gram, atol=1e-9)
    np.testing.assert_allclose(swapped.block_cross, direct.block_cross, atol=1e-9)
    assert deviance_and_gradient(theta, swapped, True)[0] == pytest.approx(
        deviance_and_gradient(theta, direct, True)[0], abs=1e-9
    )


def test_recombined_columns(design):
    X, y, factors, theta = design
    mix = np.array([[1.0, 0.0], [0.0, -3.0], [0.0, 1.0]])  # slope fixed at 3
    recombined = recombine(cross_products(X, y, factors), mix)
    direct = cross_products(X[:, :1], y - 3 * X[:, 1], factors)
    assert recombined.p == 1
    np.testing.assert_allclose(
        deviance_and_gradient(theta, recombined, True)[1],
        deviance_and_gradient(theta, direct, True)[1],
        atol=1e-8,
    )


def test_theta_runs_down_the_columns():
    lam, other = lambda_matrices(np.arange(1.0, 8.0), (FULL[3], FULL[1]))
    np.testing.assert_array_equal(lam, [[1, 0, 0], [2, 4, 0], [3, 5, 6]])
    np.testing.assert_array_equal(other, [[7]])
    (blocks,) = lambda_matrices(np.arange(1.0, 5.0), (BLOCKS,))
    np.testing.assert_array_equal(blocks, fill(np.arange(1.0, 5.0), [BLOCKS])[0])


def sparse_design():
    """150 plates × 120 samples, three cells each: enough for the sparse storage."""
    rng = np.random.default_rng(2)
    n = 450
    plate, sample = np.arange(n) % 150, rng.permutation(np.arange(n) % 120)
    columns = np.column_stack([np.ones(n), rng.normal(size=n)])
    factors = (
        FactorArrays(plate, 150, columns, FULL[2]),
        FactorArrays(sample, 120, columns[:, :1], FULL[1]),
    )
    return columns, rng.normal(size=n) + plate % 3 + sample % 4, factors


@pytest.mark.parametrize("reml", [True, False])
def test_sparse_storage_gives_the_same(reml):
    X, y, factors = sparse_design()
    products = cross_products(X, y, factors)
    assert sparse.issparse(products.block_cross)
    dense = replace(products, block_cross=products.block_cross.toarray())
    theta = np.array([0.8, -0.3, 0.5, 1.2])
    exact = dense_deviance(X, y, parts_of(factors, theta), reml)
    assert deviance_and_gradient(theta, products, reml)[0] == pytest.approx(exact, abs=1e-8)
    for sigma in (None, 0.7):
        one, other = (deviance_and_gradient(theta, k, reml, sigma) for k in (products, dense))
        assert one[0] == pytest.approx(other[0], abs=1e-9)
        np.testing.assert_allclose(one[1], other[1], atol=1e-8)
    one, other = (solve(theta, k, reml) for k in (products, dense))
    np.testing.assert_allclose(one.beta, other.beta, atol=1e-10)
    for name in ("modes", "unscaled_cov_modes"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)


def test_sparse_storage_survives_a_new_response_and_a_recombination():
    X, y, factors = sparse_design()
    products = cross_products(X, y, factors)
    target = cross_products(X, 2 * y, factors)
    theta = np.array([0.8, -0.3, 0.5, 1.2])
    block_y = target.block_cross.toarray()[:, -1]
    swapped = products.with_response(block_y, target.gram[:, -1])
    mixed = recombine(products, np.diag([1.0, 1.0, 2.0]))
    expected = deviance_and_gradient(theta, target, True)
    for found in (swapped, mixed):
        value, gradient = deviance_and_gradient(theta, found, True)
        assert value == pytest.approx(expected[0], abs=1e-9)
        np.testing.assert_allclose(gradient, expected[1], atol=1e-8)
