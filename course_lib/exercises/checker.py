"""The machinery of the exercises: read an answer, compare it, say what is wrong with it.

An exercise is data: how to compute the right answer, and how to compute the typical wrong
ones together with the hint that each deserves. Nothing is hard-coded, and no message for a
wrong answer contains the right one. `course_lib.exercises.progress` finds the exercise and
keeps the score.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from course_lib.errors import check_choice, suggestion

__all__ = ["Exercise", "Mistake", "Verdict", "judge"]

KINDS = ("number", "numbers", "mapping", "choice")
CLOSE = 5  # within five tolerances of the right answer: nearly right
MOST_LISTED = 10  # more choices are described, not listed
EXACT = 1e-6  # a smaller tolerance is that of a count


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
    wanted : str
        What kind of number in which unit, such as "a time in ms"; for the general hint. Where
        there are more than ten options, what to write.
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
    wanted: str = ""

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
    if isinstance(answer, pd.DataFrame) and array.size > 1 and array.dtype.kind == "O":
        raise UnreadableAnswerError("give the number alone, not the table: take one cell.")
    if array.dtype.kind in "US" or any(isinstance(part, str) for part in array):
        raise UnreadableAnswerError("give a number, not text: leave out the quotation marks.")
    if any(isinstance(part, bool | np.bool_) for part in array):
        raise UnreadableAnswerError("give a number, not True or False.")
    if array.dtype.kind not in "iufO":
        raise UnreadableAnswerError(f"give a number, not a value of type {array.dtype}.")
    try:
        array = np.array([math.nan if part is pd.NA else float(part) for part in array])
    except OverflowError:  # an integer that no float can hold
        array = np.array([math.inf])
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
    absent = [f"'{name}'" for name in names if name not in found]
    if absent:
        raise UnreadableAnswerError(f"there is no value named {' or '.join(absent)}.")
    parts, faults = [], []
    for name in names:
        try:
            parts.append(read_number(found[name]))
        except UnreadableAnswerError as fault:
            faults.append(f"'{name}': {fault}")
    if faults:
        raise UnreadableAnswerError(" ".join(faults))
    return np.concatenate(parts)


@functools.cache
def plain_choices(options: tuple[object, ...]) -> frozenset[str]:
    """Return the choices without regard to case and spaces."""
    return frozenset(" ".join(str(option).split()).casefold() for option in options)


def read_choice(
    answer: object, right: object, options: tuple[object, ...], wanted: str
) -> object:
    """Read True/False, or a text without regard to case, spaces and marks like c)."""
    truth = isinstance(right, bool | np.bool_)
    if truth != isinstance(answer, bool | np.bool_) or not (truth or isinstance(answer, str)):
        wanted = "True or False, without quotation marks" if truth else "a text in quotes"
        raise UnreadableAnswerError(f"answer with {wanted}.")
    if truth:
        return bool(answer)
    text = " ".join(answer.split()).casefold()
    choices = plain_choices(options)
    if not options or text in choices:
        return text
    bare = "".join(letter for letter in text if letter.isalnum())  # "c)", "W, B, B, P"
    if bare in choices:
        return bare
    if "".join(sorted(bare)) in choices:  # both letters, in the other order
        return "".join(sorted(bare))
    letters = all(list(text) == sorted(set(text)) for text in choices)
    known = suggestion("" if letters else answer, options)  # "AE" is no slip for "E"
    if len(options) > MOST_LISTED:
        known = f"Write {wanted}."
    raise UnreadableAnswerError(f"'{answer:.40}' is not one of the choices. {known}")


def read(exercise: Exercise, answer: object) -> object:
    """Bring an answer into the form in which two answers are compared."""
    right = value_of(exercise.right)
    if exercise.kind == "number":
        return read_number(answer)
    if exercise.kind == "numbers":
        return read_sequence(answer, np.size(right))
    if exercise.kind == "mapping":
        return read_mapping(answer, [str(name) for name in right.keys()])  # noqa: SIM118
    return read_choice(answer, right, exercise.options, exercise.wanted)


def hits(exercise: Exercise, given: object, target: object, widen: float = 1) -> np.ndarray:
    """Tell for each part of a read answer whether it is within the tolerance of `target`."""
    if exercise.kind == "choice":
        return np.array([given == target])
    with np.errstate(all="ignore"):  # absurdly large answers
        width = np.maximum(exercise.tolerance * np.abs(target), exercise.absolute)
        return np.isfinite(target) & (np.abs(given - target) <= widen * width)


def same(exercise: Exercise, given: object, target: object, widen: float = 1) -> bool:
    """Whether every part of two read answers agrees."""
    return bool(hits(exercise, given, target, widen).all())


def known_mistakes(exercise: Exercise, right: object) -> Iterator[tuple[object, str]]:
    """Yield the typical wrong answers, as read, that are told apart from the right one."""
    for mistake in exercise.mistakes:
        try:
            wrong = read(exercise, value_of(mistake.value))
        except Exception:  # a mistake that cannot be computed must not hide the others
            continue
        if not same(exercise, wrong, right):
            yield wrong, mistake.hint


# What a number may be instead of the right one r, and what it is then called.
RELATIONS = (
    (lambda r: -r, "the size is right, the sign is not: which way round is the difference?"),
    (lambda r: 100 * r, "off by a factor of 100: per cent or proportion?"),
    (lambda r: r / 100, "off by a factor of 100: per cent or proportion?"),
    (lambda r: 1000 * r, "off by a factor of 1000: is the unit right?"),
    (lambda r: r / 1000, "off by a factor of 1000: is the unit right?"),
    (np.square, "is it a variance in place of a standard deviation?"),
    (lambda r: np.sqrt(np.abs(r)), "is it a standard deviation in place of a variance?"),
    (lambda r: 1 / r, "is it upside down?"),
)
LOOK = "Which rows, which model and which of its numbers does the question ask for?"
COUNT_AGAIN = "What did you leave out, or count twice?"


def is_rounded(given: np.ndarray, right: np.ndarray) -> bool:
    """Whether every number given is the right one, rounded to fewer digits."""
    digits = [np.round(right, places) for places in range(-3, 6)]
    return bool(np.any(np.isclose(given, digits, rtol=1e-9), axis=0).all())


def symptom(exercise: Exercise, given: np.ndarray, right: np.ndarray) -> str:
    """Say how wrong numbers differ from the right ones: unit, sign, order of magnitude."""
    if same(exercise, given, right, widen=CLOSE):
        if exercise.kind == "number" and is_rounded(given, right):
            return "right, but rounded too early: give more digits"
        return f"close, but off by more than {100 * exercise.tolerance:.2g} %"
    with np.errstate(all="ignore"):  # reciprocals of zero, squares of absurd numbers
        related = RELATIONS if exercise.tolerance > EXACT else ()
        for change, words in related:
            if same(exercise, given, change(right)):
                return words
        if (given * right < 0).any():
            return "the sign is not right"
        orders = np.log10(np.abs(given)) - np.log10(np.abs(right))
    if (orders >= 1).any():
        return "the size is too large by an order of magnitude"
    if (orders <= -1).any():
        return "the size is too small by an order of magnitude"
    if exercise.tolerance <= EXACT:
        return "too large" if (given > right).all() else "too small"
    return "sign and order of magnitude are right, the number is not"


def general_hint(exercise: Exercise, given: np.ndarray, right: np.ndarray) -> str:
    """Say what can be said about a wrong number that is no known mistake."""
    words = symptom(exercise, given, right)
    words = words if words.endswith("?") else f"{words}."
    wanted = f"Asked for is {exercise.wanted}. " if exercise.wanted else ""
    counted = exercise.tolerance <= EXACT and "count" in exercise.wanted
    return f"{words} {wanted}{COUNT_AGAIN if counted else LOOK}"


def parts_hint(exercise: Exercise, given: np.ndarray, right: np.ndarray) -> str:
    """Name every wrong part of several numbers, and what is wrong with it."""
    wrong = ~hits(exercise, given, right)
    if wrong.all() and same(exercise, given, -right):
        return general_hint(exercise, given, right)
    if exercise.kind == "numbers" and same(exercise, np.sort(given), np.sort(right)):
        return "the numbers are right, their order is not."
    hints = []
    for mistake, hint in known_mistakes(exercise, right):
        off = ~hits(exercise, mistake, right)  # what the mistake explains
        if (off & wrong).any() and hits(exercise, given, mistake)[off].all():
            hints.append(hint)
            wrong &= ~off
    if exercise.kind == "mapping":
        names = [f"'{name}'" for name in value_of(exercise.right).keys()]  # noqa: SIM118
    else:
        names = [f"number {place}" for place in range(1, given.size + 1)]
    faults = [
        f"{names[part]} ({symptom(exercise, given[[part]], right[[part]])})"
        for part in np.flatnonzero(wrong)
    ]
    if faults:
        also = "Also not right:" if hints else "look again at"
        hints.append(f"{also} {', '.join(faults)}. {LOOK}")
    return " ".join(hints)


def hint_for(exercise: Exercise, given: object, right: object) -> str:
    """Return the hint of the first typical mistake that the answer equals, or a general one."""
    for mistake, hint in known_mistakes(exercise, right):
        if same(exercise, given, mistake):
            return hint
    if exercise.kind == "choice":
        return "no. Say in one sentence why you think so, and look for the cell that shows it."
    if exercise.kind == "number":
        return general_hint(exercise, given, right)
    return parts_hint(exercise, given, right)


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
        hint = hint_for(exercise, given, right)
    except UnreadableAnswerError as unreadable:
        hint = str(unreadable)
    except Exception:  # an object that cannot even be looked at is still just a wrong answer
        hint = f"a {type(answer).__name__} cannot be compared with what is asked for."
    return Verdict(exercise.id, False, f"Not yet: {hint}")
