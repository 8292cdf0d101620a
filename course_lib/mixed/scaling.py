r"""Put a model into standard units and back.

Standardising is what makes the fit immune to units. Each random-effects bar's columns Z are
replaced by Z R⁻¹√n with Z = QR taken over all rows: for an unstructured Λ this is only another
parametrisation of the same model, but the search now runs in a space where every column has
mean square one and no two are correlated. Columns of a ``||`` bar are scaled one by one,
because mixing them would change the model. The fixed part is treated alike, and the response
is replaced by its least-squares residual divided by its root mean square. All three are undone
exactly: β, Λ and σ by back-substitution, the deviance by its Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course_lib.mixed.cross_products import CrossProducts, FactorArrays, bars, cross_products
from course_lib.mixed.deviance import lambda_matrices

__all__ = ["CollinearError", "Standardised", "standardise", "with_response"]

# A column whose part that the columns before it do not explain is smaller than this share of
# its length is rounding noise. A predictor of spread 1e-6 at an offset of 1,000 has 1e-9.
COLLINEAR = 1e-11


class CollinearError(ArithmeticError):
    """Column `column` of the fixed part (`factor` None) or of a factor depends on others."""

    def __init__(self, factor: int | None, column: int):
        super().__init__(factor, column)
        self.factor, self.column = factor, column


@dataclass(frozen=True)
class Standardised:
    """The model in standard units, and the way back.

    Attributes
    ----------
    products : CrossProducts
        Of the standardised columns.
    X, factors
        The standardised columns themselves; a new response needs them.
    x_root : ndarray, shape (p, p)
        Upper triangular: original X = standardised X @ x_root.
    offset : ndarray, shape (p,)
        Least-squares coefficients that were taken out of the response.
    y_scale : float
        Root mean square of the least-squares residual.
    z_transforms : list of ndarray, each (q, q)
        Standardised Z = original Z @ transform, so original b = transform @ standardised b.
    """

    products: CrossProducts
    X: np.ndarray
    factors: tuple[FactorArrays, ...]
    x_root: np.ndarray
    offset: np.ndarray
    y_scale: float
    z_transforms: list[np.ndarray]

    def jacobian(self, reml: bool) -> float:
        """Return what turns the standardised deviance into the original one, by adding it."""
        n, p = self.products.n, self.products.p
        if not reml:
            return 2 * n * np.log(self.y_scale)
        logdet = np.log(np.abs(self.x_root.diagonal())).sum()
        return 2 * (n - p) * np.log(self.y_scale) + 2 * logdet

    def relative_factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Return Λ of each factor in original units, not yet triangular: transform @ Λ(θ)."""
        lambdas = lambda_matrices(theta, self.products.masks)
        return [t @ lam for t, lam in zip(self.z_transforms, lambdas, strict=True)]

    def beta(self, standard_beta: np.ndarray) -> np.ndarray:
        """Return the fixed effects in original units."""
        return self.offset + self.y_scale * np.linalg.solve(self.x_root, standard_beta)


def _root(columns: np.ndarray, factor: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return Q√n and R/√n of the QR decomposition, R with a positive diagonal."""
    Q, R = np.linalg.qr(columns)
    dependent = np.abs(R.diagonal()) <= COLLINEAR * np.linalg.norm(R, axis=0)
    if dependent.any():
        raise CollinearError(factor, int(dependent.argmax()))
    signs = np.where(R.diagonal() < 0, -1.0, 1.0)
    size = np.sqrt(len(columns))
    Q *= signs * size
    return Q, signs[:, None] * R / size


def standardise(
    X: np.ndarray, y: np.ndarray, factors: tuple[FactorArrays, ...]
) -> Standardised:
    """Standardise the columns and accumulate their cross-products.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Full column rank; p may be zero.
    y : ndarray, shape (n,)
        Response; not an exact linear function of X.
    factors : tuple of FactorArrays
        The factor with the most columns first.

    Returns
    -------
    Standardised

    Raises
    ------
    CollinearError
        If a column is a linear combination of the columns before it.
    """
    standard_X, x_root = _root(X)
    offset, standard_y, y_scale = _standard_response(standard_X, x_root, y)
    transforms, standard_factors = [], []
    for i, factor in enumerate(factors):
        columns = np.empty_like(factor.columns)
        transform = np.zeros((columns.shape[1], columns.shape[1]))
        for block in bars(factor.mask):
            columns[:, block], root = _root(factor.columns[:, block], i)
            transform[block, block] = np.linalg.inv(root)
        transforms.append(transform)
        standard_factors.append(
            FactorArrays(factor.codes, factor.n_levels, columns, factor.mask)
        )
    standard_factors = tuple(standard_factors)
    products = cross_products(standard_X, standard_y, standard_factors)
    return Standardised(
        products, standard_X, standard_factors, x_root, offset, y_scale, transforms
    )


def _standard_response(standard_X, x_root, y):
    coefficients = standard_X.T @ y / len(y)
    residual = y - standard_X @ coefficients
    y_scale = float(np.sqrt(residual @ residual / len(y)))
    return np.linalg.solve(x_root, coefficients), residual / y_scale, y_scale


def with_response(standardised: Standardised, y: np.ndarray) -> Standardised:
    """Swap the response; nothing else is computed again.

    Parameters
    ----------
    standardised : Standardised
        Of the same rows.
    y : ndarray, shape (n,)
        New response.

    Returns
    -------
    Standardised
    """
    X, factors = standardised.X, standardised.factors
    offset, standard_y, y_scale = _standard_response(X, standardised.x_root, y)
    per_factor = [
        np.column_stack(
            [
                np.bincount(f.codes, f.columns[:, k] * standard_y, f.n_levels)
                for k in range(f.columns.shape[1])
            ]
        )
        for f in factors
    ]
    fixed = [X.T @ standard_y, [standard_y @ standard_y]]
    dense_y = np.concatenate([*(sums.ravel() for sums in per_factor[1:]), *fixed])
    return Standardised(
        standardised.products.with_response(per_factor[0].ravel(), dense_y),
        X,
        factors,
        standardised.x_root,
        offset,
        y_scale,
        standardised.z_transforms,
    )
