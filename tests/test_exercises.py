"""The exercise checker on made-up exercises, then every exercise of the course on itself."""

import importlib
import types
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from course_lib.exercises import Exercise, Mistake, Verdict, check, checker, judge, progress
from course_lib.validate import CourseError

RIGHT = 12.3456
NUMBER = Exercise(
    id="98.1",
    question="How large is the slope?",
    right=lambda: RIGHT,
    success="The slope is per day.",
    mistakes=(
        Mistake(lambda: RIGHT * (1 + 1e-6), "never reached: it equals the right answer"),
        Mistake(lambda: 1 / 0, "never reached: it cannot be computed"),
        Mistake(lambda: RIGHT / 24, "that is the slope per hour."),
        Mistake(lambda: -2.0, "that is the first of two hints."),
        Mistake(lambda: -2.0, "that is the second of two hints."),
    ),
)
ZERO = Exercise("98.2", "Which variance?", lambda: 0.0, "On the boundary.", absolute=1e-6)
SEQUENCE = Exercise(
    "98.3",
    "Which two variances?",
    lambda: np.array([612.0, 35.0]),
    "Both.",
    kind="numbers",
    mistakes=(Mistake(lambda: np.sqrt([612.0, 35.0]), "those are standard deviations."),),
)
MAPPING = Exercise(
    "98.4",
    "Which fixed effects?",
    lambda: pd.Series({"Intercept": 251.4, "Days": 10.47}),
    "Both.",
    kind="mapping",
)
CHOICE = Exercise(
    "98.10",
    "Nested or crossed?",
    lambda: "nested",
    "Each class has one school.",
    kind="choice",
    options=("nested", "crossed"),
    mistakes=(Mistake(lambda: "crossed", "each class would have to meet each school."),),
)
TRUTH = Exercise("98.11", "Is it singular?", lambda: np.bool_(True), "It is.", kind="choice")
EVERY = (NUMBER, ZERO, SEQUENCE, MAPPING, CHOICE, TRUTH)


class Hostile:
    """An answer that breaks whatever looks at it."""

    def _break(self, *_):
        raise RuntimeError("hands off")

    __array__ = __float__ = __eq__ = __len__ = __iter__ = __repr__ = __bool__ = _break
    __hash__ = None


@pytest.fixture(autouse=True)
def fresh_session(monkeypatch):
    module = types.ModuleType("course_lib.exercises.chapter_98")
    module.EXERCISES = EVERY
    monkeypatch.setitem(importlib.sys.modules, module.__name__, module)
    monkeypatch.setattr(checker, "session", {})


def hint(exercise, answer):
    """The message for an answer that must be judged wrong."""
    verdict = judge(exercise, answer)
    assert verdict.correct is False
    assert verdict.message.startswith("Not yet: ")
    return verdict.message


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        12.35,
        np.float32(RIGHT),
        np.array(RIGHT),
        np.array([[RIGHT]]),
        [RIGHT],
        pd.Series([RIGHT], index=["Days"]),
        pd.DataFrame({"slope": [RIGHT]}),
        Fraction(123456, 10_000),
        Decimal("12.3456"),
    ],
)
def test_right_number_is_right_in_any_container(answer):
    verdict = judge(NUMBER, answer)
    assert verdict == Verdict("98.1", True, "Right: The slope is per day.")


def test_relative_tolerance_is_one_percent():
    assert judge(NUMBER, RIGHT * 1.0099).correct is True
    assert judge(NUMBER, RIGHT * 1.0101).correct is False


def test_absolute_tolerance_serves_a_right_answer_of_zero():
    assert judge(ZERO, 9e-7).correct is True
    assert judge(ZERO, 1.1e-6).correct is False


def test_known_mistake_gets_its_own_hint():
    assert hint(NUMBER, RIGHT / 24) == "Not yet: that is the slope per hour."
    assert hint(NUMBER, -2.0) == "Not yet: that is the first of two hints."
    assert "standard deviations" in hint(SEQUENCE, [24.74, 5.916])
    assert "meet each school" in hint(CHOICE, "crossed")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (-RIGHT, "sign"),
        (RIGHT * 100, "factor of 100"),
        (RIGHT / 100, "factor of 100"),
        (RIGHT * 1.03, "close"),
        (99.0, "Read the question again: How large is the slope?"),
        ("12.3456", "not text"),
        (["12.3456"], "not text"),
        (True, "not True or False"),
        (None, "None"),
        (np.nan, "NaN"),
        (pd.NA, "NaN"),
        (np.inf, "infinite"),
        (np.mean, "function"),
        ([1.0, 2.0], "a single number; this list holds 2"),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "a single number; this DataFrame holds 4"),
        ({"slope": RIGHT}, "by name in a dict"),
        (3 + 2j, "not a value of type complex128"),
        (pd.Timestamp("2020-01-01"), "not a Timestamp"),
        (np.datetime64("2020-01-01"), "not a value of type datetime64"),
        ([[1, 2], [3]], "cannot be compared"),
        ([], "holds 0"),
    ],
)
def test_wrong_number_is_told_why(answer, words):
    assert words in hint(NUMBER, answer)


def test_specific_mistake_comes_before_the_general_hint():
    sign = Exercise(
        "98.5", "?", lambda: 2.0, "", mistakes=(Mistake(lambda: -2.0, "b minus a."),)
    )
    assert hint(sign, -2.0) == "Not yet: b minus a."


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        (SEQUENCE, [612.0], "give 2 numbers; this is 1"),
        (SEQUENCE, [35.0, 612.0], "order"),
        (SEQUENCE, (612.0, 99.0), "1 of 2 numbers are right"),
        (SEQUENCE, [1.0, 2.0], "Read the question again"),
        (MAPPING, 10.47, "by name, in a dict or a Series"),
        (MAPPING, {"Intercept": 251.4}, "no value named 'Days'"),
        (MAPPING, {"Intercept": 251.4, "Days": 1.0}, "the value of 'Days' is not right"),
        (MAPPING, {"Intercept": 251.4, "Days": "ten"}, "not text"),
        (CHOICE, "both", "not one of the choices"),
        (CHOICE, True, "a text in quotes"),
        (CHOICE, 1, "a text in quotes"),
        (TRUTH, "True", "without quotation marks"),
        (TRUTH, 1, "without quotation marks"),
        (TRUTH, False, "Is it singular?"),
    ],
)
def test_other_kinds_are_told_why(exercise, answer, words):
    assert words in hint(exercise, answer)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (SEQUENCE, (612.1, 35.1)),
        (SEQUENCE, pd.Series([612, 35], index=["a", "b"])),
        (MAPPING, {"Days": 10.47, "Intercept": 251.4}),
        (MAPPING, pd.Series({"Intercept": 251.4, "Days": 10.47, "more": 1})),
        (MAPPING, pd.DataFrame({"Intercept": [251.4], "Days": [10.47]})),
        (CHOICE, "  Nested "),
        (CHOICE, np.str_("nested")),
        (TRUTH, True),
        (TRUTH, np.bool_(True)),
    ],
)
def test_other_kinds_accept_any_sensible_form(exercise, answer):
    assert judge(exercise, answer).correct is True


@pytest.mark.parametrize("answer", [..., [..., 1.0], (..., ...), {"Days": ...}])
@pytest.mark.parametrize("exercise", EVERY)
def test_dots_are_no_answer(exercise, answer):
    verdict = judge(exercise, answer)
    assert verdict.correct is None
    assert verdict.message.startswith("Not answered yet")


@pytest.mark.parametrize("exercise", EVERY)
@pytest.mark.parametrize(
    "answer",
    [None, object(), Hostile(), [Hostile()], {}, set(), b"x", "", float, NUMBER, iter("ab")]
    + [pd.DataFrame(), np.array([]), np.ma.masked, pd.NaT, pd.Series([None, "a"]), np.zeros(9)],
    ids=lambda answer: type(answer).__name__,
)
def test_no_answer_raises(exercise, answer):
    assert hint(exercise, answer)


def test_wrong_answers_never_show_the_right_one():
    for answer in (-RIGHT, RIGHT / 24, RIGHT * 1.03, 99.0, "x", None, [1, 2]):
        assert "12.3" not in hint(NUMBER, answer)
    for answer in ([1, 2], [35.0, 612.0], [612.0]):
        assert "612" not in hint(SEQUENCE, answer)


def test_course_that_cannot_compute_says_so():
    broken = Exercise("98.6", "?", lambda: 1 / 0, "")
    verdict = judge(broken, 1.0)
    assert verdict.correct is None
    assert verdict.message.startswith("Not checked: the course failed")


def test_right_answer_is_computed_once():
    calls = []
    counted = Exercise("98.7", "?", lambda: calls.append(1) or 5.0, "")
    assert judge(counted, ...).correct is None
    assert calls == []
    assert [judge(counted, value).correct for value in (5.0, 6.0)] == [True, False]
    assert calls == [1]


def test_verdict_shows_as_text_and_as_markdown():
    verdict = check("98.1", RIGHT)
    assert repr(verdict) == "Right: The slope is per day."
    assert verdict._repr_markdown_() == "**Right:** The slope is per day."


def test_progress_counts_tries_in_the_order_of_the_course():
    for name, answer in (
        ("98.10", "crossed"),
        ("98.1", 1.0),
        ("98.1", RIGHT),
        ("98.1", ...),
        ("98.2", ...),
        ("98.1", RIGHT),
    ):
        check(name, answer)
    assert progress().to_numpy().tolist() == [
        ["98.1", "right", 3],
        ["98.2", "not answered", 0],
        ["98.10", "not yet", 1],
    ]


def test_progress_before_any_check_is_an_empty_frame():
    assert list(progress().columns) == ["exercise", "state", "tries"]
    assert len(progress()) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("98.12", r"one of chapter 98; got '98.12'\. .*98\.1"),
        ("97.1", r"of a chapter that has exercises; got '97.1'"),
        ("two", r"must be the id of an exercise; got 'two'\. Write it as text"),
        (2.1, r"got 2\.1\. Write it as text"),
        (None, "got None"),
    ],
)
def test_unknown_exercise_is_an_error_with_a_next_step(name, words):
    with pytest.raises(CourseError, match=words):
        check(name, 1.0)
    assert len(progress()) == 0


def test_unknown_kind_is_an_error():
    with pytest.raises(CourseError, match="kind: must be one of the known options"):
        Exercise("98.8", "?", lambda: 1.0, "", kind="numbr")


# Every exercise of the course.

COURSE = [
    pytest.param(exercise, chapter, id=exercise.id)
    for chapter in checker.chapters_with_exercises()
    for exercise in importlib.import_module(
        f"course_lib.exercises.chapter_{chapter:02d}"
    ).EXERCISES
]


@pytest.mark.parametrize(("exercise", "chapter"), COURSE)
def test_exercise_of_the_course_judges_its_own_answers(exercise, chapter):
    assert exercise.id.startswith(f"{chapter}.")
    assert exercise.question
    assert exercise.success
    assert judge(exercise, exercise.right()).correct is True
    for mistake in exercise.mistakes:
        assert judge(exercise, mistake.value()).message == f"Not yet: {mistake.hint}"
