"""Exercises 9.5 and 9.6: an enrichment by counting, and what a report may say."""

from __future__ import annotations

import functools
import itertools

from scipy import stats

from course_lib.exercises.checker import Exercise, Mistake

__all__ = ["EXERCISES"]

# 9.5: at least 5 of 12 important genes among 15 of 120.

GENES, IMPORTANT, IN_PATHWAY, BOTH = 120, 15, 12, 5


def chance_of_at_least(count: int = BOTH) -> float:
    """Return P(at least `count`) without replacement."""
    return float(stats.hypergeom.sf(count - 1, GENES, IN_PATHWAY, IMPORTANT))


def chance_of_exactly() -> float:
    """Return P(exactly BOTH) without replacement."""
    return float(stats.hypergeom.pmf(BOTH, GENES, IN_PATHWAY, IMPORTANT))


def with_replacement() -> float:
    """Return P(at least BOTH) if each gene were put back."""
    return float(stats.binom.sf(BOTH - 1, IMPORTANT, IN_PATHWAY / GENES))


def expected() -> float:
    """Return the mean count."""
    return IMPORTANT * IN_PATHWAY / GENES


# 9.6: which two sentences.

WRONG = {
    "B": "the scenario changes a row of a table, not a family. Nobody's SES was changed.",
    "C": "maps of the grain had a warm spot too, although the grain was everywhere. What would "
    "you do with the spot before you believe it?",
    "D": "with correlated genes most studies without any effect name a pathway. What did the "
    "test shuffle?",
}
PAIRS = ["".join(pair) for pair in itertools.combinations("ABCDE", 2)]


def hint_to(pair: str) -> str:
    """Return the hints to the wrong letters of a pair, and say which one is right."""
    right = "".join(f"{letter} is right. " for letter in pair if letter not in WRONG)
    return right + " ".join(f"{letter}: {WRONG[letter]}" for letter in pair if letter in WRONG)


EXERCISES = (
    Exercise(
        id="9.5",
        question="How likely is it that at least 5 of the 15 genes belong to the pathway?",
        right=chance_of_at_least,
        success="as evidence for the pathway it is worth as much as its null: that genes are "
        "drawn one by one. Where the 12 genes rise and fall together, five of them arrive "
        "together more often.",
        tolerance=0.005,
        wanted="a probability",
        mistakes=(
            Mistake(
                chance_of_exactly,
                "that is the chance of exactly 5. Six or more would have been as striking.",
            ),
            Mistake(
                lambda: chance_of_at_least(BOTH + 1),
                "that is the chance of more than 5. `sf(k, …)` does not count k itself.",
            ),
            Mistake(
                lambda: 1 - chance_of_at_least(),
                "that is the chance of fewer than 5.",
            ),
            Mistake(
                lambda: 1 - chance_of_at_least(BOTH + 1),
                "that is the chance of 5 or fewer, the other side.",
            ),
            Mistake(
                with_replacement,
                "you put each gene back before the next is drawn. A gene is in the list once.",
            ),
            Mistake(expected, "that is how many to expect, not how likely 5 are."),
            Mistake(
                lambda: BOTH / expected(),
                "that is how many times as many as expected. How likely is it?",
            ),
            Mistake(
                lambda: 100 * chance_of_at_least(),
                "that is the right number in per cent. Write it as a probability.",
            ),
        ),
    ),
    Exercise(
        id="9.6",
        question="Which two sentences may stand in a report?",
        right=lambda: "AE",
        success="A speaks of the model, and E of a difference between people, with the one "
        "thing that it leaves out. Neither says what would happen.",
        kind="choice",
        options=tuple(PAIRS),
        mistakes=tuple(
            Mistake(functools.partial(str, pair), hint_to(pair))
            for pair in PAIRS
            if pair != "AE"
        ),
        wanted="two letters from A to E",
    ),
)
