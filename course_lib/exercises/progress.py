"""The score: find an exercise by its id, check an answer, show what has been answered.

In the learner's copy of the course, where `start.py` has put the file ``my_answers.json``, the
score is kept in that file. Elsewhere it lasts as long as the session, and nothing is written.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import warnings
from pathlib import Path

import pandas as pd

from course_lib.errors import CourseError, course_error, suggestion
from course_lib.exercises.checker import Exercise, Verdict, judge

__all__ = ["check", "progress"]

ANSWERS = "my_answers.json"  # in the working directory: that of the notebook


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


Score = dict[str, tuple[bool, int]]  # id -> (right?, number of answers)
session: Score = {}  # what was answered since the kernel started


def kept() -> Score:
    """Return the score that the learner's copy keeps; elsewhere, that of the session.

    Raises
    ------
    CourseError
        If the file cannot be read, or holds something else.
    """
    try:
        text = Path(ANSWERS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return session
    except (OSError, ValueError) as error:
        raise unreadable(error) from None
    try:
        entries = json.loads(text)
        return {name: (bool(e["right"]), int(e["tries"])) for name, e in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise unreadable(repr(text[:40])) from None


def unreadable(got: object) -> CourseError:
    """Return the error of a file of answers that cannot be used."""
    advice = "Write {} into it and check your answers again; they still stand in the chapters."
    return course_error(ANSWERS, "must hold what `check` has written", got, advice)


def keep(score: Score) -> None:
    """Write the score into the learner's copy, as a whole or not at all."""
    entries = {name: {"right": right, "tries": tries} for name, (right, tries) in score.items()}
    half = Path(f".{ANSWERS}.{os.getpid()}")  # two chapters may be open
    half.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    half.replace(ANSWERS)


def record(verdict: Verdict) -> None:
    """Count an answer. A right one stays: cells are run again, and hints are tried out."""
    score = kept()
    before = score.get(verdict.exercise, (False, 0))
    right, tries = before
    if not right:
        answered = verdict.correct is not None
        score[verdict.exercise] = (bool(verdict.correct), tries + answered)
    if score is not session and score.get(verdict.exercise) != before:
        keep(score)


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

    Warns
    -----
    UserWarning
        If the learner's copy cannot keep the answer.

    Examples
    --------
    >>> check("1.1", ...)
    Not answered yet: replace the dots (...) by your answer.

    See Also
    --------
    progress : What has been answered so far.
    """
    verdict = judge(find_exercise(exercise), answer)
    try:
        record(verdict)
    except (CourseError, OSError) as error:
        warnings.warn(f"This answer was checked, but not kept. {error}", stacklevel=2)
    return verdict


def progress() -> pd.DataFrame:
    """Show what has been answered, for all exercises of the course.

    In the learner's copy of the course (the folder ``my_course``) that is what was answered in
    any of its chapters, also before a restart. Elsewhere, also in the solutions, it is what was
    answered since the kernel started, and nothing is written to a file.

    Returns
    -------
    DataFrame
        One row per exercise, in the order of the course: ``chapter`` (number), ``exercise``
        (id), ``state`` ("right", "not yet" or "not answered") and ``tries`` (answers given
        up to the first right one). A right answer stays right.

    Raises
    ------
    CourseError
        If the file that keeps the answers cannot be read.

    Examples
    --------
    >>> list(progress().columns[:2])
    ['chapter', 'exercise']

    See Also
    --------
    check : Answer an exercise.
    """
    score, rows = kept(), []
    for chapter in chapters_with_exercises():
        for exercise in exercises_of(chapter):
            right, tries = score.get(exercise.id, (False, 0))
            state = "right" if right else "not yet" if tries else "not answered"
            rows.append((chapter, exercise.id, state, tries))
    return pd.DataFrame(rows, columns=["chapter", "exercise", "state", "tries"])
