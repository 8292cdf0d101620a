"""A prediction as a sum of parts, and the weights of Shapley's formula.

The Shapley value of a sum is the sum of Shapley values: a part that takes one or two players is
shared out among these alone, however many the model has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from course_lib.mixed.result import LmerResult

__all__ = ["Part", "model_parts", "shapley_values", "subsets"]


@dataclass(frozen=True, eq=False)
class Part:
    """Columns that take the same variables, and what multiplies them."""

    variables: tuple[str, ...]
    group: str | None
    places: list[int]  # of its columns in the matrix of all fixed effects, or of the group
    matrix: Callable[[pd.DataFrame], np.ndarray]
    effects: Callable[[pd.DataFrame], np.ndarray]

    def columns(self, rows: pd.DataFrame) -> np.ndarray:
        """Values of the columns, shape (rows, q)."""
        return self.matrix(rows)[:, self.places]

    def weights(self, rows: pd.DataFrame) -> np.ndarray:
        """Coefficients or random effects, shape (rows, q)."""
        return self.effects(rows)[:, self.places]

    @property
    def players(self) -> tuple[str, ...]:
        """Who shares in it: the variables, and the group if there is one."""
        groups = () if self.group is None else (self.group,)
        return tuple(dict.fromkeys(self.variables + groups))


def model_parts(fit: LmerResult) -> list[Part]:
    """Sort the columns of the fit by the variables that they take."""
    frame, beta = fit.frame, fit.estimate.beta

    def fixed(rows: pd.DataFrame) -> np.ndarray:
        return np.broadcast_to(beta, (len(rows), len(beta)))

    def random(factor, modes: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
        codes = frame.factor_codes(factor, rows)
        return np.where(codes[:, None] >= 0, modes[codes], 0.0)

    found = _by_variables([frame.fixed_spec], frame.fixed_variables)
    parts = [Part(names, None, at, frame.fixed_matrix, fixed) for names, at in found]
    for factor, modes in zip(frame.factors, fit.estimate.modes, strict=True):
        matrix, effects = partial(frame.factor_matrix, factor), partial(random, factor, modes)
        found = _by_variables(factor.specs, factor.variables)
        parts += [Part(names, factor.name, at, matrix, effects) for names, at in found]
    return parts


def _by_variables(specs: Iterable, names: Iterable[str]) -> Iterable[tuple]:
    """Pairs of the variables of a term, and the places of the columns that take just these."""
    found, offset = {}, 0
    for spec in specs:
        for term, places in spec.term_indices.items():
            used = {str(variable) for variable in spec.term_variables[term]}
            key = tuple(name for name in names if name in used)
            found.setdefault(key, []).extend(offset + place for place in places)
        offset += len(spec.column_names)
    return found.items()


def subsets(players: Iterable[str]) -> Iterator[frozenset[str]]:
    """All subsets of the players, the empty one first."""
    players = list(players)
    for size in range(len(players) + 1):
        yield from map(frozenset, combinations(players, size))


def shapley_values(
    players: Sequence[str], value: Callable[[frozenset[str]], np.ndarray]
) -> dict[str, np.ndarray]:
    """Share out ``value(all) - value(none)`` by Shapley's formula; see `linear_shap`.

    Parameters
    ----------
    players : sequence of str
        Who shares.
    value : callable
        v(S) of a set of players, shape (n,).

    Returns
    -------
    dict
        Shares by player, shape (n,).
    """
    values = dict.fromkeys(players, 0.0)
    for known in subsets(players):
        worth = value(known)
        for player in players:  # v(S) is added where the player is in S, else taken away
            joined = player in known
            n_others, n_before = len(players) - 1, len(known) - joined
            share = worth / (len(players) * math.comb(n_others, n_before))
            values[player] = values[player] + (share if joined else -share)
    return values
