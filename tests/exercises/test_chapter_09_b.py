"""Exercises 9.5 and 9.6, until the editor merges them into chapter 9 and its tests."""

import numpy as np
import pytest

from course_lib.exercises.chapter_09_b import EXERCISES, PAIRS, chance_of_at_least
from course_lib.exercises.checker import judge, read, same, value_of


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_answers_and_hints(exercise):
    assert judge(exercise, value_of(exercise.right)).correct is True
    wrong = [read(exercise, value_of(mistake.value)) for mistake in exercise.mistakes]
    for place, mistake in enumerate(exercise.mistakes):
        assert judge(exercise, value_of(mistake.value)).message == f"Not yet: {mistake.hint}"
        for other in wrong[:place]:
            assert not same(exercise, wrong[place], other)


def test_enrichment_by_drawing():
    rng = np.random.default_rng(1)
    draws = rng.permuted(np.tile(np.arange(120) < 12, (20_000, 1)), axis=1)[:, :15].sum(axis=1)
    assert (draws >= 5).mean() == pytest.approx(chance_of_at_least(), abs=0.0025)
    for answer in (0.00731, 0.0073):
        assert judge(EXERCISES[0], answer).correct is True


def test_every_other_pair_has_a_reason_for_each_wrong_letter():
    for pair in set(PAIRS) - {"AE"}:
        message = judge(EXERCISES[1], pair).message
        assert all((f"{letter}: " in message) == (letter not in "AE") for letter in pair)
