"""One model refitted to many responses: the inner loop of every bootstrap.

A new response changes only Z'y, X'y and y'y. All responses are searched side by side, as many
at a time as keep memory small (see `course_lib.mixed.search`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from course_lib.mixed.deviance import diagonal
from course_lib.mixed.scaling import Standardised, with_responses
from course_lib.mixed.search import SINGULAR, minimise_deviance, parameter_vector

__all__ = ["Refits", "batches", "refit", "refit_all"]

BUDGET = 4_000_000  # numbers held at a time per array: 32 MB


@dataclass(frozen=True)
class Refits:
    """What a bootstrap keeps of every refit, in the units of the responses.

    Attributes
    ----------
    deviance : ndarray, shape (S,)
        ML deviance or REML criterion.
    parameters : ndarray, shape (S, k)
        In the order of `course_lib.mixed.search.parameter_vector`.
    is_singular, converged : ndarray of bool, shape (S,)
        As in `course_lib.mixed.search.Estimate` and `Optimum`.
    """

    deviance: np.ndarray
    parameters: np.ndarray
    is_singular: np.ndarray
    converged: np.ndarray


def batches(standardised: Standardised, n_responses: int) -> Iterator[slice]:
    """Which responses to refit at a time, so that memory stays small."""
    products = standardised.products
    largest = max(level.cross.size for level in products.levels)
    size = int(np.clip(BUDGET // max(largest, products.K.size, products.n), 1, 250))
    for start in range(0, n_responses, size):
        yield slice(start, min(start + size, n_responses))


def refit(standardised: Standardised, responses: np.ndarray, reml: bool) -> Refits:
    """Refit a model to each of many responses, all at once.

    Parameters
    ----------
    standardised : Standardised
        The model.
    responses : ndarray, shape (S, n)
        One response per row.
    reml : bool
        REML criterion instead of the ML deviance.

    Returns
    -------
    Refits
    """
    drawn = with_responses(standardised, responses)
    found = minimise_deviance(drawn.products, reml)
    on_diagonal = diagonal(drawn.products.masks)
    return Refits(
        deviance=found.deviance + drawn.jacobian(reml),
        parameters=parameter_vector(found.theta, drawn, reml),
        is_singular=(found.theta[:, on_diagonal] < SINGULAR).any(axis=1),
        converged=found.converged,
    )


def refit_all(
    standardised: Standardised,
    responses: Callable[[slice], np.ndarray],
    n_responses: int,
    reml: bool,
    progress: bool,
) -> Refits:
    """Refit a model to many responses, batch by batch.

    Parameters
    ----------
    standardised, reml
        As in `refit`.
    responses : callable
        Returns the responses of a slice, which come in order.
    n_responses : int
        How many in all.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Refits
    """
    from tqdm import tqdm  # not tqdm.auto, which warns where ipywidgets is missing

    parts = []
    with tqdm(total=n_responses, desc="bootstrap", disable=not progress) as bar:
        for batch in batches(standardised, n_responses):
            parts.append(refit(standardised, responses(batch), reml))
            bar.update(batch.stop - batch.start)
    names = [field.name for field in fields(Refits)]
    return Refits(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
