"""The session: find an exercise by its id, check an answer, show what has been answered."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pandas as pd

from course_lib.errors import course_error, suggestion
from course_lib.exercises.checker import Exercise, Verdict, judge

__all__ = ["check", "progress"]


def chapters_with_exercises() -> list[int]:
    """Return the numbers of the chapters that have an exercise file."""
    folder = importlib.import_module("course_lib.exercises").__path__
    names = [module.name for module in pkgutil.iter_modules(folder)]
    return sorted(int(name[-2:]) for name in names if re.fullmatch(r"chapter_\d\d", name))


def chapter_file(chapter: int) -> str:
    """Return the name of the module that holds a chapter's exercises."""
    return f"course_lib.exercises.chapter_{chapter:02d}"


def exercises_of(chapter: int) -> tuple[Exercise, ...]:
    """Return the exercises of a chapter, importing its file if need be."""
    return importlib.import_module(chapter_file(chapter)).EXERCISES


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
    chapter, number = int(parts[1]), int(parts[2])
    try:
        there = {entry.id: entry for entry in exercises_of(chapter)}
    except ModuleNotFoundError as error:
        if error.name != chapter_file(chapter):  # a library that the chapter needs is missing
            raise
        rule = "must be of a chapter that has exercises"
        advice = f"Chapters with exercises: {chapters_with_exercises()}."
        raise course_error("exercise", rule, f"'{exercise}'", advice) from None
    name = f"{chapter}.{number}"
    if name not in there:
        rule = f"must be one of chapter {chapter}"
        raise course_error("exercise", rule, f"'{exercise}'", suggestion(name, there))
    return there[name]


# What was answered since the kernel started: id -> (right?, number of answers).
session: dict[str, tuple[bool, int]] = {}


def record(verdict: Verdict) -> None:
    """Count an answer. A right one stays: cells are run again, and hints are tried out."""
    right, tries = session.get(verdict.exercise, (False, 0))
    if not right:
        answered = verdict.correct is not None
        session[verdict.exercise] = (bool(verdict.correct), tries + answered)


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

    See Also
    --------
    progress : What has been answered so far.
    """
    verdict = judge(find_exercise(exercise), answer)
    record(verdict)
    return verdict


def progress() -> pd.DataFrame:
    """Show what has been answered in this notebook since its kernel started.

    All exercises of the chapters that were begun are listed, so that the table also shows
    what is left of them; chapters without any `check` so far are not. A new session begins
    with an empty table: nothing is written to a file.

    Returns
    -------
    DataFrame
        One row per exercise, in the order of the course: ``chapter`` (number), ``exercise``
        (id), ``state`` ("right", "not yet" or "not answered") and ``tries`` (answers given
        up to the first right one). A right answer stays right.

    Examples
    --------
    >>> list(progress().columns[:2])
    ['chapter', 'exercise']

    See Also
    --------
    check : Answer an exercise.
    """
    rows = []
    for chapter in sorted({int(name.split(".")[0]) for name in session}):
        for exercise in exercises_of(chapter):
            right, tries = session.get(exercise.id, (False, 0))
            state = "right" if right else "not yet" if tries else "not answered"
            rows.append((chapter, exercise.id, state, tries))
    table = pd.DataFrame(rows, columns=["chapter", "exercise", "state", "tries"])
    return table.astype({"chapter": int, "exercise": str, "state": str, "tries": int})
