"""Measure every engine's optimum on one scale.

Engines differ in what they call the log-likelihood of a REML fit, and some profile at one
place and report at another. So the criterion is computed here, the same way for all, from the
one thing that a fit decides: the covariance of the random effects divided by σ². β and σ² have
their closed-form best values given that. The algebra (sparse, unstructured, by group columns)
shares nothing with course_lib's deviance; only the design matrices come from course_lib, and
lme4's reference criterion would show if these were wrong.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def criterion(frame, covs, reml):
    """-2 log-likelihood (or REML criterion), profiled over β and σ².

    Parameters
    ----------
    frame : course_lib.mixed.design.ModelFrame
        Response and design matrices.
    covs : dict
        Relative covariance matrix of each grouping factor, by name: ``a:b`` is ``b:a``, and
        ``c:(b:a)`` is how lme4 says ``c:b:a``.
    reml : bool
        REML criterion instead of the deviance.
    """
    by_group = {_columns(name): np.array(cov) for name, cov in covs.items()}
    n, p = frame.X.shape
    blocks = []
    for factor in frame.factors:
        root = _square_root(by_group[_columns(factor.name)])
        J, q = len(factor.keys), len(factor.terms)
        rows = np.repeat(np.arange(n), q)
        columns = (factor.codes[:, None] * q + np.arange(q)).ravel()
        values = (factor.columns @ root).ravel()
        blocks.append(sparse.csr_array((values, (rows, columns)), shape=(n, J * q)))
    M = sparse.hstack(blocks).tocsc()  # V = σ²(I + MM')
    A = (M.T @ M + sparse.eye_array(M.shape[1])).tocsc()
    options = {"SymmetricMode": True}
    lu = splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    # An orthonormal X and the least-squares residual instead of y: less cancellation below.
    Q, R = np.linalg.qr(frame.X)
    residual = frame.y - Q @ (Q.T @ frame.y)
    size = np.linalg.norm(residual)
    W = np.column_stack([Q, residual / size])
    MW = M.T @ W
    S = W.T @ W - MW.T @ lu.solve(MW)  # W'V⁻¹W σ²
    L = np.linalg.cholesky((S + S.T) / 2)
    r2 = (L[-1, -1] * size) ** 2
    logdet = np.log(np.abs(lu.U.diagonal())).sum()
    if not reml:
        return logdet + n * (1 + np.log(2 * np.pi * r2 / n))
    logdet += 2 * np.log(np.abs(L.diagonal()[:-1] * R.diagonal())).sum()
    return logdet + (n - p) * (1 + np.log(2 * np.pi * r2 / (n - p)))


def _columns(name):
    return frozenset(name.replace("(", "").replace(")", "").split(":"))


def _square_root(cov):
    """Return F with FF' = cov, for a covariance matrix that may be singular."""
    sd = np.sqrt(np.maximum(cov.diagonal(), 0))
    unit = np.where(sd > 0, sd, 1)
    values, vectors = np.linalg.eigh(cov / np.outer(unit, unit))
    return unit[:, None] * vectors * np.sqrt(np.maximum(values, 0))
