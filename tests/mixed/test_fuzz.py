"""Whatever is typed, a public function answers with a result or a CourseError."""

import random
import warnings

import numpy as np
import pandas as pd
import pytest

from course_lib.errors import CourseError
from course_lib.mixed.result import lmer
from course_lib.panel import compare_fe_re

pytestmark = pytest.mark.thorough
COLUMNS = ["y", "x", "z", "arm", "k", "team", "site", "`body weight`", "flag", "nothing"]
CALLS = ["log({})", "I({}**2)", "C({})", "poly({}, 2)", "scale({})", "np.exp({})", "sqrt({})"]


def data():
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"team": np.repeat(np.arange(10), 6), "site": np.arange(60) % 4})
    frame["arm"] = rng.choice(["lo", "mid", "top"], 60)
    frame["k"], frame["flag"] = rng.integers(0, 5, 60).astype("int8"), rng.random(60) < 0.5
    for name in ("x", "z", "y", "body weight"):
        frame[name] = rng.normal(size=60)
    frame["y"] += rng.normal(size=10)[frame["team"]]
    return frame


def term(rng, depth=0):
    name = rng.choice(COLUMNS[:-1] if rng.random() < 0.97 else COLUMNS)
    if rng.random() < 0.3:
        name = rng.choice(CALLS).format(name)
    if depth < 2 and rng.random() < 0.3:
        name = f"{name}{rng.choice([':', '*', ' + ', ' - ', '/'])}{term(rng, depth + 1)}"
    return f"({name})" if rng.random() < 0.1 else name


def bar(rng):
    left = rng.choice(["1", "0 + ", "1 + ", ""])
    left = left if left == "1" else left + term(rng)
    group = rng.choice(["team", "site", "team/site", "team:site", "arm", "k"])
    return f"({left} {rng.choice(['|', '||'])} {group})"


def formula(rng):
    response = rng.choice(["y", "y", "y", "log(y + 9)", "y - x", "arm", "I(y**2)"])
    fixed = [term(rng) for _ in range(rng.randint(0, 3))] or ["1"]
    parts = fixed + [bar(rng) for _ in range(rng.randint(0, 2))]
    return f"{response} ~ {' + '.join(parts)}"


def mutated(rng, text):
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        change = rng.random()
        if change < 0.4 and at < len(text):
            text = text[:at] + text[at + 1 :]
        elif change < 0.8:
            text = text[:at] + rng.choice("()[]|~+-*/:,.`'\"^%{}=<>!&@ 01xé\n\\#$;") + text[at:]
        else:
            other = rng.randrange(len(text) + 1)
            text = text[: min(at, other)] + text[max(at, other) :]
    return text


@pytest.mark.parametrize("block", range(10))
def test_formulas(block):
    """500 from the grammar and its mutations each, 5,000 in all."""
    rng, frame = random.Random(block), data()
    for k in range(500):
        text = formula(rng)
        text = mutated(rng, text) if k % 2 else text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if "|" in text or k % 5:
                    fit = lmer(text, frame)
                    assert np.isfinite(fit.deviance), text
                    fit.predict(frame.head(5))
                else:
                    compare_fe_re(text, frame, entity="team", time="site")
            except CourseError:
                pass
            except Exception as error:
                raise AssertionError(f"{text!r}: {type(error).__name__}: {error}") from error


def some_column(rng, n):
    """Make a column of any kind that pandas can hold."""
    whole = rng.integers(-3, 6, n)
    kinds = {
        "float": lambda: rng.normal(size=n),
        "int8": lambda: whole.astype("int8"),
        "uint64": lambda: np.abs(whole).astype("uint64"),
        "Int16": lambda: pd.array(whole, "Int16"),
        "Float32": lambda: pd.array(whole, "Float32"),
        "bool": lambda: whole > 1,
        "boolean": lambda: pd.array(whole > 1, "boolean"),
        "text": lambda: np.array(["u", "v", "w"], dtype=object)[np.abs(whole) % 3],
        "string": lambda: pd.array(np.abs(whole).astype(str), "string"),
        "category": lambda: pd.Categorical.from_codes(np.abs(whole) % 3, ["c", "a", "b"]),
        "ordered": lambda: pd.Categorical(np.abs(whole) % 3, [2, 0, 1, 9], ordered=True),
        "object": lambda: np.array([1, "a", None, 2.5], dtype=object)[np.abs(whole) % 4],
        "dates": lambda: pd.Timestamp("2020") + pd.to_timedelta(whole, "D"),
        "zoned": lambda: pd.Timestamp("2020", tz="UTC") + pd.to_timedelta(whole, "D"),
        "durations": lambda: pd.to_timedelta(whole, "h"),
        "periods": lambda: pd.PeriodIndex.from_ordinals(whole + 600, freq="M"),
        "intervals": lambda: pd.arrays.IntervalArray.from_arrays(whole, whole + 1.0),
        "complex": lambda: whole + 1j,
        "tuples": lambda: pd.Series([(int(v), 1) for v in whole]).to_numpy(),
        "constant": lambda: np.zeros(n),
        "infinite": lambda: np.where(whole > 4, np.inf, whole),
        "huge": lambda: 1e300 * rng.normal(size=n),
        "tiny": lambda: 1e-300 * rng.normal(size=n),
        "missing": lambda: np.full(n, np.nan),
    }
    kind = str(rng.choice(list(kinds)))
    column = pd.Series(kinds[kind](), name=kind)
    if rng.random() < 0.2 and kind not in ("int8", "uint64", "bool", "constant"):
        column = column.where(rng.random(n) < 0.8)
    return column


def some_index(rng, n):
    forms = [
        pd.RangeIndex(n),
        pd.Index(rng.integers(0, 3, n)),
        pd.Index([f"row {k}" for k in range(n)]),
        pd.MultiIndex.from_arrays([np.arange(n) // 2, np.arange(n) % 2]),
        pd.date_range("2020", periods=n),
        pd.Index([np.nan, *range(n - 1)]),
    ]
    return forms[rng.integers(len(forms))]


FRAME_FORMULAS = [
    "y ~ a + (1 | g)",
    "y ~ a * b + (a | g)",
    "y ~ C(a) + I(b) + (1 | g)",
    "a ~ b + (1 | g)",
    "y ~ b + (0 + a | g) + (1 | b)",
    "y ~ log(a) + (1 | g/a)",
    "y ~ poly(a, 2) + scale(b) + (b || g)",
]


@pytest.mark.parametrize("block", range(10))
def test_frames(block):
    """300 frames each of random types, gaps, sizes and indices."""
    for k in range(300):
        rng = np.random.default_rng([block, k])
        n = int(rng.choice([1, 2, 5, 30, 60]))
        frame = pd.DataFrame({"y": rng.normal(size=n), "g": np.arange(n) % 6})
        frame["a"], frame["b"] = some_column(rng, n), some_column(rng, n)
        if rng.random() < 0.3:
            frame["g"] = some_column(rng, n)
        frame.index = some_index(rng, n)
        text = FRAME_FORMULAS[rng.integers(len(FRAME_FORMULAS))]
        where = f"{text} block {block}, {k}: {dict(frame.dtypes.astype(str))}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fit = lmer(text, frame)
                assert np.isfinite(fit.deviance), where
                complete = fit.predict(frame, new_levels="population").dropna()
                assert np.isfinite(complete).all(), where
                fit.summary()
            except CourseError:
                pass
            except Exception as error:
                raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
