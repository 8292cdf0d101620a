"""The deviance written a second time, independently: V = I + Σ ZΛΛ'Z' as one dense matrix.

Slow (n³) and plain on purpose; the tests compare the library's fast one with it.
"""

import numpy as np
from scipy.optimize import minimize


def covariance(n, parts):
    """V = I + Σ ZΛΛ'Z' for parts (codes, columns, Λ), in units of σ²."""
    V = np.eye(n)
    for codes, columns, lam in parts:
        same_group = codes[:, None] == codes[None, :]
        V += same_group * (columns @ lam @ lam.T @ columns.T)
    return V


def gls(X, y, V):
    """Return β, X'V⁻¹X and the generalised residual sum of squares."""
    Vi_X, Vi_y = np.linalg.solve(V, X), np.linalg.solve(V, y)
    information = X.T @ Vi_X
    beta = np.linalg.solve(information, X.T @ Vi_y)
    residual = y - X @ beta
    return beta, information, residual @ np.linalg.solve(V, residual)


def dense_deviance(X, y, parts, reml, sigma=None):
    """Return -2 log-likelihood or the REML criterion, σ profiled out unless given."""
    n, p = X.shape
    V = covariance(n, parts)
    _, information, rss = gls(X, y, V)
    nu = n - p if reml else n
    sigma2 = rss / nu if sigma is None else sigma**2
    deviance = np.linalg.slogdet(V)[1] + nu * np.log(2 * np.pi * sigma2) + rss / sigma2
    if reml:
        deviance += np.linalg.slogdet(information)[1]
    return deviance


def fill(theta, masks):
    """Lower-triangular matrices from θ, column by column."""
    matrices, theta = [], list(theta)
    for mask in masks:
        lam = np.zeros(mask.shape)
        for column in range(len(mask)):
            for row in range(column, len(mask)):
                if mask[row, column]:
                    lam[row, column] = theta.pop(0)
        matrices.append(lam)
    assert not theta
    return matrices


def parts_of(factors, theta):
    """Parts of `covariance` for objects with codes, columns and mask."""
    lambdas = fill(theta, [factor.mask for factor in factors])
    return [(f.codes, f.columns, lam) for f, lam in zip(factors, lambdas, strict=True)]


def dense_minimum(X, y, factors, reml, starts):
    """Lowest deviance that a derivative-free search finds from several starts."""

    def value(theta):
        return dense_deviance(X, y, parts_of(factors, theta), reml)

    options = {"xatol": 1e-7, "fatol": 1e-9, "maxfev": 3000, "adaptive": True}
    return min(
        minimize(value, start, method="Nelder-Mead", options=options).fun for start in starts
    )
