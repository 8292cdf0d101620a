"""The machinery of the exercises: read an answer, compare it, say what is wrong with it.

An exercise is data: how to compute the right answer, and how to compute the typical wrong
ones together with the hint that each deserves. Nothing is hard-coded, and no message for a
wrong answer contains the right one.
"""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from course_lib.validate import check_choice, course_error, suggestion

__all__ = ["Exercise", "Mistake", "Verdict", "check", "judge", "progress"]

KINDS = ("number", "numbers", "mapping", "choice")
CLOSE = 5  # within five tolerances of the right answer: probably rounded on the way


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer.

    Parameters
    ----------
    value : callable
        Computes the wrong answer, in the form that the exercise asks for.
    hint : str
        Names the mistake in a sentence, without giving the solution away.
    """

    value: Callable[[], object]
    hint: str


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Parameters
    ----------
    id : str
        Chapter and number, such as ``"2.1"``.
    question : str
        What is asked, in one sentence.
    right : callable
        Computes the right answer from the data; called when it is first needed.
    success : str
        What a right answer is told: the point of the exercise.
    kind : {"number", "numbers", "mapping", "choice"}
        A number, a sequence of numbers in order, numbers by name (dict or Series), or a
        choice (text or True/False).
    tolerance : float
        Relative tolerance of numbers.
    absolute : float
        Absolute tolerance, in the unit of the answer, for a right answer at or near zero.
    mistakes : tuple of Mistake
        The first one that the answer equals gives the hint.
    options : tuple
        The choices, when there are a few named ones.
    """

    id: str
    question: str
    right: Callable[[], object]
    success: str
    kind: str = "number"
    tolerance: float = 0.01
    absolute: float = 1e-12
    mistakes: tuple[Mistake, ...] = ()
    options: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)


@dataclass(frozen=True, repr=False)
class Verdict:
    """What `check` answers: shown as text or, in a notebook, as Markdown.

    Attributes
    ----------
    exercise : str
        Such as ``"2.1"``.
    correct : bool or None
        None when there was nothing to judge yet.
    message : str
        "Right: …", "Not yet: …" or "Not answered yet: …".
    """

    exercise: str
    correct: bool | None
    message: str

    def __repr__(self) -> str:
        return self.message

    def _repr_markdown_(self) -> str:
        label, _, rest = self.message.partition(":")
        return f"**{label}:**{rest}"


class UnreadableAnswerError(Exception):
    """The answer is not of the kind asked for; the message is the hint."""


@functools.cache
def value_of(compute: Callable[[], object]) -> object:
    """Compute a right or wrong answer once a session."""
    return compute()


def is_blank(answer: object) -> bool:
    """Whether the stub's dots are still there, alone or inside a list or dict."""
    parts = answer.values() if type(answer) is dict else answer
    if type(answer) in (dict, list, tuple):
        return any(part is ... for part in parts)
    return answer is ...


def read_numbers(answer: object) -> np.ndarray:
    """Turn whatever holds finite numbers into a flat float array, or say why it cannot be."""
    if answer is None:
        raise UnreadableAnswerError(
            "the answer is None. Does the line that computes it return a value?"
        )
    if callable(answer):
        raise UnreadableAnswerError(
            "the answer is a function. Call it: put parentheses behind it."
        )
    if isinstance(answer, Mapping):
        raise UnreadableAnswerError("give the numbers alone, not by name in a dict.")
    if isinstance(answer, np.ma.MaskedArray):  # asarray would show what the mask hides
        answer = answer.astype(float).filled(np.nan)
    array = np.ravel(np.asarray(answer))
    if array.dtype.kind in "US" or any(isinstance(part, str) for part in array):
        raise UnreadableAnswerError("give a number, not text: leave out the quotation marks.")
    if any(isinstance(part, bool | np.bool_) for part in array):
        raise UnreadableAnswerError("give a number, not True or False.")
    if array.dtype.kind not in "iufO":
        raise UnreadableAnswerError(f"give a number, not a value of type {array.dtype}.")
    try:
        array = np.array([math.nan if part is pd.NA else float(part) for part in array])
    except (TypeError, ValueError):
        raise UnreadableAnswerError(f"give a number, not a {type(answer).__name__}.") from None
    if not np.isfinite(array).all():
        raise UnreadableAnswerError(
            "the answer is missing (NaN) or infinite. Look for a missing value or a division "
            "by zero on the way."
        )
    return array


def read_number(answer: object) -> np.ndarray:
    """Read one number, also out of an array, Series or DataFrame that holds just one."""
    numbers = read_numbers(answer)
    if numbers.size != 1:
        raise UnreadableAnswerError(
            f"give a single number; this {type(answer).__name__} holds {numbers.size}."
        )
    return numbers


def read_sequence(answer: object, size: int) -> np.ndarray:
    """Read `size` numbers in order."""
    numbers = read_numbers(answer)
    if numbers.size != size:
        raise UnreadableAnswerError(f"give {size} numbers; this is {numbers.size}.")
    return numbers


def read_mapping(answer: object, names: list[str]) -> np.ndarray:
    """Read the numbers called `names` out of a dict, a Series or a DataFrame of one row."""
    if isinstance(answer, pd.DataFrame) and len(answer) == 1:
        answer = answer.iloc[0]
    if not isinstance(answer, Mapping | pd.Series):
        raise UnreadableAnswerError(
            f"give the numbers by name, in a dict or a Series with the names {names}."
        )
    found = {str(name): value for name, value in answer.items()}
    absent = [name for name in names if name not in found]
    if absent:
        raise UnreadableAnswerError(f"there is no value named '{absent[0]}'.")
    return np.concatenate([read_number(found[name]) for name in names])


def read_choice(answer: object, right: object, options: tuple[object, ...]) -> object:
    """Read True/False, or a text without regard to case and spaces."""
    truth = isinstance(right, bool | np.bool_)
    if truth != isinstance(answer, bool | np.bool_) or not (truth or isinstance(answer, str)):
        wanted = "True or False, without quotation marks" if truth else "a text in quotes"
        raise UnreadableAnswerError(f"answer with {wanted}.")
    if truth:
        return bool(answer)
    text = " ".join(answer.split()).casefold()
    if options and text not in {" ".join(str(o).split()).casefold() for o in options}:
        raise UnreadableAnswerError(
            f"'{answer:.40}' is not one of the choices. {suggestion(answer, options)}"
        )
    return text


def read(exercise: Exercise, answer: object) -> object:
    """Bring an answer into the form in which two answers are compared."""
    right = value_of(exercise.right)
    if exercise.kind == "number":
        return read_number(answer)
    if exercise.kind == "numbers":
        return read_sequence(answer, np.size(right))
    if exercise.kind == "mapping":
        return read_mapping(answer, [str(name) for name in right.keys()])  # noqa: SIM118
    return read_choice(answer, right, exercise.options)


def hits(exercise: Exercise, given: object, target: object, widen: float = 1) -> np.ndarray:
    """Tell for each part of a read answer whether it is within the tolerance of `target`."""
    if exercise.kind == "choice":
        return np.array([given == target])
    width = np.maximum(exercise.tolerance * np.abs(target), exercise.absolute)
    return np.abs(given - target) <= widen * width


def same(exercise: Exercise, given: object, target: object, widen: float = 1) -> bool:
    """Whether every part of two read answers agrees."""
    return bool(hits(exercise, given, target, widen).all())


def find_mistake(exercise: Exercise, given: object, right: object) -> str | None:
    """Return the hint of the first typical mistake that the answer equals, if any."""
    for mistake in exercise.mistakes:
        try:
            wrong = read(exercise, value_of(mistake.value))
        except Exception:  # a mistake that cannot be computed must not hide the others
            continue
        if not same(exercise, wrong, right) and same(exercise, given, wrong):
            return mistake.hint
    return None


def general_hint(exercise: Exercise, given: object, right: object) -> str:
    """Say what can be said about a wrong answer that is no known mistake."""
    again = f"Read the question again: {exercise.question}"
    if exercise.kind == "choice":
        return again
    if same(exercise, given, -right):
        return "the size is right, the sign is not. Which way round is the difference?"
    if same(exercise, given, 100 * right) or same(exercise, given, right / 100):
        return "this is a matter of per cent and proportion: you are off by a factor of 100."
    if same(exercise, given, right, widen=CLOSE):
        percent = f"{100 * exercise.tolerance:.2g} %"
        return (
            f"close, but off by more than {percent}. Round only at the end, and check that the "
            "model is the one asked for."
        )
    if exercise.kind == "numbers" and same(exercise, np.sort(given), np.sort(right)):
        return "the numbers are right, their order is not."
    fine = hits(exercise, given, right)
    if exercise.kind == "mapping" and fine.any():
        names = [str(name) for name in value_of(exercise.right).keys()]  # noqa: SIM118
        return f"the value of '{names[int(np.argmin(fine))]}' is not right. {again}"
    if fine.any():
        return f"{fine.sum()} of {fine.size} numbers are right. {again}"
    return again


def judge(exercise: Exercise, answer: object) -> Verdict:
    """Judge an answer to an exercise; never raises.

    Parameters
    ----------
    exercise : Exercise
        What was asked.
    answer : object
        Anything.

    Returns
    -------
    Verdict
    """
    if is_blank(answer):
        message = "Not answered yet: replace the dots (...) by your answer."
        return Verdict(exercise.id, None, message)
    try:
        right = read(exercise, value_of(exercise.right))
    except Exception as error:
        message = f"Not checked: the course failed to compute the answer itself ({error!r})."
        return Verdict(exercise.id, None, message)
    try:
        given = read(exercise, answer)
        if same(exercise, given, right):
            return Verdict(exercise.id, True, f"Right: {exercise.success}")
        hint = find_mistake(exercise, given, right) or general_hint(exercise, given, right)
    except UnreadableAnswerError as unreadable:
        hint = str(unreadable)
    except Exception:  # an object that cannot even be looked at is still just a wrong answer
        hint = f"a {type(answer).__name__} cannot be compared with what is asked for."
    return Verdict(exercise.id, False, f"Not yet: {hint}")


def chapters_with_exercises() -> list[int]:
    """Return the numbers of the chapters that have an exercise file."""
    folder = importlib.import_module("course_lib.exercises").__path__
    names = [module.name for module in pkgutil.iter_modules(folder)]
    return sorted(int(name[-2:]) for name in names if re.fullmatch(r"chapter_\d\d", name))


def find_exercise(exercise: object) -> Exercise:
    """Return the exercise of that id, importing its chapter's file if need be.

    Raises
    ------
    CourseError
        If there is no such exercise.
    """
    form = 'Write it as text, chapter and number: check("2.1", answer).'
    parts = re.fullmatch(r"\s*0?(\d{1,2})\.(\d{1,2})\s*", str(exercise))
    if not isinstance(exercise, str) or parts is None:
        raise course_error("exercise", "must be the id of an exercise", repr(exercise), form)
    module = f"course_lib.exercises.chapter_{int(parts[1]):02d}"
    try:
        there = {entry.id: entry for entry in importlib.import_module(module).EXERCISES}
    except ModuleNotFoundError as error:
        if error.name != module:  # a library that the chapter needs is missing
            raise
        rule = "must be of a chapter that has exercises"
        advice = f"Chapters with exercises: {chapters_with_exercises()}."
        raise course_error("exercise", rule, f"'{exercise}'", advice) from None
    name = f"{int(parts[1])}.{int(parts[2])}"
    if name not in there:
        rule = f"must be one of chapter {int(parts[1])}"
        raise course_error("exercise", rule, f"'{exercise}'", suggestion(name, there))
    return there[name]


# What was checked since the kernel started: id -> (state, number of tries).
session: dict[str, tuple[str, int]] = {}


def check(exercise: str, answer: object) -> Verdict:
    """Check an answer to an exercise of the course.

    Parameters
    ----------
    exercise : str
        Its id, such as ``"2.1"``.
    answer : object
        Your answer; ``...`` means that there is none yet.

    Returns
    -------
    Verdict
        "Right", or "Not yet" with a hint that names the mistake; shown by the notebook.

    Raises
    ------
    CourseError
        If there is no such exercise. No answer raises.

    Examples
    --------
    >>> check("1.1", ...)
    Not answered yet: replace the dots (...) by your answer.
    """
    asked = find_exercise(exercise)
    verdict = judge(asked, answer)
    state = {True: "right", False: "not yet", None: "not answered"}[verdict.correct]
    tries = session.get(asked.id, ("", 0))[1] + (verdict.correct is not None)
    session[asked.id] = (state, tries)
    return verdict


def progress() -> pd.DataFrame:
    """Show what was checked in this session.

    Returns
    -------
    DataFrame
        One row an exercise, in order: ``exercise``, ``state`` ("right", "not yet" or
        "not answered", as of the last check) and ``tries`` (answers given).
    """
    order = sorted(session, key=lambda name: [int(part) for part in name.split(".")])
    rows = [(name, *session[name]) for name in order]
    return pd.DataFrame(rows, columns=["exercise", "state", "tries"])
