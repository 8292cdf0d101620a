"""Exercises that answer back: ``check("2.1", answer)`` and ``progress()``.

Each chapter has one file, ``chapter_NN.py``, with a tuple ``EXERCISES``. It is imported when
the first exercise of that chapter is checked.
"""

from course_lib.exercises.checker import Exercise, Mistake, Verdict, judge
from course_lib.exercises.progress import check, progress

__all__ = ["Exercise", "Mistake", "Verdict", "check", "judge", "progress"]
