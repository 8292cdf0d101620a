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

from dataclasses import dataclass, replace

import numpy as np

from course_lib.mixed.cross_products import (
    CrossProducts,
    FactorArrays,
    Layout,
    bars,
    cross_products,
    swap_responses,
)
from course_lib.mixed.deviance import lambda_matrices

__all__ = [
    "CollinearError",
    "Standardised",
    "places",
    "sd_cor",
    "standardise",
    "with_responses",
]

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
    """The model in standard units, and the way back, for S responses (mostly one).

    Attributes
    ----------
    products : CrossProducts
        Of the standardised columns.
    factors : tuple of FactorArrays
        Standardised random columns.
    layout : Layout
        Where their rows stand in `products`.
    X : ndarray, shape (n, p)
        Standardised fixed columns; a new response needs them.
    x_root : ndarray, shape (p, p)
        Upper triangular: original X = standardised X @ x_root.
    offset : ndarray, shape (S, p)
        Least-squares coefficients that were taken out of the response.
    y_scale : ndarray, shape (S,)
        Root mean square of the least-squares residual.
    z_transforms : list of ndarray, each (q, q)
        Standardised Z = original Z @ transform, so original b = transform @ standardised b.
    """

    products: CrossProducts
    factors: tuple[FactorArrays, ...]
    layout: Layout
    X: np.ndarray
    x_root: np.ndarray
    offset: np.ndarray
    y_scale: np.ndarray
    z_transforms: list[np.ndarray]

    def of(self, i: int) -> Standardised:
        """Return the model with response i alone."""
        which = np.array([i])
        products = self.products.responses(which)
        return replace(
            self, products=products, offset=self.offset[which], y_scale=self.y_scale[which]
        )

    def jacobian(self, reml: bool) -> np.ndarray:
        """Return what turns the standardised deviances into the original ones, by adding it."""
        n, p = self.products.n, self.products.p
        if not reml:
            return 2 * n * np.log(self.y_scale)
        logdet = np.log(np.abs(self.x_root.diagonal())).sum()
        return 2 * (n - p) * np.log(self.y_scale) + 2 * logdet

    def relative_factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Return Λ of each factor in original units, not yet triangular: transform @ Λ(θ).

        θ may hold many points, (..., n_theta): then each is (..., q, q).
        """
        lambdas = lambda_matrices(theta, self.products.masks)
        return [t @ lam for t, lam in zip(self.z_transforms, lambdas, strict=True)]

    def beta(self, standard_beta: np.ndarray) -> np.ndarray:
        """Return the fixed effects, (S, p), in original units."""
        scaled = self.y_scale[:, None] * standard_beta
        return self.offset + np.linalg.solve(self.x_root, scaled.T).T


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
    offset, standard_y, y_scale = _standard_responses(standard_X, x_root, y[None])
    transforms, standard_factors = [], []
    for i, factor in enumerate(factors):
        columns = np.empty_like(factor.columns)
        transform = np.zeros((columns.shape[1], columns.shape[1]))
        for block in bars(factor.mask):
            columns[:, block], root = _root(factor.columns[:, block], i)
            transform[block, block] = np.linalg.inv(root)
        transforms.append(transform)
        standard_factors.append(replace(factor, columns=columns))
    standard_factors = tuple(standard_factors)
    layout = Layout.of(standard_factors)
    products = cross_products(standard_X, standard_y[0], standard_factors, layout)
    return Standardised(
        products, standard_factors, layout, standard_X, x_root, offset, y_scale, transforms
    )


def _standard_responses(standard_X, x_root, responses):
    coefficients = responses @ standard_X / len(standard_X)
    residuals = responses - coefficients @ standard_X.T
    y_scale = np.sqrt(np.einsum("sn,sn->s", residuals, residuals) / len(standard_X))
    offset = np.linalg.solve(x_root, coefficients.T).T
    return offset, residuals / y_scale[:, None], y_scale


def with_responses(standardised: Standardised, responses: np.ndarray) -> Standardised:
    """Swap the response for one or many; nothing else is computed again.

    Parameters
    ----------
    standardised : Standardised
        Of the same rows.
    responses : ndarray, shape (S, n)
        New responses.

    Returns
    -------
    Standardised
    """
    X, layout = standardised.X, standardised.layout
    offset, y, y_scale = _standard_responses(X, standardised.x_root, responses)
    products = swap_responses(standardised.products, layout, X, y)
    return replace(standardised, products=products, offset=offset, y_scale=y_scale)


def places(masks: tuple[np.ndarray, ...]) -> list[tuple[int, int, int]]:
    """Where each standard deviation and correlation stands: (factor, row, column).

    Factor by factor, standard deviations first (row = column), then the correlations that are
    estimated, column by column: lme4's order.
    """
    found = []
    for i, mask in enumerate(masks):
        q = len(mask)
        found += [(i, k, k) for k in range(q)]
        found += [(i, r, c) for c in range(q) for r in range(c + 1, q) if mask[r, c]]
    return found


def sd_cor(theta: np.ndarray, sigma: np.ndarray, standardised: Standardised) -> np.ndarray:
    """Return standard deviations and correlations of the random effects in original units.

    Parameters
    ----------
    theta : ndarray, shape (S, n_theta)
        In standard units.
    sigma : ndarray, shape (S,)
        Residual standard deviation, original units.
    standardised : Standardised
        The model.

    Returns
    -------
    ndarray, shape (S, k)
        In the order of `places`; NaN for a correlation with an effect that never varies.
    """
    values = []
    roots = standardised.relative_factors(theta)
    for i, row, column in places(standardised.products.masks):
        a, b = roots[i][:, row], roots[i][:, column]
        length = np.linalg.norm(a, axis=1)
        if row != column:
            product = np.einsum("sa,sa->s", a, b)
            length = length * np.linalg.norm(b, axis=1)
            undefined = np.full(len(theta), np.nan)
            values.append(np.divide(product, length, out=undefined, where=length > 0))
        else:
            values.append(sigma * length)
    return np.array(values).reshape(-1, len(theta)).T
