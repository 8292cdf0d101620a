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
