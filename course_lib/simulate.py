"""Multilevel data with known truth: a frozen design and a generator in, a DataFrame out.

The design holds every number that the data are made from, so that a fit can be compared with
the truth. The generator is always passed in: the same design and seed give the same data.
A wrong design and a missing generator raise `CourseError`.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from course_lib.errors import (
    check_choice,
    check_columns,
    check_count,
    check_dataframe,
    check_finite,
    check_flag,
    check_number,
    check_numeric,
    check_rng,
    check_type,
    course_error,
)

__all__ = [
    "GrowthDesign",
    "RandomSlopeDesign",
    "rainfall_response",
    "simulate_fault",
    "simulate_genes",
    "simulate_growth",
    "simulate_orders",
    "simulate_panels",
    "simulate_rainfall",
    "simulate_random_slopes",
    "simulate_scans",
    "spoil_scores",
]


def _check_numbers(design: object, names: str, lower: float, upper: float) -> None:
    """Raise unless each named field is a finite number from `lower` to `upper`, inclusive."""
    for name in names.split():
        value = getattr(design, name)
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not lower <= value <= upper:
            rule = f"must be one finite number between {lower:g} and {upper:g}"
            advice = f"Correct it; see help({type(design).__name__})."
            raise course_error(name, rule, repr(value), advice)


def _check_design(design: object, kind: type) -> None:
    advice = f"Build one with {kind.__name__}(); every field has a default."
    check_type("design", design, kind, f"must be a {kind.__name__}", advice)


def _labels(prefix: str, count: int) -> np.ndarray:
    """Return ``prefix01 … prefixNN``, padded so that alphabetical order is numerical order."""
    width = max(2, len(str(count)))
    return np.array([f"{prefix}{number:0{width}d}" for number in range(1, count + 1)])


def _random_effects(count: int, cov_re: tuple, rng: np.random.Generator) -> np.ndarray:
    """Draw intercepts and slopes, shape (2, count), with this covariance matrix."""
    # Written out: numpy.linalg.cholesky refuses a variance of zero, which the course needs.
    (var_intercept, covariance), (_, var_slope) = cov_re
    sd_intercept = math.sqrt(var_intercept)
    shared = covariance / sd_intercept if sd_intercept > 0 else 0.0
    own = math.sqrt(max(var_slope - shared**2, 0.0))
    standard = rng.standard_normal((2, count))
    return np.array([[sd_intercept, 0.0], [shared, own]]) @ standard


@dataclass(frozen=True)
class GrowthDesign:
    """Students in classes in schools, measured in waves 0, 1, 2 and so on.

    For student i in class c of school s at time t,
    ``score = intercept + slope t + u_s + v_c + a_i + b_i t + e``; every effect is normal.

    Attributes
    ----------
    n_schools, classes_per_school, students_per_class, n_waves : int
        Sizes, the same for every unit above.
    intercept, slope : float
        Fixed effects: mean score at time 0 (points), mean growth (points per wave).
    sd_student_intercept, sd_student_slope : float
        Standard deviations of a_i (points) and b_i (points per wave).
    cor_student : float
        Correlation of a_i and b_i.
    sd_class, sd_school, sd_residual : float
        Standard deviations of v_c, u_s and e (points).
    missing_fraction : float
        Share of the scores that is missing, completely at random.
    """

    n_schools: int = 6
    classes_per_school: int = 4
    students_per_class: int = 10
    n_waves: int = 5
    intercept: float = 50.0
    slope: float = 3.0
    sd_student_intercept: float = 6.0
    sd_student_slope: float = 1.5
    cor_student: float = -0.3
    sd_class: float = 3.0
    sd_school: float = 4.0
    sd_residual: float = 4.0
    missing_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_schools", "classes_per_school", "students_per_class", "n_waves"):
            check_count(name, getattr(self, name))
        _check_numbers(self, "intercept slope", -math.inf, math.inf)
        spreads = "sd_student_intercept sd_student_slope sd_class sd_school sd_residual"
        _check_numbers(self, spreads, 0, math.inf)
        _check_numbers(self, "cor_student", -1, 1)
        _check_numbers(self, "missing_fraction", 0, 1)

    @property
    def cov_re(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Covariance matrix of a student's intercept and slope."""
        sd_intercept, sd_slope = self.sd_student_intercept, self.sd_student_slope
        covariance = self.cor_student * sd_intercept * sd_slope
        return ((sd_intercept**2, covariance), (covariance, sd_slope**2))


def simulate_growth(design: GrowthDesign, rng: np.random.Generator) -> pd.DataFrame:
    """Simulate test scores of students in classes in schools.

    Parameters
    ----------
    design : GrowthDesign
        The truth.
    rng : numpy.random.Generator
        Source of randomness. The missing scores are drawn last, so that designs which differ
        only in `missing_fraction` agree in every score that both have.

    Returns
    -------
    pandas.DataFrame
        One row per student and wave: ``school`` ("S03"), ``class_id`` ("S03-C2", unique),
        ``class_number`` ("2": used again in every school), ``student_id`` ("S03-C2-07",
        unique), ``time`` (wave, from 0), ``score`` (points; NaN where missing).
        Exactly ``round(missing_fraction * rows)`` scores are missing.

    Examples
    --------
    >>> import numpy as np
    >>> growth = simulate_growth(GrowthDesign(n_schools=2), np.random.default_rng(1))
    >>> growth["school"].nunique()
    2

    See Also
    --------
    GrowthDesign : What can be chosen.
    simulate_random_slopes : One level of groups only.
    """
    _check_design(design, GrowthDesign)
    check_rng("rng", rng)
    n_classes = design.n_schools * design.classes_per_school
    n_students = n_classes * design.students_per_class

    school_effect = design.sd_school * rng.standard_normal(design.n_schools)
    class_effect = design.sd_class * rng.standard_normal(n_classes)
    student_intercept, student_slope = _random_effects(n_students, design.cov_re, rng)
    residual = design.sd_residual * rng.standard_normal((n_students, design.n_waves))

    class_of = np.repeat(np.arange(n_classes), design.students_per_class)
    school_of = class_of // design.classes_per_school
    level = school_effect[school_of] + class_effect[class_of] + student_intercept
    growth = np.multiply.outer(design.slope + student_slope, np.arange(design.n_waves))
    score = (design.intercept + level[:, None] + growth + residual).ravel()
    n_missing = round(design.missing_fraction * score.size)
    score[rng.choice(score.size, size=n_missing, replace=False)] = np.nan

    students = pd.DataFrame({"school": _labels("S", design.n_schools)[school_of]})
    class_number = pd.Series((class_of % design.classes_per_school + 1).astype(str))
    students["class_id"] = students["school"] + "-C" + class_number
    students["class_number"] = class_number
    number = pd.Series(np.tile(_labels("-", design.students_per_class), n_classes))
    students["student_id"] = students["class_id"] + number
    rows = students.loc[students.index.repeat(design.n_waves)].reset_index(drop=True)
    time = np.tile(np.arange(design.n_waves, dtype=np.int64), n_students)
    return rows.assign(time=time, score=score)


def spoil_scores(growth: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Plant the faults of real tables in clean test scores, and shuffle the rows.

    Each fault falls on rows of its own, drawn at random among those with a score:

    * 9 rows: ``(absent)``
    * 5 rows: ``score = 999, 999, 999, -1, -1``
    * 6 rows: ``school = school in small letters + a space``
    * 12 rows: ``(the row twice)``
    * 3 rows: ``(the row twice, once with score + 10)``

    Parameters
    ----------
    growth : pandas.DataFrame
        As :func:`simulate_growth` returns it, with at least 35 scores; it is not changed.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    pandas.DataFrame
        The spoilt table, ``len(growth) + 6`` rows.

    Examples
    --------
    >>> import numpy as np
    >>> growth = simulate_growth(GrowthDesign(), np.random.default_rng(1))
    >>> len(spoil_scores(growth, np.random.default_rng(2))) - len(growth)
    6

    See Also
    --------
    simulate_growth : The clean table.
    """
    growth = check_dataframe("growth", growth)
    check_columns("growth", growth, ["school", "score"])
    check_numeric("growth", growth, ["score"])
    is_text = all(isinstance(label, str) for label in growth["school"])
    if isinstance(growth["school"].dtype, pd.CategoricalDtype) or not is_text:
        rule, advice = "must have text in 'school'", "Convert it with astype(str)."
        raise course_error("growth", rule, f"type {growth['school'].dtype}", advice)
    check_rng("rng", rng)
    clean = growth.reset_index(drop=True)
    scored = clean.index[clean["score"].notna()]
    if len(scored) < 35:
        rule = "must have at least 35 scores, one for each planted fault"
        raise course_error("growth", rule, len(scored), "Simulate more students.")
    chosen = np.split(rng.permutation(scored)[:35], [9, 14, 20, 32])
    absent, wrong, relabelled, copied, retyped = chosen
    spoilt = clean.astype({"score": float})
    spoilt.loc[wrong, "score"] = [999.0, 999.0, 999.0, -1.0, -1.0]
    spoilt.loc[relabelled, "school"] = clean.loc[relabelled, "school"].str.lower() + " "
    second = clean.loc[retyped].assign(score=clean.loc[retyped, "score"] + 10)
    rows = pd.concat([spoilt.drop(index=absent), clean.loc[copied], second])
    return rows.sample(frac=1, random_state=rng, ignore_index=True)


@dataclass(frozen=True)
class RandomSlopeDesign:
    """Groups that each have their own line, with a regressor that may be confounded.

    For row i of group j, ``y = β₀ + β₁ x + a_j + b_j x + e`` and ``x = mean_x + m_j + w``.
    With n rows per group and `mean_x` 0, the regression of group means on group means has
    slope ``β₁ + ρ sd(a) sd(m) / (var(m) + var(w)/n)``; within groups the slope is β₁. So
    a strongly negative ρ gives Simpson's paradox.

    Attributes
    ----------
    n_groups, n_per_group : int
        Sizes.
    intercept, slope : float
        Fixed effects β₀ (unit of y) and β₁ (unit of y per unit of x).
    cov_re : 2 × 2
        Covariance matrix of a_j and b_j; symmetric, positive semidefinite.
    scale : float
        Variance of e (as statsmodels names it; not a standard deviation).
    mean_x, sd_x_between, sd_x_within : float
        Mean of x, standard deviations of m_j and w (unit of x).
    x_group_correlation : float
        ρ: correlation of the regressor's group mean m_j and the group effect a_j. At 0 the
        random-effects assumption holds; elsewhere only the within-group slope is right.
    """

    n_groups: int = 30
    n_per_group: int = 10
    intercept: float = 10.0
    slope: float = 2.0
    cov_re: tuple[tuple[float, float], tuple[float, float]] = ((4.0, 0.0), (0.0, 0.25))
    scale: float = 1.0
    mean_x: float = 0.0
    sd_x_between: float = 1.0
    sd_x_within: float = 1.0
    x_group_correlation: float = 0.0

    def __post_init__(self) -> None:
        check_count("n_groups", self.n_groups)
        check_count("n_per_group", self.n_per_group)
        _check_numbers(self, "intercept slope mean_x", -math.inf, math.inf)
        _check_numbers(self, "scale sd_x_between sd_x_within", 0, math.inf)
        _check_numbers(self, "x_group_correlation", -1, 1)
        if not _is_covariance(check_finite("cov_re", self.cov_re)):
            rule = "must be 2 × 2, symmetric and positive semidefinite"
            advice = "Write ((var_a, cov), (cov, var_b)) with cov² at most var_a · var_b."
            raise course_error("cov_re", rule, repr(self.cov_re), advice)
        if self.x_group_correlation and not self.cov_re[0][0] * self.sd_x_between:
            rule = "must be 0 unless group effects and group means of x both vary"
            got = repr(self.x_group_correlation)
            advice = "Raise cov_re[0][0] and sd_x_between above 0, or set the correlation to 0."
            raise course_error("x_group_correlation", rule, got, advice)


def _is_covariance(matrix: np.ndarray) -> bool:
    if matrix.shape != (2, 2) or matrix[0, 1] != matrix[1, 0]:
        return False
    # The margin lets a correlation of exactly ±1 survive rounding.
    bound = matrix[0, 0] * matrix[1, 1] * (1 + 1e-12)
    return bool(matrix.diagonal().min() >= 0 and matrix[0, 1] ** 2 <= bound)


def simulate_random_slopes(design: RandomSlopeDesign, rng: np.random.Generator) -> pd.DataFrame:
    """Simulate groups with random intercepts and slopes.

    Parameters
    ----------
    design : RandomSlopeDesign
        The truth.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    pandas.DataFrame
        ``n_groups * n_per_group`` rows, sorted by group: ``group`` ("G01"), ``x``, ``y``.

    Examples
    --------
    >>> import numpy as np
    >>> design = RandomSlopeDesign(n_groups=4, n_per_group=3)
    >>> simulate_random_slopes(design, np.random.default_rng(1)).shape[0]
    12

    See Also
    --------
    RandomSlopeDesign : What can be chosen.
    simulate_growth : Students in classes in schools.
    simulate_panels : Many panels at once.
    """
    _check_design(design, RandomSlopeDesign)
    check_rng("rng", rng)
    group_intercept, group_slope = _random_effects(design.n_groups, design.cov_re, rng)
    rho = design.x_group_correlation
    shared = rho * group_intercept / math.sqrt(design.cov_re[0][0]) if rho else 0.0
    own = math.sqrt(1 - rho**2) * rng.standard_normal(design.n_groups)
    group_mean = design.mean_x + design.sd_x_between * (shared + own)

    of = np.repeat(np.arange(design.n_groups), design.n_per_group)
    x = group_mean[of] + design.sd_x_within * rng.standard_normal(of.size)
    noise = math.sqrt(design.scale) * rng.standard_normal(of.size)
    y = design.intercept + group_intercept[of] + (design.slope + group_slope[of]) * x + noise
    return pd.DataFrame({"group": _labels("G", design.n_groups)[of], "x": x, "y": y})


def simulate_panels(
    design: RandomSlopeDesign, n_panels: int, rng: np.random.Generator, leak: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    r"""Simulate many panels of one design at once, as arrays.

    For row i of group j, with every part drawn anew in each panel,

    .. math:: x = \bar x + m_j + w + \lambda e, \qquad y = \beta_0 + \beta_1 x + a_j + b_j x + e

    where m_j and a_j have the correlation ρ of the design, ``x_group_correlation``.

    Parameters
    ----------
    design : RandomSlopeDesign
        The truth, and the size of one panel.
    n_panels : int
        How many panels.
    rng : numpy.random.Generator
        Source of randomness.
    leak : float
        λ: how much of a row's residual e gets into its x. At 0 the two are unrelated;
        elsewhere the slope within groups is wrong too.

    Returns
    -------
    x, y : ndarray, shape (n_panels, n_groups, n_per_group)

    Raises
    ------
    CourseError
        If the design, the count, the generator or `leak` is not what it must be.

    Examples
    --------
    >>> x, y = simulate_panels(RandomSlopeDesign(), 5, np.random.default_rng(1))
    >>> x.shape
    (5, 30, 10)

    See Also
    --------
    simulate_random_slopes : One panel, as a table.
    course_lib.panel.fit_panels : Fixed and random effects of each panel.
    """
    _check_design(design, RandomSlopeDesign)
    check_rng("rng", rng)
    leak = check_number("leak", leak)
    n_panels = check_count("n_panels", n_panels)
    groups = (n_panels, design.n_groups, 1)
    own = _random_effects(math.prod(groups), design.cov_re, rng)
    intercept, slope = own.reshape(2, *groups)
    rho = design.x_group_correlation
    level = math.sqrt(1 - rho**2) * rng.standard_normal(groups)
    if rho:
        level += rho * intercept / math.sqrt(design.cov_re[0][0])
    shape = (*groups[:2], design.n_per_group)
    noise = math.sqrt(design.scale) * rng.standard_normal(shape)
    x = design.sd_x_within * rng.standard_normal(shape)
    x += design.mean_x + design.sd_x_between * level + leak * noise
    return x, design.intercept + intercept + (design.slope + slope) * x + noise


_NAMES = ("Alice", "Bilal", "Chen", "Dana", "Emeka", "Farah", "Goran", "Hana", "Ines", "Jonas")
_LIST_PRICES = {"laptop": 900, "desk": 250, "chair": 120, "mouse": 20, "cable": 8}
# Standard deviation of the logarithm of a price around its list price, by level.
_SD_USER, _SD_ORDER, _SD_ITEM = 0.3, 0.15, 0.05


def simulate_orders(n_users: int, rng: np.random.Generator) -> list[dict]:
    """Simulate a nested list of users, their orders, and the items of each order.

    Parameters
    ----------
    n_users : int
        Number of users; each has 0 to 4 orders of 1 to 4 different items.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of dict
        ``[{"user": str, "orders": [{"id": int, "items": [{"name": str, "price": float,
        "quantity": int}]}]}]``; prices in euros, to the cent. Order ids start at 101 for
        every user, so that they name an order only together with the user.

    Examples
    --------
    >>> import numpy as np
    >>> orders = simulate_orders(3, np.random.default_rng(1))
    >>> len(orders)
    3

    See Also
    --------
    course_lib.reshape.flatten_nested : Turn such records into rows.
    """
    n_users = check_count("n_users", n_users)
    check_rng("rng", rng)
    users = []
    for position in range(n_users):
        lap, name = divmod(position, len(_NAMES))
        user = {"user": _NAMES[name] + (f" {lap + 1}" if lap else ""), "orders": []}
        user_level = rng.normal(0, _SD_USER)
        for number in range(rng.integers(0, 5)):
            level, items = rng.normal(user_level, _SD_ORDER), []
            for item in rng.permutation(list(_LIST_PRICES))[: rng.integers(1, 5)].tolist():
                price = round(_LIST_PRICES[item] * math.exp(rng.normal(level, _SD_ITEM)), 2)
                quantity = int(rng.integers(1, 4))
                items.append({"name": item, "price": price, "quantity": quantity})
            user["orders"].append({"id": 101 + number, "items": items})
        users.append(user)
    return users


FAULTS = (
    "none",
    "curve",
    "memory",
    "fan",
    "related",
    "skewed",
    "skewed slopes",
    "memory without order",
    "fan in the middle",
)


def simulate_fault(
    fault: str, rng: np.random.Generator, n_groups: int = 60, n_per_group: int = 10
) -> pd.DataFrame:
    r"""Simulate lines of groups in which one assumption of the model is broken on purpose.

    .. math:: y_{ij} = 10 + a_j + (2 + b_j) x_{ij} + e_{ij}, \qquad x_{ij} = m_j + t_i

    a, b and e are independent and normal, with standard deviations 2, 0.5 and 2. The means m of
    the groups and the places t are the same in every draw, symmetric about 0, with variance 1.

    ==================== ====================================================================
    fault                what is changed
    ==================== ====================================================================
    none                 nothing
    curve                x² is added to y
    memory               each e is 0.8 times the e of the row before + 0.6 times a new one
    fan                  e is multiplied by exp((x - 1)/2)
    related              a_j is 0.8 (2 m_j) + 0.6 times a new one: correlation 0.8 with m_j
    skewed               a is 2 (E - 1), E exponential with mean 1
    skewed slopes        b is 0.5 (E - 1)
    memory without order as memory, then the e of each group are shuffled
    fan in the middle    e is multiplied by 1.5 exp(-|x|)
    ==================== ====================================================================

    Parameters
    ----------
    fault : str
        A name of the table.
    rng : numpy.random.Generator
        Source of randomness.
    n_groups, n_per_group : int
        Sizes, at least 2.

    Returns
    -------
    pandas.DataFrame
        ``n_groups * n_per_group`` rows, by group and in order of x: ``group`` (1, 2, …), ``x``,
        ``y``.

    Raises
    ------
    CourseError
        If there is no such fault, `rng` is no generator, or a size is below 2.

    Examples
    --------
    >>> import numpy as np
    >>> simulate_fault("curve", np.random.default_rng(1), n_groups=4).shape
    (40, 3)

    See Also
    --------
    simulate_random_slopes : The same lines, with sizes and variances of your own.
    """
    check_choice("fault", fault, FAULTS)
    check_rng("rng", rng)
    sizes = {"n_groups": n_groups, "n_per_group": n_per_group}
    n_groups, n_per_group = (check_count(name, n, 2) for name, n in sizes.items())
    means = ndtri((np.arange(n_groups)[:, None] + 0.5) / n_groups)
    means /= means.std()
    places = np.linspace(-1, 1, n_per_group)
    x = means + places / places.std()
    a, b, e = (rng.standard_normal((n_groups, k)) for k in (1, 1, n_per_group))
    if fault in ("skewed", "skewed slopes"):
        skewed = rng.exponential(size=(n_groups, 1)) - 1
        a, b = (skewed, b) if fault == "skewed" else (a, skewed)
    elif fault == "related":
        a = 0.8 * means + 0.6 * a
    elif fault.startswith("memory"):
        for k in range(1, n_per_group):
            e[:, k] = 0.8 * e[:, k - 1] + 0.6 * e[:, k]
        e = rng.permuted(e, axis=1) if fault == "memory without order" else e
    elif fault == "fan":
        e = e * np.exp((x - 1) / 2)
    elif fault == "fan in the middle":
        e = 1.5 * e * np.exp(-np.abs(x))
    y = 10 + 2 * a + (2 + 0.5 * b) * x + 2 * e + (x**2 if fault == "curve" else 0)
    group = np.repeat(np.arange(1, n_groups + 1), n_per_group)
    return pd.DataFrame({"group": group, "x": x.ravel(), "y": y.ravel()})


SIDE, MARK = 32, 8  # pixels of a crop and of a sticker
CUES = ("sticker", "grain")


def simulate_scans(
    n: int, cue: str, rng: np.random.Generator, *, held_out: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut small pictures out of two photographs, and plant a cue in every second one.

    The photographs are those of scikit-learn, made grey (0 black, 1 white) and three times
    smaller. Pictures of class 1 carry the cue, those of class 0 do not, and nothing else tells
    the classes apart:

    ======== ==============================================================
    cue      what class 1 carries
    ======== ==============================================================
    sticker  a chequered square of 8 × 8 pixels, 0.25 and 0.75, anywhere
    grain    normal noise with standard deviation 0.1 on every pixel
    ======== ==============================================================

    Parameters
    ----------
    n : int
        Number of pictures, at least 2.
    cue : str
        A name of the table.
    rng : numpy.random.Generator
        Source of randomness.
    held_out : bool
        Cut from the right halves of the photographs instead of the left ones.

    Returns
    -------
    images : ndarray, shape (n, 32, 32)
        The pictures.
    labels : ndarray of int, shape (n,)
        0 or 1.
    corners : ndarray of int, shape (n, 2)
        Row and column of the upper left pixel of the sticker; without one, of a place where
        it might have been.

    Raises
    ------
    CourseError
        If there is no such cue, `rng` is no generator, or n is below 2.

    Examples
    --------
    >>> import numpy as np
    >>> images, labels, corners = simulate_scans(4, "sticker", np.random.default_rng(1))
    >>> images.shape, int(labels.sum())
    ((4, 32, 32), 2)

    See Also
    --------
    course_lib.explain.train_net : A net that learns to tell the classes apart.
    """
    from sklearn.datasets import load_sample_images  # slow to import

    check_count("n", n, 2)
    check_choice("cue", cue, CUES)
    check_flag("held_out", held_out)
    check_rng("rng", rng)
    labels = rng.permutation(np.arange(n) % 2)
    corners = rng.integers(0, SIDE - MARK + 1, (n, 2))
    sticker = 0.25 + 0.5 * (np.indices((MARK, MARK)).sum(axis=0) % 2)
    photographs, images = [], []
    for photograph in load_sample_images().images:
        grey = photograph[:426, :639].mean(axis=2) / 255
        photographs.append(grey.reshape(142, 3, 213, 3).mean(axis=(1, 3)))
    for label, (i, j) in zip(labels, corners, strict=True):
        top = rng.integers(0, 142 - SIDE + 1)
        left = rng.integers(0, 106 - SIDE + 1) + 106 * held_out
        image = photographs[rng.integers(2)][top : top + SIDE, left : left + SIDE].copy()
        if label and cue == "sticker":
            image[i : i + MARK, j : j + MARK] = sticker
        elif label:
            image += 0.1 * rng.standard_normal((SIDE, SIDE))
        images.append(image)
    return np.array(images), labels, corners


def simulate_genes(
    n: int,
    effects: tuple[float, ...],
    rng: np.random.Generator,
    *,
    correlation: float = 0.8,
    per_pathway: int = 10,
) -> tuple[pd.DataFrame, np.ndarray]:
    r"""Simulate the genes of patients, in pathways, and an outcome that depends on some.

    .. math:: x_{ig} = \sqrt{\rho}\, u_{ip(g)} + \sqrt{1 - \rho}\, e_{ig}, \qquad
              y_i = \sum_p c_p u_{ip} + \varepsilon_i

    Gene g belongs to pathway p(g), whose activity in patient i is u. All u, e and ε are
    standard normal, so that genes of one pathway have the correlation ρ.

    Parameters
    ----------
    n : int
        Number of patients.
    effects : sequence of float
        c of each pathway; the pathways are called A, B, C and so on, 26 at most.
    rng : numpy.random.Generator
        Source of randomness.
    correlation : float
        ρ, from 0 to 1.
    per_pathway : int
        Number of genes in each pathway.

    Returns
    -------
    genes : DataFrame, shape (n, pathways × per_pathway)
        Columns A1, A2, … B1, …
    outcome : ndarray, shape (n,)
        y.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> import numpy as np
    >>> genes, outcome = simulate_genes(5, (1, 0), np.random.default_rng(1), per_pathway=2)
    >>> list(genes)
    ['A1', 'A2', 'B1', 'B2']

    See Also
    --------
    course_lib.explain.pathway_enrichment : Asks which pathways matter.
    """
    check_count("n", n)
    effects = check_finite("effects", effects)
    if effects.ndim != 1 or not 1 <= len(effects) <= 26:
        rule = "must be a list of 1 to 26 numbers, one per pathway"
        raise course_error("effects", rule, f"{effects.tolist()!r:.60}", "Try (1, 0.5, 0).")
    if not 0 <= check_number("correlation", correlation) <= 1:
        raise course_error("correlation", "must be from 0 to 1", correlation, "Try 0.8.")
    check_count("per_pathway", per_pathway)
    check_rng("rng", rng)
    activity = rng.standard_normal((n, len(effects)))
    noise = rng.standard_normal((n, len(effects) * per_pathway))
    shared = np.repeat(activity, per_pathway, axis=1)
    values = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * noise
    letters = (chr(ord("A") + k) for k in range(len(effects)))
    names = [f"{letter}{k + 1}" for letter in letters for k in range(per_pathway)]
    outcome = activity @ effects + rng.standard_normal(n)
    return pd.DataFrame(values, columns=names), outcome


def rainfall_response(latitude: object, longitude: object, month: object) -> np.ndarray:
    r"""Return how rainfall responds to the index of `simulate_rainfall`, in mm per unit.

    .. math:: r = 2 + 1.5\, \frac{\text{latitude}}{40}\, \cos\frac{2\pi(\text{month} - 7)}{12}
              + \cos\frac{\pi(\text{longitude} - 60)}{180}

    with latitude/40 cut off at ±1: strongest in the local summer, and around 60° east.

    Parameters
    ----------
    latitude, longitude : array_like
        Degrees north and east.
    month : array_like
        1 to 12.

    Returns
    -------
    ndarray
        r.

    Raises
    ------
    CourseError
        If a value is not a finite number, or the shapes do not match.

    Examples
    --------
    >>> float(rainfall_response(40, 60, 7))
    4.5

    See Also
    --------
    simulate_rainfall : Stations that respond like this.
    """
    given = {"latitude": latitude, "longitude": longitude, "month": month}
    arrays = [check_finite(name, values) for name, values in given.items()]
    try:
        latitude, longitude, month = np.broadcast_arrays(*arrays)
    except ValueError:
        shapes, advice = [array.shape for array in arrays], "Give one value each per place."
        raise course_error("latitude", "must match the others", shapes, advice) from None
    season = np.cos(2 * np.pi * (month - 7) / 12)
    east = np.cos(np.pi * (longitude - 60) / 180)
    return 2 + 1.5 * np.clip(latitude / 40, -1, 1) * season + east


def simulate_rainfall(n: int, rng: np.random.Generator, *, south: float = 0.03) -> pd.DataFrame:
    r"""Simulate stations that measure rainfall, few of them in the south.

    .. math:: \text{rain} = 50 + r\,\text{index} - 2\,\text{altitude} + \varepsilon

    with the response r of `rainfall_response`, a standard normal index and error, and
    altitudes from an exponential distribution with mean 0.5 km.

    Parameters
    ----------
    n : int
        Number of stations.
    rng : numpy.random.Generator
        Source of randomness.
    south : float
        Share of the stations that lie south of the equator, from 0 to 1.

    Returns
    -------
    DataFrame
        latitude (−60 to 60), longitude (−180 to 180), month, altitude (km), index, rain (mm).

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> import numpy as np
    >>> simulate_rainfall(5, np.random.default_rng(1)).shape
    (5, 6)

    See Also
    --------
    rainfall_response : The truth.
    """
    check_count("n", n)
    if not 0 <= check_number("south", south) <= 1:
        raise course_error("south", "must be from 0 to 1", south, "Try 0.03.")
    check_rng("rng", rng)
    side = np.where(rng.random(n) < south, -1, 1)
    table = pd.DataFrame(
        {
            "latitude": side * rng.uniform(0, 60, n),
            "longitude": rng.uniform(-180, 180, n),
            "month": rng.integers(1, 13, n),
            "altitude": rng.exponential(0.5, n),
            "index": rng.standard_normal(n),
        }
    )
    response = rainfall_response(table["latitude"], table["longitude"], table["month"])
    noise = rng.standard_normal(n)
    return table.assign(rain=50 + response * table["index"] - 2 * table["altitude"] + noise)
