"""The smallest change of a row that brings a model's prediction to a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from course_lib.errors import (
    check_choice,
    check_dataframe,
    check_finite,
    check_number,
    course_error,
)
from course_lib.explain.model import (
    check_features,
    columns_of,
    one_row,
    prediction_function,
    repeat_row,
)

__all__ = ["Counterfactual", "counterfactual"]

SLACK = 1e-9  # of the size of target and prediction: rounding
POPULATION, GENERATIONS = 32, 200  # of the search; the first for each column
ROUNDS = 7  # of narrowing a gap to a 64th: to rounding
MOST_DECIMALS = 12  # of a new value that `sentence` prints


@dataclass(frozen=True)
class Counterfactual:
    """The answer of `counterfactual`.

    Attributes
    ----------
    reached : bool
        Whether a change within the bounds reaches the target.
    target, target_kind
        As asked for.
    prediction : float
        For the row as it is.
    new_prediction : float
        For the changed row; where the target was not reached, the nearest that was found.
    distance : float
        Euclidean length of the change, in units of the scale.
    changes : DataFrame
        One row per column that may change: column, from, to, change, scaled_change (the change
        in units of the scale: standard deviations, unless another scale was given).
    changed : DataFrame
        The changed row, with all columns.
    method : {"none needed", "straight line", "search"}
        Smallest by proof only for a straight line; a search reports the smallest it found.
    rounded : tuple of (ndarray, float)
        The new values with 0, 1, …, 12 decimals, rounded away from the old ones as far as the
        bounds allow, and the prediction there (NaN where no such value is within the bounds).
        A forest jumps, so that a larger change may miss a target that a smaller one reaches.
    """

    reached: bool
    target: float
    target_kind: str
    prediction: float
    new_prediction: float
    distance: float
    changes: pd.DataFrame
    changed: pd.DataFrame
    method: str
    rounded: tuple[tuple[np.ndarray, float], ...]

    def sentence(self, digits: int = 1) -> str:
        """Return the answer as a sentence of a report, with numbers of so many digits.

        It says what the model would predict, not what would happen. New values are rounded away
        from the old ones, with more digits where the model, asked at the rounded values, would
        otherwise contradict the sentence, or where rounding would change the length of a step.
        A step in units of the scale is computed from the two values that are printed.

        Examples
        --------
        >>> table = pd.DataFrame({"a": [0.0, 1.0, 2.0]})
        >>> def double(rows):
        ...     return 2 * rows["a"]
        ...
        >>> counterfactual(double, table.iloc[0], table, 3.0, change=["a"]).sentence()
        'predicted 0.0; at least 3.0 if a were 1.5 instead of 0.0 (+1.8 sd)'
        """

        def text(value: float, places: int = digits) -> str:
            return f"{round(value, places) + 0.0:.{places}f}"

        places = self._decimals(digits)
        rows = self.changes.assign(
            to=self.rounded[min(places, MOST_DECIMALS)][0], scaled=self._printed_steps(places)
        )
        steps = " and ".join(
            f"{row['column']} were {text(row['to'], places)} instead of "
            f"{text(row['from'], places)} ({row['scaled']:+.{digits}f} sd)"
            for _, row in rows[rows["change"] != 0].iterrows()
        )
        now, goal = text(self.prediction), f"{self.target_kind} {text(self.target)}"
        if self.method == "none needed":
            return f"predicted {now}, which is {goal} already"
        if self.reached:
            return f"predicted {now}; {goal} if {steps}"
        columns = " and ".join(map(str, self.changes["column"]))
        nearest = f"at best {text(self.new_prediction)}" + (f", if {steps}" if steps else "")
        return f"predicted {now}; no {columns} in the data gives {goal}: {nearest}"

    def _decimals(self, digits: int) -> int:
        """Return the fewest decimals, from `digits` on, at which the model says the same."""
        side = {"at least": -1.0, "at most": 1.0}.get(self.target_kind)

        def miss(prediction: float) -> float:
            beyond = prediction - self.target
            return abs(beyond) if side is None else np.maximum(side * beyond, 0.0)

        allowed = miss(self.new_prediction)
        if self.reached and side is not None:
            allowed += SLACK * max(abs(self.target), abs(self.prediction))
        else:  # a prediction is named, with so many digits
            allowed += 0.5 / 10**digits
        true_steps = self.changes["scaled_change"].to_numpy()
        for places in range(digits, MOST_DECIMALS):
            same = np.abs(self._printed_steps(places) - true_steps) <= 0.5 / 10**digits
            if miss(self.rounded[places][1]) <= allowed and same.all():  # not for NaN
                return places
        return max(digits, MOST_DECIMALS)

    def _printed_steps(self, places: int) -> np.ndarray:
        """Return the steps between values of so many decimals, in units of the scale."""
        change = self.changes["change"].to_numpy()
        moved = change != 0
        old = self.changes["from"].to_numpy().round(places)
        new = self.rounded[min(places, MOST_DECIMALS)][0]
        steps = np.zeros(len(change))
        scaled = self.changes["scaled_change"].to_numpy()[moved]
        steps[moved] = (new - old)[moved] * scaled / change[moved]
        return steps


def counterfactual(
    predict: object,
    row: pd.Series | pd.DataFrame,
    data: pd.DataFrame,
    target: float,
    *,
    change: Sequence[str],
    target_kind: str = "at least",
    bounds: Mapping[str, tuple[float, float]] | None = None,
    scale: Mapping[str, float] | None = None,
    tolerance: float = 0.0,
) -> Counterfactual:
    r"""Find the smallest change in chosen columns that brings the prediction to a target.

    .. math:: \min_{x'} \sum_{k \in \text{change}} \Bigl(\frac{x'_k - x_k}{s_k}\Bigr)^2
              \quad\text{subject to}\quad f(x') \ge t, \quad l_k \le x'_k \le u_k

    (Wachter, Mittelstadt & Russell 2018, arXiv:1711.00399, with a constraint in place of their
    penalty). It says what the model would predict, not what would happen: that the changed
    columns are causes is an assumption that no model proves.

    Where the prediction is a straight line in the changed columns (a mixed model without
    products of them), the answer is computed and is the smallest. Otherwise it is searched
    without gradients, so that the steps of a forest are no obstacle: by differential evolution
    (Storn & Price 1997, doi:10.1023/A:1008202821328, in SciPy) from a Sobol sequence, then by
    taking back as much of each change as the target allows. The search always takes the same
    path, but a smaller change, or a target that is reached only in a small corner, may be
    missed, more easily the more columns may change.

    Parameters
    ----------
    predict : callable or object with a method ``predict``
        The model; it is given rows with the columns of `data`.
    row : Series or DataFrame
        The row to change.
    data : DataFrame
        Data like it, for the default bounds and scale.
    target : float
        Prediction to reach.
    change : sequence of str
        Numeric columns that may change, as continuous quantities; others stay as they are.
    target_kind : {"at least", "at most", "exactly"}
        How the prediction has to compare with the target.
    bounds : dict, optional
        Lowest and highest value by column; by default the range of the data and the row.
    scale : dict, optional
        By column, the change that counts as 1; by default the standard deviation in the data.
    tolerance : float
        How far from the target still counts, in units of the prediction. The steps of a forest
        hardly ever meet "exactly" without.

    Returns
    -------
    Counterfactual
        With ``reached=False`` and the nearest prediction if the target was not reached.

    Raises
    ------
    CourseError
        If a column is missing, constant or not numeric, bounds do not contain the row, or an
        option is unknown.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [5.0, 5.0, 8.0]})
    >>> def double(rows):
    ...     return 2 * rows["a"]
    ...
    >>> found = counterfactual(double, table.iloc[0], table, 3.0, change=["a"])
    >>> round(float(found.changed["a"].iloc[0]), 6)
    1.5

    See Also
    --------
    course_lib.explain.local_surrogate : Which features matter around the row.
    """
    function = prediction_function(predict)
    check_dataframe("data", data)
    names = check_features("change", change, data)
    start = one_row(row, data[list(dict.fromkeys([*columns_of(predict, data)[0], *names]))])
    check_choice("target_kind", target_kind, ("at least", "at most", "exactly"))
    check_number("target", target)
    check_number("tolerance", tolerance)
    if tolerance < 0:
        raise course_error("tolerance", "must not be negative", tolerance, "Try 0.")
    here = start[names].to_numpy(dtype=float)[0]
    box, units = _bounds(bounds, names, here, data), _scale(scale, names, data)
    lower, upper = (box - here) / units

    def rows(u: np.ndarray) -> pd.DataFrame:  # clipped: bounds hold to the last digit
        return repeat_row(start, names, np.where(u == 0, here, np.clip(here + u * units, *box)))

    def value(u: np.ndarray) -> np.ndarray:
        return function(rows(u))

    now = function(start)[0]
    low = -np.inf if target_kind == "at most" else target - tolerance
    high = np.inf if target_kind == "at least" else target + tolerance
    slack = SLACK * max(abs(target), abs(now))

    def reached(prediction: float) -> bool:
        return bool(low - slack <= prediction <= high + slack)

    goal, u, method = low if now < low else high, np.zeros(len(names)), "none needed"
    if not reached(now):
        u, method = _straight(value, now, goal - now, lower, upper), "straight line"
    if u is None:
        # On a continuous f the nearest point past the target is on it, even where the target is
        # a single value; if not, there is a step over the target, or it is out of reach.
        side = (low, np.inf) if now < low else (-np.inf, high)
        u, method = _search(value, *side, lower, upper), "search"
        if target_kind == "exactly" and not reached(value(u[None, :])[0]):
            u = _search(value, low, high, lower, upper)
    changed = rows(u[None, :])
    new, there = function(changed)[0], changed[names].to_numpy(dtype=float)[0]
    changes = pd.DataFrame({"column": names, "from": here, "to": there, "change": there - here})
    printed = np.array([_rounded(here, there, box, k) for k in range(MOST_DECIMALS + 1)])
    inside = ((printed >= box[0]) & (printed <= box[1])).all(axis=1)
    predicted = np.full(len(printed), np.nan)
    if inside.any():
        predicted[inside] = function(repeat_row(start, names, printed[inside]))
    return Counterfactual(
        reached=reached(new),
        target=float(target),
        target_kind=target_kind,
        prediction=float(now),
        new_prediction=float(new),
        distance=float(np.linalg.norm((there - here) / units)),
        changes=changes.assign(scaled_change=(there - here) / units),
        changed=changed.set_axis(start.index),
        method=method,
        rounded=tuple(zip(printed, predicted.tolist(), strict=True)),
    )


def _rounded(old, new, box, places: int) -> np.ndarray:
    """Return new values with so many decimals, away from the old ones if the box allows it."""
    scaled = (new * 10.0**places).round(6)  # 1.5 that became 1.5000000001 is 1.5
    up, down = np.ceil(scaled) / 10.0**places, np.floor(scaled) / 10.0**places
    rises = new > old
    away, back = np.where(rises, up, down), np.where(rises, down, up)
    inside = (away >= box[0]) & (away <= box[1])
    return np.where(new == old, old, np.where(inside, away, back))


def _bounds(bounds, names, here, data) -> np.ndarray:
    """Lowest and highest value of each column, shape (2, p)."""
    given, box = _by_name("bounds", bounds, names), []
    for name, value in zip(names, here, strict=True):
        pair = given.get(name, (min(data[name].min(), value), max(data[name].max(), value)))
        pair = check_finite("bounds", pair)
        if pair.shape != (2,) or not pair[0] <= value <= pair[1]:
            rule = "must be a lowest and a highest value with the row's own between them"
            got = f"{pair.tolist()} for '{name}' with {value:g} in the row"
            advice = "Widen them, or start from another row."
            raise course_error("bounds", rule, got, advice)
        box.append(pair)
    return np.transpose(box)


def _scale(scale, names, data) -> np.ndarray:
    spread = {name: data[name].to_numpy(dtype=float).std() for name in names}
    given = _by_name("scale", scale, names)
    spread |= {name: check_number("scale", value) for name, value in given.items()}
    units = check_finite("scale", [spread[name] for name in names])
    if (units <= 0).any():
        got = f"{units.min():g} for '{names[int(units.argmin())]}'"
        advice = "Give a scale for a column that is constant in data."
        raise course_error("scale", "must be positive", got, advice)
    return units


def _by_name(argument: str, given: object, names: list[str]) -> Mapping:
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not set(given) <= set(names):
        advice = f"Write {argument}={{'{names[0]}': …}}."
        raise course_error(argument, "must be a dict by columns of change", given, advice)
    return given


def _straight(value, now: float, need: float, lower, upper) -> np.ndarray | None:
    """Return the smallest u in the box with f(u) = now + need, None if f is no straight line.

    With f(u) = now + g'u it is t g, each column cut off at its bounds, for the right t.
    """
    from scipy.optimize import brentq
    from scipy.stats import qmc

    probes = lower + qmc.Sobol(len(lower), rng=0).random(128) * (upper - lower)
    rise = value(probes) - now
    g = np.linalg.lstsq(probes, rise)[0]
    size = np.abs(rise).max() + 1e-6 * abs(now)
    g[np.abs(g) * (upper - lower) <= 1e-10 * size] = 0  # rounding
    # All flat is no proof of a straight line: there may be a step between the probes.
    if np.abs(rise - probes @ g).max() > 1e-8 * size or not g.any():
        return None
    ends = np.where(g * need > 0, upper, lower)[g != 0] / g[g != 0]
    last = ends[np.abs(ends).argmax()]  # where all columns are at their bounds

    def lack(t: float) -> float:
        return need - g @ np.clip(t * g, lower, upper)

    out_of_reach = lack(last) * np.sign(need) >= 0
    t = last if out_of_reach else brentq(lack, 0, last, xtol=1e-15 * abs(last))
    return np.clip(t * g, lower, upper)


def _search(value: Callable, low: float, high: float, lower, upper) -> np.ndarray:
    """Search without gradients; deterministic. Returns the nearest miss if nothing reaches."""
    from scipy.optimize import differential_evolution

    def miss(u: np.ndarray) -> np.ndarray:  # how far from the target, shape (m,)
        found = value(u)
        return np.maximum(np.maximum(low - found, found - high), 0.0)

    longest = 1 + (np.maximum(-lower, upper) ** 2).sum()

    def cost(u: np.ndarray) -> np.ndarray:  # (p, m), as SciPy calls it
        missed = miss(u.T)
        return np.where(missed > 0, longest + missed, (u**2).sum(axis=0))

    settings = {"popsize": POPULATION, "maxiter": GENERATIONS, "init": "sobol", "tol": 1e-8}
    settings |= {"polish": False, "vectorized": True, "updating": "deferred", "rng": 0}
    u = differential_evolution(cost, np.column_stack([lower, upper]), **settings).x
    # Take back of the whole change, of each column, and of the whole again: each time the
    # smallest share that is good enough among 65, then among 65 within the last gap.
    allowed, p = miss(u[None, :])[0], len(u)
    for part in [np.ones(p, dtype=bool), *np.eye(p, dtype=bool), np.ones(p, dtype=bool)]:
        lost, kept = 0.0, 1.0  # the share `kept` is good enough
        for _ in range(ROUNDS):
            shares = np.linspace(lost, kept, 65)
            first = (miss(np.where(part, shares[:, None] * u, u)) <= allowed).argmax()
            lost, kept = shares[max(first - 1, 0)], shares[first]
        u = np.where(part, kept * u, u)
    return u
