"""The deviance, its exact gradient and the solution against dense_deviance.py."""

import os
from dataclasses import replace

import numpy as np
import pytest
from dense_deviance import covariance, dense_deviance, fill, gls, parts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.mixed import cross_products as rooms
from course_lib.mixed.cross_products import (
    FactorArrays,
    Layout,
    TooLargeError,
    cross_products,
    recombine,
    swap_responses,
)
from course_lib.mixed.deviance import (
    chain_covariances,
    deviance_and_gradient,
    evaluate,
    lambda_matrices,
    pack,
    solve,
)

N = 40
FULL = {q: np.tril(np.ones((q, q), dtype=bool)) for q in (1, 2, 3, 5)}
UNCORRELATED = np.eye(2, dtype=bool)
BLOCKS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)


def columns_of(rng, q):
    return np.column_stack([np.ones(N), rng.normal(size=(N, 4))])[:, :q]


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


def outer(rng, inner, mask, every=2):
    """Build the factor whose groups hold `every` groups of `inner` each."""
    codes = inner.codes // every
    return FactorArrays(codes, int(codes.max()) + 1, columns_of(rng, len(mask)), mask)


def within(rng, home, mask, n_copies=2):
    """Build a factor with `n_copies` groups in each group of `home`, crossed with the rest."""
    codes = home.codes * n_copies + rng.integers(0, n_copies, N)
    _, codes = np.unique(codes, return_inverse=True)
    return FactorArrays(codes, int(codes.max()) + 1, columns_of(rng, len(mask)), mask)


def three_levels(rng):
    """Eleven classes in four schools in two towns, named in another order than they nest."""
    classes = factor(rng, 11, FULL[1])
    shuffled = FactorArrays(
        rng.permutation(11)[classes.codes], 11, classes.columns, classes.mask
    )
    return (
        outer(rng, classes, FULL[2], 6),
        shuffled,
        outer(rng, classes, UNCORRELATED, 3),
    )


def partly_crossed(rng):
    """Pupils and teachers, both within schools."""
    pupils = factor(rng, 12, FULL[2])
    school = outer(rng, pupils, FULL[1], 3)
    return pupils, school, within(rng, school, FULL[2])


def everything(rng):
    """Three nested levels, one factor within the middle one, and one crossed with all."""
    inner, outermost, middle = three_levels(rng)
    return (
        inner,
        within(rng, middle, FULL[1]),
        outermost,
        middle,
        factor(rng, 3, FULL[2]),
    )


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
    "three levels": three_levels,
    "nested and crossed": lambda rng: (*nested(rng), factor(rng, 5, FULL[2])),
    "partly crossed": partly_crossed,
    "everything": everything,
    "five columns": lambda rng: (factor(rng, 4, FULL[5]),),
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


def test_gradient_where_one_variance_is_large_and_another_zero():
    rng = np.random.default_rng(11)
    factors, X = DESIGNS["slope"](rng), np.ones((N, 1))
    y, theta = rng.normal(size=N), np.array([200.0, 3.0, 0.0])

    def dense(theta):
        return dense_deviance(X, y, parts_of(factors, theta), True)

    _, gradient = deviance_and_gradient(theta, cross_products(X, y, factors), True)
    np.testing.assert_allclose(gradient, numerical_gradient(dense, theta), atol=1e-5)


@pytest.mark.parametrize("reml", [True, False])
def test_solution(design, reml):
    X, y, factors, theta = design
    theta[-1] = 0.0  # a singular fit is just a fit
    parts = parts_of(factors, theta)
    found = solve(theta[None], cross_products(X, y, factors), reml)
    V = covariance(N, parts)
    beta, information, rss = gls(X, y, V)
    np.testing.assert_allclose(found.beta[0], beta, rtol=1e-9)
    np.testing.assert_allclose(
        found.unscaled_cov_beta[0], np.linalg.inv(information), atol=1e-10
    )
    assert found.sigma[0] == pytest.approx(np.sqrt(rss / (N - 2 * reml)), rel=1e-10)
    # b | y has mean DZ'V⁻¹(y - Xβ) and covariance D - DZ'V⁻¹ZD, in units of σ².
    for (codes, columns, lam), modes, covs in zip(
        parts, found.modes, found.unscaled_cov_modes, strict=True
    ):
        for level in range(modes.shape[1]):
            Z = columns * (codes == level)[:, None]
            D = lam @ lam.T
            mode = D @ Z.T @ np.linalg.solve(V, y - X @ beta)
            cov = D - D @ Z.T @ np.linalg.solve(V, Z @ D)
            np.testing.assert_allclose(modes[0, level], mode, atol=1e-9)
            np.testing.assert_allclose(covs[0, level], cov, atol=1e-9)


def test_solution_without_random_effects(design):
    X, y, factors, theta = design
    products = cross_products(X, y, factors)
    short, whole = (solve(theta[None], products, True, random=r) for r in (False, True))
    assert short.modes == short.unscaled_cov_modes == []
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


@pytest.mark.parametrize("reml", [True, False])
def test_many_responses_and_points_at_once(design, reml):
    """A batch holds what its members are alone."""
    X, y, factors, theta = design
    thetas = np.array([theta, 0.5 * theta, -theta])
    responses = np.array([y, np.sin(y), y[::-1]])
    products = cross_products(X, y, factors)
    batch = swap_responses(products, Layout.of(factors), X, responses)
    for many, targets in ((batch, responses), (products, [y] * 3)):
        found, solution = evaluate(thetas, many, reml), solve(thetas, many, reml)
        slopes = pack(found.slopes, products.masks)
        for i, target in enumerate(targets):
            one = cross_products(X, target, factors)
            value, gradient = deviance_and_gradient(thetas[i], one, reml)
            assert found.deviance[i] == pytest.approx(value, abs=1e-9)
            np.testing.assert_allclose(slopes[i], gradient, atol=1e-8)
            alone = solve(thetas[[i]], one, reml)
            np.testing.assert_allclose(solution.beta[i], alone.beta[0], atol=1e-9)
            for a, b in zip(solution.modes, alone.modes, strict=True):
                np.testing.assert_allclose(a[i], b[0], atol=1e-9)
    some = batch.responses(np.array([2, 0]))
    np.testing.assert_allclose(
        evaluate(thetas[[2, 0]], some, reml).deviance,
        evaluate(thetas, batch, reml).deviance[[2, 0]],
        atol=1e-9,
    )


def test_indefinite_by_rounding_spoils_only_itself():
    """A response that X reproduces leaves nothing to factorise: NaN there, not an error."""
    rng = np.random.default_rng(4)
    factors = (factor(rng, 6, FULL[1]),)
    X = np.column_stack([np.ones(N), rng.normal(size=N)])
    responses = np.array([X @ [1e8, 1e8], rng.normal(size=N)])
    products = cross_products(X, responses[1], factors)
    batch = swap_responses(products, Layout.of(factors), X, responses)
    batch.K[0, -1, -1] *= 1 - 1e-12
    deviances = evaluate(np.ones((2, 1)), batch, True).deviance
    assert np.isnan(deviances[0])
    assert deviances[1] == pytest.approx(
        deviance_and_gradient(np.ones(1), products, True)[0], abs=1e-9
    )


def test_recombined_columns(design):
    X, y, factors, theta = design
    mix = np.array([[[1.0, 0.0], [0.0, -v], [0.0, 1.0]] for v in (3.0, 0.5)])
    recombined = recombine(cross_products(X, y, factors), mix)
    assert recombined.p == 1
    found = evaluate(np.array([theta, theta]), recombined, True)
    slopes = pack(found.slopes, recombined.masks)
    for i, v in enumerate((3.0, 0.5)):  # the slope fixed at v
        direct = cross_products(X[:, :1], y - v * X[:, 1], factors)
        value, gradient = deviance_and_gradient(theta, direct, True)
        assert found.deviance[i] == pytest.approx(value, abs=1e-8)
        np.testing.assert_allclose(slopes[i], gradient, atol=1e-8)


def test_joint_covariance_of_what_a_row_depends_on(design):
    """Its leverages are the diagonal of the hat matrix of the augmented least squares."""
    X, y, factors, theta = design
    layout = Layout.of(factors)
    chain, top = chain_covariances(theta, cross_products(X, y, factors))

    def spread(part):
        columns = np.zeros((N, part.n_copies, part.columns.shape[1]))
        columns[np.arange(N), part.copies] = part.columns
        return columns.reshape(N, -1)

    z = np.hstack([spread(level.part) for level in layout.levels])
    w = np.hstack([*(spread(part) for _, part in layout.crossed), X, np.zeros((N, 1))])
    V = chain[..., layout.levels[0].codes]
    k = len(chain)
    found = (
        np.einsum("na,abn,nb->n", z, V[:, :k], z)
        + 2 * np.einsum("na,abn,nb->n", z, V[:, k:], w)
        + np.einsum("na,ab,nb->n", w, top, w)
    )
    V = covariance(N, parts_of(factors, theta))
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    np.testing.assert_allclose(found, 1 - P.diagonal(), atol=1e-9)


MASKS = st.sampled_from([FULL[1], FULL[2], UNCORRELATED, BLOCKS])


@st.composite
def any_design(draw):
    """One to three nested levels, perhaps factors within them, perhaps crossed ones."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    factors = [factor(rng, draw(st.integers(6, 12)), draw(MASKS))]
    for _ in range(draw(st.integers(0, 2))):
        if factors[-1].n_levels > 3:
            factors.append(outer(rng, factors[-1], draw(MASKS)))
    homes = list(factors)
    for _ in range(draw(st.integers(0, 2))):
        home = homes[draw(st.integers(0, len(homes) - 1))]
        factors.append(within(rng, home, draw(MASKS), draw(st.integers(2, 3))))
    for _ in range(draw(st.integers(0, 2))):
        factors.append(factor(rng, draw(st.integers(2, 5)), draw(MASKS)))
    factors = tuple(draw(st.permutations(factors)))
    X = np.column_stack([np.ones(N), rng.normal(size=N)])
    theta = rng.normal(size=sum(int(f.mask.sum()) for f in factors))
    theta[rng.random(len(theta)) < 0.2] = 0.0
    return X, rng.normal(size=N), factors, theta


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(any_design(), st.booleans(), st.sampled_from([None, 0.7]))
def test_every_combination_of_levels_and_crossing(design, reml, sigma):
    X, y, factors, theta = design
    products = cross_products(X, y, factors)

    def dense(theta):
        return dense_deviance(X, y, parts_of(factors, theta), reml, sigma)

    value, gradient = deviance_and_gradient(theta, products, reml, sigma)
    assert value == pytest.approx(dense(theta), abs=1e-8)
    numerical = numerical_gradient(dense, theta)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-5, atol=2e-5)


def test_the_chain_takes_what_nests():
    rng = np.random.default_rng(1)
    assert [level.factor for level in Layout.of(three_levels(rng)).levels] == [1, 2, 0]
    layout = Layout.of(partly_crossed(rng))
    assert [level.factor for level in layout.levels] == [0, 2, 1]
    assert [level.part.n_copies for level in layout.levels] == [1, 2, 1]
    assert layout.crossed == ()
    crossed = Layout.of((factor(rng, 4, FULL[1]), factor(rng, 7, FULL[1])))
    assert [level.factor for level in crossed.levels] == [1]
    assert [f for f, _ in crossed.crossed] == [0]


def test_too_large_for_memory_is_said_before_it_is_tried(monkeypatch):
    rng = np.random.default_rng(1)
    X, y = np.ones((N, 1)), rng.normal(size=N)
    monkeypatch.setattr(rooms, "_memory", lambda: 1000)
    with pytest.raises(TooLargeError) as caught:
        cross_products(X, y, (factor(rng, 7, FULL[1]), factor(rng, 4, FULL[1])))
    # 7 groups × (1 column × (1 + 4 + 2)) and (4 + 2)² numbers of 8 bytes, four times
    assert caught.value.needed == 32 * (7 * 7 + 36)


def test_memory_of_this_machine(monkeypatch):
    if hasattr(os, "sysconf"):
        assert 2**28 < rooms._memory() < 2**50
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert rooms._memory() > 2**60  # a machine that does not tell is not refused anything


def test_theta_runs_down_the_columns():
    lam, other = lambda_matrices(np.arange(1.0, 8.0), (FULL[3], FULL[1]))
    np.testing.assert_array_equal(lam, [[1, 0, 0], [2, 4, 0], [3, 5, 6]])
    np.testing.assert_array_equal(other, [[7]])
    (blocks,) = lambda_matrices(np.arange(1.0, 5.0), (BLOCKS,))
    np.testing.assert_array_equal(blocks, fill(np.arange(1.0, 5.0), [BLOCKS])[0])


def sparse_design():
    """150 plates × 120 samples, three cells each: enough for the operator of overlaps."""
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
def test_overlaps_of_large_crossed_factors_give_the_same(reml):
    X, y, factors = sparse_design()
    products = cross_products(X, y, factors)
    assert products.levels[0].overlaps is not None
    dense = replace(products, levels=(replace(products.levels[0], overlaps=None),))
    thetas = np.array([[0.8, -0.3, 0.5, 1.2], [0.0, 0.0, 1.0, 0.4]])
    exact = [dense_deviance(X, y, parts_of(factors, theta), reml) for theta in thetas]
    found, same = (evaluate(thetas, k, reml) for k in (products, dense))
    np.testing.assert_allclose(found.deviance, exact, atol=1e-8)
    one, other = (pack(e.slopes, products.masks) for e in (found, same))
    np.testing.assert_allclose(one, other, atol=1e-8)
    one, other = (solve(thetas, k, reml) for k in (products, dense))
    np.testing.assert_allclose(one.beta, other.beta, atol=1e-10)
    for name in ("modes", "unscaled_cov_modes"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)
    one, other = (chain_covariances(thetas[0], k) for k in (products, dense))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_many_samples_across_nested_plates():
    X, y, (plate, sample) = sparse_design()
    tray = FactorArrays(plate.codes // 3, 50, plate.columns[:, :1], FULL[1])
    theta = np.array([0.8, -0.3, 0.5, 0.7, 1.2])
    factors = plate, tray, sample
    exact = dense_deviance(X, y, parts_of(factors, theta), True)
    found, _ = deviance_and_gradient(theta, cross_products(X, y, factors), True)
    assert found == pytest.approx(exact, abs=1e-8)


def test_overlaps_survive_other_responses_and_a_recombination():
    X, y, factors = sparse_design()
    products = cross_products(X, y, factors)
    theta = np.array([0.8, -0.3, 0.5, 1.2])
    expected = deviance_and_gradient(theta, cross_products(X, 2 * y, factors), True)
    swapped = swap_responses(products, Layout.of(factors), X, np.array([2 * y]))
    mixed = recombine(products, np.diag([1.0, 1.0, 2.0])[None])
    for found in (swapped, mixed):
        value, gradient = deviance_and_gradient(theta, found, True)
        assert value == pytest.approx(expected[0], abs=1e-9)
        np.testing.assert_allclose(gradient, expected[1], atol=1e-8)
